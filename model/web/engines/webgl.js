/** The engine by fragment shaders: four passes over a tile, each into a texture. */
import { convolution, falloff, shader } from "./shaders.js";

/** @typedef {import("./kernel.js").Picture} Picture */
/** @typedef {import("./kernel.js").Rule} Rule */

const SIDE = 1024; // of the textures
const CORNERS = `#version 300 es
void main() { gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0); }`;

/** @returns {import("./enhance.js").Engine} */
function webgl() {
  const canvas = new OffscreenCanvas(1, 1);
  const gl = /** @type {WebGL2RenderingContext} */ (canvas.getContext("webgl2", { alpha: false, antialias: false }));
  if (!gl) throw new Error("WebGL2");
  const layer = (/** @type {number} */ number) =>
    convolution(number, "mat3", "vec3", (dx, dy) => `at(here + ivec2(${dx}, ${dy}))`);
  const bits = "uintBitsToFloat(texelFetch(before, place, 0).rgb)";
  const passes = {
    first: program(
      gl,
      shader("features.frag", {
        CONVOLUTION: layer(0),
        FETCH: "texelFetch(image, place, 0).rgb",
        RESULT: "max(sum, 0.0)",
      }),
    ),
    second: program(
      gl,
      shader("features.frag", {
        CONVOLUTION: layer(1),
        FETCH: bits,
        RESULT: "max(sum, 0.0) + at(here)",
      }),
    ),
    bright: program(gl, shader("bright.frag", { CONVOLUTION: layer(2) })),
    denoise: program(gl, shader("denoise.frag")),
  };
  const image = texture(gl, gl.RGBA8), bright = texture(gl, gl.RGBA8), gains = texture(gl, gl.R32UI);
  const first = texture(gl, gl.RGBA32UI), second = texture(gl, gl.RGBA32UI), result = texture(gl, gl.RGBA8);
  const to = {
    first: target(gl, first),
    second: target(gl, second),
    bright: target(gl, bright, gains),
    denoise: target(gl, result),
  };

  /** @param {keyof typeof passes} name @param {Picture} picture @param {Record<string, WebGLTexture>} inputs
   * @param {Record<string, number>} numbers */
  const draw = (name, { width, height }, inputs, numbers = {}) => {
    gl.bindFramebuffer(gl.FRAMEBUFFER, to[name]);
    gl.viewport(0, 0, width, height);
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
    const { pixels, width, height } = picture;
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, image);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    draw("first", picture, { image });
    draw("second", picture, { before: first });
    const published = exposure === null;
    draw("bright", picture, { image, before: second }, { published: Number(published), exposure: exposure ?? 0 });
    if (denoise > 0) draw("denoise", picture, { bright, gains }, { falloff: falloff(denoise) });
    return await read(gl, width, height);
  };

  return {
    name: "WebGL2",
    atOnce: 2,
    tile: () => [SIDE - 10, SIDE - 10],
    brighten,
    close: () => gl.getExtension("WEBGL_lose_context")?.loseContext(),
  };
}

/** The pixels of the last pass, once they are there: nothing waits for the device meanwhile.
 * @param {WebGL2RenderingContext} gl @param {number} width @param {number} height */
async function read(gl, width, height) {
  const buffer = gl.createBuffer(), pixels = new Uint8ClampedArray(4 * width * height);
  gl.bindBuffer(gl.PIXEL_PACK_BUFFER, buffer);
  gl.bufferData(gl.PIXEL_PACK_BUFFER, pixels.length, gl.STREAM_READ);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, 0);
  gl.bindBuffer(gl.PIXEL_PACK_BUFFER, null);
  const fence = /** @type {WebGLSync} */ (gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0));
  gl.flush();
  while (!gl.isContextLost()) {
    const state = gl.clientWaitSync(fence, 0, 0);
    if (state === gl.ALREADY_SIGNALED || state === gl.CONDITION_SATISFIED) break;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  gl.bindBuffer(gl.PIXEL_PACK_BUFFER, buffer);
  gl.getBufferSubData(gl.PIXEL_PACK_BUFFER, 0, pixels);
  gl.bindBuffer(gl.PIXEL_PACK_BUFFER, null);
  gl.deleteBuffer(buffer);
  gl.deleteSync(fence);
  if (gl.isContextLost() || gl.getError()) throw new Error("WebGL2");
  return pixels;
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

/** @param {WebGL2RenderingContext} gl @param {number} format */
function texture(gl, format) {
  const made = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, made);
  gl.texStorage2D(gl.TEXTURE_2D, 1, format, SIDE, SIDE);
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
