"""A picture as an ``<img>`` that carries its bytes, as few as they can be; and the numbers of figures and tables."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

if TYPE_CHECKING:
    from IPython.display import HTML

Picture = Figure | np.ndarray
"""A matplotlib figure, which is closed once it is shown, or bytes [H, W] or [H, W, 3]."""


DPI, CSS_DPI = 160, 110
"""Dots of a figure's inch in its file, and on a page: finer than the page, for screens with small pixels."""


PHONE, TABLET = 340, 640
"""Pixels that a page is sure to have across."""


_numbers: dict[str, dict[str, int]] = {}


def shown(markup: str) -> HTML:
    """Markup as a cell shows it; IPython is asked for here alone, since a run on a server need not have it."""
    from IPython.display import HTML

    return HTML(markup)


def number_of(kind: str, key: str) -> int:
    """Numbers that count up within a kernel, figures and tables apart; the same key keeps its number."""
    known = _numbers.setdefault(kind, {})
    return known.setdefault(key, len(known) + 1)


def image(picture: Picture, alt: str, trim: bool = False) -> str:
    """A picture as HTML that holds it.

    Args:
        picture: what is shown.
        alt: for readers who cannot see it.
        trim: whether a figure loses its empty border; frames keep theirs, or they would jump.

    Raises:
        ValueError: without alt text.
    """
    if not alt.strip():
        raise ValueError("a picture needs alt text for readers who cannot see it")
    if not isinstance(picture, Figure):
        return _img("pixels", Image.fromarray(picture), alt, "width:100%;max-width:34em;image-rendering:pixelated")
    if not trim and picture.get_layout_engine() is None:
        picture.tight_layout()
    buffer = io.BytesIO()
    trimmed: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.04} if trim else {}
    picture.savefig(buffer, format="png", dpi=DPI, facecolor="white", **trimmed)
    plt.close(picture)
    drawn = Image.open(buffer).convert("RGB")
    width = round(drawn.width * CSS_DPI / DPI)
    # so that letters stay legible on a phone: what would shrink further is moved sideways, by finger or keys
    least = min(round(0.62 * width), TABLET)
    wide = ' tabindex="0" role="group" aria-label="a wide picture"' if least > PHONE else ""
    img = _img("drawn", drawn, alt, f"width:{width}px;max-width:100%;min-width:{least}px")
    return f'<div class="emlib-picture" style="overflow-x:auto"{wide}>{img}</div>'


def _img(kind: str, image: Image.Image, alt: str, style: str) -> str:
    data = base64.b64encode(_png(image)).decode()
    return (
        f'<img class="emlib-{kind} dark-light" src="data:image/png;base64,{data}" alt="{html.escape(alt)}" '
        f'width="{image.width}" height="{image.height}" style="{style};height:auto">'
    )


def _png(image: Image.Image) -> bytes:
    """The same picture in as few bytes as PNG knows: one channel where all three agree, a palette where it is exact."""
    if image.mode == "RGB":
        pixels = np.asarray(image)
        if (pixels == pixels[..., :1]).all():
            image = Image.fromarray(pixels[..., 0])
        elif image.getcolors(256):
            image = image.convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
