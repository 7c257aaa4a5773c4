"""The before/after page and the contact sheet: self-contained, complete, whole or absent."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from model.files import ImageError
from model.gallery.build import PAGE_SIDE, SHEET_LIMIT, Pair, write_contact_sheet, write_gallery


class Page(HTMLParser):
    """Tags with their attributes, and the visible text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def find(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.tags if name == tag]


def picture(path, value, size=(60, 40), mode="RGB"):
    Image.new(mode, size, value).save(path)
    return path


def pair(folder, name="a.png", **kwargs):
    before = picture(folder / f"before_{name}", (51, 51, 51), **kwargs)
    after = picture(folder / f"after_{name}", (153, 153, 153), **kwargs)
    return Pair(name, before, after)


def decode(url: str) -> Image.Image:
    head, data = url.split(",", 1)
    assert re.fullmatch(r"data:image/(jpeg|png);base64", head)
    return Image.open(io.BytesIO(base64.b64decode(data, validate=True))).convert("RGB")


def read(path) -> Page:
    return Page(path.read_text("utf-8"))


def test_page_embeds_both_pictures_and_needs_nothing_else(tmp_path):
    out = tmp_path / "new" / "index.html"
    write_gallery([pair(tmp_path, "a.png"), pair(tmp_path, "b.png")], out, title="Mine")
    text, page = out.read_text("utf-8"), read(out)
    images = page.find("img")
    assert [image["class"] for image in images] == ["after", "before"] * 2
    for image, value in zip(images, (153, 51) * 2, strict=True):
        decoded = decode(image["src"])
        assert decoded.size == (60, 40)
        assert abs(np.asarray(decoded).mean() - value) < 2
    assert "://" not in text and not re.search(r"url\(|@import|srcset|<link|<script src", text)
    assert "default-src 'none'" in text
    assert page.find("title") and "Mine" in page.text
    assert [path.name for path in out.parent.iterdir()] == ["index.html"]


def test_slider_has_keyboard_pointer_and_both_color_schemes(tmp_path):
    write_gallery([pair(tmp_path)], tmp_path / "index.html")
    text, page = (tmp_path / "index.html").read_text("utf-8"), read(tmp_path / "index.html")
    (slider,) = page.find("input")
    assert slider["type"] == "range" and slider["value"] == "50" and "a.png" in slider["aria-label"]
    assert all(image["alt"] for image in page.find("img"))
    for needed in ("pointerdown", "pointermove", "ArrowLeft", "touch-action: pan-y", "prefers-color-scheme: dark"):
        assert needed in text


def test_caption_names_size_and_brightness(tmp_path):
    write_gallery([pair(tmp_path)], tmp_path / "index.html")
    assert "a.png60 x 40, mean brightness 20 % to 60 %" in read(tmp_path / "index.html").text


def test_names_are_escaped_and_odd_bytes_survive(tmp_path):
    item = pair(tmp_path)._replace(name='<b>"x"&\udcff.png')
    write_gallery([item], tmp_path / "index.html")
    page = read(tmp_path / "index.html")
    assert '<b>"x"&' in page.text
    assert len(page.find("b")) == 2  # the labels, and none from the name
    write_contact_sheet([item], tmp_path / "sheet.png")


def test_large_pictures_are_reduced_on_the_page_only(tmp_path):
    item = pair(tmp_path, size=(2 * PAGE_SIDE, PAGE_SIDE))
    write_gallery([item], tmp_path / "index.html")
    page = read(tmp_path / "index.html")
    assert {decode(image["src"]).size for image in page.find("img")} == {(PAGE_SIDE, PAGE_SIDE // 2)}
    assert f"{2 * PAGE_SIDE} x {PAGE_SIDE}" in page.text


def test_transparent_gray_and_rotated_pictures(tmp_path):
    clear = picture(tmp_path / "clear.png", (10, 20, 30, 0), mode="RGBA")
    gray = picture(tmp_path / "gray.png", 200, mode="L")
    deep = tmp_path / "deep.png"
    Image.fromarray(np.full((40, 60), 51 * 257, np.uint16)).save(deep)
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40), (9, 9, 9)).save(turned, exif=exif)
    write_gallery([Pair("x", clear, gray), Pair("y", deep, turned)], tmp_path / "index.html")
    after_x, before_x, after_y, before_y = (image["src"] for image in read(tmp_path / "index.html").find("img"))
    assert before_x.startswith("data:image/png") and decode(after_x).getpixel((0, 0)) == (200, 200, 200)
    assert abs(np.asarray(decode(before_y)).mean() - 51) < 2
    assert decode(after_y).size == (40, 60)


def test_sheet_holds_before_left_of_after(tmp_path):
    write_contact_sheet([pair(tmp_path, size=(400, 300))], tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("L"))
    dark, light = (np.argwhere(pixels == value) for value in (51, 153))
    # Anti-aliased letters hold single pixels of any gray: compare whole areas.
    assert abs(len(dark) - 400 * 300) < 500 and abs(len(light) - 400 * 300) < 500
    assert np.median(dark[:, 1]) < np.median(light[:, 1])
    assert abs(np.median(dark[:, 0]) - np.median(light[:, 0])) < 5
    assert (pixels[:50] < 100).any()  # the label


@pytest.mark.parametrize("size", [(1, 1), (2000, 1), (1, 2000)])
def test_extreme_shapes(tmp_path, size):
    item = pair(tmp_path, size=size)
    write_gallery([item], tmp_path / "index.html")
    write_contact_sheet([item], tmp_path / "sheet.png")
    assert all(min(decode(image["src"]).size) == 1 for image in read(tmp_path / "index.html").find("img"))


def test_sheet_grows_and_then_says_what_it_left_out(tmp_path):
    item = pair(tmp_path)
    heights = []
    for count in (1, 4, SHEET_LIMIT, SHEET_LIMIT + 5):
        write_contact_sheet([item] * count, tmp_path / "sheet.png")
        with Image.open(tmp_path / "sheet.png") as sheet:
            heights.append(sheet.height)
    assert heights[0] < heights[1] < heights[2] < heights[3] < heights[2] + 60


@pytest.mark.parametrize("write", [write_gallery, write_contact_sheet])
def test_failure_leaves_the_older_file_and_no_rest(tmp_path, write):
    out = tmp_path / "out" / "file"
    write([pair(tmp_path)], out)
    before = out.read_bytes()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(ImageError, match="broken"):
        write([pair(tmp_path), Pair("b", broken, broken)], out)
    assert out.read_bytes() == before
    assert list(out.parent.iterdir()) == [out]
    with pytest.raises(ValueError, match="items"):
        write([], out)
