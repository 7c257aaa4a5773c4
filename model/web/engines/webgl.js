/** The engine by fragment shaders: four passes over a tile, each into a texture. */
import { convolutionOfFour, falloff, shader } from "./shaders.js";

/** @typedef {import("./kernel.js").Picture} Picture */
/** @typedef {import("./kernel.js").Rule} Rule */

const SIDE = 1024; // of the largest tile, with what is cut off: a multiple of 4 pixels
const MARGIN = [1, 2]; // around what is in a texture: texels of four pixels, rows
const CHANNELS = ["reds", "greens", "blues"];
const CORNERS = `#version 300 es
void main() { gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0); }`;

/** @returns {import("./enhance.js").Engine} */
function webgl() {
  const canvas = new OffscreenCanvas(1, 1);
  const gl = /** @type {WebGL2RenderingContext} */ (canvas.getContext("webgl2", { alpha: false, antialias: false }));
  if (!gl) throw new Error("WebGL2");
  const margin = `ivec2(${MARGIN})`;
  /** @param {number} dx @param {number} dy */
  const at = (dx, dy) => `here + ivec2(${dx}, ${dy}), 0)`;
  /** @param {number} input @param {number} dx @param {number} dy */
  const pixels = (input, dx, dy) => `(vec4(texelFetch(image, ${at(dx, dy)} >> ${8 * input} & 255) / 255.0)`;
  /** @param {number} input @param {number} dx @param {number} dy */
  const features = (input, dx, dy) => `intBitsToFloat(texelFetch(${CHANNELS[input]}, ${at(dx, dy)})`;
  /** @param {string} name @param {Record<string, string>} [names] */
  const pass = (name, names) => program(gl, shader("head.glsl") + shader(name, { MARGIN: margin, ...names }));
  const [OWN_RED, OWN_GREEN, OWN_BLUE] = [0, 1, 2].map((input) => features(input, 0, 0));
  const nothing = { OWN_RED: "0.0", OWN_GREEN: "0.0", OWN_BLUE: "0.0" };
  const passes = {
    first: pass("features.frag", { CONVOLUTION: convolutionOfFour(0, pixels), ...nothing }),
    second: pass("features.frag", { CONVOLUTION: convolutionOfFour(1, features), OWN_RED, OWN_GREEN, OWN_BLUE }),
    bright: pass("bright.frag", { CONVOLUTION: convolutionOfFour(2, features) }),
    denoise: pass("denoise.frag"),
  };
  const [image, bright, gains, result, ...planes] = Array.from({ length: 10 }, () => texture(gl));
  const first = planes.slice(0, 3), second = planes.slice(3);
  const to = {
    first: target(gl, ...first),
    second: target(gl, ...second),
    bright: target(gl, bright, gains),
    denoise: target(gl, result),
  };

  /** @param {keyof typeof passes} name @param {Picture} picture @param {Record<string, WebGLTexture>} inputs
   * @param {Record<string, number>} numbers */
  const draw = (name, { width, height }, inputs, numbers = {}) => {
    gl.bindFramebuffer(gl.FRAMEBUFFER, to[name]);
    gl.viewport(0, 0, Math.ceil(width / 4) + 2 * MARGIN[0], height + 2 * MARGIN[1]);
    gl.useProgram(passes[name]);
    const place = (/** @type {string} */ uniform) => gl.getUniformLocation(passes[name], uniform);
    Object.entries(inputs).forEach(([uniform, input], unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, input);
      gl.uniform1i(place(uniform), unit);
    });
    gl.uniform2i(place("size"), width, height);
    for (const [uniform, value] of Object.entries(numbers)) gl.uniform1f(place(uniform), value);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  };

  /** @param {Picture} picture @param {Rule} rule */
  const brighten = async (picture, { exposure, denoise }) => {
    const { width, height } = picture;
    upload(gl, image, picture);
    draw("first", picture, { image });
    draw("second", picture, planesOf(first));
    const numbers = { published: Number(exposure === null), filtered: Number(denoise > 0), exposure: exposure ?? 0 };
    draw("bright", picture, { image, ...planesOf(second) }, numbers);
    const filter = falloff(denoise) / 255 ** 2;
    if (denoise > 0) draw("denoise", picture, { image, bright, gains }, { falloff: filter });
    return await read(gl, width, height);
  };

  return {
    name: "WebGL2",
    atOnce: 2,
    tile: () => [SIDE - 16, SIDE - 16],
    brighten,
    close: () => gl.getExtension("WEBGL_lose_context")?.loseContext(),
  };
}

/** @param {WebGLTexture[]} planes */
function planesOf(planes) {
  return Object.fromEntries(planes.map((plane, index) => [CHANNELS[index], plane]));
}

/** Rows of four pixels a texel, with zeros around them. @param {WebGL2RenderingContext} gl @param {WebGLTexture} to
 * @param {Picture} picture */
function upload(gl, to, { pixels, width, height }) {
  const [column, row] = MARGIN, columns = Math.ceil(width / 4) + 2 * column, rows = height + 2 * row;
  const padded = new Int32Array(4 * columns * rows), from = new Int32Array(pixels.buffer);
  for (let y = 0; y < height; y++) {
    padded.set(from.subarray(y * width, (y + 1) * width), 4 * ((y + row) * columns + column));
  }
  gl.activeTexture(gl.TEXTURE0);
  gl.bindTexture(gl.TEXTURE_2D, to);
  gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, columns, rows, gl.RGBA_INTEGER, gl.INT, padded);
}

/** The pixels of the last pass, once they are there: nothing waits for the device meanwhile.
 * @param {WebGL2RenderingContext} gl @param {number} width @param {number} height */
async function read(gl, width, height) {
  const columns = Math.ceil(width / 4), buffer = gl.createBuffer(), texels = new Int32Array(4 * columns * height);
  gl.bindBuffer(gl.PIXEL_PACK_BUFFER, buffer);
  gl.bufferData(gl.PIXEL_PACK_BUFFER, texels.byteLength, gl.STREAM_READ);
  gl.readPixels(MARGIN[0], MARGIN[1], columns, height, gl.RGBA_INTEGER, gl.INT, 0);
  gl.bindBuffer(gl.PIXEL_PACK_BUFFER, null);
  const fence = /** @type {WebGLSync} */ (gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0));
  gl.flush();
  while (!gl.isContextLost() && !document.hidden) {
    const state = gl.clientWaitSync(fence, 0, 0);
    if (state === gl.ALREADY_SIGNALED || state === gl.CONDITION_SATISFIED) break;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  gl.bindBuffer(gl.PIXEL_PACK_BUFFER, buffer);
  gl.getBufferSubData(gl.PIXEL_PACK_BUFFER, 0, texels);
  gl.bindBuffer(gl.PIXEL_PACK_BUFFER, null);
  gl.deleteBuffer(buffer);
  gl.deleteSync(fence);
  if (gl.isContextLost() || gl.getError()) throw new Error("WebGL2");
  if (width % 4 === 0) return new Uint8ClampedArray(texels.buffer);
  const pixels = new Int32Array(width * height);
  for (let y = 0; y < height; y++) pixels.set(texels.subarray(4 * y * columns, 4 * y * columns + width), y * width);
  return new Uint8ClampedArray(pixels.buffer);
}

/** @param {WebGL2RenderingContext} gl @param {string} fragment */
function program(gl, fragment) {
  const made = gl.createProgram();
  for (
    const [kind, text] of /** @type {[number, string][]} */ ([
      [gl.VERTEX_SHADER, CORNERS],
      [gl.FRAGMENT_SHADER, fragment],
    ])
  ) {
    const part = /** @type {WebGLShader} */ (gl.createShader(kind));
    gl.shaderSource(part, text);
    gl.compileShader(part);
    gl.attachShader(made, part);
    if (!gl.getShaderParameter(part, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(part) ?? "");
  }
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(made) ?? "");
  return made;
}

/** @param {WebGL2RenderingContext} gl */
function texture(gl) {
  const made = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, made);
  gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA32I, SIDE / 4 + 2 * MARGIN[0], SIDE + 2 * MARGIN[1]);
  for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) {
    gl.texParameteri(gl.TEXTURE_2D, filter, gl.NEAREST); // others are not allowed for numbers
  }
  return made;
}

/** Something to draw to: one texture for each output of a shader.
 * @param {WebGL2RenderingContext} gl @param {WebGLTexture[]} textures */
function target(gl, ...textures) {
  const made = gl.createFramebuffer();
  gl.bindFramebuffer(gl.FRAMEBUFFER, made);
  const places = textures.map((one, index) => {
    const place = gl.COLOR_ATTACHMENT0 + index;
    gl.framebufferTexture2D(gl.FRAMEBUFFER, place, gl.TEXTURE_2D, one, 0);
    return place;
  });
  gl.drawBuffers(places);
  if (gl.checkFramebufferStatus(gl.FRAMEBUFFER) !== gl.FRAMEBUFFER_COMPLETE) throw new Error("WebGL2");
  return made;
}

export { webgl };
