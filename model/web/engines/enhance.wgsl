// Two passes: `enhance`, the network and the bright pixels, in one pass as the Triton kernel does it, and `denoise`. A
// group of threads computes a block of pixels, with all that they need of the layers before in the group's own memory.

struct Job {
  width: u32,
  height: u32,
  published: u32,
  exposure: f32,
  falloff: f32, // of the noise filter, for a gain of 1
}

@group(0) @binding(0) var<uniform> job: Job;
@group(0) @binding(1) var<storage, read> source: array<u32>; // RGBA, 8 bits each
@group(0) @binding(2) var<storage, read_write> result: array<u32>;
@group(0) @binding(3) var<storage, read_write> gains: array<f32>;

const BLOCK = 16u;

fn inside(place: vec2i) -> bool {
  return all(place >= vec2i(0)) && all(place < vec2i(vec2u(job.width, job.height)));
}

fn index(place: vec2i) -> u32 {
  return u32(place.y) * job.width + u32(place.x);
}

fn pixel(place: vec2i) -> vec4f {
  return unpack4x8unorm(source[index(place)]);
}

const WIDE = BLOCK + 6u; // three layers reach one pixel further each
// The features of the second layer take the place of the pixels.
var<workgroup> pixels: array<vec3f, WIDE * WIDE>;
var<workgroup> features: array<vec3f, WIDE * WIDE>;

fn first(at: u32) -> vec3f {
  FIRST
  return max(sum, vec3f(0.0));
}

fn second(at: u32) -> vec3f {
  SECOND
  return max(sum, vec3f(0.0)) + features[at];
}

fn residual(at: u32) -> vec3f {
  THIRD
  return 1.0 / (1.0 + exp(-sum));
}

@compute @workgroup_size(16, 16)
fn enhance(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let corner = vec2i(group.xy * BLOCK) - 3; // of the pixels that this group reads
  for (var at = thread; at < WIDE * WIDE; at += BLOCK * BLOCK) {
    let place = corner + vec2i(vec2u(at % WIDE, at / WIDE));
    pixels[at] = vec3f(0.0);
    if (inside(place)) {
      pixels[at] = pixel(place).rgb;
    }
  }
  workgroupBarrier();
  for (var n = thread; n < (WIDE - 2u) * (WIDE - 2u); n += BLOCK * BLOCK) {
    let here = vec2u(n % (WIDE - 2u), n / (WIDE - 2u)) + 1u;
    let at = here.y * WIDE + here.x;
    features[at] = vec3f(0.0);
    if (inside(corner + vec2i(here))) {
      features[at] = first(at);
    }
  }
  workgroupBarrier();
  for (var n = thread; n < (WIDE - 4u) * (WIDE - 4u); n += BLOCK * BLOCK) {
    let here = vec2u(n % (WIDE - 4u), n / (WIDE - 4u)) + 2u;
    let at = here.y * WIDE + here.x;
    pixels[at] = vec3f(0.0);
    if (inside(corner + vec2i(here))) {
      pixels[at] = second(at);
    }
  }
  workgroupBarrier();
  let here = vec2u(thread % BLOCK, thread / BLOCK) + 3u;
  let place = corner + vec2i(here);
  if (!inside(place)) {
    return;
  }
  let own = pixel(place);
  let x = own.rgb;
  let light = clamp(residual(here.y * WIDE + here.x) + x, vec3f(LEAST), vec3f(MOST));
  var gain = 1.0;
  var level: vec3f;
  if (job.published != 0u) {
    level = floor(255.0 * min(x / light, vec3f(1.0)) + SLACK);
  } else {
    let added = dot(light - x, vec3f(1.0 / 3.0));
    let s = 0.5 + 0.5 * min(added / BLACK, 1.0);
    gain = (job.exposure + s) / (job.exposure * max(x.r, max(x.g, x.b)) + s);
    let luma = dot(x, LUMA);
    level = round(255.0 * clamp(gain * (x + FADE * job.exposure * (luma - x)), vec3f(0.0), vec3f(1.0)));
  }
  result[index(place)] = pack4x8unorm(vec4f(level / 255.0, own.a));
  gains[index(place)] = gain;
}

const NEAR = BLOCK + 4u; // the filter reaches two pixels
var<workgroup> colors: array<vec4f, NEAR * NEAR>; // with 1, or 0 outside the picture
var<private> center: vec3f;
var<private> scale: f32;

fn weighted(there: vec4f, near: f32) -> vec4f {
  let away = there.rgb - center;
  return there.a * exp(dot(away, away) * scale - near) * vec4f(there.rgb, 1.0);
}

// The noise filter: the mean of 25 pixels, weighted by how near they are in place and in color.
@compute @workgroup_size(16, 16)
fn denoise(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let corner = vec2i(group.xy * BLOCK) - 2;
  for (var n = thread; n < NEAR * NEAR; n += BLOCK * BLOCK) {
    let place = corner + vec2i(vec2u(n % NEAR, n / NEAR));
    colors[n] = vec4f(0.0);
    if (inside(place)) {
      colors[n] = vec4f(pixel(place).rgb, 1.0);
    }
  }
  workgroupBarrier();
  let here = vec2u(thread % BLOCK, thread / BLOCK) + 2u;
  let place = corner + vec2i(here);
  if (!inside(place)) {
    return;
  }
  let at = i32(here.y * NEAR + here.x);
  let gain = gains[index(place)];
  center = colors[at].rgb;
  scale = job.falloff / (gain * gain);
  var total = vec4f(center, 1.0);
  NEIGHBORS
  result[index(place)] = pack4x8unorm(vec4f(round(255.0 * total.rgb / total.a) / 255.0, pixel(place).a));
}
