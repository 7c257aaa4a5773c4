/** The sliders of the before/after page, and the buttons that show an illumination in place of a result. */
import { compare } from "../shared/slider.js";

for (const box of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".compare"))) {
  compare(box);
  const button = box.parentElement?.querySelector("button");
  button?.addEventListener("click", () => {
    const lit = box.classList.toggle("lit");
    button.setAttribute("aria-pressed", String(lit));
    /** @type {HTMLElement} */ (box.querySelector("b + b")).textContent = lit ? "illumination" : "after";
  });
}
