/** What a worker does: it is sent the model once, then pictures, and answers each message in turn. */
import { brighten, findExposure } from "./kernel.js";

/** @type {import("./kernel.js").Model} */
let model;

self.onmessage = ({ data }) => {
  const { task, picture, rule } = data;
  if (task === "model") model = data.model;
  else if (task === "exposure") self.postMessage(findExposure(model, picture));
  else {
    const pixels = brighten(model, picture, rule);
    /** @type {(message: unknown, transfer: Transferable[]) => void} */ (self.postMessage)(pixels, [pixels.buffer]);
  }
};
