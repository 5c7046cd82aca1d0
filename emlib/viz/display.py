"""What a notebook or a page shows: numbered figures with alt text, sliders that need no kernel, recorded runs.

All of it is plain HTML in the cell's output, so that a built page, a saved notebook and Colab show the same.
"""

from __future__ import annotations

import html
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from emlib.runtime.durations import duration
from emlib.viz.html import Picture, image, number_of, shown, width_of

if TYPE_CHECKING:
    from IPython.display import HTML


def figure(
    fig: Picture,
    alt: str,
    caption: str,
    *,
    recorded: Mapping[str, Any] | Sequence[Mapping[str, Any]] = (),
    name: str | None = None,
) -> HTML:
    """A numbered figure with alt text, and a caption that says what is seen.

    Figures count up within a kernel. A cell that is run again keeps its number, since it is known by its alt text.

    Args:
        fig: what is shown.
        alt: for readers who cannot see it.
        caption: what is seen.
        recorded: the recorded runs that its numbers come from, as ``read_result`` reads them.
        name: what the figure is known by where its alt text changes from run to run.

    Raises:
        ValueError: without alt text.
    """
    number = number_of("figure", name or alt)
    return shown(_figure(number, image(fig, alt, trim=True), caption, recorded))


def frames(
    pictures: Sequence[Picture],
    labels: Sequence[str],
    alts: Sequence[str],
    caption: str,
    *,
    start: int = 0,
    recorded: Mapping[str, Any] | Sequence[Mapping[str, Any]] = (),
    name: str | None = None,
) -> HTML:
    """Pictures behind one slider that works with mouse, touch and arrow keys, and without a kernel.

    Args:
        pictures: one per frame.
        labels: what is said beside the slider, one per frame.
        alts: alt text, one per frame.
        caption: what is seen.
        start: which frame is seen first; the one at the left of the slider by default.
        recorded, name: as in :func:`figure`.

    Raises:
        ValueError: if the three do not have the same length, or without alt text.
        IndexError: if there is no frame ``start``.
    """
    if not len(pictures) == len(labels) == len(alts) > 0:
        raise ValueError(f"each frame needs a label and alt text, got {len(pictures)}, {len(labels)}, {len(alts)}")
    number = number_of("figure", name or "\n".join(alts))
    at = range(len(pictures))[start]
    return shown(_figure(number, _deck(number, pictures, alts, {"frame": labels}, [at]), caption, recorded))


def explore(
    make: Callable[..., Picture],
    alt: str,
    caption: str,
    *,
    name: str | None = None,
    **parameters: Sequence[Any],
) -> Any:
    """A picture that depends on numbers: free sliders where a reader runs the notebook, frames on a page.

    A page shows ``make`` at every combination of the values given, made when the page is. In a live notebook
    sliders run freely from the least value to the greatest, and each move calls ``make``.

    Args:
        make: takes the parameters by name, gives a picture.
        alt: alt text, with the parameters' names in braces: ``"Samples at scale {scale}"``.
        caption: what is seen.
        name: as in :func:`figure`.
        parameters: name -> the values that a page shows, in order; both begin with the one in the middle.

    Returns:
        HTML, or a widget in a live notebook; ``EMLIB_STATIC=1`` and ``EMLIB_STATIC=0`` decide where set.

    Raises:
        ValueError: if a parameter has no values.
    """
    if not parameters or not all(len(values) for values in parameters.values()):
        raise ValueError(f"each parameter to explore needs values, got {parameters}")
    number = number_of("figure", name or alt)
    if is_live():
        from emlib.viz.widgets import live  # only there are widgets needed

        return live(lambda **now: _figure(number, image(make(**now), alt.format(**now)), caption), parameters)
    settings = [dict(zip(parameters, values, strict=True)) for values in product(*parameters.values())]
    dials = {key: [said(value) for value in values] for key, values in parameters.items()}
    middle = [len(values) // 2 for values in parameters.values()]
    deck = _deck(number, [make(**now) for now in settings], [alt.format(**now) for now in settings], dials, middle)
    hint = '<p class="emlib-note" style="font-size:80%">In a running notebook the sliders also stop in between.</p>'
    return shown(_figure(number, deck + hint, caption))


def is_live() -> bool:
    """Does a person run this cell, in a front end that shows widgets?

    JupyterLab, Notebook and VS Code say which cell they run; programs that execute whole notebooks do not.
    ``EMLIB_STATIC`` set to 1 or 0 overrules.
    """
    if static := os.environ.get("EMLIB_STATIC"):
        return static == "0"
    ipython = sys.modules.get("IPython")  # in every kernel
    kernel = getattr(ipython and ipython.get_ipython(), "kernel", None)
    if kernel is None:
        return False
    return "google.colab" in sys.modules or "cellId" in kernel.get_parent("shell").get("metadata", {})


def provenance(records: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> str:
    """What recorded runs say of themselves, folded into the word "source": command, data, device, time, date, commit.

    Args:
        records: one or several, as ``read_result`` reads them; what they lack is left out.

    Returns:
        HTML, empty without a record.
    """
    several = [records] if isinstance(records, Mapping) else records
    if not several:
        return ""
    return (
        '<details class="emlib-provenance" style="font-size:80%"><summary>source</summary>'
        f"{''.join(map(_run, several))}</details>"
    )


def _run(record: Mapping[str, Any]) -> str:
    """A line on one recorded run."""
    facts = [record.get("settings", {}).get("data"), record.get("device")]
    if "seconds" in record:
        facts.append(duration(record["seconds"]))
    if "recorded" in record:
        date = datetime.fromisoformat(record["recorded"])
        facts.append(f"{date.day} {date:%B %Y}")
    if "commit" in record:
        facts.append(f"commit {record['commit']}")
    command = f" <code>{html.escape(record['command'])}</code>" if "command" in record else ""
    said = "".join(f" · {html.escape(fact)}" for fact in facts if fact)
    return f'<small style="display:block">Recorded run:{command}{said}</small>'


def said(value: Any) -> str:
    """A parameter's value in few letters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _figure(
    number: int, body: str, caption: str, recorded: Mapping[str, Any] | Sequence[Mapping[str, Any]] = ()
) -> str:
    return (
        f'<figure class="emlib-figure" id="figure-{number}" style="margin:1em 0">{body}'
        f'<figcaption style="max-width:52em"><b>Figure {number}.</b> {html.escape(caption)}'
        f"{provenance(recorded)}</figcaption></figure>"
    )


def _deck(
    number: int, pictures: Sequence[Picture], alts: Sequence[str], dials: Mapping[str, Sequence[str]], at: Sequence[int]
) -> str:
    """Frames of which one is seen, and a slider for each dial; the last dial turns fastest."""
    sizes = [len(labels) for labels in dials.values()]
    strides = [prod(sizes[i + 1 :]) for i in range(len(sizes))]
    seen = sum(i * stride for i, stride in zip(at, strides, strict=True))
    width = width_of(pictures[0])  # asked before they are shown, which narrows them
    body = "".join(
        f'<div class="emlib-frame"{"" if i == seen else " hidden"}>{image(picture, alt)}</div>'
        for i, (picture, alt) in enumerate(zip(pictures, alts, strict=True))
    )
    for (dial, labels), stride, i in zip(dials.items(), strides, at, strict=True):
        body += _slider(f"figure-{number}-{dial}", dial.replace("_", " "), labels, stride, i)
    # as wide as the pictures, so that the dials are
    return f'<div class="emlib-frames" style="max-width:{width}">{body}</div>'


_MOVE = (
    "const frames=this.closest('.emlib-frames');let at=0;"
    "frames.querySelectorAll('input').forEach(dial=>{at+=dial.value*dial.dataset.stride});"
    "frames.querySelectorAll('.emlib-frame').forEach((frame,i)=>{frame.hidden=i!=at});"
    "const label=JSON.parse(this.dataset.labels)[this.value];"
    "this.setAttribute('aria-valuetext',label);this.nextElementSibling.textContent=label"
)


def _slider(name: str, dial: str, labels: Sequence[str], stride: int, at: int) -> str:
    # without autocomplete="off" Firefox would put a reloaded slider where it stood, beside another picture
    grid = "grid-template:'name value' auto 'dial dial' auto / auto 1fr;gap:0 .8em"
    return (
        f'<div class="emlib-dial" style="display:grid;{grid};margin:.5em 0">'
        f'<label for="{html.escape(name)}" style="grid-area:name">{html.escape(dial)}</label>'
        f'<input id="{html.escape(name)}" type="range" min="0" max="{len(labels) - 1}" value="{at}" step="1" '
        f'autocomplete="off" data-stride="{stride}" data-labels="{html.escape(json.dumps(list(labels)))}" '
        f'aria-valuetext="{html.escape(labels[at])}" style="grid-area:dial;width:100%;margin:0" '
        f'oninput="{html.escape(_MOVE)}"><span class="emlib-label" style="grid-area:value">'
        f"{html.escape(labels[at])}</span></div>"
    )
