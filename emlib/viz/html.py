"""A picture as an ``<img>`` that carries its bytes, as few as they can be; and the numbers of figures and tables."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING, Union

import numpy as np
from PIL import Image

from emlib.viz.narrow import stacked

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.transforms import Bbox

Picture = Union["Figure", np.ndarray]
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
    return f"{round(picture.get_figwidth() * CSS_DPI)}px" if not isinstance(picture, np.ndarray) else SHEET


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
    if isinstance(picture, np.ndarray):
        return _img("pixels", Image.fromarray(picture), alt, f"width:100%;max-width:{SHEET};image-rendering:pixelated")
    import matplotlib.pyplot as plt

    if not trim and picture.get_layout_engine() is None:
        picture.tight_layout()
    drawn, photographs, fits = _drawn(picture, alt, trim)
    if not fits and stacked(picture, PHONE / CSS_DPI):
        narrow, _, _ = _drawn(picture, alt, trim)
        drawn = f'<div class="emlib-wide">{drawn}</div><div class="emlib-narrow" hidden>{narrow}</div>'
    plt.close(picture)
    if photographs:  # both forms show the same ones, so they are written once
        sources = ";".join(f"--photo-{i}:url({_data(photograph)})" for i, photograph in enumerate(photographs))
        drawn = f'<div class="emlib-photos" style="{sources}">{drawn}</div>'
    return drawn


def _drawn(figure: Figure, alt: str, trim: bool) -> tuple[str, list[Image.Image], bool]:
    """A figure as HTML, the photographs behind its ink, and whether it fits into a phone."""
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()  # the layout is settled before anything is hidden
    figure.set_layout_engine("none")
    size = figure.get_size_inches()
    box = figure.get_tightbbox().padded(0.04) if trim else Bbox.from_bounds(0, 0, *size)
    shown = [image for axes in figure.axes for image in axes.images if image.get_visible()]
    ink = _ink(figure, shown, box if trim else None)
    width = round(ink.width * CSS_DPI / DPI)
    # so that letters stay legible on a phone: what would shrink further is moved sideways, by finger or keys
    least = min(round(0.62 * width), TABLET)
    wide = ' tabindex="0" role="group" aria-label="a wide picture"' if least > PHONE else ""
    place = f"width:{width}px;max-width:100%;min-width:{least}px;background-color:#fff"
    if shown:  # behind the ink: where a page turns the ink over for a dark ground, photographs stay as they are
        img = _img("drawn", ink, alt, "display:block;width:100%;image-rendering:auto")
        body = f'<div class="emlib-sheet" style="{place};{_behind(shown, box, figure.dpi)}">{img}</div>'
    else:
        body = _img("drawn", ink, alt, place)
    markup = f'<div class="emlib-picture" style="overflow-x:auto"{wide}>{body}</div>'
    return markup, list(map(_photograph, shown)), not wide


def _ink(figure: Figure, photographs: list[AxesImage], box: Bbox | None) -> Image.Image:
    """All of a figure but its photographs, on transparent ground."""
    for photograph in photographs:
        photograph.set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, transparent=True, bbox_inches=box)
    for photograph in photographs:
        photograph.set_visible(True)
    return Image.open(buffer)


def _photograph(shown: AxesImage) -> Image.Image:
    """The pixels of a photograph, as many as it has, the way up that it is shown."""
    pixels = np.asarray(shown.to_rgba(np.ma.asarray(shown.get_array()), bytes=True, norm=True))
    left, right, bottom, top = shown.get_extent()
    first, last = (top, bottom) if shown.origin == "upper" else (bottom, top)
    (x0, y0), (x1, y1) = shown.axes.transData.transform([(left, first), (right, last)])
    return Image.fromarray(np.ascontiguousarray(pixels[:: 1 if y0 > y1 else -1, :: 1 if x0 < x1 else -1, :3]))


def _behind(photographs: list[AxesImage], box: Bbox, dpi: float) -> str:
    """CSS that lays photographs where the figure has them, in shares of its sheet, which may be shown at any size."""
    places, sizes = [], []
    for photograph in photographs:
        spot = photograph.get_window_extent()
        wide, high = spot.width / dpi / box.width, spot.height / dpi / box.height
        left, above = (spot.x0 / dpi - box.x0) / box.width, (box.y1 - spot.y1 / dpi) / box.height
        # a percentage of what is left over beside the photograph
        places.append(f"{100 * left / max(1 - wide, 1e-9):.4f}% {100 * above / max(1 - high, 1e-9):.4f}%")
        sizes.append(f"{100 * wide:.4f}% {100 * high:.4f}%")
    sources = ",".join(f"var(--photo-{i})" for i in range(len(photographs)))
    return (
        f"background-image:{sources};background-position:{','.join(places)};background-size:{','.join(sizes)};"
        "background-repeat:no-repeat;image-rendering:pixelated;print-color-adjust:exact"
    )


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
