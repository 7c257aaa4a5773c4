/** Elements of the page by their tag and selector, so that their types are known. */

/** @template {keyof HTMLElementTagNameMap} T @param {T} tag @param {string} [selector] @param {ParentNode} [root]
 * @returns {HTMLElementTagNameMap[T]} */
function find(tag, selector = "", root = document) {
  return /** @type {HTMLElementTagNameMap[T]} */ (root.querySelector(tag + selector));
}

/** @template {keyof HTMLElementTagNameMap} T @param {T} tag @param {Partial<HTMLElementTagNameMap[T]>} [properties]
 * @returns {HTMLElementTagNameMap[T]} */
function make(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}

/** Say what went wrong, at once and aloud; an empty line takes it away. @param {string} line */
function warn(line) {
  find("p", "#alert").textContent = line;
}

export { find, make, warn };
