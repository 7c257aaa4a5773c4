// Features of a layer: relu(convolution), and from the second layer on, the pixel itself added.
layout(location = 0) out ivec4 red;
layout(location = 1) out ivec4 green;
layout(location = 2) out ivec4 blue;

void main() {
  here = ivec2(gl_FragCoord.xy), place = here - MARGIN;
  CONVOLUTION
  vec4 kept = vec4(inside());
  red = floatBitsToInt(kept * (max(r, 0.0) + OWN_RED));
  green = floatBitsToInt(kept * (max(g, 0.0) + OWN_GREEN));
  blue = floatBitsToInt(kept * (max(b, 0.0) + OWN_BLUE));
}
