/** The camera, or a video file, under the slider. */
import { find, make, warn } from "./dom.js";
import { lineOf } from "./item.js";
import { Live } from "./live.js";
import { settings } from "./settings.js";
import { text } from "./texts.js";
import { setSize, showLayers } from "./view.js";

const panel = find("div", "#player"), play = find("button", "#play"), seek = find("input", "#seek");
const record = find("button", "#record"), smooth = find("input", "#smooth"), speed = find("p", "#speed");

/** @type {{live: Live, video: HTMLVideoElement, recording: boolean} | undefined} */
let playing;
/** @type {(name: string, blob: Blob) => void} */
let keep;

/** @param {string} name @param {File | Blob} [file] none: the camera @returns {Promise<boolean>} whether it plays */
async function startPlayer(name, file) {
  await stopPlayer();
  const video = make("video", { muted: true, playsInline: true, loop: true }), canvas = make("canvas");
  const live = new Live(video, canvas, {
    settings,
    smooth: () => smooth.valueAsNumber,
    report: ({ fps, engine }) => speed.textContent = text("speed", Math.round(fps), engine),
    fail: (error) => {
      warn(lineOf(error));
      stopPlayer();
    },
  });
  video.addEventListener("resize", () => setSize(video.videoWidth, video.videoHeight));
  for (const name of ["play", "pause", "timeupdate", "durationchange"]) video.addEventListener(name, showState);
  playing = { live, video, recording: false };
  try {
    showLayers(video, canvas, name);
    setSize(16, 9);
    await (file ? live.file(/** @type {File} */ (file)) : live.camera());
  } catch (error) {
    warn(lineOf(error));
    if (playing?.live === live) await stopPlayer();
    return false;
  }
  play.hidden = seek.hidden = !file;
  panel.hidden = speed.hidden = false;
  showState();
  return true;
}

async function stopPlayer() {
  if (!playing) return;
  const { live, video } = playing;
  if (playing.recording) await endRecording();
  playing = undefined;
  live.stop();
  video.pause();
  panel.hidden = speed.hidden = true;
  speed.textContent = "";
  panel.dispatchEvent(new Event("stopped"));
}

async function endRecording() {
  if (!playing?.recording) return;
  playing.recording = false;
  const { name, blob } = await playing.live.finishRecording();
  keep(name, blob);
  showState();
}

/** The controls, as things are. */
function showState() {
  if (!playing) return;
  const { video, recording } = playing;
  play.textContent = text(video.paused ? "play" : "pause");
  record.textContent = text(recording ? "endRecording" : "record");
  if (Number.isFinite(video.duration)) seek.max = String(video.duration);
  seek.value = String(video.currentTime);
  seek.ariaValueText = text("seconds", video.currentTime.toFixed(0));
}

function isRecording() {
  return Boolean(playing?.recording);
}

/** @param {(name: string, blob: Blob) => void} kept takes a recording @param {() => void} stopped */
function watchPlayer(kept, stopped) {
  keep = kept;
  panel.addEventListener("stopped", stopped);
  find("button", "#stop").onclick = stopPlayer;
  play.onclick = () => playing?.video.paused ? playing.video.play() : playing?.video.pause();
  seek.oninput = () => {
    if (playing) playing.video.currentTime = seek.valueAsNumber;
  };
  record.onclick = () => {
    if (!playing) return;
    if (playing.recording) endRecording();
    else if (playing.live.record()) playing.recording = true;
    else warn(text("cannotRecord"));
    showState();
  };
  const showSmooth = () => find("output", "[for=smooth]").value = text("seconds", smooth.value);
  smooth.oninput = showSmooth;
  showSmooth();
}

export { isRecording, startPlayer, stopPlayer, watchPlayer };
