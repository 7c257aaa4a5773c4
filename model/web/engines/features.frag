#version 300 es
// Features of a layer: relu(convolution), and from the second layer on, the row itself added.
precision highp float;
precision highp int;
precision highp usampler2D;

uniform sampler2D image;
uniform usampler2D before; // bits of floats: such textures can be drawn to on every device
uniform ivec2 size;
layout(location = 0) out uvec4 features;

vec3 at(ivec2 place) {
  bool inside = all(lessThan(uvec2(place), uvec2(size))); // a negative place is a large one
  return inside ? FETCH : vec3(0.0);
}

void main() {
  ivec2 here = ivec2(gl_FragCoord.xy);
  CONVOLUTION
  features = uvec4(floatBitsToUint(RESULT), 0u);
}
