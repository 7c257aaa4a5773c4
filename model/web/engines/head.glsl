#version 300 es
// The beginning of every shader.
//
// A texel is four pixels beside each other: of a picture as four integers, of features one channel in each texture, as
// the bits of floats, since such textures can be drawn to on every device. All textures have a margin of zeros around
// what is in them: a convolution reads zeros there.
precision highp float;
precision highp int;
precision highp isampler2D;

uniform isampler2D image, reds, greens, blues; // the picture, and the features of the layer before
uniform ivec2 size; // in pixels
ivec2 here, place; // of the texel, with the margin and without

// Which of the four pixels are in the picture.
bvec4 inside() {
  bool row = place.x >= 0 && place.y >= 0 && place.y < size.y;
  return row ? lessThan(4 * place.x + ivec4(0, 1, 2, 3), ivec4(size.x)) : bvec4(false);
}
