/** A picture from its pixels to its result: the exposure, the engine, and tiles of a size that the device can take. */
import { MODEL } from "../page/model.js";
import { pointsOf } from "./points.js";
import { webgl } from "./webgl.js";
import { webgpu } from "./webgpu.js";
import { exposureOf, workers } from "./workers.js";

/** @typedef {import("./kernel.js").Picture} Picture */
/** @typedef {import("./kernel.js").Rule} Rule */

/**
 * Something that brightens pictures; each is taken for a whole one.
 * @typedef {object} Engine
 * @property {string} name
 * @property {number} atOnce how many tiles it works on at a time
 * @property {(width: number, height: number) => [number, number]} tile width and height of the tiles of a picture
 * @property {(picture: Picture, rule: Rule) => Promise<Uint8ClampedArray<ArrayBuffer>>} brighten takes the picture
 *   for itself
 * @property {() => void} close
 */

/**
 * What the user has chosen, as of `python -m model.enhance`: the exposure is "auto", a number from 0 to 20, or null for
 * the published division; strength from 0 to 1; denoise from 0 to 4.
 * @typedef {{exposure: "auto" | number | null, strength: number, denoise: number}} Settings
 */

/**
 * Of `exposure`, null means the published division, and 0 that the picture was left as it was.
 * @typedef {{picture: Picture, exposure: number | null, engine: string, seconds: number}} Enhanced
 */

/** Makers of engines, the fastest first; a device may lack some. @type {[string, () => Promise<Engine> | Engine][]} */
const MAKERS = [["WebGPU", webgpu], ["WebGL2", webgl]];

/** @type {Promise<Engine> | undefined} */
let chosen;
/** @type {Engine | undefined} */
let current;
/** How often each engine was lost. After the second time it is not tried again: a reset of the graphics processor may
 * well be the only one. @type {Record<string, number>} */
const losses = {};

/** The fastest engine of this device, or the one named in the address: enhance.html#engine=WebGL2. */
function engine() {
  return chosen ??= (async () => {
    const wanted = /[#&]engine=(\w+)/.exec(location.hash)?.[1];
    for (const [name, make] of MAKERS) {
      if (losses[name] > 1 || (wanted && wanted !== name)) continue;
      try {
        return current = await make();
      } catch (error) {
        console.info(name, error); // not on this device
        losses[name] = 2;
      }
    }
    return workers();
  })();
}

/** Forget an engine that was lost, so that the next call makes another. @param {Engine} lost */
function giveUp(lost) {
  if (lost.name === "JavaScript") return false;
  if (lost !== current) return true; // another call has done it
  lost.close();
  losses[lost.name] = (losses[lost.name] ?? 0) + 1;
  current = chosen = undefined;
  return true;
}

/** c for a picture, 0 where it is to be left as it is; null: the published division.
 * @param {Picture} picture @param {Settings} settings @returns {Promise<number | null>} */
async function exposureFor(picture, { exposure, strength }) {
  if (exposure === null) return null;
  return strength * (exposure === "auto" ? await exposureOf(pointsOf(picture)) : exposure);
}

/**
 * @param {Picture} picture not changed
 * @param {Settings} settings
 * @param {{exposure?: number | null, signal?: AbortSignal, progress?: (share: number) => void}} [more] the exposure if
 *   it is known; a way to stop, with an AbortError; the share of the picture that is done
 * @returns {Promise<Enhanced>}
 */
async function enhance(picture, settings, { exposure, signal, progress } = {}) {
  const start = performance.now();
  if (exposure === undefined) exposure = await exposureFor(picture, settings);
  const rule = { exposure, denoise: exposure === null ? 0 : settings.denoise };
  for (;;) {
    const by = await engine();
    try {
      const unchanged = exposure === 0 || settings.strength === 0;
      const pixels = unchanged ? picture.pixels.slice() : await byTiles(by, picture, rule, signal, progress);
      if (exposure === null && !unchanged) blend(pixels, picture.pixels, settings.strength);
      const result = { pixels, width: picture.width, height: picture.height };
      return { picture: result, exposure, engine: by.name, seconds: (performance.now() - start) / 1000 };
    } catch (error) {
      signal?.throwIfAborted();
      if (!giveUp(by)) throw error;
    }
  }
}

/**
 * @param {Engine} by @param {Picture} picture @param {Rule} rule @param {AbortSignal} [signal]
 * @param {(share: number) => void} [progress]
 */
async function byTiles(by, picture, rule, signal, progress) {
  const { width, height } = picture, halo = MODEL.reachOfPixel;
  const [columns, rows] = by.tile(width, height).map((size) => Math.max(1, size));
  const result = new Uint8ClampedArray(4 * width * height);
  /** @type {[number, number][]} */
  const corners = [];
  for (let y = 0; y < height; y += rows) for (let x = 0; x < width; x += columns) corners.push([x, y]);
  let done = 0, taken = 0;
  const lane = async () => {
    while (taken < corners.length) {
      signal?.throwIfAborted();
      const [x, y] = corners[taken++];
      const right = Math.min(x + columns, width), bottom = Math.min(y + rows, height);
      const left = Math.max(0, x - halo), top = Math.max(0, y - halo);
      const part = cut(picture, left, top, Math.min(right + halo, width), Math.min(bottom + halo, height));
      const pixels = await by.brighten(part, rule);
      for (let row = y; row < bottom; row++) {
        const from = 4 * ((row - top) * part.width + x - left);
        result.set(pixels.subarray(from, from + 4 * (right - x)), 4 * (row * width + x));
      }
      progress?.(++done / corners.length);
    }
  };
  await Promise.all(Array.from({ length: by.atOnce }, lane));
  return result;
}

/** A part of a picture, a copy. @param {Picture} picture @param {number} left @param {number} top
 * @param {number} right @param {number} bottom @returns {Picture} */
function cut({ pixels, width }, left, top, right, bottom) {
  const part = new Uint8ClampedArray(4 * (right - left) * (bottom - top));
  for (let row = top; row < bottom; row++) {
    const from = 4 * row * width;
    part.set(pixels.subarray(from + 4 * left, from + 4 * right), 4 * (row - top) * (right - left));
  }
  return { pixels: part, width: right - left, height: bottom - top };
}

/** original + strength (result - original), in place. @param {Uint8ClampedArray} pixels
 * @param {Uint8ClampedArray} original @param {number} strength */
function blend(pixels, original, strength) {
  if (strength === 1) return;
  for (let i = 0; i < pixels.length; i++) pixels[i] = original[i] + strength * (pixels[i] - original[i]);
}

export { engine, enhance, exposureFor };
