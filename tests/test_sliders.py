import math

import ipywidgets as widgets
import pytest

from emlib.viz.widgets import dial


@pytest.mark.parametrize(
    ("values", "kind", "low", "high", "start"),
    [
        ((0, 5, 40), widgets.IntSlider, 0, 40, 5),
        ((3, 1, 2), widgets.IntSlider, 1, 3, 1),
        ((0.0, 0.5, 1.0), widgets.FloatSlider, 0, 1, 0.5),
        ((-1.0, 2), widgets.FloatSlider, -1, 2, 2),
        ((10.0, 250.0, 500.0, 750.0, 990.0), widgets.FloatSlider, 10, 990, 500),
        ((0.1, 0.3, 1.0, 3.0, 10.0), widgets.FloatLogSlider, -1, 1, 1.0),
    ],
)
def test_numbers_get_a_slider_over_all_that_lies_between(values, kind, low, high, start):
    found = dial("guidance_scale", values)
    assert type(found) is kind
    assert found.min == pytest.approx(low)
    assert found.max == pytest.approx(high)
    assert math.isclose(found.value, start)
    assert found.description == "guidance scale"


@pytest.mark.parametrize("values", [("DPS", "MMPS"), (True, False), (4,), (1, None)])
def test_what_has_nothing_in_between_is_chosen_by_name(values):
    found = dial("choice", values)
    assert isinstance(found, widgets.SelectionSlider)
    assert found.options == values
    assert found.value == values[len(values) // 2]
