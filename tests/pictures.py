"""Small valid files of each format, made without the readers under test, and how tests read them."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from model import ImageError, Picture, read_image
from model.images.readers.choose_reader import pixel_count


def refusal(path) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(ImageError) as caught:
        read_image(path)
    line = str(caught.value)
    assert "\n" not in line and line.startswith(f"{path}: ")
    return line


def read(path, data: bytes) -> Picture:
    """What is read of a file, whose pixels are counted rightly."""
    path.write_bytes(data)
    picture = read_image(path)
    assert pixel_count(path) == picture.pixels.shape[0] * picture.pixels.shape[1]
    return picture


def scene(height: int = 24, width: int = 32) -> np.ndarray:
    """Eight-bit RGB with edges, gradients and some noise."""
    values = np.random.default_rng(7).integers(0, 40, (height, width, 3))
    values += np.add.outer(np.arange(height) * 3, np.arange(width) * 2)[..., None]
    values[height // 3 :, width // 2 :, 0] += 60
    return values.clip(0, 255).astype(np.uint8)


def exif_of(orientation: int = 6) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "maker", orientation
    exif[0x8769] = {0x9003: "2020:01:02 03:04:05", 0xA002: 32, 0xA003: 24, 0x927C: b"maker note" * 3}
    exif[0x8825] = {1: "N", 2: (1.0, 2.0, 3.0)}
    return exif


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# Of interlaced PNG files: first row and column of each pass, and the steps between them.
_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def png16(values: np.ndarray, before: bytes = b"", interlaced: bool = False) -> bytes:
    """A PNG file of values (H, W, channels) of 16 bits, with chunks `before` the pixels."""
    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, interlaced)
    passes = [values[top::down, left::across] for top, left, down, across in _PASSES] if interlaced else [values]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for one in passes for row in one)
    parts = png_chunk(b"IHDR", header) + before + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def heic(values: np.ndarray, **options) -> bytes:
    import pillow_heif

    mode = "RGB" if values.dtype == np.uint8 else "RGB;16"
    file = io.BytesIO()
    made = pillow_heif.from_bytes(mode, values.shape[1::-1], values.tobytes())
    made.save(file, quality=-1, chroma=444, matrix_coefficients=0, **options)
    return file.getvalue()


def dng(mosaic: np.ndarray, neutral: tuple[float, float, float] = (1.0, 1.0, 1.0), orientation: int = 1) -> bytes:
    """A DNG file of a mosaic (H, W) of 16 bits, red, green, green, blue; black is 0, white 65535.

    Its matrix says that the camera's colors are those of linear sRGB.
    """
    import tifffile

    to_camera = np.linalg.inv([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    matrix = [number for value in to_camera.ravel() for number in (round(value * 10000), 10000)]
    white = [number for value in neutral for number in (round(value * 10000), 10000)]
    tags = [
        (50706, "B", 4, (1, 4, 0, 0), True),
        (50707, "B", 4, (1, 1, 0, 0), True),
        (33421, "H", 2, (2, 2), True),
        (33422, "B", 4, (0, 1, 1, 2), True),
        (50708, "s", 0, "a camera", True),
        (271, "s", 0, "maker", True),
        (272, "s", 0, "camera", True),
        (274, "H", 1, orientation, True),
        (50717, "I", 1, 65535, True),
        (50721, "2i", 9, tuple(matrix), True),
        (50728, "2I", 3, tuple(white), True),
        (50778, "H", 1, 21, True),
    ]
    file = io.BytesIO()
    tifffile.imwrite(file, mosaic, photometric=32803, extratags=tags, metadata=None)
    return file.getvalue()


def mosaic_of(color: tuple[int, int, int], height: int = 64, width: int = 96) -> np.ndarray:
    """What a sensor sees of one color."""
    values = np.empty((height, width), np.uint16)
    values[::2, ::2], values[1::2, 1::2] = color[0], color[2]
    values[::2, 1::2] = values[1::2, ::2] = color[1]
    return values


def every_format() -> dict[str, bytes]:
    """One small file of each format, and several of those that are read in several ways, by file name."""
    import imagecodecs

    from tests.tiffs import tiff

    rgb = scene()
    image, exif = Image.fromarray(rgb), exif_of()
    deep = rgb.astype(np.uint16) * 257
    gray = image.convert("L")
    files = {
        "8.png": saved(image, "PNG", exif=exif, dpi=(300, 300)),
        "palette.png": saved(image.quantize(16), "PNG"),
        "16.png": png16(deep),
        "gray16.png": png16(deep[..., :1]),
        "rgb.jpg": saved(image, "JPEG", exif=exif),
        "progressive.jpg": saved(image, "JPEG", progressive=True),
        "cmyk.jpg": saved(image.convert("CMYK"), "JPEG"),
        "rgb.webp": saved(image, "WEBP", exif=exif),
        "lossless.webp": saved(image, "WEBP", lossless=True),
        "a.gif": saved(image, "GIF"),
        "a.bmp": saved(image, "BMP"),
        "8.jp2": saved(image, "JPEG2000"),
        "16.jp2": imagecodecs.jpeg2k_encode(deep, level=0, reversible=True),
        "a.ppm": saved(image, "PPM"),
        "plain.pgm": b"P2 # plain\n4 2\n1000\n" + b" ".join(b"%d" % value for value in range(0, 800, 100)),
        "a.pam": b"P7\nWIDTH 4\nHEIGHT 2\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n" + bytes(range(32)),
        "8.avif": saved(image, "AVIF", exif=exif),
        "10.avif": imagecodecs.avif_encode(deep >> 6, bitspersample=10, level=95),
        "8.heic": heic(rgb),
        "10.heic": heic(deep),
        "8.jxl": imagecodecs.jpegxl_encode(rgb, lossless=True),
        "16.jxl": imagecodecs.jpegxl_encode(deep, lossless=True),
        "a.dng": dng(mosaic_of((20000, 30000, 25000))),
        "pillow.tif": saved(image, "TIFF", exif=exif.tobytes()),
        "lzw.tif": saved(image, "TIFF", compression="tiff_lzw"),
        "jpeg.tif": saved(image, "TIFF", compression="jpeg"),
        "fax.tif": saved(gray.convert("1"), "TIFF", compression="group4"),
    }
    for compression in (None, "lzw", "deflate", "packbits", "zstd"):
        files[f"16 {compression}.tif"] = tiff(deep, 16, "rgb", "separate", compression=compression, rows=5)
        files[f"12 {compression}.tif"] = tiff(deep[..., :1] >> 4, 12, "miniswhite", compression=compression, order=">")
    files["tiles.tif"] = tiff(rgb, 8, "rgb", compression="lzw", predictor=True, tile=(16, 16))
    return files
