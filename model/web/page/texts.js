/** All that the page says is in texts.json, so that it can be translated. */

/** @type {Record<string, string>} */
const TEXTS = JSON.parse(/** @type {HTMLElement} */ (document.getElementById("texts")).textContent);

/** A text, with {0}, {1}, ... replaced. @param {string} key @param {(string | number)[]} values */
function text(key, ...values) {
  if (!(key in TEXTS)) throw new Error(`texts.json: no ${key}`);
  return TEXTS[key].replace(/\{(\d)\}/g, (_, index) => String(values[index]));
}

/** Something that went wrong, in one line for the user: what, and what to do. */
class Fault extends Error {
  /** @param {string} key of a text @param {(string | number)[]} values */
  constructor(key, ...values) {
    super(text(key, ...values));
  }
}

export { Fault, text };
