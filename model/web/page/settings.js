/** What the user has chosen, and the form for it. */
import { find } from "./dom.js";
import { MODEL } from "./model.js";
import { text } from "./texts.js";

/** @typedef {import("../engines/enhance.js").Settings} Settings */

const form = find("form", "#settings");
const [exposureRange, strengthRange, denoiseRange] = ["exposure", "strength", "denoise"].map((id) =>
  find("input", "#" + id)
);
/** @type {Settings} */
let chosenSettings = { exposure: "auto", strength: 1, denoise: 1 };

/** The same object until something changes. */
function settings() {
  return chosenSettings;
}

/** Show the exposure that was found, from where the user may go on by hand. @param {number} exposure */
function suggest(exposure) {
  if (chosenSettings.exposure !== "auto") return;
  exposureRange.value = String(exposure);
  write();
}

/** Read the form; what does not apply is off. */
function readForm() {
  const way = find("input", "[name=way]:checked", form).value, exposure = exposureRange.valueAsNumber;
  exposureRange.disabled = way !== "hand";
  denoiseRange.disabled = way === "published";
  find("p", "#hint").textContent = text(way + "Hint");
  chosenSettings = {
    exposure: way === "hand" ? exposure : way === "auto" ? "auto" : null,
    strength: strengthRange.valueAsNumber,
    denoise: denoiseRange.valueAsNumber,
  };
  write();
}

/** The values beside the ranges. */
function write() {
  const ranges = [[exposureRange, 1], [strengthRange, 2], [denoiseRange, 2]];
  for (const [range, digits] of /** @type {[HTMLInputElement, number][]} */ (ranges)) {
    find("output", `[for=${range.id}]`).value = range.valueAsNumber.toFixed(digits);
  }
  if (chosenSettings.exposure !== null) return;
  for (const id of ["exposure", "denoise"]) find("output", `[for=${id}]`).value = text("off");
}

/** @param {() => void} changed called after each change */
function watchSettings(changed) {
  const update = () => {
    readForm();
    changed();
  };
  form.addEventListener("input", update);
  form.addEventListener("reset", () => setTimeout(update)); // after the fields are reset
  begin();
  readForm();
}

/** @param {HTMLInputElement} range @param {number} value */
function startAt(range, value) {
  range.defaultValue = String(value);
  if (range.valueAsNumber === value) return;
  range.step = "any"; // it lies between two steps
  range.defaultValue = String(value);
}

/** What the page begins with, and comes back to. */
function begin() {
  const { exposure, denoise } = MODEL, way = exposure === null ? "published" : exposure === "auto" ? exposure : "hand";
  find("input", `[value=${way}]`, form).defaultChecked = true;
  if (way === "hand") startAt(exposureRange, Number(exposure));
  startAt(denoiseRange, exposure === null ? 1 : denoise);
}

export { settings, suggest, watchSettings };
