"""The templates of the before/after page: its head, style, figures, and the script of the sliders."""

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

STYLE = """
:root { color-scheme: light dark; --back: #f6f6f4; --text: #1b1b1b; --quiet: #5c5c5c; --focus: #0a62c9; }
@media (prefers-color-scheme: dark) {
  :root { --back: #161617; --text: #ececec; --quiet: #a3a3a3; --focus: #7db4ff; }
}
body { margin: 0 auto; padding: 1.5rem clamp(1rem, 3vw, 3rem); max-width: 1500px;
  background: var(--back); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; }
.hint { color: var(--quiet); margin: .25rem 0 1.5rem; }
main { display: grid; gap: 2rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); }
figure { margin: 0; }
figcaption { margin-top: .4rem; overflow-wrap: anywhere; display: flex; gap: 1rem; justify-content: space-between;
  align-items: start; }
figcaption span { color: var(--quiet); display: block; font-size: .9rem; }
button { flex: none; font: inherit; font-size: .85rem; line-height: 1; padding: .55rem .7rem; border-radius: 6px;
  cursor: pointer; color: inherit; background: none; border: 1px solid var(--quiet); }
button[aria-pressed=true] { background: var(--text); color: var(--back); }
button:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; }
footer { color: var(--quiet); font-size: .9rem; margin-top: 2rem; overflow-wrap: anywhere; }
.compare { position: relative; overflow: hidden; border-radius: 6px; cursor: ew-resize; user-select: none;
  touch-action: pan-y; --at: 50%; }
.compare:focus-within:has(:focus-visible) { outline: 3px solid var(--focus); outline-offset: 2px; }
.compare img { display: block; width: 100%; height: 100%; pointer-events: none; }
.compare .before { position: absolute; inset: 0; clip-path: inset(0 calc(100% - var(--at)) 0 0); }
.compare .light { position: absolute; inset: 0; visibility: hidden; }
.compare.lit .light { visibility: visible; }
.compare i { position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px; margin-left: -1px;
  background: #fff; box-shadow: 0 0 4px #000; pointer-events: none; }
.compare i::after { content: "\\2194"; position: absolute; top: 50%; left: 50%; translate: -50% -50%;
  width: 36px; height: 36px; line-height: 34px; text-align: center; border-radius: 50%;
  background: #fff; color: #222; font-style: normal; box-shadow: 0 0 5px #000a; }
.compare b { position: absolute; bottom: 8px; padding: 1px 8px; border-radius: 4px; font-size: .8rem;
  font-weight: 500; background: #000a; color: #fff; pointer-events: none; }
.compare b:first-of-type { left: 8px; } .compare b:last-of-type { right: 8px; }
.compare input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; pointer-events: none; }
"""

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

# The range input serves the keyboard and screen readers. Pointer events come from the whole picture, as some browsers
# move a range only by its small thumb.
SCRIPT = """
for (const box of document.querySelectorAll(".compare")) {
  const range = box.querySelector("input");
  const show = () => box.style.setProperty("--at", range.value + "%");
  const follow = (event) => {
    const area = box.getBoundingClientRect();
    range.value = 100 * (event.clientX - area.left) / area.width;
    show();
  };
  range.step = "any";
  range.addEventListener("input", show);
  range.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageDown: -20, PageUp: 20 }[event.key];
    if (move) { range.value = +range.value + move; show(); event.preventDefault(); }
  });
  box.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    box.setPointerCapture(event.pointerId);
    range.focus({ preventScroll: true });
    follow(event);
    event.preventDefault();
  });
  box.addEventListener("pointermove", (event) => { if (box.hasPointerCapture(event.pointerId)) follow(event); });
  const button = box.parentElement.querySelector("button");
  if (button) button.addEventListener("click", () => {
    const lit = box.classList.toggle("lit");
    button.setAttribute("aria-pressed", lit);
    box.querySelector("b + b").textContent = lit ? "illumination" : "after";
  });
  show();
}
"""
