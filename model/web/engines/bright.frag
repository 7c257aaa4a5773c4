// The third convolution, the illumination, and four bright pixels with their gains; or the published division.
uniform float published; // 0 or 1
uniform float filtered; // whether the noise filter follows, for which alpha says what is in the picture
uniform float exposure;
layout(location = 0) out ivec4 bright;
layout(location = 1) out ivec4 gains;

vec4 light(vec4 sum, vec4 x) {
  return clamp(1.0 / (1.0 + exp(-sum)) + x, LEAST, MOST);
}

vec4 divided(vec4 x, vec4 light) {
  return floor(255.0 * min(x / light, 1.0) + SLACK);
}

void main() {
  here = ivec2(gl_FragCoord.xy), place = here - MARGIN;
  CONVOLUTION
  ivec4 original = texelFetch(image, here, 0);
  vec4 x = vec4(original & 255) / 255.0;
  vec4 y = vec4(original >> 8 & 255) / 255.0;
  vec4 z = vec4(original >> 16 & 255) / 255.0;
  r = light(r, x), g = light(g, y), b = light(b, z);
  vec4 gain = vec4(1.0);
  if (published > 0.0) {
    r = divided(x, r), g = divided(y, g), b = divided(z, b);
  } else {
    vec4 added = (r - x + (g - y) + (b - z)) / 3.0;
    vec4 s = 0.5 + 0.5 * min(added / BLACK, 1.0);
    gain = (exposure + s) / (exposure * max(x, max(y, z)) + s);
    vec4 luma = LUMA.r * x + LUMA.g * y + LUMA.b * z;
    float fade = FADE * exposure;
    r = roundEven(255.0 * clamp(gain * (x + fade * (luma - x)), 0.0, 1.0));
    g = roundEven(255.0 * clamp(gain * (y + fade * (luma - y)), 0.0, 1.0));
    b = roundEven(255.0 * clamp(gain * (z + fade * (luma - z)), 0.0, 1.0));
  }
  ivec4 alpha = filtered > 0.0 ? ivec4(inside()) << 24 : original & -16777216;
  bright = ivec4(r) | ivec4(g) << 8 | ivec4(b) << 16 | alpha;
  gains = floatBitsToInt(gain);
}
