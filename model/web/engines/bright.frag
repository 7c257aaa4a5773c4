#version 300 es
// The third convolution, the illumination, and the bright pixel with its gain; or the published division.
precision highp float;
precision highp int;
precision highp usampler2D;

uniform sampler2D image;
uniform usampler2D before;
uniform ivec2 size;
uniform float published;
uniform float exposure;
layout(location = 0) out vec4 bright;
layout(location = 1) out uint gain;

vec3 at(ivec2 place) {
  bool inside = all(lessThan(uvec2(place), uvec2(size)));
  return inside ? uintBitsToFloat(texelFetch(before, place, 0).rgb) : vec3(0.0);
}

void main() {
  ivec2 here = ivec2(gl_FragCoord.xy);
  CONVOLUTION
  vec4 original = texelFetch(image, here, 0);
  vec3 x = original.rgb;
  vec3 light = clamp(1.0 / (1.0 + exp(-sum)) + x, LEAST, MOST);
  vec3 level;
  float g = 1.0;
  if (published > 0.0) {
    level = floor(255.0 * min(x / light, 1.0) + SLACK);
  } else {
    float added = dot(light - x, vec3(1.0 / 3.0));
    float s = 0.5 + 0.5 * min(added / BLACK, 1.0);
    g = (exposure + s) / (exposure * max(x.r, max(x.g, x.b)) + s);
    float luma = dot(x, LUMA);
    level = roundEven(255.0 * clamp(g * (x + FADE * exposure * (luma - x)), 0.0, 1.0));
  }
  bright = vec4(level / 255.0, original.a);
  gain = floatBitsToUint(g);
}
