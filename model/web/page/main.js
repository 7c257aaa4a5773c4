import { engine, enhance, exposureFor } from "../engines/enhance.js";
Object.assign(globalThis, { sci: { engine, enhance, exposureFor } });
