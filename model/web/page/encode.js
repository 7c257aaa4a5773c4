/** A picture as a file: JPEG by the browser, PNG by hand, since a canvas loses colors where they are transparent. */
import { crc32 } from "./crc.js";
import { context2d, isOpaque } from "./decode.js";
import { Fault } from "./texts.js";

/** @typedef {import("../engines/kernel.js").Picture} Picture */

/** Of JPEG. */
const QUALITY = 0.95;
/** Bytes that are compressed at a time. */
const STRIP = 2 ** 19;

/** @param {Picture} picture @param {"image/png" | "image/jpeg"} type @returns {Promise<Blob>} */
async function encode(picture, type) {
  try {
    return await (type === "image/png" && globalThis.CompressionStream ? png(picture) : byCanvas(picture, type));
  } catch {
    throw new Fault("tooLargeToSave");
  }
}

/** @param {Picture} picture @param {string} type */
function byCanvas({ pixels, width, height }, type) {
  const context = context2d(new OffscreenCanvas(width, height));
  context.putImageData(new ImageData(pixels, width, height), 0, 0);
  if (type === "image/jpeg") { // which has no transparency: white is behind it
    context.globalCompositeOperation = "destination-over";
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    if (!context.getImageData(0, 0, 1, 1).data[3]) throw new RangeError();
  }
  return context.canvas.convertToBlob({ type, quality: QUALITY });
}

/** Exact, with an alpha channel where something is transparent. @param {Picture} picture */
async function png(picture) {
  const { width, height } = picture, channels = isOpaque(picture.pixels) ? 3 : 4;
  const rows = filtered(picture, channels).pipeThrough(new CompressionStream("deflate"));
  const parts = [
    Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10),
    ...chunk("IHDR", [...uint32(width), ...uint32(height), 8, channels === 4 ? 6 : 2, 0, 0, 0]),
    ...chunk("sRGB", [0]),
    ...chunk("IDAT", await new Response(rows).arrayBuffer()),
    ...chunk("IEND", []),
  ];
  return new Blob(parts, { type: "image/png" });
}

/**
 * Rows by the filter Average, with which brightened photographs are smallest, noise and all.
 * @param {Picture} picture @param {number} channels
 */
function filtered({ pixels, width, height }, channels) {
  let y = 0;
  return new ReadableStream({
    async pull(stream) {
      if (!document.hidden) await new Promise((resolve) => setTimeout(resolve)); // the page stays alive
      const rows = Math.min(height - y, Math.ceil(STRIP / (width * channels)));
      const strip = new Uint8Array(rows * (width * channels + 1));
      for (let to = 0; to < strip.length; y++) {
        strip[to++] = 3;
        for (let x = 0, at = 4 * y * width; x < width; x++, at += 4) {
          for (let i = at; i < at + channels; i++) {
            strip[to++] = pixels[i] - ((x && pixels[i - 4]) + (y && pixels[i - 4 * width]) >> 1);
          }
        }
      }
      stream.enqueue(strip);
      if (y === height) stream.close();
    },
  });
}

/** A chunk of a PNG: its length, name, data and checksum. @param {string} name
 * @param {ArrayBuffer | number[]} bytes */
function chunk(name, bytes) {
  const head = new TextEncoder().encode(name), data = new Uint8Array(bytes);
  return [uint32(data.length), head, data, uint32(crc32(data, crc32(head)))];
}

/** The bytes of a number, the highest first. @param {number} value */
function uint32(value) {
  return Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
}

export { encode };
