"""The texts of docs/quality.md that do not depend on measurements; `page.py` puts them together with the tables."""

TITLE = "# What it does to pictures"
COMPARED = """\
- *default*: as bright as a well exposed photograph, by [a rule](enhancing.md#exposure), then a filter against the
  noise: `python -m model.enhance`
- *default, no filter*: `--denoise 0`
- *default, no network*: the same formula, rule and filter, with nothing learned in it
- *published division*: the picture divided by the network's illumination, as SCI does it: `--published`
- *gamma 2.2*: values to the power of 1 / 2.2, whatever the picture
- *CLAHE*, *histogram equalization*: scikit-image's `equalize_adapthist` and `equalize_hist` with their defaults,
  applied to max(R, G, B), by which a pixel's three channels are then scaled"""
MEASURES = """\
PSNR and SSIM compare with the photograph; higher is better. LOE counts pairs of pixels whose order of brightness
changed ([metrics.py](../train/evaluate/metrics.py)); lower is better, and a plain tone curve has none. Most of the
default's LOE comes from fading colors, which lowers the brightest channel, above all in pixels that are colored by
noise. The filter adds to it. The black and white photograph, without the filter, has hardly any. *Newly clipped* is
the share of pixels with 254 or more in a channel, minus that of the dark picture, so a negative number means fewer
than before. *Color* is the mean of max(R, G, B) - min(R, G, B), relative to the photograph's; it is best at 100 %."""
BY_EYE = """\
By eye, the published division leaves the darkest pictures dark. Where it does brighten, it burns out windows and what
is outside, and shifts colors: the blue jacket in the backlit room below turns gray, the sky outside white.
CLAHE has deeper blacks and stronger colors than the default, and many will like it better on the astronaut, the cup and
the uniform; it leaves the street and the backlit room nearly as dark as they were, and has no filter. The default
lightens, and does not add contrast: blacks come out gray, with the noise that was in them."""
NETWORK = """\
Little. SCI's network is almost a fixed tone curve: what it adds to a pixel depends on the pixel's brightness, with a
spread of 0.01 to 0.04 (measured separately from this page). How bright a picture becomes is decided by the rule, which
finds one number for it, and not by the network, which contributes local contrast."""
LOL = """\
On the 15 test pairs of LOL, which are not part of this project and were measured separately (at 256x256, before the
filter), the same rule gave 18.66 dB without a network and 18.85 to 18.96 dB with six sets of weights, among them the
three official ones and these. The published division gave 9.7 to 15.1 dB there, and Zero-DCE 15.3 dB."""
HOPPER = """\
The uniform fills the picture and is nearly black: the photograph's own mean is 0.30, and the default makes it brighter
than it was. This is where the trouble with scenes that are [dark by nature](#dark-by-nature) begins."""
DRAWN = """\
No free photographs of such scenes were at hand, so they are drawn
([drawn_scenes.py](../bench/quality/drawn_scenes.py)) and taken by the same simulated sensor, with its noise. They have
no bright counterpart, so judge them by eye. Lamps, lit windows and what is outside should keep their colors; noise in
the sky and the shadows shows how much the picture was brightened."""
UNCHANGED = """\
A picture whose mean luma is 0.40 or more is bright already, and the default returns every pixel as it was.
The published division brightens it all the same."""
NATURE = """\
The rule cannot know that a night sky is meant to be black: it brightens it like a room without light.
Such a scene needs `--strength 0.3`; a sky full of stars needs even less."""
NO_STATISTIC = """\
For the table the scenes were darkened as above; the truth is the scene as it was, dark already. No statistic tells such
scenes from those that one wants to see into: 58 were tried, and all pairs of them, on 135 pictures other than these. Of
13 photographs of lamp-lit streets and other night scenes, 12 are darker, relative to their lights, than a flower on a
black background, so a rule that spares the flower leaves the streets dark. There, `--strength 0.3` cost ordinary
pictures 3 to 9 dB, so it is not the default."""
DARK_MODE = "Light letters on black are dark by nature, too. Leave screenshots out, or use `--strength`."
SUBJECT = """\
A bright window makes the picture's mean 0.40 or more, so the picture is left as it is, whoever stands in front of the
window. `--exposure C` instead brightens by a number of your choice, from 0 to 20."""
NOISE = """\
At the largest exposure, c = 20, black is multiplied by up to 41, and its noise with it. The filter expects the noise of
8 bits and a good sensor. Stronger noise remains, as in these details, enlarged twice, of pictures darkened to
{darkest}. `--denoise` up to 4 removes more, and fine texture with it."""
FADE = """\
Where there was little light, color is mostly noise. The rule reduces color as it brightens: by 2 % for each unit of
*c*, 40 % at most."""
ADVICE = """\
## What to do

- Night sky, fireworks, a stage, a product on black: `--strength 0.3`, or less.
- Left as it is, though its subject is dark: `--exposure 2`, or more.
- Grain: `--denoise 2`; texture gone: `--denoise 0`.
- What the paper does: `--published`."""
SOURCES = """\
From scikit-image's wheel and, for Commodore Hopper, from Matplotlib's. Everything else is drawn by this project."""
