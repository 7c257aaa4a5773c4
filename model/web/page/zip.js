/** An archive of files as they are: pictures and videos are compressed already. Their blobs are referred to, not copied. */
import { crc32 } from "./crc.js";
import { Fault } from "./texts.js";

/** Bytes of a file that are in memory at once. */
const AT_ONCE = 2 ** 22;

/** @param {{name: string, blob: Blob}[]} files @returns {Promise<Blob>} */
async function zip(files) {
  const now = new Date(), /** @type {BlobPart[]} */ parts = [], /** @type {BlobPart[]} */ directory = [];
  const time = now.getHours() << 11 | now.getMinutes() << 5 | now.getSeconds() >> 1;
  const date = now.getFullYear() - 1980 << 9 | now.getMonth() + 1 << 5 | now.getDate();
  let at = 0;
  for (const { name, blob } of files) {
    const bytes = new TextEncoder().encode(name), size = long(blob.size);
    // Version 2.0 of the format, names in UTF-8, stored.
    const facts = [20, 1 << 11, 0, time, date, ...long(await crcOf(blob)), ...size, ...size, bytes.length, 0];
    parts.push(words(0x4b50, 0x0403, ...facts), bytes, blob);
    directory.push(words(0x4b50, 0x0201, 20, ...facts, 0, 0, 0, 0, 0, ...long(at)), bytes);
    at += 30 + bytes.length + blob.size;
  }
  const list = new Blob(directory), count = files.length;
  if (at + list.size >= 2 ** 32 || count >= 2 ** 16) throw new Fault("archiveTooLarge");
  const end = words(0x4b50, 0x0605, 0, 0, count, count, ...long(list.size), ...long(at), 0);
  return new Blob([...parts, list, end], { type: "application/zip" });
}

/** Numbers of 16 bits, the lower byte first, as every device with a browser has them. @param {number[]} values */
function words(...values) {
  return Uint16Array.from(values);
}

/** A number of 32 bits. @param {number} value */
function long(value) {
  return [value, value >>> 16];
}

/** @param {Blob} blob */
async function crcOf(blob) {
  let crc = 0;
  for (let at = 0; at < blob.size; at += AT_ONCE) {
    crc = crc32(new Uint8Array(await blob.slice(at, at + AT_ONCE).arrayBuffer()), crc);
  }
  return crc;
}

export { zip };
