/** Results as files: their names, one at a time, or all in an archive. */
import { find, make } from "./dom.js";
import { encode } from "./encode.js";
import { settings } from "./settings.js";
import { zip } from "./zip.js";

/** @typedef {import("./item.js").Item} Item */
/** @typedef {import("./work.js").Work} Work */

/** PNG where there is transparency, which JPEG has not. @param {Item} item @returns {"image/png" | "image/jpeg"} */
function kindOf({ figures }) {
  return figures?.transparent || find("select", "#format").value === "image/png" ? "image/png" : "image/jpeg";
}

/** Names of the results: those of the files with the new ending; the second of the same name gets -2.
 * @param {Item[]} items @returns {Map<Item, string>} */
function namesOf(items) {
  /** @type {Map<Item, string>} */
  const names = new Map();
  const taken = new Set();
  for (const item of items) {
    const stem = item.name.replace(/(?<=.)\.[^.]*$/, "");
    const end = item.kind === "recording" ? item.name.split(".").pop() : kindOf(item) === "image/png" ? "png" : "jpg";
    let name = `${stem}.${end}`;
    for (let n = 2; taken.has(name.toLowerCase()); n++) name = `${stem}-${n}.${end}`;
    taken.add(name.toLowerCase());
    names.set(item, name);
  }
  return names;
}

/** The file of a result. @param {Work} work @param {Item} item @param {import("./settings.js").Settings} by */
async function fileOf(work, item, by) {
  if (item.kind === "recording") return item.file;
  const picture = await work.result(item, by);
  return await encode(picture, kindOf(item));
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
  download(name, await fileOf(work, item, settings()));
  item.saved = true;
}

/** @param {Work} work @param {Item[]} items @param {(item: Item, error?: unknown) => void} done called after each one */
async function saveAll(work, items, done) {
  const by = settings(), names = namesOf(items), files = [], packed = [];
  for (const item of items) {
    try {
      files.push({ name: /** @type {string} */ (names.get(item)), blob: await fileOf(work, item, by) });
      packed.push(item);
      done(item);
    } catch (error) {
      done(item, error);
    }
  }
  download("enhanced.zip", await zip(files));
  for (const item of packed) item.saved = item.kind === "recording" || item.by === by;
}

export { namesOf, saveAll, saveOne };
