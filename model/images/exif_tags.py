"""The numbers of EXIF and TIFF tags: what describes the photograph and is kept, and what describes the file."""

ORIENTATION = 0x0112
EXIF, GPS, INTEROPERABILITY = 0x8769, 0x8825, 0xA005  # each holds the address of another directory
WIDTH, HEIGHT = 0xA002, 0xA003  # PixelXDimension, PixelYDimension
RESOLUTION = {282, 283, 296}
# Sizes, bits, strips, tiles, colors, thumbnails: they describe how the file stores its pixels.
STORAGE = {
    *(254, 255, 256, 257, 258, 259, 262, 263, 266, 273, 274, 277, 278, 279, 280, 281, 284, 285, 290, 291, 292, 293),
    *(301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 330, 332, 333, 334, 338, 339, 340, 341, 342, 347),
    *(512, 513, 514, 519, 520, 521, 529, 530, 531, 532, 700, 33723, 34377, 34675, 37724),
}
# Names and descriptions, camera, resolution, program, date, author, rating, rights, Windows' descriptions.
_DESCRIPTIONS = {
    *(269, 270, 271, 272, 282, 283, 285, 296, 305, 306, 315, 316),
    *(18246, 18249, 33432, 40091, 40092, 40093, 40094, 40095, EXIF, GPS),
}
# Kept of the first directory of a TIFF or raw file, which may have hundreds of others, private ones among them. Some
# cameras store the settings of the exposure there.
OF_TIFF_SOURCE = _DESCRIPTIONS | {
    *(33434, 33437, 34850, 34855, 36867, 37377, 37378, 37380, 37383, 37384, 37385, 37386, 42034, 42036, 42037),
}
# Written to the first directory of a TIFF file; also white point, primaries and IPTC. All others describe how pixels
# are stored, or would make the file one of another kind.
IN_TIFF_RESULT = _DESCRIPTIONS | {318, 319, 33723}
