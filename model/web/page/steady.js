/** Flicker is smoothed away, as model/video/deflicker.py has it. */

/** In a new scene the coarse picture, divided by its mean, differs by this share, or the brightness by this factor. */
const CUT = 0.3, JUMP = Math.log(1.6);
/** Cells per side of the coarse picture. */
const COARSE = 8;

/** Smooths the exposures of a video: log(1 + c) by an exponential moving average, anew in each scene. */
class Steady {
  /** @type {{seconds: number, level: number, average: number, coarse: number[]} | undefined} */
  #before;

  /**
   * @param {number} c that was found for the next frame
   * @param {import("../engines/kernel.js").Picture} picture the frame, or the points sampled from it
   * @param {number} seconds when it is shown
   * @param {number} smooth the time constant in seconds; 0: off
   */
  exposure(c, picture, seconds, smooth) {
    const level = Math.log1p(c), coarse = coarseOf(picture), before = this.#before;
    const change = before ? meanOf(coarse.map((cell, n) => Math.abs(cell - before.coarse[n]))) : 0;
    let average = level;
    if (smooth && before && Math.abs(level - before.level) <= JUMP && change <= CUT) {
      const keep = Math.exp(-Math.max(seconds - before.seconds, 0) / smooth);
      average = keep * before.average + (1 - keep) * level;
      average = Math.min(Math.max(average, level - JUMP), level + JUMP);
    }
    this.#before = { seconds, level, average, coarse };
    return Math.expm1(average);
  }
}

/** The means of 8x8 blocks, divided by their mean. @param {import("../engines/kernel.js").Picture} picture */
function coarseOf({ pixels, width, height }) {
  const cells = Array.from({ length: COARSE ** 2 }, (_, n) => {
    const [left, right] = bounds(n % COARSE, width), [top, bottom] = bounds(Math.floor(n / COARSE), height);
    let sum = 0;
    for (let y = top; y < bottom; y++) {
      for (let i = 4 * (y * width + left); i < 4 * (y * width + right); i += 4) {
        sum += pixels[i] + pixels[i + 1] + pixels[i + 2];
      }
    }
    return sum / (765 * (right - left) * (bottom - top));
  });
  const mean = Math.max(meanOf(cells), 1e-4);
  return cells.map((cell) => cell / mean);
}

/** Where a cell begins and ends, as of PyTorch's adaptive_avg_pool2d. @param {number} n @param {number} size */
function bounds(n, size) {
  return [Math.floor(n * size / COARSE), Math.ceil((n + 1) * size / COARSE)];
}

/** @param {number[]} values */
function meanOf(values) {
  return values.reduce((a, b) => a + b) / values.length;
}

export { Steady };
