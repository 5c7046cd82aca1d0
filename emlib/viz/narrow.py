"""A figure rearranged for a phone: rows of pictures under their names, panels under each other."""

from __future__ import annotations

from itertools import groupby

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

MANY = 4
"""From this many panels on, two stand side by side, as photographs always do."""


def stacked(figure: Figure, width: float) -> bool:
    """Rearranges a figure in place for a narrow page, if it is of a kind that can be.

    Args:
        figure: rows of pictures as ``grid`` draws them, panels in one row, or one plot with axes.
        width: inches that the page has across.

    Returns:
        Whether it was; a figure of another kind stays as it is.
    """
    panels = [axes for axes in figure.axes if axes.get_subplotspec() is not None]
    if not panels or len(panels) < len(figure.axes):
        return False
    shapes = {axes.get_subplotspec().get_gridspec().get_geometry() for axes in panels}
    if len(shapes) > 1:
        return False
    ((rows, columns),) = shapes
    if columns == 1 and all(axes.images and not axes.get_yticks().size for axes in panels):
        return _names_above(figure, panels, width)
    if rows == 1 and not (columns == 1 and (panels[0].images or not panels[0].axison)):
        return _under_each_other(figure, panels, width)
    return False


def _names_above(figure: Figure, rows: list[plt.Axes], width: float) -> bool:
    """Rows of pictures, each under its name, as wide as the page."""
    for axes in rows:
        axes.set_title(axes.get_ylabel(), loc="left", fontsize=9, pad=2)
        axes.set_ylabel("")
    heights = [image.get_array().shape[0] / image.get_array().shape[1] for axes in rows for image in axes.images[:1]]
    figure.set_size_inches(width, sum(width * height + 0.24 for height in heights))
    figure.tight_layout(pad=0.2, h_pad=0.25)
    return True


def _under_each_other(figure: Figure, panels: list[plt.Axes], width: float) -> bool:
    """Panels of one row, in one column or, if they are many, in two; axes on one spot stay on one spot."""
    places = [list(group) for _, group in groupby(panels, lambda axes: axes.get_subplotspec().num1)]
    columns = 2 if len(places) >= MANY or panels[0].images else 1
    rows = -(-len(places) // columns)
    share = width / columns
    old = figure.get_figwidth() / len(places)
    height = figure.get_figheight() * min(1, share / old) if columns > 1 else figure.get_figheight() * 0.9
    shared = places[0][0].get_ylabel()
    spots = GridSpec(rows, columns, figure=figure)
    for number, group in enumerate(places):
        first = number % columns == 0
        for axes in group:
            axes.set_subplotspec(spots[number])
            if columns > 1:
                axes.set_title(axes.get_title(), fontsize=8)
            if len(places) > 1 and first and axes.get_shared_y_axes().joined(axes, places[0][0]):
                axes.tick_params(labelleft=True)
                axes.set_ylabel(axes.get_ylabel() or shared)
    figure.set_size_inches(width, height * rows)
    figure.set_layout_engine("constrained")
    return True
