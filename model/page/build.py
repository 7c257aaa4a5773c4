"""Put the page together from the files in model/web, with weights and constants filled in."""

import base64
import hashlib
import html
import json
import re
from pathlib import Path

import sci_kernels
from sci_kernels import constants
from sci_kernels.constants import ENHANCE_RADIUS, RADIUS

from ..enhancement import check_rule
from ..network import DEFAULT_WEIGHTS, EnhanceNetwork, WeightsError, fold, load_weights, unfused_reason
from ..web import bundle, source, template
from .minify import small_page, small_script, small_shader

SHADERS = ("head.glsl", "features.frag", "bright.frag", "denoise.frag", "enhance.wgsl")
# Truncation to 8 bits, of the published division, must not lose a level where a device divides less exactly.
SLACK = 1e-4
# {{kind name}}; in a comment where a formatter would take it for code.
_MARK = re.compile(r"(?:// |/\* )?\{\{ ?(\w+) ?([\w.]*) ?\}\}(?: \*/)?")


def page(
    weights: str | Path = DEFAULT_WEIGHTS, exposure: float | str | None = "auto", denoise: float | None = None
) -> str:
    """The text of the page; it is the same each time.

    Args:
        weights: as for `load_weights`, of the published shape.
        exposure, denoise: as for `Enhancer`: what the page begins with.

    Raises:
        WeightsError: the weights cannot be read, or have another shape.
        ValueError: `exposure` or `denoise` is out of range.
    """
    denoise = check_rule(exposure, denoise)
    texts, markup, script = json.loads(template("page/texts.json")), template("page/page.html"), bundle("page/main.js")
    # What the markup alone says is in it already.
    said = {key: text for key, text in texts.items() if f"{{{{text {key}}}}}" not in markup or f'"{key}"' in script}
    model = _model(Path(weights)) | {"exposure": exposure, "denoise": denoise}
    parts = {
        "style": source("shared/style.css") + source("page/page.css"),
        "script": _closed(script),
        "resources": "\n".join(_resources(model, said)),
    }

    def filled(mark: re.Match[str]) -> str:
        kind, name = mark.groups()
        if kind == "hash":
            return f"HASH-{name}"
        return html.escape(texts[name]) if kind == "text" else parts[kind].strip()

    text = small_page(_MARK.sub(filled, markup))
    # Only now is it known, to the byte, what may be used.
    for name, tag in (("style", "<style>"), ("script", '<script type="?module"?>')):
        found = re.search(f"{tag}(.*?)</{name}>", text, re.S)
        assert found
        text = text.replace(f"HASH-{name}", _hash(found[1]))
    return text


def _closed(script: str) -> str:
    """The script in a function, so that a minifier may shorten the names of what is in it."""
    return f"(async () => {{\n{script}}})();"


def _hash(text: str) -> str:
    """As a Content-Security-Policy names a script or style that may be used."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _resources(model: dict[str, object], texts: dict[str, str]) -> list[str]:
    """Elements that scripts read: numbers, texts, the script of the workers, shaders."""
    data = {"model": model, "texts": texts}
    elements = []
    for name, value in data.items():
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        text = text.replace("<", "\\u003c")  # nothing may look like an end tag
        elements.append(f'<script type="application/json" id="{name}">{text}</script>')
    others = {name: small_shader(source(f"engines/{name}")) for name in SHADERS}
    others["worker"] = small_script(_closed(bundle("engines/worker.js")))
    return elements + [f'<script type="text/plain" id="{name}">\n{text}</script>' for name, text in others.items()]


def _model(weights: Path) -> dict[str, object]:
    """The weights, folded, and the constants; what they are: kernel.js."""
    network = EnhanceNetwork()
    load_weights(network, weights)
    reason = unfused_reason(network)
    if reason:
        raise WeightsError(f"{weights}: expected weights of the published shape for a page, but {reason}; take others")
    folded = fold(network)
    return {
        "version": sci_kernels.__version__,
        "name": weights.name.encode("utf-8", "replace").decode(),  # which may be no valid text
        "weights": [float(f"{value:.8g}") for value in folded.packed.flatten().tolist()],  # as exact as float32
        "black": folded.illumination_of_black(),
        "luma": constants.LUMA,
        "light": (constants.ILLUMINATION_MIN, constants.ILLUMINATION_MAX),
        "target": constants.TARGET,
        "highlights": constants.HIGHLIGHTS,
        "mostExposure": constants.MAX_EXPOSURE,
        "fade": constants.FADE,
        "noise": constants.NOISE,
        "reach": constants.REACH,
        "samples": constants.SAMPLES,
        "slack": SLACK,
        "reachOfPixel": ENHANCE_RADIUS + RADIUS,
    }
