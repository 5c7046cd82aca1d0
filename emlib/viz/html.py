"""A picture as an ``<img>`` that carries its bytes, as few as they can be; and the numbers of figures and tables."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image

from emlib.viz.narrow import stacked

if TYPE_CHECKING:
    from IPython.display import HTML

Picture = Figure | np.ndarray
"""A matplotlib figure, which is closed once it is shown, or bytes [H, W] or [H, W, 3]."""


DPI, CSS_DPI = 160, 110
"""Dots of a figure's inch in its file, and on a page: finer than the page, for screens with small pixels."""


PHONE, TABLET = 340, 640
"""Pixels that a page is sure to have across."""


SHEET = "34em"
"""Width at which pictures of pixels are shown, where there is room."""


_numbers: dict[str, dict[str, int]] = {}


def shown(markup: str) -> HTML:
    """Markup as a cell shows it; IPython is asked for here alone, since a run on a server need not have it."""
    from IPython.display import HTML

    return HTML(markup)


def number_of(kind: str, key: str) -> int:
    """Numbers that count up within a kernel, figures and tables apart; the same key keeps its number."""
    known = _numbers.setdefault(kind, {})
    return known.setdefault(key, len(known) + 1)


def width_of(picture: Picture) -> str:
    """How wide an untrimmed picture stands on a page that has room, as a length of CSS."""
    return f"{round(picture.get_figwidth() * CSS_DPI)}px" if isinstance(picture, Figure) else SHEET


def image(picture: Picture, alt: str, trim: bool = False) -> str:
    """A picture as HTML that holds it.

    A figure's ground is transparent, so that a page may give it another one and turn the ink over with it; white
    stands behind it by default. One that would be too wide for a phone comes in a second, narrow form as well if it
    can be rearranged, hidden until a page's style shows it.

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
        return _img("pixels", Image.fromarray(picture), alt, f"width:100%;max-width:{SHEET};image-rendering:pixelated")
    if not trim and picture.get_layout_engine() is None:
        picture.tight_layout()
    wide, fits = _drawn(picture, alt, trim)
    if not fits and stacked(picture, PHONE / CSS_DPI):
        narrow, _ = _drawn(picture, alt, trim)
        wide = f'<div class="emlib-wide">{wide}</div><div class="emlib-narrow" hidden>{narrow}</div>'
    plt.close(picture)
    return wide


def _drawn(figure: Figure, alt: str, trim: bool) -> tuple[str, bool]:
    """A figure as HTML, and whether it fits into a phone."""
    photographs, ink = _layers(figure, trim)
    width = round(ink.width * CSS_DPI / DPI)
    # so that letters stay legible on a phone: what would shrink further is moved sideways, by finger or keys
    least = min(round(0.62 * width), TABLET)
    wide = ' tabindex="0" role="group" aria-label="a wide picture"' if least > PHONE else ""
    place = f"width:{width}px;max-width:100%;min-width:{least}px"
    if photographs is None:
        body = _img("drawn", ink, alt, f"{place};background-color:#fff")
    else:  # behind the ink: where a page turns the ink over for a dark ground, photographs stay as they are
        behind = f"background:#fff url({_data(photographs)}) 0 0/100% 100%;print-color-adjust:exact"
        drawn = _img("drawn", ink, alt, "display:block;width:100%")
        body = f'<div class="emlib-sheet" style="{place};{behind}">{drawn}</div>'
    return f'<div class="emlib-picture" style="overflow-x:auto"{wide}>{body}</div>', not wide


def _layers(figure: Figure, trim: bool) -> tuple[Image.Image | None, Image.Image]:
    """The photographs of a figure, if there are any, and all else, of one size and on transparent ground."""
    figure.draw_without_rendering()  # the layout is settled before anything is hidden
    figure.set_layout_engine("none")
    box = figure.get_tightbbox().padded(0.04) if trim else None
    parts = [artist for axes in figure.axes for artist in axes.get_children()]
    parts += [artist for artist in figure.get_children() if artist not in figure.axes]
    seen = [artist for artist in parts if artist.get_visible()]
    photographs = [artist for artist in seen if isinstance(artist, AxesImage)]

    def only(wanted: list[Any]) -> Image.Image:
        for artist in seen:
            artist.set_visible(artist in wanted)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, transparent=True, bbox_inches=box)
        return Image.open(buffer)

    behind = only(photographs) if photographs else None
    ink = only([artist for artist in seen if artist not in photographs])
    for artist in seen:
        artist.set_visible(True)
    return behind, ink


def _img(kind: str, image: Image.Image, alt: str, style: str) -> str:
    return (
        f'<img class="emlib-{kind} dark-light" src="{_data(image)}" alt="{html.escape(alt)}" '
        f'width="{image.width}" height="{image.height}" style="{style};height:auto">'
    )


def _data(image: Image.Image) -> str:
    return f"data:image/png;base64,{base64.b64encode(_png(image)).decode()}"


def _png(image: Image.Image) -> bytes:
    """The same picture in as few bytes as PNG knows: one channel where all three agree, a palette where it is exact."""
    pixels = np.asarray(image)
    if image.mode in ("RGB", "RGBA") and (pixels[..., :3] == pixels[..., :1]).all():
        image = Image.fromarray(pixels[..., 0] if image.mode == "RGB" else np.ascontiguousarray(pixels[..., 2:]))
    elif image.mode == "RGB" and image.getcolors(256):
        image = image.convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
