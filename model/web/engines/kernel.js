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
 * @property {number} black illumination of a black picture
 * @property {number[]} luma weights of red, green and blue
 * @property {number[]} light smallest and largest illumination
 * @property {number} target mean luma that an exposure is found for
 * @property {number} highlights bound on the exposure where the highlights are white
 * @property {number} mostExposure
 * @property {number} fade how much of a color turns gray per unit of exposure
 * @property {number} noise assumed standard deviation of the noise before it is brightened
 * @property {number} mostDenoising
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
const FILTER = 2; // radius of the noise filter
const FAR = -20000; // a color far from all others, of the pixels outside the picture
const FINE = 256; // steps of the table of exp(-t) for one unit of t
const MOST = 16; // exp(-16) is as good as nothing beside a weight of 1

/** Rows of three planes, with a margin of zeros at both ends; a ring of them. */
class Rows {
  /** @param {number} width @param {number} count */
  constructor(width, count) {
    this.pitch = width + 4; // pixels are computed in twos, so that one more may be read and written
    this.row = 3 * this.pitch;
    this.count = count;
    this.values = new Float32Array((count + 1) * this.row); // the last row stays zero
  }

  /** Where row `y` of a picture of `height` rows begins; outside the picture, a row of zeros.
   * @param {number} y @param {number} height */
  at(y, height) {
    return (y < 0 || y >= height ? this.count : y % this.count) * this.row + 1;
  }
}

/**
 * One row of a 3x3 convolution from 3 to 3 channels, two pixels at a time.
 * @param {Float32Array} weights @param {number} layer
 * @param {Rows} from @param {number[]} rows where the rows above, at and below it begin
 * @param {Float32Array} to three planes @param {number} start where its row begins @param {number} pitch
 * @param {number} width
 * @param {boolean} add the row itself to the result, after it
 * @param {boolean} relu
 */
function convolve(weights, layer, from, rows, to, start, pitch, width, add, relu) {
  const values = from.values, step = from.pitch, base = layer * LAYER;
  for (let x = 0; x < width; x += 2) {
    let r0 = weights[base + TAPS], g0 = weights[base + 2 * TAPS + 1], b0 = weights[base + 3 * TAPS + 2];
    let r1 = r0, g1 = g0, b1 = b0;
    for (let dy = 0; dy < 3; dy++) {
      let at = rows[dy] + x - 1, tap = base + 3 * dy;
      for (let c = 0; c < 3; c++, at += step, tap += 9) {
        const v0 = values[at], v1 = values[at + 1], v2 = values[at + 2], v3 = values[at + 3];
        let w0 = weights[tap], w1 = weights[tap + 1], w2 = weights[tap + 2];
        r0 += w0 * v0 + w1 * v1 + w2 * v2;
        r1 += w0 * v1 + w1 * v2 + w2 * v3;
        w0 = weights[tap + 28], w1 = weights[tap + 29], w2 = weights[tap + 30];
        g0 += w0 * v0 + w1 * v1 + w2 * v2;
        g1 += w0 * v1 + w1 * v2 + w2 * v3;
        w0 = weights[tap + 56], w1 = weights[tap + 57], w2 = weights[tap + 58];
        b0 += w0 * v0 + w1 * v1 + w2 * v2;
        b1 += w0 * v1 + w1 * v2 + w2 * v3;
      }
    }
    if (relu) {
      r0 = r0 > 0 ? r0 : 0, g0 = g0 > 0 ? g0 : 0, b0 = b0 > 0 ? b0 : 0;
      r1 = r1 > 0 ? r1 : 0, g1 = g1 > 0 ? g1 : 0, b1 = b1 > 0 ? b1 : 0;
    }
    if (add) {
      const at = rows[1] + x;
      r0 += values[at], r1 += values[at + 1];
      g0 += values[at + step], g1 += values[at + step + 1];
      b0 += values[at + 2 * step], b1 += values[at + 2 * step + 1];
    }
    const at = start + x;
    to[at] = r0, to[at + 1] = r1;
    to[at + pitch] = g0, to[at + pitch + 1] = g1;
    to[at + 2 * pitch] = b0, to[at + 2 * pitch + 1] = b1;
  }
  // Where the width is odd, one pixel too many was written.
  for (let c = 0; c < 3; c++) to[start + c * pitch + width] = 0;
}

/**
 * Calls `use` for each row, with the network's illumination.
 * @param {Model} model @param {Picture} picture
 * @param {(y: number, light: Float32Array) => void} use gets three planes, one after the other
 */
function illuminate(model, { pixels, width, height }, use) {
  const weights = Float32Array.from(model.weights);
  const image = new Rows(width, 4), first = new Rows(width, 3), second = new Rows(width, 3);
  const pitch = width + 1; // as above
  const light = new Float32Array(3 * pitch);
  const [least, most] = model.light;
  for (let y = 0; y < height + 3; y++) {
    if (y < height) {
      const start = image.at(y, height);
      for (let c = 0; c < 3; c++) {
        const to = start + c * image.pitch;
        for (let x = 0, at = 4 * width * y + c; x < width; x++, at += 4) image.values[to + x] = pixels[at] / 255;
      }
    }
    for (
      const [rows, to, behind, layer] of /** @type {[Rows, Rows, number, number][]} */ ([
        [image, first, 1, 0],
        [first, second, 2, 1],
      ])
    ) {
      const row = y - behind;
      if (row < 0 || row >= height) continue;
      const around = [-1, 0, 1].map((dy) => rows.at(row + dy, height));
      convolve(weights, layer, rows, around, to.values, to.at(row, height), to.pitch, width, layer === 1, true);
    }
    const row = y - 3;
    if (row < 0) continue;
    const around = [-1, 0, 1].map((dy) => second.at(row + dy, height));
    convolve(weights, 2, second, around, light, 0, pitch, width, false, false);
    const own = image.at(row, height);
    for (let c = 0; c < 3; c++) {
      for (let x = 0; x < width; x++) {
        const value = 1 / (1 + Math.exp(-light[c * pitch + x])) + image.values[own + c * image.pitch + x];
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
  const { pixels, width, height } = points, count = width * height, pitch = width + 1;
  const m = new Float64Array(count), luma = new Float64Array(count), s = new Float64Array(count);
  let mean = 0, powers = 0;
  illuminate(model, points, (y, light) => {
    for (let x = 0, i = y * width; x < width; x++, i++) {
      const r = pixels[4 * i] / 255, g = pixels[4 * i + 1] / 255, b = pixels[4 * i + 2] / 255;
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
  const { pixels, width, height } = picture, pitch = width + 1;
  const result = new Uint8ClampedArray(pixels);
  if (exposure === null) {
    illuminate(model, picture, (y, light) => {
      for (let c = 0; c < 3; c++) {
        for (let x = 0, at = 4 * width * y + c; x < width; x++, at += 4) {
          const value = Math.min(1, pixels[at] / 255 / light[c * pitch + x]);
          result[at] = Math.floor(255 * value + model.slack); // truncated, as published
        }
      }
    });
    return result;
  }
  const c = exposure, fade = model.fade * c, filter = denoise > 0 ? new Filter(model, picture, denoise, result) : null;
  illuminate(model, picture, (y, light) => {
    for (let x = 0, at = 4 * width * y; x < width; x++, at += 4) {
      const r = pixels[at] / 255, g = pixels[at + 1] / 255, b = pixels[at + 2] / 255;
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

/** The noise filter: a ring of the last five bright rows, with pixels far from all colors around the picture. */
class Filter {
  /** @param {Model} model @param {Picture} picture @param {number} strength @param {Uint8ClampedArray} result */
  constructor(model, { width, height }, strength, result) {
    this.width = width, this.height = height, this.result = result;
    this.pitch = width + 2 * FILTER;
    this.colors = new Int16Array(3 * 6 * this.pitch).fill(FAR); // five rows, and one outside the picture
    this.scales = new Float32Array(5 * this.pitch);
    this.falloff = FINE * 0.5 / Math.max(255 * model.noise * strength, 1e-9) ** 2;
    const spread = FINE / (2 * model.reach ** 2);
    this.nearness = Float64Array.from({ length: 5 }, (_, d) => spread * (d - FILTER) ** 2);
    this.table = Float64Array.from({ length: FINE * MOST + 1 }, (_, i) => Math.exp(-i / FINE));
    this.table[FINE * MOST] = 0;
  }

  /** @param {number} y */
  row(y) {
    return (y < 0 || y >= this.height ? 5 : y % 5) * this.pitch;
  }

  /** @param {number} x @param {number} y @param {number} r @param {number} g @param {number} b @param {number} gain */
  put(x, y, r, g, b, gain) {
    const at = this.row(y) + FILTER + x, plane = 6 * this.pitch;
    this.colors[at] = r, this.colors[at + plane] = g, this.colors[at + 2 * plane] = b;
    this.scales[at] = this.falloff / (gain * gain);
  }

  /** Row `y` of the result, once two rows below it are there. @param {number} y */
  filter(y) {
    if (y < 0) return;
    const { colors, scales, table, nearness, width, result } = this, plane = 6 * this.pitch, end = FINE * MOST;
    const rows = nearness.map((_, dy) => this.row(y + dy - FILTER));
    const own = rows[FILTER] + FILTER;
    for (let x = 0, to = 4 * width * y; x < width; x++, to += 4) {
      const red = colors[own + x], green = colors[own + x + plane], blue = colors[own + x + 2 * plane];
      const scale = scales[own + x];
      let r = 0, g = 0, b = 0, weights = 0;
      for (let dy = 0; dy < 5; dy++) {
        const away = nearness[dy];
        for (let dx = 0, at = rows[dy] + x; dx < 5; dx++, at++) {
          const r1 = colors[at], g1 = colors[at + plane], b1 = colors[at + 2 * plane];
          const r2 = r1 - red, g2 = g1 - green, b2 = b1 - blue;
          const t = (r2 * r2 + g2 * g2 + b2 * b2) * scale + away + nearness[dx];
          if (t >= end) continue;
          const low = t | 0, weight = table[low] + (t - low) * (table[low + 1] - table[low]);
          weights += weight, r += weight * r1, g += weight * g1, b += weight * b1;
        }
      }
      result[to] = r / weights, result[to + 1] = g / weights, result[to + 2] = b / weights;
    }
  }
}

export { brighten, findExposure };
