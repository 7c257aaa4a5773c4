/** The list of files, one row each. */
import { describe } from "./figures.js";
import { find } from "./dom.js";
import { isSavable } from "./item.js";
import { settings } from "./settings.js";
import { text } from "./texts.js";

/** @typedef {import("./item.js").Item} Item */
/** @typedef {Record<"pick" | "save" | "remove", (item: Item) => void>} Actions */

/** @type {Map<Item, HTMLLIElement>} */
const lines = new Map();
const rows = find("ul", "", find("section", "#list"));

/** @param {Item} item @param {Actions} actions */
function addRow(item, actions) {
  const copy = /** @type {DocumentFragment} */ (find("template", "#row").content.cloneNode(true));
  const line = find("li", "", copy);
  for (const [name, act] of Object.entries(actions)) find("button", "." + name, line).onclick = () => act(item);
  find("b", "", line).textContent = item.name;
  for (const name of ["save", "remove"]) find("button", "." + name, line).ariaLabel = text(name + "Named", item.name);
  find("progress", "", line).ariaLabel = text("progress", item.name);
  lines.set(item, line);
  rows.append(line);
}

/** @param {Item} item */
function removeRow(item) {
  lines.get(item)?.remove();
  lines.delete(item);
}

/** @param {Item} item @param {boolean} isShown */
function updateRow(item, isShown) {
  const line = lines.get(item);
  if (!line) return;
  const progress = find("progress", "", line),
    save = find("button", ".save", line),
    pick = find("button", ".pick", line);
  progress.hidden = item.share === undefined;
  progress.value = item.share ?? 0;
  save.hidden = !isSavable(item);
  save.disabled = Boolean(item.saving);
  pick.disabled = Boolean(item.fault) || item.kind === "recording";
  pick.ariaCurrent = String(isShown);
  line.classList.toggle("failed", Boolean(item.fault));
  find("small", "", line).textContent = stateOf(item);
  if (!item.thumbnail) return;
  const canvas = find("canvas", "", line), { width, height } = item.thumbnail;
  Object.assign(canvas, { width, height }).getContext("bitmaprenderer")?.transferFromImageBitmap(item.thumbnail);
  item.thumbnail = undefined; // the canvas has it now
}

/** @param {Item} item */
function stateOf(item) {
  if (item.fault) return item.fault;
  if (item.kind === "video") return text("video");
  const saved = item.saved ? text("saved") : "";
  if (item.kind === "recording") return text("recording", (item.file.size / 1e6).toFixed(2)) + saved;
  if (item.saving) return text("saving");
  if (item.share !== undefined) return text("working");
  if (!item.figures || item.by !== settings()) return text("waiting");
  return describe(item.figures) + saved;
}

export { addRow, removeRow, updateRow };
