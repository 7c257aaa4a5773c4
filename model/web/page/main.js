/** The page: what the user does, and what happens then. */
import { engine, enhance, exposureFor } from "../engines/enhance.js";
import { decode } from "./decode.js";
import { find, warn } from "./dom.js";
import { encode } from "./encode.js";
import { describe, drawHistogram } from "./figures.js";
import { watchIntake } from "./intake.js";
import { isSavable, itemOf, lineOf } from "./item.js";
import { addRow, removeRow, updateRow } from "./list.js";
import { Live } from "./live.js";
import { MODEL } from "./model.js";
import { isRecording, refreshPlayer, startPlayer, stopPlayer, watchPlayer } from "./player.js";
import { saveAll, saveOne } from "./save.js";
import { suggest, watchSettings } from "./settings.js";
import { Steady } from "./steady.js";
import { text } from "./texts.js";
import { showOriginal, showResult } from "./view.js";
import { Work } from "./work.js";
import { zip } from "./zip.js";

/** @typedef {import("./item.js").Item} Item */

const view = find("section", "#view"), state = find("p", "#status"), save = find("button", "#save");
const archive = find("button", "#archive"), format = find("select", "#format");
let engineBefore = "", packing = false;

const work = new Work({
  changed(item) {
    updateRow(item, item === work.shown);
    save.disabled = !work.kept.item || Boolean(work.shown?.saving);
    archive.disabled = packing || !work.items.some(isSavable);
    if (item === work.shown && item.share === 0) state.textContent = text("working");
  },
  opened({ file, name }, original) {
    showOriginal(file, name, original);
    save.hidden = true;
    arrange();
  },
  finished(item, result) {
    const { figures, by } = item;
    showResult(result);
    save.hidden = false;
    if (!figures || !by) return;
    drawHistogram(figures);
    if (by.strength) suggest((figures.exposure ?? 0) / by.strength);
    state.textContent = describe(figures);
    if (engineBefore !== figures.engine) warn(text("engineLost", engineBefore, figures.engine));
    engineBefore = figures.engine;
  },
  failed(item) {
    warn(`${item.name}: ${item.fault}`);
    if (item === work.shown) showNext();
  },
});
/** @param {Item} item */
async function pick(item) {
  warn("");
  await stopPlayer();
  work.show(item);
  if (item.kind !== "video") return;
  item.fault = await openPlayer(item.name, item.file);
  work.reports.changed(item);
}

/** @param {string} name @param {Blob} [file] none: the camera */
async function openPlayer(name, file) {
  save.hidden = find("figure").hidden = true;
  state.textContent = "";
  const fault = await startPlayer(name, file);
  if (fault) {
    warn(`${name}: ${fault}`);
    showNext();
  } else arrange();
  return fault;
}

/** A picture that can be shown, when the shown one cannot any more. */
function showNext() {
  const item = work.items.find(({ kind, fault }) => kind === "picture" && !fault);
  view.hidden = !item;
  work.show(item);
  arrange();
}

/** @param {Item} item */
async function saveItem(item) {
  item.saving = true;
  work.reports.changed(item);
  try {
    await saveOne(work, item, work.items.filter(isSavable));
  } catch (error) {
    warn(`${item.name}: ${lineOf(error)}`);
  }
  item.saving = false;
  work.reports.changed(item);
}

/** @param {Item} item */
async function drop(item) {
  work.remove(item);
  removeRow(item);
  work.reports.changed(item);
  if (item !== work.shown) return arrange();
  await stopPlayer();
  showNext();
}

/** What there is to see, with files and without. */
function arrange() {
  const empty = !work.items.length;
  find("main").classList.toggle("empty", empty && Boolean(view.hidden));
  find("section", "#list").hidden = empty;
  find("form", "#settings").hidden = view.hidden;
}

/** @param {Item[]} items */
function add(items) {
  for (const item of items) {
    work.items.push(item);
    addRow(item, { pick, save: saveItem, remove: drop });
    work.reports.changed(item);
  }
  arrange();
}

watchIntake((files) => {
  warn(files.length ? "" : text("nothing"));
  const items = files.map(itemOf);
  add(items);
  if (items.length) pick(items.find(({ kind }) => kind === "picture") ?? items[0]);
});
watchSettings(() => {
  refreshPlayer();
  work.restart();
});
watchPlayer((name, file) => add([{ name, file, kind: "recording" }]), showNext);

find("button", "#camera").onclick = () => {
  warn("");
  work.show(undefined);
  openPlayer(text("cameraName"));
};
save.onclick = () => work.shown && saveItem(work.shown);
format.onchange = () => find("p", "#clear").hidden = format.value === "image/png";
archive.onclick = async () => {
  const items = work.items.filter(isSavable);
  let count = 0;
  packing = archive.disabled = true;
  await saveAll(work, items, (item, error) => {
    archive.textContent = text("packing", ++count, items.length);
    if (error) warn(`${item.name}: ${lineOf(error)}`);
  }).catch((error) => warn(lineOf(error)));
  packing = archive.disabled = false;
  archive.textContent = text("archive");
  items.forEach(work.reports.changed);
};
addEventListener("beforeunload", (event) => {
  if (isRecording() || work.items.some((item) => isSavable(item) && !item.saved)) event.preventDefault();
});
find("p", "#version").textContent = text("version", MODEL.version, MODEL.name);
find("p", "#old").remove();
engine().then(({ name }) => engineBefore = name).catch((error) => warn(lineOf(error)));

Object.assign(globalThis, { sciKernels: { decode, encode, engine, enhance, exposureFor, Live, Steady, zip } });
