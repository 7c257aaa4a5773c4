// The network and the bright pixel in one pass, as the Triton kernel does it: a group of threads computes a block of
// pixels, with all features of the two layers before it in the group's own memory.

struct Job {
  width: u32,
  height: u32,
  published: u32,
  exposure: f32,
  falloff: f32,
}

@group(0) @binding(0) var<uniform> job: Job;
@group(0) @binding(1) var<storage, read> image: array<u32>; // RGBA, 8 bits each
@group(0) @binding(2) var<storage, read_write> bright: array<u32>;
@group(0) @binding(3) var<storage, read_write> gains: array<f32>;

const BLOCK = 16u;
const WIDE = BLOCK + 6u; // three layers reach one pixel further each
// One channel after another. The second layer's features lie where the image was.
var<workgroup> pixels: array<array<f32, WIDE * WIDE>, 3>;
var<workgroup> features: array<array<f32, WIDE * WIDE>, 3>;

fn inside(place: vec2i) -> bool {
  return all(place >= vec2i(0)) && all(place < vec2i(vec2u(job.width, job.height)));
}

fn original(place: vec2i) -> vec4f {
  return unpack4x8unorm(image[u32(place.y) * job.width + u32(place.x)]);
}

fn pixel(at: u32) -> vec3f {
  return vec3f(pixels[0][at], pixels[1][at], pixels[2][at]);
}

fn feature(at: u32) -> vec3f {
  return vec3f(features[0][at], features[1][at], features[2][at]);
}

fn put_pixel(at: u32, value: vec3f) {
  pixels[0][at] = value.r;
  pixels[1][at] = value.g;
  pixels[2][at] = value.b;
}

fn first(at: u32) -> vec3f {
  FIRST
  return max(sum, vec3f(0.0));
}

fn second(at: u32) -> vec3f {
  SECOND
  return max(sum, vec3f(0.0)) + feature(at);
}

fn residual(at: u32) -> vec3f {
  THIRD
  return 1.0 / (1.0 + exp(-sum));
}

@compute @workgroup_size(16, 16)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let corner = vec2i(group.xy * BLOCK) - 3; // of the pixels that this group reads
  for (var at = thread; at < WIDE * WIDE; at += BLOCK * BLOCK) {
    let place = corner + vec2i(vec2u(at % WIDE, at / WIDE));
    var value = vec3f(0.0);
    if (inside(place)) {
      value = original(place).rgb;
    }
    put_pixel(at, value);
  }
  workgroupBarrier();
  for (var n = thread; n < (WIDE - 2u) * (WIDE - 2u); n += BLOCK * BLOCK) {
    let here = vec2u(n % (WIDE - 2u), n / (WIDE - 2u)) + 1u;
    let at = here.y * WIDE + here.x;
    var value = vec3f(0.0);
    if (inside(corner + vec2i(here))) {
      value = first(at);
    }
    features[0][at] = value.r;
    features[1][at] = value.g;
    features[2][at] = value.b;
  }
  workgroupBarrier();
  for (var n = thread; n < (WIDE - 4u) * (WIDE - 4u); n += BLOCK * BLOCK) {
    let here = vec2u(n % (WIDE - 4u), n / (WIDE - 4u)) + 2u;
    let at = here.y * WIDE + here.x;
    var value = vec3f(0.0);
    if (inside(corner + vec2i(here))) {
      value = second(at);
    }
    put_pixel(at, value);
  }
  workgroupBarrier();
  let here = vec2u(thread % BLOCK, thread / BLOCK) + 3u;
  let place = corner + vec2i(here);
  if (!inside(place)) {
    return;
  }
  let own = original(place);
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
  let to = u32(place.y) * job.width + u32(place.x);
  bright[to] = pack4x8unorm(vec4f(level / 255.0, own.a));
  gains[to] = gain;
}
