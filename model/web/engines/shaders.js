/** Shaders, in which the names in capitals stand for the weights and constants of the model. */
import { MODEL } from "../page/model.js";

/** @param {number} value as both shading languages write it */
function literal(value) {
  const text = String(value);
  return /[.e]/.test(text) ? text : text + ".0";
}

/**
 * Statements for the sum of the 3x3 convolution of a layer, from the function `at` of a place.
 * @param {number} layer @param {"mat3" | "mat3x3f"} matrix @param {"vec3" | "vec3f"} vector
 * @param {(dx: number, dy: number) => string} at
 */
function convolution(layer, matrix, vector, at) {
  /** @param {number} output @param {number} tap */
  const weight = (output, tap) => literal(Math.fround(MODEL.weights[(3 * layer + output) * 28 + tap]));
  const lines = [`${vector === "vec3" ? "vec3" : "var"} sum = ${vector}(${[0, 1, 2].map((o) => weight(o, 27))});`];
  for (let tap = 0; tap < 9; tap++) {
    const columns = [0, 9, 18].flatMap((channel) => [0, 1, 2].map((output) => weight(output, channel + tap)));
    lines.push(`sum += ${matrix}(${columns}) * ${at(tap % 3 - 1, Math.floor(tap / 3) - 1)};`);
  }
  return lines.join("\n  ");
}

/** The text of a shader of the page, with its names replaced. @param {string} name
 * @param {Record<string, string>} [more] */
function shader(name, more = {}) {
  const text = /** @type {HTMLElement} */ (document.getElementById(name)).textContent.trim();
  const names = {
    LEAST: literal(MODEL.light[0]),
    MOST: literal(MODEL.light[1]),
    BLACK: literal(MODEL.black),
    SLACK: literal(MODEL.slack),
    FADE: literal(MODEL.fade),
    LUMA: (name.endsWith("wgsl") ? "vec3f" : "vec3") + `(${MODEL.luma.map(literal)})`,
    NEARNESS: literal(0.5 / MODEL.reach ** 2),
    ...more,
  };
  return text.replace(/\b[A-Z][A-Z0-9_]+\b/g, (word) => names[/** @type {keyof typeof names} */ (word)] ?? word);
}

/** -1 / (2 sigma^2) of the noise filter for a gain of 1. @param {number} denoise */
function falloff(denoise) {
  return -0.5 / Math.max(MODEL.noise * denoise, 1e-9) ** 2;
}

export { convolution, falloff, shader };
