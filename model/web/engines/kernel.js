/**
 * The network, the exposure and the noise filter in plain JavaScript. It runs in workers.
 *
 * Formulas: `sci_kernels.enhance`, `sci_kernels.exposure` and `sci_kernels.denoise` of the Python library. As in its C
 * kernels, rows march down the picture and only those that the next step needs are kept. Every pixel is computed by the
 * same operations wherever it lies, so that a part of a picture has the bits of the whole.
 */

/**
 * What the generator writes into the page.
 * @typedef {object} Model
 * @property {string} version of the project
 * @property {string} name of the weight file
 * @property {number[]} weights of three convolutions: layer, output channel, then 27 weights (input channel, row,
 *   column) and the bias, with BatchNorm folded into them
 * @property {"auto" | number | null} exposure what the page begins with, as of `Settings`
 * @property {number} denoise
 * @property {number} black illumination of a black picture
 * @property {number[]} luma weights of red, green and blue
 * @property {number[]} light smallest and largest illumination
 * @property {number} target mean luma that an exposure is found for
 * @property {number} highlights bound on the exposure where the highlights are white
 * @property {number} mostExposure
 * @property {number} fade how much of a color turns gray per unit of exposure
 * @property {number} noise assumed standard deviation of the noise before it is brightened
 * @property {number} reach standard deviation of the filter's spatial weight, in pixels
 * @property {number} samples points along the longer side, at least, that the exposure is found from
 * @property {number} slack what is added before a result of the published division is truncated to 8 bits
 * @property {number} reachOfPixel how far a pixel's influence reaches: network and filter
 */

/**
 * A picture, or a part of one: 8 bits, RGBA, not multiplied by alpha, row after row.
 * @typedef {{pixels: Uint8ClampedArray<ArrayBuffer>, width: number, height: number}} Picture
 */

/**
 * What to do with it. An exposure of null is the published division, which has no filter.
 * @typedef {{exposure: number | null, denoise: number}} Rule
 */

const TAPS = 27;
const LAYER = 3 * (TAPS + 1);
const AT_ONCE = 4; // pixels that are computed together
const FILTER = 2; // radius of the noise filter
const OUTSIDE = 1 << 24; // in place of a color: more than the distance of any two colors, which are of three bytes

// Tables in place of Math.exp, which takes longer than all the rest. Between the values of the sigmoid, a straight line
// is right to 2e-7; weights of the filter are whole numbers of 16 bits, and 0 where they would be less than a half.
const FINE = 256, FARTHEST = 12, FINEST = 4096; // entries for a unit; units
const SIGMOID = Float64Array.from({ length: 32 * FINE + 2 }, (_, i) => 1 / (1 + Math.exp(16 - i / FINE)));
const WEIGHTS = Uint16Array.from({ length: (2 * FARTHEST + 1) * FINEST + 1 }, (_, i) => {
  return i < FARTHEST * FINEST ? 65535 * Math.exp(-(i + 0.5) / FINEST) + 0.5 : 0;
});
const SHARE = Float64Array.from({ length: 256 }, (_, byte) => byte / 255);

/** @param {number} x */
function sigmoid(x) {
  const t = (x < -16 ? 0 : x > 16 ? 32 : x + 16) * FINE, low = t | 0;
  return SIGMOID[low] + (t - low) * (SIGMOID[low + 1] - SIGMOID[low]);
}

/** A ring of rows of three planes, with zeros to the left and to the right of each. */
class Rows {
  /** @param {number} width @param {number} count */
  constructor(width, count) {
    this.pitch = pitchOf(width);
    this.row = 3 * this.pitch;
    this.count = count;
    this.values = new Float64Array((count + 1) * this.row + AT_ONCE); // the last row stays zero
  }

  /** Where row `y` of a picture of `height` rows begins; outside the picture, a row of zeros.
   * @param {number} y @param {number} height */
  at(y, height) {
    return (y < 0 || y >= height ? this.count : y % this.count) * this.row + 1;
  }
}

/** The length of a row in memory: its last pixels may be computed together with some that are not in the picture.
 * @param {number} width */
function pitchOf(width) {
  return width + AT_ONCE + 2;
}

/**
 * One row of a 3x3 convolution from 3 to 3 channels.
 * @param {Float64Array} weights @param {number} layer
 * @param {Rows} from @param {number[]} rows where the rows above, at and below it begin
 * @param {Float64Array} to three planes @param {number} start where its row begins
 * @param {number} width
 * @param {boolean} features whether it is followed by relu
 * @param {boolean} add whether the row itself is then added
 */
function convolve(weights, layer, from, rows, to, start, width, features, add) {
  const values = from.values, pitch = from.pitch;
  for (let output = 0; output < 3; output++) {
    const base = layer * LAYER + output * (TAPS + 1), own = rows[1] + output * pitch, place = start + output * pitch;
    for (let x = 0; x < width; x += AT_ONCE) {
      let s0 = weights[base + TAPS], s1 = s0, s2 = s0, s3 = s0;
      for (let input = 0, tap = base; input < 3; input++) {
        for (let dy = 0; dy < 3; dy++, tap += 3) {
          const at = rows[dy] + input * pitch + x - 1;
          const w0 = weights[tap], w1 = weights[tap + 1], w2 = weights[tap + 2];
          const v0 = values[at], v1 = values[at + 1], v2 = values[at + 2];
          const v3 = values[at + 3], v4 = values[at + 4], v5 = values[at + 5];
          s0 += w0 * v0 + w1 * v1 + w2 * v2;
          s1 += w0 * v1 + w1 * v2 + w2 * v3;
          s2 += w0 * v2 + w1 * v3 + w2 * v4;
          s3 += w0 * v3 + w1 * v4 + w2 * v5;
        }
      }
      if (features) s0 = s0 > 0 ? s0 : 0, s1 = s1 > 0 ? s1 : 0, s2 = s2 > 0 ? s2 : 0, s3 = s3 > 0 ? s3 : 0;
      if (add) s0 += values[own + x], s1 += values[own + x + 1], s2 += values[own + x + 2], s3 += values[own + x + 3];
      to[place + x] = s0, to[place + x + 1] = s1, to[place + x + 2] = s2, to[place + x + 3] = s3;
    }
    to.fill(0, place + width, place + width + AT_ONCE); // pixels that are not in the picture
  }
}

/**
 * Calls `use` for each row, with the network's illumination.
 * @param {Model} model @param {Picture} picture
 * @param {(y: number, light: Float64Array) => void} use gets three planes, `pitchOf(width)` apart
 */
function illuminate(model, { pixels, width, height }, use) {
  const weights = Float64Array.from(model.weights), pitch = pitchOf(width);
  const image = new Rows(width, 4), first = new Rows(width, 3), second = new Rows(width, 3);
  const light = new Float64Array(3 * pitch + AT_ONCE);
  const [least, most] = model.light;
  /** @param {Rows} rows @param {number} y */
  const around = (rows, y) => [-1, 0, 1].map((dy) => rows.at(y + dy, height));
  for (let y = 0; y < height + 3; y++) {
    if (y < height) {
      const start = image.at(y, height);
      for (let c = 0; c < 3; c++) {
        const to = start + c * image.pitch;
        for (let x = 0, at = 4 * width * y + c; x < width; x++, at += 4) image.values[to + x] = SHARE[pixels[at]];
      }
    }
    /** @param {Rows} from @param {Rows} to @param {number} layer */
    const feature = (from, to, layer) => {
      const row = y - 1 - layer;
      if (row < 0 || row >= height) return;
      convolve(weights, layer, from, around(from, row), to.values, to.at(row, height), width, true, layer > 0);
    };
    feature(image, first, 0);
    feature(first, second, 1);
    const row = y - 3;
    if (row < 0) continue;
    convolve(weights, 2, second, around(second, row), light, 0, width, false, false);
    const own = image.at(row, height);
    for (let c = 0; c < 3; c++) {
      for (let x = 0; x < width; x++) {
        const value = sigmoid(light[c * pitch + x]) + image.values[own + c * image.pitch + x];
        light[c * pitch + x] = value < least ? least : value > most ? most : value;
      }
    }
    use(row, light);
  }
}

/**
 * The exposure c that brings the mean luma to the target; 0 where it is there already, or where all is black.
 * @param {Model} model @param {Picture} points sampled from the picture
 * @returns {number}
 */
function findExposure(model, points) {
  const { pixels, width, height } = points, count = width * height, pitch = pitchOf(width);
  const m = new Float64Array(count), luma = new Float64Array(count), s = new Float64Array(count);
  let mean = 0, powers = 0;
  illuminate(model, points, (y, light) => {
    for (let x = 0, i = y * width; x < width; x++, i++) {
      const r = SHARE[pixels[4 * i]], g = SHARE[pixels[4 * i + 1]], b = SHARE[pixels[4 * i + 2]];
      const added = (light[x] - r + light[x + pitch] - g + light[x + 2 * pitch] - b) / 3;
      m[i] = Math.max(r, g, b);
      luma[i] = model.luma[0] * r + model.luma[1] * g + model.luma[2] * b;
      s[i] = 0.5 + 0.5 * Math.min(added / model.black, 1);
      mean += luma[i];
      powers += m[i] ** 8;
    }
  });
  if (!(mean > 0 && mean / count < model.target)) return 0;
  const most = Math.min(model.mostExposure, model.highlights / Math.max(1e-3, (powers / count) ** (1 / 8)));
  let c = 0;
  for (let step = 0; step < 8; step++) { // Newton's method: the mean is increasing and concave in c
    let f = 0, slope = 0;
    for (let i = 0; i < count; i++) {
      const q = 1 / (c * m[i] + s[i]);
      f += luma[i] * (c + s[i]) * q;
      slope += luma[i] * s[i] * (1 - m[i]) * q * q;
    }
    f /= count, slope /= count;
    if (!(f < model.target && slope > 0)) break;
    c = Math.min(most, c + (model.target - f) / slope);
  }
  return c;
}

/**
 * The bright picture, of the same size, with the transparency of the original. Beside a border that is not the
 * picture's own, `model.reachOfPixel` pixels are not right.
 * @param {Model} model @param {Picture} picture @param {Rule} rule
 * @returns {Uint8ClampedArray<ArrayBuffer>}
 */
function brighten(model, picture, { exposure, denoise }) {
  const { pixels, width, height } = picture, pitch = pitchOf(width);
  const result = new Uint8ClampedArray(pixels);
  if (exposure === null) {
    illuminate(model, picture, (y, light) => {
      for (let c = 0; c < 3; c++) {
        for (let x = 0, at = 4 * width * y + c; x < width; x++, at += 4) {
          const value = Math.min(1, SHARE[pixels[at]] / light[c * pitch + x]);
          result[at] = Math.floor(255 * value + model.slack); // truncated, as published
        }
      }
    });
    return result;
  }
  const c = exposure, fade = model.fade * c, filter = denoise > 0 ? new Filter(model, picture, denoise, result) : null;
  illuminate(model, picture, (y, light) => {
    for (let x = 0, at = 4 * width * y; x < width; x++, at += 4) {
      const r = SHARE[pixels[at]], g = SHARE[pixels[at + 1]], b = SHARE[pixels[at + 2]];
      const added = (light[x] - r + light[x + pitch] - g + light[x + 2 * pitch] - b) / 3;
      const s = 0.5 + 0.5 * Math.min(added / model.black, 1);
      const gain = (c + s) / (c * Math.max(r, g, b) + s);
      const gray = fade * (model.luma[0] * r + model.luma[1] * g + model.luma[2] * b);
      // This kind of array rounds what is stored in it, and of two whole numbers takes the even one, as NumPy does.
      result[at] = 255 * gain * (r * (1 - fade) + gray);
      result[at + 1] = 255 * gain * (g * (1 - fade) + gray);
      result[at + 2] = 255 * gain * (b * (1 - fade) + gray);
      filter?.put(x, y, result[at], result[at + 1], result[at + 2], gain);
    }
    filter?.filter(y - FILTER);
  });
  if (filter) { for (let y = Math.max(0, height - FILTER); y < height; y++) filter.filter(y); }
  return result;
}

/** The noise filter: a ring of the last five bright rows; around the picture, and in a sixth row, nothing. */
class Filter {
  /** @param {Model} model @param {Picture} picture @param {number} strength @param {Uint8ClampedArray} result */
  constructor(model, { width, height }, strength, result) {
    this.width = width, this.height = height, this.result = result;
    this.pitch = width + 2 * FILTER;
    this.colors = new Int32Array(6 * this.pitch).fill(OUTSIDE);
    this.scales = new Float64Array(5 * this.pitch);
    this.falloff = FINEST * 0.5 / Math.max(255 * model.noise * strength, 1e-9) ** 2;
    const spread = FINEST / (2 * model.reach ** 2);
    this.nearness = Float64Array.from({ length: 25 }, (_, k) => {
      return spread * ((k % 5 - FILTER) ** 2 + (Math.floor(k / 5) - FILTER) ** 2);
    });
  }

  /** @param {number} y */
  row(y) {
    return (y < 0 || y >= this.height ? 5 : y % 5) * this.pitch;
  }

  /** @param {number} x @param {number} y @param {number} r @param {number} g @param {number} b @param {number} gain */
  put(x, y, r, g, b, gain) {
    const at = this.row(y) + FILTER + x;
    this.colors[at] = r | g << 8 | b << 16;
    this.scales[at] = Math.min(this.falloff / (gain * gain), FARTHEST * FINEST);
  }

  /** Row `y` of the result, once two rows below it are there. @param {number} y */
  filter(y) {
    if (y < 0) return;
    const { colors, scales, nearness, width, result } = this;
    const rows = [-2, -1, 0, 1, 2].map((dy) => this.row(y + dy)), own = rows[FILTER] + FILTER;
    for (let x = 0, to = 4 * width * y; x < width; x++, to += 4) {
      const color = colors[own + x], red = color & 255, green = color >> 8 & 255, blue = color >> 16 & 255;
      const scale = scales[own + x], most = Math.ceil(FARTHEST * FINEST / scale);
      let r = 0, g = 0, b = 0, weights = 0;
      for (let dy = 0, k = 0; dy < 5; dy++) {
        for (let dx = 0, at = rows[dy] + x; dx < 5; dx++, at++, k++) {
          const there = colors[at], r1 = there & 255, g1 = there >> 8 & 255, b1 = there >> 16 & 255;
          const r2 = r1 - red, g2 = g1 - green, b2 = b1 - blue;
          // The distance, or `most` where it is larger, without a branch, which processors would often guess wrong.
          const less = r2 * r2 + g2 * g2 + b2 * b2 + (there & OUTSIDE) - most, distance = most + (less & less >> 31);
          const weight = WEIGHTS[distance * scale + nearness[k] | 0];
          weights = weights + weight | 0;
          r = r + Math.imul(weight, r1) | 0, g = g + Math.imul(weight, g1) | 0, b = b + Math.imul(weight, b1) | 0;
        }
      }
      const share = 1 / weights;
      result[to] = r * share, result[to + 1] = g * share, result[to + 2] = b * share;
    }
  }
}

export { brighten, findExposure };
