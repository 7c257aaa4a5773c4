/** Shaders, in which the names in capitals stand for the weights and constants of the model. */
import { MODEL } from "../page/model.js";

/** @param {number} value as both shading languages write it */
function literal(value) {
  const text = String(value);
  return /[.e]/.test(text) ? text : text + ".0";
}

/** A weight as both shading languages write it. @param {number} layer @param {number} output @param {number} tap */
function weight(layer, output, tap) {
  return literal(Math.fround(MODEL.weights[(3 * layer + output) * 28 + tap]));
}

/**
 * Statements for WGSL that set `sum` to the 3x3 convolution of a layer, for one pixel.
 * @param {number} layer @param {(dx: number, dy: number) => string} at gives the pixel there, a vec3f
 */
function convolution(layer, at) {
  const lines = [`var sum = vec3f(${[0, 1, 2].map((output) => weight(layer, output, 27))});`];
  for (let tap = 0; tap < 9; tap++) {
    const columns = [0, 9, 18].flatMap((input) => [0, 1, 2].map((output) => weight(layer, output, input + tap)));
    lines.push(`sum += mat3x3f(${columns}) * ${at(tap % 3 - 1, Math.floor(tap / 3) - 1)};`);
  }
  return lines.join("\n");
}

/**
 * Statements for GLSL that set `r`, `g` and `b` to the 3x3 convolution of a layer, for four pixels beside each other.
 * @param {number} layer
 * @param {(input: number, dx: number, dy: number) => string} texel gives a channel of four pixels, a vec4
 */
function convolutionOfFour(layer, texel) {
  const names = ["r", "g", "b"];
  const lines = names.map((name, output) => `vec4 ${name} = vec4(${weight(layer, output, 27)});`);
  for (let row = 0; row < 9; row++) {
    const input = Math.floor(row / 3), dy = row % 3 - 1;
    const [before, here, after] = [-1, 0, 1].map((dx) => texel(input, dx, dy));
    lines.push(`{ vec4 u = ${before}, v = ${here}, w = ${after}; u = vec4(u.w, v.xyz), w = vec4(v.yzw, w.x);`);
    names.forEach((name, output) => {
      const [left, middle, right] = [0, 1, 2].map((dx) => weight(layer, output, 3 * row + dx));
      lines.push(`${name} += ${left} * u + ${middle} * v + ${right} * w;`);
    });
    lines.push("}");
  }
  return lines.join("\n");
}

/**
 * Statements that add the weighted neighbors of a pixel to `total`.
 * @param {(dx: number, dy: number) => string} at
 */
function neighbors(at) {
  const lines = [];
  for (let dy = -2; dy <= 2; dy++) {
    for (let dx = -2; dx <= 2; dx++) {
      const near = literal((dx * dx + dy * dy) / (2 * MODEL.reach ** 2));
      if (dx || dy) lines.push(`total += weighted(${at(dx, dy)}, ${near});`);
    }
  }
  return lines.join("\n");
}

/** The text of a shader of the page, with its names replaced. @param {string} name
 * @param {Record<string, string>} [more] */
function shader(name, more = {}) {
  const text = /** @type {HTMLElement} */ (document.getElementById(name)).textContent.trimStart();
  const names = {
    LEAST: literal(MODEL.light[0]),
    MOST: literal(MODEL.light[1]),
    BLACK: literal(MODEL.black),
    SLACK: literal(MODEL.slack),
    NEARNESS: literal(0.5 / MODEL.reach ** 2),
    FADE: literal(MODEL.fade),
    LUMA: `${name.endsWith("wgsl") ? "vec3f" : "vec3"}(${MODEL.luma.map(literal)})`,
    ...more,
  };
  return text.replace(/\b[A-Z][A-Z0-9_]+\b/g, (word) => names[/** @type {keyof typeof names} */ (word)] ?? word);
}

/** -1 / (2 sigma^2) of the noise filter for a gain of 1. @param {number} denoise */
function falloff(denoise) {
  return -0.5 / Math.max(MODEL.noise * denoise, 1e-9) ** 2;
}

export { convolution, convolutionOfFour, falloff, neighbors, shader };
