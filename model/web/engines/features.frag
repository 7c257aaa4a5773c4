#version 300 es
// Features of a layer: relu(convolution), and from the second layer on, the pixel itself added.
//
// A texel is four pixels beside each other: of the picture as four integers, of features one channel in each texture.
// All textures have a margin of zeros around what is in them, since a convolution reads zeros there.
precision highp float;
precision highp int;
precision highp isampler2D;

uniform isampler2D image;
uniform isampler2D reds; // bits of floats: such textures can be drawn to on every device
uniform isampler2D greens;
uniform isampler2D blues;
uniform ivec2 size; // in pixels
layout(location = 0) out ivec4 red;
layout(location = 1) out ivec4 green;
layout(location = 2) out ivec4 blue;

void main() {
  ivec2 here = ivec2(gl_FragCoord.xy), place = here - MARGIN;
  CONVOLUTION
  bool row = place.x >= 0 && place.y >= 0 && place.y < size.y;
  vec4 inside = row ? vec4(lessThan(4 * place.x + ivec4(0, 1, 2, 3), ivec4(size.x))) : vec4(0.0);
  red = floatBitsToInt(inside * (max(r, 0.0) + OWN_RED));
  green = floatBitsToInt(inside * (max(g, 0.0) + OWN_GREEN));
  blue = floatBitsToInt(inside * (max(b, 0.0) + OWN_BLUE));
}
