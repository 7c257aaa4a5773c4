/** A picture from a file: upright, in sRGB, with the colors of transparent pixels as they were stored. */
import { Fault } from "./texts.js";

/** @typedef {import("../engines/kernel.js").Picture} Picture */

/** Pixels that are read at once: devices limit canvases more than pictures. */
const PIECE = 2 ** 20;

/** @param {Blob} file @returns {Promise<Picture>} */
async function decode(file) {
  const bitmap = await createImageBitmap(file, { premultiplyAlpha: "none" }).catch(() => {
    throw new Fault("notAPicture");
  });
  try {
    let pixels = throughCanvas(bitmap);
    if (!isOpaque(pixels)) pixels = throughTexture(bitmap, pixels);
    if (pixels.some((value) => value > 0)) return { pixels, width: bitmap.width, height: bitmap.height };
  } catch {
    // No memory, or no canvas as wide as this.
  } finally {
    bitmap.close();
  }
  throw new Fault("tooLarge");
}

/** Exact where opaque: a canvas keeps colors multiplied by alpha, and rounded. @param {ImageBitmap} bitmap */
function throughCanvas(bitmap) {
  const { width, height } = bitmap, pixels = new Uint8ClampedArray(4 * width * height);
  const rows = Math.min(height, Math.ceil(PIECE / width));
  const context = context2d(new OffscreenCanvas(width, rows));
  context.globalCompositeOperation = "copy";
  for (let top = 0; top < height; top += rows) {
    context.drawImage(bitmap, 0, -top);
    pixels.set(context.getImageData(0, 0, width, Math.min(rows, height - top)).data, 4 * top * width);
  }
  return pixels;
}

/** Of a canvas that pixels are read from. @param {OffscreenCanvas} canvas */
function context2d(canvas) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  return /** @type {OffscreenCanvasRenderingContext2D} */ (context);
}

/** @param {Uint8ClampedArray} pixels */
function isOpaque(pixels) {
  for (let i = 3; i < pixels.length; i += 4) if (pixels[i] < 255) return false;
  return true;
}

/** Exact; where that does not work, the pixels that the canvas had.
 * @param {ImageBitmap} bitmap @param {Uint8ClampedArray<ArrayBuffer>} rounded */
function throughTexture(bitmap, rounded) {
  const gl = new OffscreenCanvas(1, 1).getContext("webgl");
  if (!gl) return rounded;
  const { TEXTURE_2D, FRAMEBUFFER, RGBA, UNSIGNED_BYTE } = gl, texture = gl.createTexture();
  const pixels = new Uint8ClampedArray(rounded.length);
  gl.bindTexture(TEXTURE_2D, texture);
  gl.texImage2D(TEXTURE_2D, 0, RGBA, RGBA, UNSIGNED_BYTE, bitmap);
  gl.bindFramebuffer(FRAMEBUFFER, gl.createFramebuffer());
  gl.framebufferTexture2D(FRAMEBUFFER, gl.COLOR_ATTACHMENT0, TEXTURE_2D, texture, 0);
  gl.readPixels(0, 0, bitmap.width, bitmap.height, RGBA, UNSIGNED_BYTE, new Uint8Array(pixels.buffer));
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  // Browsers may multiply by alpha nevertheless: the two must agree as far as the canvas can tell.
  const agree = pixels.every((value, i) => Math.abs(value - rounded[i]) <= 1 + 255 / rounded[i | 3]);
  return agree ? pixels : rounded;
}

export { context2d, decode, isOpaque };
