/** Results as files: their names, one at a time, or all in an archive. */
import { find, make } from "./dom.js";
import { encode } from "./encode.js";
import { settings } from "./settings.js";
import { zip } from "./zip.js";

/** @typedef {import("./item.js").Item} Item */
/** @typedef {import("./work.js").Work} Work */

/** PNG where there is transparency, which JPEG has not. @param {Item} item */
function endOf({ figures }) {
  return figures?.transparent || find("select", "#format").value === "image/png" ? "png" : "jpg";
}

/** Names of the results: those of the files with the new ending; the second of the same name gets -2.
 * @param {Item[]} items @returns {Map<Item, string>} */
function namesOf(items) {
  /** @type {Map<Item, string>} */
  const names = new Map();
  const taken = new Set();
  for (const item of items) {
    const stem = item.name.replace(/(?<=.)\.[^.]*$/, "");
    const end = item.kind === "recording" ? item.name.split(".").pop() : endOf(item);
    let name = `${stem}.${end}`;
    for (let n = 2; taken.has(name.toLowerCase()); n++) name = `${stem}-${n}.${end}`;
    taken.add(name.toLowerCase());
    names.set(item, name);
  }
  return names;
}

/** The file of a result. @param {Work} work @param {Item} item @param {import("./settings.js").Settings} by
 * @param {string} name */
async function fileOf(work, item, by, name) {
  if (item.kind === "recording") return item.file;
  const picture = await work.result(item, by);
  return await encode(picture, name.endsWith("png") ? "image/png" : "image/jpeg");
}

/** Whether what was saved is still the last result. @param {Item} item @param {import("./settings.js").Settings} by */
function isSaved(item, by) {
  return item.kind === "recording" || item.by === by;
}

/** @param {string} name @param {Blob} blob */
function download(name, blob) {
  const address = URL.createObjectURL(blob);
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000); // some browsers begin late
}

/** @param {Work} work @param {Item} item @param {Item[]} all those that share their names with it */
async function saveOne(work, item, all) {
  const name = /** @type {string} */ (namesOf(all).get(item));
  const by = settings();
  download(name, await fileOf(work, item, by, name));
  item.saved = isSaved(item, by);
}

/** @param {Work} work @param {Item[]} items @param {(item: Item, error?: unknown) => void} done called after each one */
async function saveAll(work, items, done) {
  const by = settings(), names = namesOf(items), files = [], packed = [];
  for (const item of items) {
    try {
      const name = /** @type {string} */ (names.get(item));
      files.push({ name, blob: await fileOf(work, item, by, name) });
      packed.push(item);
      done(item);
    } catch (error) {
      done(item, error);
    }
  }
  download("enhanced.zip", await zip(files));
  for (const item of packed) item.saved = isSaved(item, by);
}

export { namesOf, saveAll, saveOne };
