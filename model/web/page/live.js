/** The camera, or a video file, enhanced while it plays: as many frames a second as the device gives. */
import { enhance, exposureFor } from "../engines/enhance.js";
import { pointsOf } from "../engines/points.js";
import { context2d } from "./decode.js";
import { Steady } from "./steady.js";
import { Fault } from "./texts.js";

/**
 * What Live asks and tells the page. Of `report`, milliseconds are those of one frame; its exposure is null for the
 * published division, and 0 where the frame was left as it was.
 * @typedef {object} Hooks
 * @property {() => import("../engines/enhance.js").Settings} settings as they are now
 * @property {() => number} smooth seconds over which the brightness is smoothed; 0: off
 * @property {(facts: {fps: number, milliseconds: number, engine: string, exposure: number | null}) => void} report
 * @property {(error: unknown) => void} fail it has stopped
 */

/** Formats of recordings, the best first. */
const FORMATS = ["video/webm", "video/mp4"];
/** Bits a second for each pixel of a recording: enough for what is left of the noise. */
const RATE = 5;
/** Why there is no camera, by the name of the browser's error. @type {Record<string, string>} */
const REASONS = { NotAllowedError: "cameraRefused", NotFoundError: "cameraMissing" };

class Live {
  #name = "";
  #steady = new Steady();
  /** Counts starts and stops, so that what was begun before ends. */
  #run = 0;
  /** Goes on with the next frame. */
  #wake = () => {};
  /** When the last frames were ready. @type {number[]} */
  #times = [];
  /** @type {MediaRecorder | undefined} */
  #recorder;
  /** @type {Promise<Blob> | undefined} */
  #recorded;

  /** @param {HTMLVideoElement} video @param {HTMLCanvasElement} canvas @param {Hooks} hooks */
  constructor(video, canvas, hooks) {
    this.video = video;
    this.canvas = canvas;
    this.hooks = hooks;
    this.frame = context2d(new OffscreenCanvas(1, 1));
    for (const event of ["loadedmetadata", "loadeddata", "error", "seeked"]) {
      video.addEventListener(event, () => this.refresh());
    }
  }

  /** Show the camera; on a phone the one at its back. */
  async camera() {
    this.stop();
    const run = this.#run, wanted = { facingMode: "environment", width: { ideal: 1280 }, height: { ideal: 720 } };
    if (!navigator.mediaDevices) throw new Fault("cameraImpossible");
    const stream = await navigator.mediaDevices.getUserMedia({ video: wanted }).catch((error) => {
      throw new Fault(REASONS[error.name] ?? "cameraBusy");
    });
    const [track] = stream.getTracks();
    if (run !== this.#run) return track.stop(); // stopped meanwhile
    track.onended = () => this.#fail(new Fault("cameraLost"));
    this.video.srcObject = stream;
    await this.#start("camera");
  }

  /** Show a video, with its sound. @param {File} file */
  async file(file) {
    this.stop();
    this.video.src = URL.createObjectURL(file);
    await this.#start(file.name.replace(/\.[^.]*$/, ""));
  }

  /** Free the camera or the file. */
  stop() {
    const { video } = this, stream = /** @type {MediaStream | null} */ (video.srcObject);
    this.#run++;
    this.#wake();
    this.#recorder?.stop();
    stream?.getTracks().forEach((track) => track.stop());
    URL.revokeObjectURL(video.src);
    video.srcObject = null;
    video.removeAttribute("src");
    video.load();
  }

  /** Other settings: a video that is paused shows them, too. */
  refresh() {
    this.#steady = new Steady();
    this.#wake();
  }

  /** Record what is shown, with the sound of a file; false where the browser cannot. */
  record() {
    const { canvas } = this, /** @type {any} */ video = this.video;
    const type = globalThis.MediaRecorder && FORMATS.find((name) => MediaRecorder.isTypeSupported(name));
    if (!type) return false;
    const stream = canvas.captureStream(), sound = video.srcObject ? null : video.captureStream?.();
    sound?.getAudioTracks().forEach((/** @type {MediaStreamTrack} */ track) => stream.addTrack(track));
    const bits = RATE * canvas.width * canvas.height, /** @type {Blob[]} */ parts = [];
    const recorder = new MediaRecorder(stream, { mimeType: type, videoBitsPerSecond: bits });
    recorder.ondataavailable = ({ data }) => parts.push(data);
    this.#recorded = new Promise((resolve) => {
      recorder.onstop = () => resolve(new Blob(parts, { type }));
    });
    recorder.start(1000); // a part each second, which the browser may put on disk
    this.#recorder = recorder;
    return true;
  }

  /** End the recording. @returns {Promise<{name: string, blob: Blob}>} */
  async finishRecording() {
    this.#recorder?.stop();
    const blob = await /** @type {Promise<Blob>} */ (this.#recorded);
    return { name: `${this.#name}.${blob.type.slice(6)}`, blob };
  }

  /** @param {string} name of the recording */
  async #start(name) {
    const { video } = this, run = this.#run;
    this.#name = name;
    this.#times = [];
    while (run === this.#run && !video.error && video.readyState < video.HAVE_METADATA) {
      await new Promise((resolve) => this.#wake = () => resolve(null));
    }
    if (run !== this.#run) return;
    if (!video.videoWidth) {
      this.stop();
      throw new Fault("notAVideo");
    }
    this.#follow(run);
    await video.play().catch(() => {}); // where that is not allowed, the user starts it
  }

  /** One frame at a time; those that come while it is in work are left out but for the newest. @param {number} run */
  async #follow(run) {
    const { video } = this;
    try {
      while (run === this.#run) {
        if (video.error) throw new Fault("notAVideo");
        const newer = new Promise((resolve) => {
          this.#wake = () => resolve(null);
          if ("requestVideoFrameCallback" in video) video.requestVideoFrameCallback(this.#wake);
          else requestAnimationFrame(this.#wake);
        });
        await this.#show(run);
        await newer;
      }
    } catch (error) {
      if (run === this.#run) this.#fail(error);
    }
  }

  /** Enhance what the video shows now. @param {number} run */
  async #show(run) {
    const { video, canvas, frame, hooks } = this, { videoWidth: width, videoHeight: height } = video;
    const start = performance.now(), seconds = video.srcObject ? start / 1000 : video.currentTime;
    resize(frame.canvas, width, height);
    frame.drawImage(video, 0, 0);
    const pixels = frame.getImageData(0, 0, width, height).data, picture = { pixels, width, height };
    if (!pixels.some((value) => value)) return; // loaded, but not shown yet
    const settings = hooks.settings(), steady = this.#steady, points = pointsOf(picture);
    let exposure = await exposureFor(points, settings); // the points of these are all of them
    if (exposure !== null) exposure = steady.exposure(exposure, points, seconds, hooks.smooth());
    const result = await enhance(picture, settings, { exposure });
    if (run !== this.#run) return;
    resize(canvas, width, height);
    canvas.getContext("2d")?.putImageData(new ImageData(result.picture.pixels, width, height), 0, 0);
    const now = performance.now(), times = this.#times = [...this.#times, now].slice(-9);
    const fps = 1000 * (times.length - 1) / (now - times[0]) || 0;
    hooks.report({ fps, milliseconds: now - start, engine: result.engine, exposure: result.exposure });
  }

  /** @param {unknown} error */
  #fail(error) {
    this.stop();
    this.hooks.fail(error);
  }
}

/** @param {HTMLCanvasElement | OffscreenCanvas} canvas @param {number} width @param {number} height */
function resize(canvas, width, height) {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
}

export { Live };
