import { engine, enhance, exposureFor } from "../engines/enhance.js";
import { decode } from "./decode.js";
import { encode } from "./encode.js";
import { Live } from "./live.js";
import { Steady } from "./steady.js";
import { zip } from "./zip.js";
Object.assign(globalThis, { sciKernels: { engine, enhance, exposureFor, decode, encode, zip, Steady, Live } });
