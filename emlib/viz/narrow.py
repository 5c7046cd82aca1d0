"""A figure rearranged for a phone: rows of pictures under their names, panels under each other."""

from __future__ import annotations

import warnings
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MANY = 4
"""From this many panels on, two stand side by side, as photographs always do."""

NAME = 0.24
"""Inches that a row's name takes above its pictures."""


def stacked(figure: Figure, width: float) -> bool:
    """Rearranges a figure in place for a narrow page, if it is of a kind that can be.

    Args:
        figure: rows of pictures as ``grid`` draws them, panels in one row, or one plot with axes.
        width: inches that the page has across.

    Returns:
        Whether it was. A figure of another kind stays as it is; one whose words leave its axes no room is moved, but
        of no use.
    """
    spots = {axes: spec for axes in figure.axes if (spec := axes.get_subplotspec()) is not None}
    shapes = {spec.get_gridspec().get_geometry() for spec in spots.values()}
    if len(spots) < len(figure.axes) or len(shapes) != 1:
        return False
    ((rows, columns),) = shapes
    if columns == 1 and all(axes.images and not axes.get_yticks().size for axes in spots):
        _names_above(figure, list(spots), width)
        return True
    first = next(iter(spots))
    if rows > 1 or (columns == 1 and (first.images or not first.axison)):
        return False
    # axes on one spot stay on one spot
    panels = [list(group) for _, group in groupby(spots, lambda axes: spots[axes].num1)]
    _under_each_other(figure, panels, width)
    return _has_room(figure)


def _has_room(figure: Figure) -> bool:
    """Is there room left for the axes beside their words?"""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            figure.draw_without_rendering()
        except UserWarning:  # the layout has given up
            return False
    return True


def _names_above(figure: Figure, rows: list[Axes], width: float) -> None:
    """Rows of pictures, each under its name, as wide as the page."""
    height = 0.0
    for axes in rows:
        axes.set_title(axes.get_ylabel(), loc="left", fontsize=9, pad=2)
        axes.set_ylabel("")
        tall, across = np.shape(np.asarray(axes.images[0].get_array()))[:2]
        height += width * tall / across + NAME
    figure.set_size_inches(width, height)
    figure.tight_layout(pad=0.2, h_pad=0.25)


def _under_each_other(figure: Figure, panels: list[list[Axes]], width: float) -> None:
    """Panels of one row, in one column or, if they are many or photographs, in two."""
    from matplotlib.gridspec import GridSpec

    lead = panels[0][0]
    columns = 2 if len(panels) >= MANY or (lead.images and len(panels) > 1) else 1
    # as high as it was, or flatter where it is much narrower
    shrunk = min(1.0, width / columns / (figure.get_figwidth() / len(panels)))
    height = figure.get_figheight() * (shrunk if columns > 1 else 0.9)
    rows = -(-len(panels) // columns)
    grid = GridSpec(rows, columns, figure=figure)
    for number, panel in enumerate(panels):
        for axes in panel:
            axes.set_subplotspec(grid[number])
            if columns > 1:
                axes.set_title(axes.get_title(), fontsize=8)
            if number % columns == 0 and axes.get_shared_y_axes().joined(axes, lead):
                axes.tick_params(labelleft=True)
                axes.set_ylabel(axes.get_ylabel() or lead.get_ylabel())
    figure.set_size_inches(width, height * rows)
    figure.set_layout_engine("constrained")
