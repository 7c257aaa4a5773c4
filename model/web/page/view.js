/** The original and the result under the slider. */
import { compare } from "../shared/slider.js";
import { find, make, warn } from "./dom.js";
import { text } from "./texts.js";

/** @typedef {import("../engines/kernel.js").Picture} Picture */

const SAFE = 2 ** 24; // pixels of a canvas
const PAINTED = 2 ** 20; // pixels that are painted together
const box = find("div", "#box"), frame = find("div", "#frame"), actual = find("button", "#actual");
let address = "";

/** Put two layers under the slider. @param {HTMLImageElement | HTMLVideoElement} before @param {HTMLCanvasElement} after
 * @param {string} name */
function showLayers(before, after, name) {
  const old = find("canvas", ".after", box);
  old.width = old.height = 0; // gives back its memory at once
  URL.revokeObjectURL(address);
  before.className = "before";
  after.className = "after";
  before.setAttribute("aria-label", `${name}, ${text("before")}`);
  after.setAttribute("aria-label", `${name}, ${text("after")}`);
  after.role = "img";
  old.replaceWith(after);
  box.querySelector(".before")?.replaceWith(before);
  find("input", "", box).ariaLabel = text("share", name);
  find("h2", "#shown").textContent = name;
  find("section", "#view").hidden = false;
  zoom(false);
}

/** @param {number} width @param {number} height */
function setSize(width, height) {
  box.style.setProperty("--ratio", String(width / height));
  box.style.setProperty("--width", width / devicePixelRatio + "px");
}

/** The original, until the result is there. @param {Blob} file @param {string} name @param {Picture} picture */
function showOriginal(file, name, { width, height }) {
  showLayers(make("img"), make("canvas"), name);
  address = URL.createObjectURL(file);
  find("img", ".before").src = address;
  box.classList.add("alone");
  setSize(width, height);
}

/** In strips, so that no second copy of the picture is needed. @param {Picture} picture */
function showResult({ pixels, width, height }) {
  const canvas = find("canvas", ".after", box), rows = Math.ceil(PAINTED / width);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  for (let y = 0; y < height; y += rows) {
    const strip = pixels.subarray(4 * y * width, 4 * Math.min(y + rows, height) * width);
    context.putImageData(new ImageData(strip, width), 0, y);
  }
  // Some browsers leave large canvases empty, without a word.
  const isBlank = width * height > SAFE && pixels[3] && !context.getImageData(0, 0, 1, 1).data[3];
  if (isBlank) warn(text("tooLargeToShow"));
  else box.classList.remove("alone");
}

/** Whether each pixel is shown as one of the screen, or the whole picture. @param {boolean} on */
function zoom(on) {
  actual.ariaPressed = String(on);
  frame.classList.toggle("actual", on);
  if (!on) return;
  const share = parseFloat(box.style.getPropertyValue("--at")) / 100;
  frame.scrollTo(share * box.offsetWidth - frame.clientWidth / 2, (box.offsetHeight - frame.clientHeight) / 2);
}

compare(box);
actual.addEventListener("click", () => zoom(actual.ariaPressed !== "true"));

export { setSize, showLayers, showOriginal, showResult };
