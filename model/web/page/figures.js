/** How bright a picture is, before and after: mean luma, and its distribution. */
import { pointsOf } from "../engines/points.js";
import { isOpaque } from "./decode.js";
import { find } from "./dom.js";
import { MODEL } from "./model.js";
import { text } from "./texts.js";

/** @typedef {import("../engines/kernel.js").Picture} Picture */
/** @typedef {import("../engines/enhance.js").Enhanced} Enhanced */
/** @typedef {{mean: number, bins: number[]}} Brightness mean luma from 0 to 1; shares of the points, from dark to bright */

/**
 * @typedef {object} Figures
 * @property {Brightness} before
 * @property {Brightness} after
 * @property {number | null} exposure
 * @property {string} engine
 * @property {number} seconds
 * @property {boolean} transparent in part, at least
 */

const BINS = 64;

/** From the points that the exposure is found from. @param {Picture} picture @returns {Brightness} */
function brightnessOf(picture) {
  const { pixels } = pointsOf(picture), bins = new Array(BINS).fill(0), count = pixels.length / 4;
  const [red, green, blue] = MODEL.luma;
  let sum = 0;
  for (let i = 0; i < pixels.length; i += 4) {
    const luma = red * pixels[i] + green * pixels[i + 1] + blue * pixels[i + 2];
    sum += luma;
    bins[Math.floor(luma * BINS / 256)] += 1 / count;
  }
  return { mean: sum / count / 255, bins };
}

/** @param {Picture} original @param {Enhanced} enhanced @returns {Figures} */
function figuresOf(original, { picture, exposure, engine, seconds }) {
  const transparent = !isOpaque(picture.pixels);
  return { before: brightnessOf(original), after: brightnessOf(picture), exposure, engine, seconds, transparent };
}

/** @param {Brightness} brightness */
function percent({ mean }) {
  return Math.round(100 * mean);
}

/** In one line. @param {Figures} figures */
function describe({ before, after, exposure, engine, seconds }) {
  const time = text("time", seconds.toFixed(seconds < 10 ? 1 : 0), engine);
  if (exposure === 0) return text(before.mean < MODEL.target ? "same" : "bright", percent(before)) + time;
  const how = exposure === null ? text("asPublished") : text("withExposure", exposure.toFixed(1));
  return text("change", percent(before), percent(after)) + how + time;
}

/** The outline of bins, the highest reaching the top. @param {number[]} bins @param {number} most */
function outline(bins, most) {
  return "M0 32" + bins.map((share, i) => `V${(32 - 32 * Math.sqrt(share / most)).toFixed(2)}H${i + 1}`).join("") +
    "V32Z";
}

/** Both distributions; heights are roots of shares, so that small shares can be seen. @param {Figures} figures */
function drawHistogram({ before, after }) {
  const most = Math.max(...before.bins, ...after.bins);
  const drawing = /** @type {Element} */ (document.querySelector("#histogram"));
  const captions = document.querySelectorAll("figcaption span");
  [before, after].forEach((brightness, i) => {
    drawing.children[i].setAttribute("d", outline(brightness.bins, most));
    captions[i].textContent = text(i ? "meanAfter" : "meanBefore", percent(brightness));
  });
  find("figure").hidden = false;
  drawing.setAttribute("aria-label", text("histogram", percent(before), percent(after)));
}

export { describe, drawHistogram, figuresOf };
