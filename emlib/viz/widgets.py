"""Free sliders over a picture, for a notebook that a person runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import log10, sqrt
from numbers import Integral, Real
from typing import Any

import ipywidgets as widgets


def live(draw: Callable[..., str], parameters: Mapping[str, Sequence[Any]]) -> widgets.Box:
    """One slider a parameter, above what ``draw`` makes of them.

    Args:
        draw: takes the parameters by name, gives HTML.
        parameters: name -> values; a slider runs from the least to the greatest and begins at the middle one.
    """
    dials = {name: dial(name, values) for name, values in parameters.items()}
    picture = widgets.HTML()

    def redraw(_: Any = None) -> None:
        picture.value = draw(**{name: slider.value for name, slider in dials.items()})

    for slider in dials.values():
        slider.observe(redraw, "value")
    redraw()
    return widgets.VBox([*dials.values(), picture])


def dial(name: str, values: Sequence[Any]) -> widgets.Widget:
    """A slider for the values: whole numbers, numbers, numbers that grow by factors, or anything else by its name."""
    says: dict[str, Any] = {"description": name.replace("_", " "), "style": {"description_width": "initial"}}
    says["continuous_update"] = False  # a picture may take seconds
    numbers = all(isinstance(value, Real) and not isinstance(value, bool) for value in values)
    if not numbers or min(values) == max(values):
        return widgets.SelectionSlider(options=values, index=len(values) // 2, **says)
    low, middle, high = min(values), values[len(values) // 2], max(values)
    says["value"] = middle
    if all(isinstance(value, Integral) for value in values):
        return widgets.IntSlider(min=low, max=high, **says)
    # the middle value tells: is it nearer to the middle of the factors or of the differences?
    if low > 0 and abs(middle - sqrt(low * high)) < abs(middle - (low + high) / 2):
        return widgets.FloatLogSlider(min=log10(low), max=log10(high), step=log10(high / low) / 100, **says)
    return widgets.FloatSlider(min=low, max=high, step=(high - low) / 100, **says)
