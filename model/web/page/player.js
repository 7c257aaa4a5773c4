/** The camera, or a video file, under the slider. */
import { find, make, warn } from "./dom.js";
import { lineOf } from "./item.js";
import { Live } from "./live.js";
import { settings, suggest } from "./settings.js";
import { text } from "./texts.js";
import { setSize, showLayers } from "./view.js";

const panel = find("div", "#player"), play = find("button", "#play"), seek = find("input", "#seek");
const record = find("button", "#record"), smooth = find("input", "#smooth"), speed = find("p", "#speed");

/** @type {{live: Live, video: HTMLVideoElement, recording: boolean} | undefined} */
let playing;
/** What takes a recording, and what stops the player for good. */
let keep = (/** @type {string} */ _name, /** @type {Blob} */ _blob) => {}, quit = async () => {};

/** @param {string} name @param {Blob} [file] none: the camera @returns {Promise<string>} why it does not play */
async function startPlayer(name, file) {
  await stopPlayer();
  const video = make("video", { playsInline: true }), canvas = make("canvas");
  const live = new Live(video, canvas, {
    settings,
    smooth: () => smooth.valueAsNumber,
    report: ({ fps, engine, exposure }) => {
      speed.textContent = text("speed", Math.round(fps), engine);
      if (exposure) suggest(exposure / settings().strength);
    },
    fail: (error) => {
      quit();
      warn(lineOf(error));
    },
  });
  const now = playing = { live, video, recording: false };
  video.addEventListener("resize", () => setSize(video.videoWidth, video.videoHeight));
  for (const event of ["play", "pause", "timeupdate", "durationchange"]) video.addEventListener(event, showState);
  video.addEventListener("ended", endRecording);
  showLayers(video, canvas, name);
  setSize(16, 9);
  try {
    await (file ? live.file(/** @type {File} */ (file)) : live.camera());
  } catch (error) {
    if (playing === now) await stopPlayer();
    return lineOf(error);
  }
  if (playing !== now) return ""; // stopped meanwhile
  play.hidden = seek.hidden = !file;
  panel.hidden = speed.hidden = false;
  showState();
  return "";
}

async function stopPlayer() {
  if (!playing) return;
  await endRecording();
  playing?.live.stop();
  playing = undefined;
  panel.hidden = speed.hidden = true;
  speed.textContent = "";
}

async function endRecording() {
  if (!playing?.recording) return;
  playing.recording = false;
  const { name, blob } = await playing.live.finishRecording();
  if (blob.size) keep(name, blob);
  else warn(text("noRecording"));
  showState();
}

/** Show other settings, even while nothing moves. */
function refreshPlayer() {
  playing?.live.refresh();
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
  quit = () => stopPlayer().then(stopped);
  find("button", "#stop").onclick = quit;
  play.onclick = () => playing?.video.paused ? playing.video.play() : playing?.video.pause();
  seek.oninput = () => {
    if (playing) playing.video.currentTime = seek.valueAsNumber;
  };
  record.onclick = () => {
    if (!playing) return;
    if (playing.recording) endRecording();
    else if (playing.live.record()) {
      playing.recording = true;
      if (playing.video.ended) playing.video.play();
    } else warn(text("cannotRecord"));
    showState();
  };
  const showSmooth = () => find("output", "[for=smooth]").value = text("seconds", smooth.value);
  smooth.oninput = showSmooth;
  showSmooth();
}

export { isRecording, refreshPlayer, startPlayer, stopPlayer, watchPlayer };
