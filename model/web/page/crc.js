/** CRC-32, as PNG and ZIP have it. */

const REMAINDERS = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ n >>> 1 : n >>> 1;
  return n;
});

/** @param {Uint8Array} bytes @param {number} [before] the CRC of the bytes before these */
function crc32(bytes, before = 0) {
  let crc = ~before;
  for (const byte of bytes) crc = REMAINDERS[(crc ^ byte) & 255] ^ crc >>> 8;
  return ~crc >>> 0;
}

export { crc32 };
