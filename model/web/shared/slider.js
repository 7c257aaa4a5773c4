/**
 * Two layers, one over the other, and the line that divides them: `--at` of the style sheet.
 *
 * The range input serves the keyboard and screen readers. Pointer events come from the whole picture, as some browsers
 * move a range only by its small thumb.
 */

/** @type {Record<string, number>} */
const MOVES = { ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageDown: -20, PageUp: 20 };

/** @param {HTMLElement} box with the class `compare`, and a range input in it */
function compare(box) {
  const range = /** @type {HTMLInputElement} */ (box.querySelector("input"));
  const show = () => box.style.setProperty("--at", range.value + "%");
  const follow = (/** @type {PointerEvent} */ event) => {
    const area = box.getBoundingClientRect();
    range.value = String(100 * (event.clientX - area.left) / area.width);
    show();
  };
  range.step = "any";
  range.addEventListener("input", show);
  range.addEventListener("keydown", (event) => {
    const move = MOVES[event.key];
    if (!move) return;
    range.value = String(+range.value + move);
    show();
    event.preventDefault();
  });
  box.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    box.setPointerCapture(event.pointerId);
    range.focus({ preventScroll: true });
    follow(event);
    event.preventDefault();
  });
  box.addEventListener("pointermove", (event) => {
    if (box.hasPointerCapture(event.pointerId)) follow(event);
  });
  show();
}

export { compare };
