"""Pictures of pictures: every figure leaves here with alt text and a caption."""

from emlib.viz.display import explore, figure, frames, provenance
from emlib.viz.figures import curves, grid, save_grid, strips, tile, to_bytes
from emlib.viz.laboratory import laboratory
from emlib.viz.saved import read_grid
from emlib.viz.tables import table

__all__ = [
    "curves",
    "explore",
    "figure",
    "frames",
    "grid",
    "laboratory",
    "provenance",
    "read_grid",
    "save_grid",
    "strips",
    "table",
    "tile",
    "to_bytes",
]
