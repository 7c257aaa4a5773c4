/** The weights and constants that the generator wrote into the page. */

/** @type {import("../engines/kernel.js").Model} */
const MODEL = JSON.parse(/** @type {HTMLElement} */ (document.getElementById("model")).textContent);

export { MODEL };
