"""Writing the page: small, the same each time, tried before it is written, and honest where it was not."""

import json
import re
import shlex

import numpy as np
import pytest
from PIL import Image

from model import EnhanceNetwork, save_weights
from model.export import main
from model.page import NoBrowser, PageError, build, compare, page, write, write_page
from model.page.minify import is_installed, small_shader
from model.web import bundle
from tests.conftest import ROOT

READY = ROOT / "docs" / "enhance.html"
COMMAND = "python -m model.export --format html -o docs/enhance.html --overwrite"
MOST = 60_000  # bytes

small = pytest.mark.skipif(not is_installed(), reason="needs the minifier: pip install '.[page]'")


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    """A dark picture with odd sides."""
    y, x = np.mgrid[:61, :83]
    pixels = 30 + 20 * np.sin(x / 9)[..., None] * np.cos(y / 7)[..., None] * [1, 0.8, 0.6]
    path = tmp_path_factory.mktemp("photographs") / "night.png"
    Image.fromarray(np.uint8(pixels + np.random.default_rng(0).normal(0, 3, pixels.shape).clip(-20, 20))).save(path)
    return path


@small
def test_the_page_is_small_and_the_same_each_time():
    text = page()
    assert len(text.encode()) <= MOST
    assert text == page()


@small
def test_the_ready_copy_is_this_page():
    assert READY.read_text("utf-8") == page(), f"write it again: {COMMAND}"


def test_a_page_without_minifier_has_the_same_scripts(monkeypatch):
    monkeypatch.setattr("model.page.minify.is_installed", lambda: False)
    text = page()
    assert bundle("page/main.js") in text and "import {" not in text and not re.search(r"^export ", text, re.M)
    assert "sha256-" in text and "HASH" not in text and "{{" not in text


def test_shaders_lose_only_spaces():
    text = "#version 300 es\nfloat a = b * ( c - 1.0 );\nNAME\nreturn - a;\n"
    assert small_shader(text) == "#version 300 es\nfloat a=b*(c-1.0);NAME\nreturn-a;"


def model_of(text: str) -> dict:
    return json.loads(re.search(r'<script type="?application/json"? id="?model"?>(.*?)</script>', text)[1])


def test_weights_are_as_exact_as_float32():
    from model import fold, load_weights

    network = EnhanceNetwork()
    load_weights(network)
    wanted = fold(network).packed.flatten().numpy()
    assert len(wanted) == 252
    np.testing.assert_allclose(model_of(page())["weights"], wanted, rtol=6e-8, atol=0)


def test_nothing_in_the_page_ends_its_scripts_early(monkeypatch):
    texts = json.loads(build.template("page/texts.json")) | {"title": "</script><script>alert(1)</script>"}
    read = build.template
    monkeypatch.setattr(build, "template", lambda name: json.dumps(texts) if name.endswith("json") else read(name))
    text = page()
    assert "</script><script>alert" not in text and "alert(1)" in text


def test_the_command_tries_the_page_and_writes_it(tmp_path, photograph, browser, capsys):
    path = tmp_path / "enhance.html"
    arguments = ["--format", "html", "-o", str(path), "--image", str(photograph)]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert path.read_text("utf-8") == page()
    for engine, line in zip(("WebGL2", "JavaScript", "WebGPU"), lines, strict=False):
        assert re.fullmatch(rf"night.png, {engine}: \d+ in a million values differ, by at most [01]", line)
    assert lines[-1] == f"html, weights default.safetensors, in {path}"

    path.write_text("mine")
    assert main(arguments) == 2 and path.read_text() == "mine"
    assert "exists and was left alone; use --overwrite" in capsys.readouterr().err


@pytest.mark.parametrize("options", ["--exposure 3 --denoise 0", "--published", "--exposure 7.5 --denoise 2.25"])
def test_it_begins_with_the_settings_asked_for(tmp_path, photograph, browser, options):
    path = tmp_path / "enhance.html"
    arguments = ["--format", "html", "-o", str(path), "--image", str(photograph), *shlex.split(options)]
    assert main(arguments) == 0
    tab = browser.new_page()
    tab.goto(f"{path.as_uri()}#engine=JavaScript")
    way = "published" if "published" in options else "hand"
    assert tab.locator("[name=way]:checked").input_value() == way
    if way == "hand":
        _, exposure, _, denoise = options.split()
        assert float(tab.locator("#exposure").input_value()) == float(exposure)
        assert float(tab.locator("#denoise").input_value()) == float(denoise)
    tab.close()


def test_a_page_that_differs_is_not_written(tmp_path, photograph, browser, monkeypatch):
    text = page()
    wrong = text.replace('"target":0.4', '"target":0.45')
    assert wrong != text
    monkeypatch.setattr(write, "page", lambda *_: wrong)
    with pytest.raises(PageError, match=r"not written; night.png, \w+: .* values differ"):
        write_page(tmp_path / "enhance.html", [photograph])
    assert not list(tmp_path.iterdir())


def test_every_engine_is_tried(photograph, browser):
    compared = compare(page(), [photograph], build.DEFAULT_WEIGHTS)
    assert [one.engine for one in compared] == ["WebGL2", "JavaScript", "WebGPU"]
    assert all(one.largest <= 1 and one.share <= 1e-3 for one in compared)


@pytest.mark.parametrize("missing", ["Playwright", "Chromium"])
def test_without_a_browser_it_is_written_and_says_so(tmp_path, photograph, monkeypatch, capsys, missing):
    if missing == "Playwright":
        monkeypatch.setitem(__import__("sys").modules, "playwright.sync_api", None)
    else:
        pytest.importorskip("playwright")
        monkeypatch.delenv("CHROMIUM", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "enhance.html"
    assert main(["--format", "html", "-o", str(path), "--image", str(photograph)]) == 0
    assert path.read_text("utf-8") == page()
    assert re.match(rf"not tried in a browser: .*{missing}.*install", capsys.readouterr().out)


def test_a_browser_that_does_not_start(tmp_path, photograph, monkeypatch):
    pytest.importorskip("playwright")
    monkeypatch.setenv("CHROMIUM", "/bin/false")
    with pytest.raises(NoBrowser, match="/bin/false does not start"):
        compare(page(), [photograph], build.DEFAULT_WEIGHTS)


def test_a_browser_that_fails_leaves_no_page(tmp_path, photograph, browser, capsys, monkeypatch):
    monkeypatch.setattr(write, "page", lambda *_: "<p>a page without scripts")
    assert main(["--format", "html", "-o", str(tmp_path / "a.html"), "--image", str(photograph)]) == 1
    errors = capsys.readouterr().err
    assert re.fullmatch(rf"error: {tmp_path}/a.html: not written; the browser failed \(.*\); try again.*\n", errors)
    assert not list(tmp_path.iterdir())


def test_other_shapes_and_missing_pictures_are_refused_in_one_line(tmp_path, capsys):
    weights = tmp_path / "wide.safetensors"
    save_weights(EnhanceNetwork(channels=5), weights)
    for arguments, message in (
        (["-o", str(tmp_path / "a.html"), "-n", str(weights)], f"{weights}: "),
        (["-o", str(tmp_path / "a.html"), "--image", str(tmp_path / "none.png")], f"{tmp_path / 'none.png'}: "),
    ):
        assert main(["--format", "html", *arguments]) == 2
        errors = capsys.readouterr().err
        assert errors.startswith(f"error: {message}") and errors.count("\n") == 1
    assert not (tmp_path / "a.html").exists()


def test_a_name_with_another_extension_is_a_mistake_in_the_arguments(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--format", "html", "-o", str(tmp_path / "a.txt")])
    assert f"{tmp_path / 'a.txt'}: expected a name that ends in .html for html" in capsys.readouterr().err
