"""A still picture that comes alive on the book's site: there a button opens a bench at which the reader works."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from emlib.viz.html import Picture, image, shown

if TYPE_CHECKING:
    from IPython.display import HTML

BENCHES = ("draw", "em", "exact", "hide")
"""Scripts of these names lie in ``book/assets/lab``."""


def laboratory(bench: str, still: Picture, alt: str, caption: str, **first: str) -> HTML:
    """A picture with a caption, and on a page of the book a bench behind a button; without scripts the picture alone.

    Args:
        bench: which one, of :data:`BENCHES`.
        still: what is shown on paper, in a notebook, and until the button is pressed.
        alt: for readers who cannot see it.
        caption: what is seen, and what can be done.
        first: what the bench is set to at first, such as ``sampler="dps"``.

    Raises:
        ValueError: if there is no such bench, or without alt text.
    """
    if bench not in BENCHES:
        raise ValueError(f"unknown bench {bench!r}; there are {', '.join(BENCHES)}")
    data = "".join(f' data-{key}="{html.escape(value)}"' for key, value in {"lab": bench, **first}.items())
    return shown(
        f'<figure class="emlib-lab"{data} style="margin:1em 0">'
        f'<div class="emlib-lab-still">{image(still, alt, trim=True)}</div>'
        f'<figcaption style="max-width:52em"><b>Laboratory.</b> {html.escape(caption)}</figcaption></figure>'
    )
