/** The engine by compute shaders: one pass for the network and the bright pixels, one for the noise filter. */
import { convolution, falloff, neighbors, shader } from "./shaders.js";

/** @typedef {import("./kernel.js").Picture} Picture */
/** @typedef {import("./kernel.js").Rule} Rule */

const PIXELS = 2 ** 22; // of a tile: 16 MiB in each buffer
const BLOCK = 16; // side of a workgroup

/** @returns {Promise<import("./enhance.js").Engine>} */
async function webgpu() {
  const adapter = await navigator.gpu?.requestAdapter();
  const device = await adapter?.requestDevice();
  if (!device) throw new Error("WebGPU");
  let lost = false;
  device.lost.then(() => lost = true);
  device.onuncapturederror = () => lost = true; // such as no memory: results would be black

  /** @param {string} read @param {number} layer */
  const layer = (read, layer) => convolution(layer, (dx, dy) => `${read}[i32(at) + ${dy} * i32(WIDE) + ${dx}]`);
  const code = shader("enhance.wgsl", {
    FIRST: layer("pixels", 0),
    SECOND: layer("features", 1),
    THIRD: layer("pixels", 2),
    NEIGHBORS: neighbors((dx, dy) => `colors[at + ${dy} * i32(NEAR) + ${dx}]`),
  });
  const module = device.createShaderModule({ code });
  const [network, filter] = await Promise.all(
    ["enhance", "denoise"].map((entryPoint) =>
      device.createComputePipelineAsync({ layout: "auto", compute: { module, entryPoint } })
    ),
  );

  /** @param {Picture} picture @param {Rule} rule */
  const brighten = async ({ pixels, width, height }, { exposure, denoise }) => {
    const bytes = 4 * width * height, { STORAGE, COPY_DST, COPY_SRC, UNIFORM, MAP_READ } = GPUBufferUsage;
    const buffer = (/** @type {number} */ usage, size = bytes) => device.createBuffer({ size, usage });
    const job = buffer(UNIFORM | COPY_DST, 32), image = buffer(STORAGE | COPY_DST | COPY_SRC);
    const bright = buffer(STORAGE | COPY_SRC), gains = buffer(STORAGE), answer = buffer(MAP_READ | COPY_DST);
    const all = [job, image, bright, gains, answer];
    try {
      const values = new DataView(new ArrayBuffer(32));
      [width, height, Number(exposure === null)].forEach((value, i) => values.setUint32(4 * i, value, true));
      values.setFloat32(12, exposure ?? 0, true);
      values.setFloat32(16, falloff(denoise), true);
      device.queue.writeBuffer(job, 0, values);
      device.queue.writeBuffer(image, 0, pixels);
      const commands = device.createCommandEncoder();
      /** @param {GPUComputePipeline} pipeline @param {GPUBuffer[]} buffers */
      const run = (pipeline, ...buffers) => {
        const entries = buffers.map((buffer, binding) => ({ binding, resource: { buffer } }));
        const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
        const step = commands.beginComputePass();
        step.setPipeline(pipeline);
        step.setBindGroup(0, group);
        step.dispatchWorkgroups(Math.ceil(width / BLOCK), Math.ceil(height / BLOCK));
        step.end();
      };
      run(network, job, image, bright, gains);
      if (denoise > 0) run(filter, job, bright, image, gains); // its result takes the place of the original
      commands.copyBufferToBuffer(denoise > 0 ? image : bright, 0, answer, 0, bytes);
      device.queue.submit([commands.finish()]);
      await answer.mapAsync(GPUMapMode.READ);
      if (lost) throw new Error("WebGPU");
      return new Uint8ClampedArray(answer.getMappedRange().slice(0));
    } finally {
      all.forEach((one) => one.destroy());
    }
  };

  return {
    name: "WebGPU",
    atOnce: 2,
    tile: (width, height) => {
      const columns = Math.min(width, 2 ** 13);
      return [columns, Math.min(height, Math.max(BLOCK, Math.floor(PIXELS / columns)))];
    },
    brighten,
    close: () => device.destroy(),
  };
}

export { webgpu };
