/** What the list knows of a file; its pixels are kept of the shown one alone. */
import { Fault, text } from "./texts.js";

/** @typedef {import("../engines/enhance.js").Settings} Settings */
/** @typedef {import("./figures.js").Figures} Figures */

/**
 * @typedef {object} Item
 * @property {string} name of the file
 * @property {Blob} file
 * @property {"picture" | "video" | "recording"} kind
 * @property {number} [share] done, while it is worked on
 * @property {Figures} [figures] of the last result
 * @property {Settings} [by] what that was made with
 * @property {string} [fault] why there is no result
 * @property {ImageBitmap} [thumbnail] until it is shown
 * @property {boolean} [saving]
 * @property {boolean} [saved] the last result
 */

const FILM = /\.(mp4|m4v|mov|mkv|webm|avi|mts|ogv|3gp)$/i;

/** @param {File} file @returns {Item} */
function itemOf(file) {
  const isVideo = file.type ? file.type.startsWith("video/") : FILM.test(file.name);
  return { name: file.name, file, kind: isVideo ? "video" : "picture" };
}

/** Whether there is something to save, made or to be made. @param {Item} item */
function isSavable({ kind, figures, fault }) {
  return kind === "recording" || Boolean(kind === "picture" && figures && !fault);
}

/** One line for the user. @param {unknown} error */
function lineOf(error) {
  if (error instanceof Fault) return error.message;
  if (error instanceof RangeError) return text("tooLarge"); // no room for an array
  return text("unknown", String(/** @type {Error} */ (error).message ?? error));
}

export { isSavable, itemOf, lineOf };
