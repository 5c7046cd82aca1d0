r"""One HTML file that tells all: it needs no network, and nothing in it is code of a stranger's file name."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from emlib.data.pixels import to_pixels
from emlib.own import verdict
from emlib.own.restore import Done
from emlib.runtime.files import atomic_file

PICTURES = 24
"""Pictures with a slider, at most."""
WIDTH = 340
"""Pixels that a picture is wide on the page."""

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:64em;margin:2em auto;padding:0 1em;color:#1a1a1a;background:#fff}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}
table{border-collapse:collapse}th,td{padding:.25em .9em .25em 0;text-align:right}
th:first-child,td:first-child{text-align:left}
thead th{border-bottom:1px solid #888}.say{border-left:4px solid #2b6cb0;padding:.4em 1em;background:#f3f7fb}
.deck{display:flex;flex-wrap:wrap;gap:1.5em}.one{margin:0}.one figcaption{font-size:.85em;overflow-wrap:anywhere}
.pair{position:relative;line-height:0}.pair img{width:WIDTHpx;height:auto;image-rendering:pixelated}
.pair .after{position:absolute;left:0;top:0;clip-path:inset(0 0 0 50%)}
input[type=range]{width:WIDTHpx}.warn{color:#8a3b00}
code{background:#f2f2f2;padding:.1em .3em;overflow-wrap:anywhere}
""".replace("WIDTH", str(WIDTH))
SCRIPT = """
for (const one of document.querySelectorAll('.one')) {
  const after = one.querySelector('.after'), slide = one.querySelector('input'), pick = one.querySelector('select');
  const first = after.src;
  slide.oninput = () => { after.style.clipPath = `inset(0 0 0 ${slide.value}%)`; };
  pick.onchange = () => { after.src = (one.querySelector(`img[data-way="${pick.value}"]`) || { src: first }).src; };
}
"""


def write_report(file: Path, done: Done, command: str, truth: dict[str, dict[str, float]] | None = None) -> None:
    """Writes the report, whole or not at all.

    Args:
        file: where.
        done: what was restored.
        command: that made it.
        truth: way -> scores, where the originals were given.
    """
    parts = [
        f"<h1>{len(done.found.y)} repaired pictures</h1>",
        _said(done),
        "<h2>Who mends best</h2>",
        _judged(done),
        _truth(truth),
        "<h2>Before and after</h2><p>Move the handle; the list chooses what lies on the right.</p>",
        f'<div class="deck">{"".join(_one(done, i) for i in _shown(done))}</div>',
        "<h2>What the prior draws</h2>",
        _samples(done.samples),
        "<h2>How EM went</h2>",
        _curve(done),
        "<h2>Settings</h2>",
        _settings(done, command),
    ]
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><title>Repaired pictures</title>'
        f"<style>{STYLE}</style></head><body><main>{''.join(parts)}</main><script>{SCRIPT}</script></body></html>"
    )
    with atomic_file(file) as part:
        part.write_text(page, encoding="utf-8")


def sentences(done: Done) -> list[str]:
    """The verdict, a sentence each."""
    said = [
        verdict.recommendation(done.judgement),
        verdict.progress([e for _, e in done.progress], done.stopped),
        verdict.cut(done.ended, done.plan.em.last),
        verdict.copies(done.copies),
        verdict.start(done.order.start),
        *(f"{one[0].upper()}{one[1:]}." for one in done.found.said),
    ]
    return [one for one in said if one]


def _said(done: Done) -> str:
    return f'<div class="say">{"".join(f"<p>{html.escape(one)}</p>" for one in sentences(done))}</div>'


def _judged(done: Done) -> str:
    """Root mean square errors at withheld pixels, in the files' units."""
    j, unit = done.judgement, done.found.scale.spread(1.0)
    rows = []
    for way in sorted(j.errors, key=j.mean):
        name = {"mean": f"mean of {done.plan.draws} draws", "draw": "a single draw"}.get(way, way)
        lead, low, high = j.lead(way, j.filter)
        ahead = "" if way == j.filter else f"{lead:+.2f} dB ({low:+.2f} to {high:+.2f})"
        if j.is_lost(way) or j.is_lost(j.filter):
            ahead = "cannot be told: an error is lost in the noise"
        rows.append([name, f"{unit * max(0.0, j.mean(way)) ** 0.5:.4g}", ahead])
    head = ["", "error by what was withheld, the files' units", f"ahead of {j.filter}"]
    return _table(head, rows) + f"<p>Judged on {len(next(iter(j.errors.values())))} pictures, without the truth.</p>"


def _truth(truth: dict[str, dict[str, float]] | None) -> str:
    if not truth:
        return ""
    names = list(next(iter(truth.values())))
    rows = [[way, *(f"{row[name]:.4g}" for name in names)] for way, row in truth.items()]
    return "<h3>Against the truth</h3>" + _table(["", *names], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f"<th>{html.escape(t)}</th>" for t in head)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(c)}</td>' for c in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def _shown(done: Done) -> list[int]:
    """Some pictures, evenly from all."""
    n = len(done.found.y)
    return (
        sorted({round(i * (n - 1) / max(1, PICTURES - 1)) for i in range(PICTURES)}) if n > PICTURES else list(range(n))
    )


def _one(done: Done, i: int) -> str:
    """A picture with its slider: broken on the left, on the right what the list says."""
    mean, std, draw = done.repaired(i)
    spread = (std.mean(0, keepdim=True) / max(float(std.max()), 1e-6) * 2 - 1).expand_as(mean)
    ways = {"a single draw": draw, done.judgement.filter: done.filtered(i), "uncertainty": spread}
    name = html.escape(done.found.pictures[i].name)
    hidden = "".join(f'<img hidden data-way="{html.escape(way)}" src="{_small(x)}" alt="">' for way, x in ways.items())
    options = "".join(f"<option>{html.escape(way)}</option>" for way in ("mean", *ways))
    return (
        f'<figure class="one"><div class="pair"><img src="{_small(done.found.y[i])}" alt="{name}, broken">'
        f'<img class="after" src="{_small(mean)}" alt="{name}, repaired"></div>{hidden}'
        f'<input type="range" min="0" max="100" value="50" aria-label="how much of the repaired picture is covered">'
        f'<figcaption>{name} <select aria-label="what lies on the right">{options}</select></figcaption></figure>'
    )


def _samples(x: Tensor) -> str:
    n, c, side, _ = x.shape
    columns = 16
    rows = [torch.cat(list(x[i : i + columns]), dim=-1) for i in range(0, n - n % columns, columns)]
    style = f"max-width:100%;width:{columns * 48}px;image-rendering:pixelated"
    return f'<img style="{style}" src="{_png(torch.cat(rows, -2))}" alt="squares drawn from the prior">'


def _curve(done: Done) -> str:
    """Withheld error of each E-step, as a small drawing and in words."""
    unit = done.found.scale.spread(1.0)
    values = [unit * max(0.0, e) ** 0.5 for _, e in done.progress]
    if not values:
        return "<p>No E-step was finished.</p>"
    top, w, h = max(values) * 1.1 or 1.0, 420, 150
    across = (w - 60) / max(1, len(values) - 1)
    at = [(40 + across * i, h - 25 - (h - 45) * v / top) for i, v in enumerate(values)]
    dots = "".join(
        f'<circle cx="{x:.0f}" cy="{y:.0f}" r="4"/>'
        f'<text x="{x:.0f}" y="{y - 9:.0f}" text-anchor="middle">{v:.3g}</text>'
        for (x, y), v in zip(at, values, strict=True)
    )
    line = " ".join(f"{x:.0f},{y:.0f}" for x, y in at)
    ticks = "".join(
        f'<text x="{x:.0f}" y="{h - 6}" text-anchor="middle">{k}</text>' for (x, _), (k, _) in zip(at, done.progress)
    )
    return (
        f'<svg viewBox="0 0 {w} {h}" width="{w}" role="img" aria-label="error at withheld pixels by EM iteration" '
        f'font-size="11"><polyline points="{line}" fill="none" stroke="#2b6cb0"/>{dots}{ticks}</svg>'
        "<p>Error of single draws at withheld pixels, in the files' units, by EM iteration.</p>"
    )


def _settings(done: Done, command: str) -> str:
    found, rows = done.found, [["pictures", str(len(done.found.y))], ["squares of", f"{done.plan.side} pixels"]]
    rows += [["clean squares", str(done.clean)], ["draws of each picture", str(done.plan.draws)]]
    rows += [["noise, in the files' units", f"{found.scale.spread(found.noise_std):.4g}"]]
    rows += [["scale", f"{found.scale.low:g} to {found.scale.high:g}"]]
    plan = "".join(f"<p>{html.escape(line)}</p>" for line in done.plan.em.lines())
    trouble = "".join(f"<li>{html.escape(t.name)}: {html.escape(t.why)}</li>" for t in found.troubles)
    left = f'<h3>Left out</h3><ul class="warn">{trouble}</ul>' if trouble else ""
    return f"{_table(['', ''], rows)}{plan}<p>Command: <code>{html.escape(command)}</code></p>{left}"


def _png(x: Tensor) -> str:
    """A picture [C, H, W] on [-1, 1] as an address that holds it."""
    pixels = to_pixels(x).permute(1, 2, 0).numpy()
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _small(x: Tensor) -> str:
    """The same, no wider than twice what the page shows of it: a camera's picture would be megabytes."""
    if x.shape[-1] > 2 * WIDTH:
        height = max(1, round(x.shape[-2] * 2 * WIDTH / x.shape[-1]))
        x = interpolate(x[None], size=(height, 2 * WIDTH), mode="area")[0]
    return _png(x)
