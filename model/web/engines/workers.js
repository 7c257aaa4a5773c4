/** The engine in plain JavaScript: one worker for each processor, each given a strip of the picture at a time. */
import { MODEL } from "../page/model.js";

/** @typedef {import("./kernel.js").Picture} Picture */
/** @typedef {import("./kernel.js").Rule} Rule */

/** A worker that is asked one thing at a time, and begun anew after an error: one that did not start never answers. */
class Hand {
  /** @type {Worker | undefined} */
  worker;
  /** @type {Promise<unknown>} */
  last = Promise.resolve();

  /** The picture is handed over, not copied.
   * @param {"exposure" | "brighten"} task @param {Picture} picture @param {Rule} [rule] @returns {Promise<any>} */
  ask(task, picture, rule) {
    const answer = this.last.catch(() => {}).then(() =>
      new Promise((resolve, reject) => {
        const worker = this.worker ??= startWorker();
        worker.onmessage = ({ data }) => resolve(data);
        worker.onerror = (event) => {
          worker.terminate();
          this.worker = undefined;
          reject(new Error(event.message || "worker"));
        };
        worker.postMessage({ task, picture, rule }, [picture.pixels.buffer]);
      })
    );
    this.last = answer;
    return answer;
  }
}

function startWorker() {
  const source = /** @type {HTMLElement} */ (document.getElementById("worker")).textContent;
  const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const worker = new Worker(address);
  URL.revokeObjectURL(address);
  worker.postMessage({ task: "model", model: MODEL });
  return worker;
}

const MOST = Math.min(navigator.hardwareConcurrency || 2, 8);
/** @type {Hand[]} */
const hands = [];
let next = 0;

/** The worker whose turn it is. */
function hand() {
  if (hands.length < MOST) hands.push(new Hand());
  return hands[next++ % hands.length];
}

/** c of the points sampled from a picture. @param {Picture} points @returns {Promise<number>} */
function exposureOf(points) {
  return hand().ask("exposure", points);
}

/** @returns {import("./enhance.js").Engine} */
function workers() {
  return {
    name: "JavaScript",
    atOnce: MOST,
    tile: (width) => [width, Math.max(16, Math.round(2 ** 20 / width))],
    brighten: (picture, rule) => hand().ask("brighten", picture, rule),
    close() {},
  };
}

export { exposureOf, workers };
