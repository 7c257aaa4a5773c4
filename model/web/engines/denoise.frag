#version 300 es
// The noise filter: the mean of 25 pixels, weighted by how near they are in place and in color.
precision highp float;
precision highp int;
precision highp usampler2D;

uniform sampler2D bright;
uniform usampler2D gains;
uniform ivec2 size;
uniform float falloff; // of a gain of 1
layout(location = 0) out vec4 result;

void main() {
  ivec2 here = ivec2(gl_FragCoord.xy);
  vec4 own = texelFetch(bright, here, 0);
  float gain = uintBitsToFloat(texelFetch(gains, here, 0).r);
  float scale = falloff / (gain * gain);
  vec4 total = vec4(0.0);
  for (int dy = -2; dy <= 2; dy++) {
    for (int dx = -2; dx <= 2; dx++) {
      ivec2 place = here + ivec2(dx, dy);
      bool inside = all(lessThan(uvec2(place), uvec2(size)));
      vec3 there = texelFetch(bright, inside ? place : here, 0).rgb;
      vec3 away = there - own.rgb;
      float weight = exp(dot(away, away) * scale - NEARNESS * float(dx * dx + dy * dy));
      total += (inside ? weight : 0.0) * vec4(there, 1.0);
    }
  }
  result = vec4(roundEven(255.0 * total.rgb / total.a) / 255.0, own.a);
}
