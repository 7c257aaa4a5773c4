// The noise filter: the mean of 25 pixels, weighted by how near they are in place and in color.

struct Job {
  width: u32,
  height: u32,
  published: u32,
  exposure: f32,
  falloff: f32, // of a gain of 1
}

@group(0) @binding(0) var<uniform> job: Job;
@group(0) @binding(1) var<storage, read> bright: array<u32>;
@group(0) @binding(2) var<storage, read_write> result: array<u32>;
@group(0) @binding(3) var<storage, read> gains: array<f32>;

const BLOCK = 16u;
const WIDE = BLOCK + 4u;
var<workgroup> colors: array<vec4f, WIDE * WIDE>; // with 1, or 0 outside the picture

fn inside(place: vec2i) -> bool {
  return all(place >= vec2i(0)) && all(place < vec2i(vec2u(job.width, job.height)));
}

var<private> own: vec3f;
var<private> scale: f32;

fn weighted(there: vec4f, near: f32) -> vec4f {
  let away = there.rgb - own;
  return there.a * exp(dot(away, away) * scale - near) * vec4f(there.rgb, 1.0);
}

@compute @workgroup_size(16, 16)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let corner = vec2i(group.xy * BLOCK) - 2;
  for (var n = thread; n < WIDE * WIDE; n += BLOCK * BLOCK) {
    let place = corner + vec2i(vec2u(n % WIDE, n / WIDE));
    var color = vec4f(0.0);
    if (inside(place)) {
      color = vec4f(unpack4x8unorm(bright[u32(place.y) * job.width + u32(place.x)]).rgb, 1.0);
    }
    colors[n] = color;
  }
  workgroupBarrier();
  let here = vec2u(thread % BLOCK, thread / BLOCK) + 2u;
  let place = corner + vec2i(here);
  if (!inside(place)) {
    return;
  }
  let to = u32(place.y) * job.width + u32(place.x);
  let at = i32(here.y * WIDE + here.x);
  own = colors[at].rgb;
  scale = job.falloff / (gains[to] * gains[to]);
  var total = vec4f(own, 1.0);
  NEIGHBORS
  let alpha = unpack4x8unorm(bright[to]).a;
  result[to] = pack4x8unorm(vec4f(round(255.0 * total.rgb / total.a) / 255.0, alpha));
}
