"""The templates of the before/after page: its head and figures. Style sheets and scripts lie in model/web."""

from ..web import bundle, source

HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
"""

STYLE = source("shared/style.css") + source("gallery/gallery.css")
SCRIPT = bundle("gallery/gallery.js")

FIGURE = """<figure>
<div class=compare style="aspect-ratio: {width} / {height}">
<img class=after alt="{name}, enhanced" src="{after}">{light}
<img class=before alt="{name}, low light" src="{before}">
<i></i><b>before</b><b>after</b>
<input type=range min=0 max=100 value=50 aria-label="{name}: share of the low-light picture shown">
</div>
<figcaption><div>{name}<span>{caption}</span></div>{button}</figcaption>
</figure>
"""

LIGHT = """
<img class=light alt="{name}, illumination" src="{illumination}">"""

BUTTON = "<button type=button aria-pressed=false>illumination</button>"
