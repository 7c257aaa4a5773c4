/**
 * The points of a picture that its exposure is found from: every k-th pixel of every k-th row.
 *
 * In a picture with transparency only the visible part counts, as in model/enhancement/mean_brightness.py: the points
 * are those of the smallest rectangle around all that is visible, and visible ones take the place of hidden ones.
 */
import { MODEL } from "../page/model.js";

/** @typedef {import("./kernel.js").Picture} Picture */

/** @param {Picture} picture @returns {Picture} */
function pointsOf(picture) {
  const box = visibleBox(picture);
  if (box === null) return sample(picture, 0, 0, picture.width, picture.height);
  const points = sample(picture, ...box), { pixels, width, height } = points;
  const seen = /** @type {number[]} */ ([]), hidden = /** @type {number[]} */ ([]);
  for (let i = 0; i < width * height; i++) (pixels[4 * i + 3] ? seen : hidden).push(i);
  if (!seen.length) return visibleAlone(picture);
  const copy = new Uint32Array(pixels.buffer), before = copy.slice();
  hidden.forEach((to, n) => copy[to] = before[seen[Math.floor((2 * n + 1) * seen.length / (2 * hidden.length))]]);
  return points;
}

/** @param {Picture} picture @param {number} left @param {number} top @param {number} right @param {number} bottom
 * @returns {Picture} */
function sample({ pixels, width }, left, top, right, bottom) {
  const step = Math.max(1, Math.floor(Math.max(right - left, bottom - top) / MODEL.samples));
  const columns = Math.ceil((right - left) / step), rows = Math.ceil((bottom - top) / step);
  const all = new Uint32Array(pixels.buffer), points = new Uint32Array(columns * rows);
  for (let y = 0, to = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) points[to++] = all[(top + y * step) * width + left + x * step];
  }
  return { pixels: new Uint8ClampedArray(points.buffer), width: columns, height: rows };
}

/** Left, top, right and bottom of what is not fully transparent; null where all or nothing is.
 * @param {Picture} picture @returns {[number, number, number, number] | null} */
function visibleBox({ pixels, width, height }) {
  let left = width, top = height, right = 0, bottom = 0, hidden = false;
  for (let y = 0, at = 3; y < height; y++) {
    for (let x = 0; x < width; x++, at += 4) {
      if (pixels[at] === 0) hidden = true;
      else {
        if (x < left) left = x;
        if (x >= right) right = x + 1;
        if (y < top) top = y;
        bottom = y + 1;
      }
    }
  }
  return hidden && right ? [left, top, right, bottom] : null;
}

/** The visible pixels one after another, of lines so thin that no point meets them. @param {Picture} picture
 * @returns {Picture} */
function visibleAlone({ pixels }) {
  const seen = new Uint32Array(pixels.buffer).filter((_, i) => pixels[4 * i + 3]);
  return { pixels: new Uint8ClampedArray(seen.buffer), width: seen.length, height: 1 };
}

export { pointsOf };
