/**
 * What is worked on, one picture after the other: first what is to be saved, then the shown picture, then the others.
 *
 * The pixels of the shown picture are kept. Those of any other are computed again when they are needed, so that the
 * page takes as little memory with a hundred files as with one.
 */
import { enhance } from "../engines/enhance.js";
import { decode } from "./decode.js";
import { figuresOf } from "./figures.js";
import { lineOf } from "./item.js";
import { settings } from "./settings.js";

/** @typedef {import("../engines/kernel.js").Picture} Picture */
/** @typedef {import("../engines/enhance.js").Settings} Settings */
/** @typedef {import("./item.js").Item} Item */

/** @typedef {{item: Item, by: Settings, resolve?: (picture: Picture) => void, reject?: (error: unknown) => void}} Job */

/**
 * @typedef {object} Reports
 * @property {(item: Item) => void} changed
 * @property {(item: Item, original: Picture) => void} opened the shown picture can be read
 * @property {(item: Item, result: Picture) => void} finished the shown picture is done
 * @property {(item: Item) => void} failed
 */

const THUMBNAIL = 144; // pixels of its longer side
const PAUSE = 200; // ms without a change of settings before work begins again

class Work {
  /** @param {Reports} reports */
  constructor(reports) {
    this.reports = reports;
    /** @type {Item[]} */
    this.items = [];
    /** @type {Item | undefined} */
    this.shown = undefined;
    /** @type {{item?: Item, original?: Picture, result?: Picture, by?: Settings}} */
    this.kept = {};
    /** @type {Job[]} */
    this.wanted = [];
    /** @type {(Job & {stop: AbortController}) | undefined} */
    this.running = undefined;
    this.timer = 0;
  }

  /** @param {Item | undefined} item */
  show(item) {
    const last = this.shown;
    this.shown = item;
    if (this.kept.item !== item) this.kept = {};
    if (this.running && this.running.item !== item && !this.running.resolve) this.running.stop.abort();
    for (const one of [last, item]) if (one) this.reports.changed(one);
    this.go();
  }

  /** All is to be done again, once the user has come to rest. */
  restart() {
    if (!this.running?.resolve) this.running?.stop.abort();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.timer = 0;
      this.go();
    }, PAUSE);
    this.items.forEach(this.reports.changed);
  }

  /** @param {Item} item */
  remove(item) {
    this.items = this.items.filter((one) => one !== item);
    if (this.running?.item === item && !this.running.resolve) this.running.stop.abort();
  }

  /** The pixels of a result, by the settings of now. @param {Item} item @param {Settings} by @returns {Promise<Picture>} */
  result(item, by) {
    const { kept } = this;
    if (kept.item === item && kept.by === by && kept.result) return Promise.resolve(kept.result);
    return new Promise((resolve, reject) => {
      this.wanted.push({ item, by, resolve, reject });
      if (this.running && !this.running.resolve) this.running.stop.abort();
      this.go();
    });
  }

  async go() {
    if (this.running || this.timer) return;
    for (let job; (job = this.next());) {
      this.running = { ...job, stop: new AbortController() };
      await this.run(this.running);
      this.running = undefined;
      this.reports.changed(job.item);
      if (this.timer) return;
    }
  }

  /** @returns {Job | undefined} */
  next() {
    const by = settings(), { shown, kept } = this;
    if (this.wanted.length) return this.wanted.shift();
    if (shown?.kind === "picture" && !shown.fault && !(kept.item === shown && kept.by === by)) {
      return { item: shown, by };
    }
    const item = this.items.find((one) => one.kind === "picture" && !one.fault && one.by !== by);
    return item && { item, by };
  }

  /** @param {Job & {stop: AbortController}} job */
  async run({ item, by, resolve, reject, stop: { signal } }) {
    try {
      item.share = 0;
      this.reports.changed(item);
      const original = this.kept.item === item && this.kept.original || await decode(item.file);
      signal.throwIfAborted();
      if (this.shown === item && this.kept.item !== item) {
        this.kept = { item, original };
        this.reports.opened(item, original);
      }
      const progress = (/** @type {number} */ share) => {
        item.share = share;
        this.reports.changed(item);
      };
      const enhanced = await enhance(original, by, { signal, progress });
      signal.throwIfAborted();
      await this.finish(item, by, original, enhanced);
      resolve?.(enhanced.picture);
    } catch (error) {
      if (!signal.aborted) {
        item.fault = lineOf(error);
        this.reports.failed(item);
      }
      reject?.(error);
    } finally {
      item.share = undefined;
    }
  }

  /** @param {Item} item @param {Settings} by @param {Picture} original
   * @param {import("../engines/enhance.js").Enhanced} enhanced */
  async finish(item, by, original, enhanced) {
    const { picture } = enhanced;
    if (item.by !== by) {
      const resizeHeight = Math.ceil(Math.min(THUMBNAIL, THUMBNAIL * picture.height / picture.width));
      item.thumbnail = await createImageBitmap(new ImageData(picture.pixels, picture.width), { resizeHeight });
      Object.assign(item, { figures: figuresOf(original, enhanced), by, saved: false });
    } else if (item.figures) item.figures.engine = enhanced.engine;
    if (this.shown !== item) return;
    this.kept = { item, original, result: picture, by };
    this.reports.finished(item, picture);
  }
}

export { Work };
