"""The tables of docs/formats.md, cell by cell: files with all that a format can hold are read, and written."""

import io
import re
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from model import Metadata, read_image, write_image
from model.files import PICTURE_EXTENSIONS, RAW_EXTENSIONS
from model.images.writers.choose_writer import OUTPUT_EXTENSIONS
from model.video import cli
from tests.conftest import ROOT
from tests.pictures import dng, heic, mosaic_of, png16, png_chunk, saved, scene

for _module in ("imagecodecs", "pillow_heif", "pillow_jxl", "rawpy", "tifffile"):
    pytest.importorskip(_module)

PAGE = (ROOT / "docs" / "formats.md").read_text("utf-8")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF/></x:xmpmeta>'
HELD = ("profile", "EXIF", "XMP", "resolution")


def table(heading: str) -> list[dict[str, str]]:
    """The rows of the table below a heading, by column."""
    lines = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


READ, WRITTEN = table("Pictures that are read"), table("Pictures that are written")


def exif() -> bytes:
    made = Image.Exif()
    made[0x010F] = "maker"
    return made.tobytes()


def tiff(pixels: np.ndarray, **options) -> bytes:
    import tifffile

    file = io.BytesIO()
    rgb = {"photometric": "rgb", "extrasamples": (2,) if pixels.shape[2] == 4 else ()}
    tifffile.imwrite(file, pixels, metadata=None, compression="lzw", **rgb, **options)
    return file.getvalue()


def jxl(image: Image.Image, **options) -> bytes:
    import pillow_jxl  # noqa: F401

    return saved(image, "JXL", lossless=True, **options)


RGB = scene()
DEEP = RGB.astype(np.uint16) * 257 - (RGB > 0)  # no multiples of 257
ALPHA = np.arange(RGB[..., 0].size, dtype=np.uint8).reshape(RGB.shape[:2])
CLEAR = np.dstack([RGB, ALPHA])
ALL = {"exif": exif(), "xmp": XMP, "icc_profile": SRGB, "dpi": (300, 300)}


def pam(values: np.ndarray) -> bytes:
    height, width, _ = values.shape
    header = f"P7\nWIDTH {width}\nHEIGHT {height}\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n"
    return header.encode() + values.tobytes()


def files(name: str) -> dict[str, bytes]:
    """Files of a format: `8`, `16` by their bits, `alpha`, and `full` with all metadata that the format could hold."""
    import imagecodecs

    image, clear = Image.fromarray(RGB), Image.fromarray(CLEAR)
    kinds = {
        "JPEG": lambda: {"8": saved(image, "JPEG", quality=100, subsampling=0), "full": saved(image, "JPEG", **ALL)},
        "PNG": lambda: {
            "8": saved(image, "PNG"),
            "16": png16(DEEP),
            "alpha": saved(clear, "PNG"),
            "full": png16(DEEP, all_chunks()),
        },
        "TIFF": lambda: {
            "8": tiff(RGB),
            "16": tiff(DEEP),
            "alpha": tiff(CLEAR),
            "full": saved(image, "TIFF", icc_profile=SRGB, dpi=(300, 300), tiffinfo={700: XMP, 271: "maker"}),
        },
        "WebP": lambda: {
            "8": saved(image, "WEBP", lossless=True),
            "alpha": saved(clear, "WEBP", lossless=True, exact=True),
            "full": saved(image, "WEBP", lossless=True, **ALL),
        },
        "AVIF": lambda: {
            "8": saved(image, "AVIF", quality=100, subsampling="4:4:4"),
            "16": imagecodecs.avif_encode(DEEP >> 6, bitspersample=10, level=100, pixelformat="444"),
            "alpha": saved(clear, "AVIF", quality=100, subsampling="4:4:4"),
            "full": saved(image, "AVIF", **ALL),
        },
        "HEIC": lambda: {
            "8": heic(RGB),
            "16": heic(DEEP),
            "alpha": heif(clear, quality=-1),
            "full": heif(image, **ALL),
        },
        "JPEG XL": lambda: {
            "8": jxl(image),
            "16": imagecodecs.jpegxl_encode(DEEP, lossless=True),
            "alpha": jxl(clear),
            "full": jxl(image, **ALL),
        },
        "JPEG 2000": lambda: {
            "8": saved(image, "JPEG2000"),
            "16": imagecodecs.jpeg2k_encode(DEEP, level=0, reversible=True),
            "alpha": saved(clear, "JPEG2000"),
            "full": saved(image, "JPEG2000", **ALL),
        },
        "GIF": lambda: {
            "8": saved(image.convert("P"), "GIF"),
            "alpha": see_through(),
            "full": saved(image, "GIF", **ALL),
        },
        "BMP": lambda: {"8": saved(image, "BMP"), "full": saved(image, "BMP", **ALL)},
        "Netpbm": lambda: {
            "8": saved(image, "PPM"),
            "16": b"P6 %d %d 65535\n" % DEEP.shape[1::-1] + DEEP.astype(">u2").tobytes(),
            "alpha": pam(CLEAR),
            "full": saved(image, "PPM"),
        },
        "raw": lambda: {"16": dng(mosaic_of((20000, 30000, 25000))), "full": dng(mosaic_of((9, 9, 9)))},
    }
    return kinds[name]()


def heif(image: Image.Image, **options) -> bytes:
    import pillow_heif

    pillow_heif.register_heif_opener()
    return saved(image, "HEIF", chroma=444, **options)


def see_through() -> bytes:
    image = Image.fromarray(RGB).convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    return saved(image, "GIF", transparency=image.getpixel((0, 0)))


def all_chunks() -> bytes:
    """What a PNG file holds before its pixels."""
    return b"".join(
        [
            png_chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(SRGB)),
            png_chunk(b"pHYs", (11811).to_bytes(4, "big") * 2 + b"\1"),
            png_chunk(b"eXIf", exif().removeprefix(b"Exif\0\0")),
            png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        ]
    )


def holds(metadata: Metadata) -> dict[str, bool]:
    found = (metadata.icc_profile, metadata.exif, metadata.xmp, metadata.dpi)
    return {column: value is not None for column, value in zip(HELD, found, strict=True)}


@pytest.mark.parametrize("row", READ, ids=lambda row: row["format"])
def test_what_is_read(tmp_path, row):
    extension = row["extensions"].split()[0] if row["format"] != "raw" else ".dng"
    made, found = files(row["format"]), {}
    for kind, data in made.items():
        path = tmp_path / f"{kind}{extension}"
        path.write_bytes(data)
        found[kind] = read_image(path)
    bits = ", ".join(kind for kind in ("8", "16") if kind in made)
    assert row["bits"] == bits
    if "8" in found and row["format"] not in ("GIF",):
        assert found["8"].pixels.dtype == np.uint8 and np.abs(found["8"].pixels.astype(int) - RGB).max() <= 5
    if "16" in found:
        assert found["16"].pixels.dtype == np.uint16
        if row["format"] != "raw":
            within = {"AVIF": 700, "HEIC": 700}.get(row["format"], 0)  # 10 bits, and lossy
            assert np.abs(found["16"].pixels.astype(int) - DEEP).max() <= within
    assert row["alpha"] == ("yes" if "alpha" in made else "")
    if "alpha" in made:
        alpha = found["alpha"].alpha
        assert alpha is not None and (row["format"] == "GIF" or np.abs(alpha.astype(int) - ALPHA).max() <= 1)
    assert {column: row[column] == "yes" for column in HELD} == holds(found["full"].metadata)


def test_every_extension_is_in_the_table():
    read = " ".join(row["extensions"] for row in READ).split()
    assert sorted(read) == sorted(PICTURE_EXTENSIONS)
    (raw,) = [row for row in READ if row["format"] == "raw"]
    assert raw["extensions"].split() == sorted(RAW_EXTENSIONS)
    assert sorted(" ".join(row["extensions"] for row in WRITTEN).split()) == sorted(OUTPUT_EXTENSIONS)


def test_every_video_extension_is_on_the_page():
    searched = PAGE.split("## Videos\n")[1].split("Needs PyAV")[0]
    assert sorted(re.findall(r"\.\w+", searched)) == sorted(cli.VIDEO_EXTENSIONS)


@pytest.mark.parametrize("row", WRITTEN, ids=lambda row: row["format"])
def test_what_is_written(tmp_path, row):
    metadata = Metadata(SRGB, exif(), XMP, (300.0, 300.0))
    for extension in row["extensions"].split():
        for bits, pixels in (("8", RGB), ("16", DEEP)):
            path = tmp_path / f"{bits}{extension}"
            if bits not in row["bits"].split(", "):
                with pytest.raises(ValueError, match="cannot hold 16 bits"):
                    write_image(path, pixels)
                continue
            notes = " ".join(write_image(path, pixels, metadata=metadata))
            picture = read_image(path)
            assert picture.pixels.dtype == pixels.dtype
            assert row["format"] == "JPEG" or np.array_equal(picture.pixels, pixels)
            assert holds(picture.metadata) == {column: row[column] == "yes" for column in HELD}
            for column, word in zip(HELD, ("profile", "EXIF", "XMP", "resolution"), strict=True):
                assert (word in notes) == (row[column] != "yes")
            if row["alpha"] == "yes":
                write_image(tmp_path / f"alpha{extension}", pixels, ALPHA)
                found = read_image(tmp_path / f"alpha{extension}").alpha
                assert np.array_equal(found, ALPHA.astype(pixels.dtype) * (257 if bits == "16" else 1))
            else:
                with pytest.raises(ValueError, match="has transparency"):
                    write_image(tmp_path / f"alpha{extension}", pixels, ALPHA)


def test_where_modules_are_missing(tmp_path, monkeypatch):
    """The line names what the table says is needed."""
    for module in ("imagecodecs", "pillow_heif", "pillow_jxl", "rawpy"):
        monkeypatch.setitem(sys.modules, module, None)
    for row in READ:
        needed = re.match(r"[\w-]+", row["needs"])
        if needed is None:
            continue
        extension = ".dng" if row["format"] == "raw" else row["extensions"].split()[0]
        path = tmp_path / f"16{extension}"
        monkeypatch.undo()
        path.write_bytes(files(row["format"])["16"])
        for module in ("imagecodecs", "pillow_heif", "pillow_jxl", "rawpy"):
            monkeypatch.setitem(sys.modules, module, None)
        try:
            said = " ".join(read_image(path).notes)
        except ValueError as error:
            said = str(error)
        assert needed[0] in said and ".[formats]" in said, row["format"]
