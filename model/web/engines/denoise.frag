// The noise filter: the mean of 25 pixels, weighted by how near they are in place and in color; for four pixels.
uniform isampler2D bright; // its alpha is 1 in the picture and 0 around it
uniform isampler2D gains;
uniform float falloff; // of a gain of 1, for levels from 0 to 255
layout(location = 0) out ivec4 result;

vec4 red, green, blue, scale;
vec4 total_red, total_green, total_blue, weights;

void add(ivec4 there, float near) {
  vec4 r = vec4(there & 255), g = vec4(there >> 8 & 255), b = vec4(there >> 16 & 255);
  vec4 away = (r - red) * (r - red) + (g - green) * (g - green) + (b - blue) * (b - blue);
  vec4 weight = vec4(there >> 24) * exp(away * scale - near);
  total_red += weight * r, total_green += weight * g, total_blue += weight * b, weights += weight;
}

void main() {
  here = ivec2(gl_FragCoord.xy);
  ivec4 own = texelFetch(bright, here, 0);
  vec4 gain = intBitsToFloat(texelFetch(gains, here, 0));
  red = vec4(own & 255), green = vec4(own >> 8 & 255), blue = vec4(own >> 16 & 255);
  scale = falloff / (gain * gain);
  total_red = total_green = total_blue = weights = vec4(0.0);
  for (int dy = -2; dy <= 2; dy++) {
    ivec4 left = texelFetch(bright, here + ivec2(-1, dy), 0);
    ivec4 middle = texelFetch(bright, here + ivec2(0, dy), 0);
    ivec4 right = texelFetch(bright, here + ivec2(1, dy), 0);
    float near = NEARNESS * float(dy * dy);
    add(ivec4(left.zw, middle.xy), near + 4.0 * NEARNESS);
    add(ivec4(left.w, middle.xyz), near + NEARNESS);
    add(middle, near);
    add(ivec4(middle.yzw, right.x), near + NEARNESS);
    add(ivec4(middle.zw, right.xy), near + 4.0 * NEARNESS);
  }
  ivec4 r = ivec4(roundEven(total_red / weights));
  ivec4 g = ivec4(roundEven(total_green / weights));
  ivec4 b = ivec4(roundEven(total_blue / weights));
  result = r | g << 8 | b << 16 | texelFetch(image, here, 0) & -16777216;
}
