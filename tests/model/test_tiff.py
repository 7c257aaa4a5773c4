"""TIFF files of every kind that writers make: each read to the value, or refused in one line."""

import itertools

import numpy as np
import pytest
from PIL import Image

from model import ImageError, Picture, read_image

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")

from tests.tiffs import tiff  # noqa: E402

HEIGHT, WIDTH = 13, 21
COMPRESSIONS = [None, "lzw", "deflate", "packbits", "zstd"]
PREDICTED = ["lzw", "deflate", "zstd"]
CHANNELS = {"minisblack": 1, "miniswhite": 1, "rgb": 3, "separated": 4, "palette": 1}


def samples(channels: int, bits: int, dtype) -> np.ndarray:
    """Values of the whole range, in runs so that compressors have something to do."""
    values = np.random.default_rng(bits).integers(0, 1 << bits, (HEIGHT, WIDTH, channels), dtype=np.uint32)
    values[::2, 1:] = values[::2, :-1]
    values[0, :2] = [[0] * channels, [(1 << bits) - 1] * channels]
    return values.astype(dtype)


def stretched(values: np.ndarray, bits: int) -> np.ndarray:
    """What these values are in the whole range of 8 or 16 bits."""
    top = 255 if bits <= 8 else 65535
    return np.rint(values.astype(np.float64) * top / ((1 << bits) - 1)).astype(np.uint8 if bits <= 8 else np.uint16)


def read(path) -> Picture | str:
    """The picture, or the one line with which it is refused."""
    try:
        return read_image(path)
    except ImageError as error:
        line = str(error)
        assert "\n" not in line and line.startswith(f"{path}: ")
        return line


def save(path, values: np.ndarray, bits: int, photometric: str, planar: str, **options) -> bool:
    """Writes with tifffile; False for combinations that it has no writer for."""
    data = values[..., 0] if values.shape[2] == 1 else values
    if values.shape[2] > 1:
        options["planarconfig"] = planar
        data = np.moveaxis(values, -1, 0) if planar == "separate" else data
    try:
        tifffile.imwrite(path, data, photometric=photometric, bitspersample=bits, metadata=None, **options)
    except (ValueError, NotImplementedError, RuntimeError, TypeError, KeyError):
        return False
    return True


def expected_pixels(values: np.ndarray, bits: int, photometric: str) -> np.ndarray:
    colors = values[..., : CHANNELS[photometric]]
    if photometric == "miniswhite":
        colors = ((1 << bits) - 1) - colors
    return np.broadcast_to(stretched(colors, bits), (HEIGHT, WIDTH, 3))


def check(path, values: np.ndarray, bits: int, photometric: str, extra: str | None, case) -> None:
    """The picture in a file has these values, and says what was left out."""
    picture = read(path)
    assert not isinstance(picture, str), (case, picture)
    wanted = expected_pixels(values, bits, photometric)
    assert picture.pixels.dtype == wanted.dtype and np.array_equal(picture.pixels, wanted), case
    assert picture.gray == (photometric != "rgb"), case
    if extra == "unassalpha":
        assert picture.alpha.dtype == wanted.dtype, case
        assert np.array_equal(picture.alpha, stretched(values[..., -1], bits)) and not picture.notes, case
    else:
        assert picture.alpha is None and ("extra channel" in " ".join(picture.notes)) == bool(extra), case


KINDS = [
    case
    for case in itertools.product(
        ["minisblack", "miniswhite", "rgb"], ["contig", "separate"], [None, "unassalpha", "unspecified"], ["<", ">"]
    )
    if CHANNELS[case[0]] + (case[2] is not None) > 1 or case[1] == "contig"
]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("bits", [8, 16])
def test_as_tifffile_writes_it(tmp_path, bits, compression):
    dtype, tried = (np.uint8 if bits == 8 else np.uint16), 0
    for photometric, planar, extra, order in KINDS:
        values = samples(CHANNELS[photometric] + (extra is not None), bits, dtype)
        options = {"extrasamples": [extra]} if extra else {}
        for number, other in enumerate(({}, {"rowsperstrip": 4}, {"tile": (16, 32)}, {"bigtiff": True})):
            for predictor in [False, True][: 2 if compression in PREDICTED else 1]:
                path = tmp_path / f"{tried}.tif"
                if save(path, values, bits, photometric, planar, predictor=predictor or None, compression=compression,
                        byteorder=order, **options, **other):  # fmt: skip
                    case = (photometric, planar, extra, order, number, predictor)
                    check(path, values, bits, photometric, extra, case)
                    tried += 1
    assert tried > 100


@pytest.mark.quick(every=2)
@pytest.mark.parametrize(
    ("bits", "compression"),
    [*itertools.product([1, 4, 8, 12, 16], COMPRESSIONS), *((bits, "lzma") for bits in (2, 3, 6, 7, 10, 14))],
)
def test_any_number_of_bits(tmp_path, bits, compression):
    path = tmp_path / "a.tif"
    for photometric, planar, extra, order in KINDS:
        values = samples(CHANNELS[photometric] + (extra is not None), bits, np.int64)
        for pieces in ({}, {"rows": 4}, {"tile": (16, 32)}):
            for predictor in [False, True][: 2 if bits in (8, 16) and compression in PREDICTED else 1]:
                path.write_bytes(
                    tiff(values, bits, photometric, planar, extra, predictor, order, compression=compression, **pieces)
                )
                check(path, values, bits, photometric, extra, (photometric, planar, extra, order, pieces, predictor))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("photometric", ["rgb", "minisblack"])
def test_associated_alpha_is_divided_out(tmp_path, bits, planar, photometric):
    dtype, top = (np.uint8, 255) if bits == 8 else (np.uint16, 65535)
    values = samples(CHANNELS[photometric] + 1, bits, dtype)
    values[..., :-1] = values[..., :-1].astype(np.uint64) * values[..., -1:] // top
    assert save(tmp_path / "a.tif", values, bits, photometric, planar, extrasamples=["assocalpha"])
    picture = read_image(tmp_path / "a.tif")
    alpha = values[..., -1:].astype(np.float64)
    wanted = np.minimum(values[..., :-1].astype(np.float64) * top / np.maximum(alpha, 1), top) * (alpha > 0)
    assert np.abs(picture.pixels - wanted).max() <= 0.5
    assert np.array_equal(picture.alpha, values[..., -1]) and not picture.notes


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette(tmp_path, bits, compression):
    table = np.random.default_rng(0).integers(0, 256, (3, 1 << bits), dtype=np.uint16)
    values = samples(1, bits, np.uint8)
    for order, pieces in itertools.product("<>", [{}, {"rows": 4}, {"tile": (16, 32)}]):
        colors = (table * 257).ravel().tolist()
        data = tiff(values, bits, "palette", order=order, compression=compression, colors=colors, **pieces)
        (tmp_path / "a.tif").write_bytes(data)
        picture = read_image(tmp_path / "a.tif")
        assert np.array_equal(picture.pixels, table.T[values[..., 0]]) and not picture.gray


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("bits", [8, 16])
def test_cmyk_is_converted_and_says_so(tmp_path, bits, planar):
    values = samples(4, bits, np.uint8 if bits == 8 else np.uint16)
    assert save(tmp_path / "a.tif", values, bits, "separated", planar)
    picture = read_image(tmp_path / "a.tif")
    inks = values if bits == 8 else np.rint(values / 257).astype(np.uint8)
    wanted = np.asarray(Image.frombytes("CMYK", (WIDTH, HEIGHT), inks.tobytes()).convert("RGB"))
    assert np.array_equal(picture.pixels, wanted)
    assert "CMYK without a color profile for CMYK, converted without one" in picture.notes


@pytest.mark.parametrize("photometric", ["minisblack", "rgb"])
def test_jpeg_inside(tmp_path, photometric):
    smooth = np.add.outer(np.arange(64), np.arange(64))[..., None] * [1, 1, 1] + [10, 50, 90]
    values = smooth.astype(np.uint8)
    data = values[..., 0] if photometric == "minisblack" else values
    for options in ({}, {"tile": (32, 32)}, {"rowsperstrip": 16}):
        tifffile.imwrite(
            tmp_path / "a.tif",
            data,
            photometric=photometric,
            compression="jpeg",
            compressionargs={"level": 98},
            **options,
        )
        picture = read_image(tmp_path / "a.tif")
        wanted = values if photometric != "minisblack" else np.repeat(values[..., :1], 3, axis=2)
        assert np.abs(picture.pixels.astype(int) - wanted).max() <= 8


@pytest.mark.parametrize(
    ("dtype", "said"),
    [
        (np.uint32, "32-bit pixels, whose range"),
        (np.int32, "signed 32-bit"),
        (np.float32, "32-bit floating point"),
        (np.float16, "16-bit floating point"),
        (np.int16, "signed 16-bit"),
        (np.int8, "signed 8-bit"),
        (np.float64, "64-bit floating point"),
        (np.uint64, "64-bit pixels"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_unknown_ranges_are_refused(tmp_path, dtype, said, channels, planar):
    for options in ({}, {"compression": "deflate", "predictor": True}):
        path = tmp_path / "a.tif"
        if save(
            path, np.ones((8, 8, channels), dtype), None, "rgb" if channels == 3 else "minisblack", planar, **options
        ):
            assert said in read(path)


@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "packbits", "zstd"])
def test_pixels_that_are_missing_are_never_made_up(tmp_path, compression):
    path = tmp_path / "a.tif"
    assert save(path, samples(3, 16, np.uint16), 16, "rgb", "contig", compression=compression)
    data = path.read_bytes()
    path.write_bytes(data[:-100])
    assert "truncated or damaged" in read(path)
    with tifffile.TiffFile(path) as file:
        start = file.pages[0].dataoffsets[0]
    path.write_bytes(data[: start + 40] + bytes(len(data) - start - 40))
    if compression not in (None, "zstd"):  # of these any bytes are pixels
        assert "truncated or damaged" in read(path)


def test_a_thumbnail_before_the_picture_is_passed_over(tmp_path):
    large, small = samples(3, 16, np.uint16), np.zeros((4, 4, 3), np.uint8)
    for number, values in enumerate((large, (large >> 8).astype(np.uint8))):
        path = tmp_path / f"{number}.tif"
        with tifffile.TiffWriter(path) as file:
            file.write(small, photometric="rgb", subfiletype=1, metadata=None)
            file.write(values, photometric="rgb", metadata=None)
        picture = read_image(path)
        assert np.array_equal(picture.pixels, values) and "thumbnail" in picture.notes[0]


def test_without_imagecodecs(tmp_path, monkeypatch):
    from model.images.readers import tiff_pixels

    monkeypatch.setattr(tiff_pixels, "optional", lambda module: None)
    values = samples(3, 16, np.uint16)
    path = tmp_path / "a.tif"
    assert save(path, values, 16, "rgb", "contig", compression="deflate", predictor=True)
    assert np.array_equal(read_image(path).pixels, values)
    assert save(path, values, 16, "rgb", "contig", compression="lzw")
    picture = read_image(path)
    assert np.array_equal(picture.pixels, values >> 8) and "imagecodecs by itself" in picture.notes[0]
    assert save(path, values, 16, "rgb", "separate", compression="lzw")
    assert read(path).endswith("needs imagecodecs; pip install '.[formats]', or imagecodecs by itself")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_and_what_is_said_of_the_photograph(tmp_path, orientation):
    deep, flat = tmp_path / "deep.tif", tmp_path / "flat.tif"
    values = samples(3, 16, np.uint16)
    tags = [(274, "H", 1, orientation, True), (271, "s", 0, "maker", True), (700, "B", 0, b"<x/>", True)]
    for path, data in ((deep, values), (flat, (values >> 8).astype(np.uint8))):
        tifffile.imwrite(
            path, data, photometric="rgb", extratags=tags, metadata=None, resolution=(300, 200), resolutionunit=2
        )
    first, second = read_image(deep), read_image(flat)
    assert np.array_equal(first.pixels >> 8, second.pixels)
    assert first.pixels.shape == ((HEIGHT, WIDTH, 3) if orientation < 5 else (WIDTH, HEIGHT, 3))
    for picture in (first, second):
        exif = Image.Exif()
        exif.load(picture.metadata.exif)
        assert exif[271].strip("\0") == "maker" and not set(exif) & {256, 257, 258, 273, 274, 279}
        assert picture.metadata.xmp == b"<x/>" and picture.metadata.dpi == (300, 200)
