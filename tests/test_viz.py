import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from emlib import viz
from emlib.viz.narrow import stacked


@pytest.fixture(autouse=True)
def _no_figure_left_open():
    yield
    plt.close("all")


def test_bytes_are_the_pictures_rounded_and_clipped():
    x = torch.tensor([-3.0, -1.0, 0.0, 1.0, 2.0]).view(1, 1, 1, 5)
    assert viz.to_bytes(x)[0, 0].tolist() == [[v] * 3 for v in (0, 0, 128, 255, 255)]
    colour = torch.tensor([1.0, -1.0, 0.2]).view(1, 3, 1, 1)
    assert viz.to_bytes(colour)[0, 0, 0].tolist() == [255, 0, 153]


def test_each_byte_survives_the_way_to_a_tensor_and_back():
    from emlib.data.pixels import from_bytes

    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    assert np.array_equal(viz.to_bytes(from_bytes(every))[0, ..., 0], every[0])


def test_a_tile_puts_pictures_in_reading_order_with_grey_gaps():
    x = torch.linspace(-1, 1, 5).view(5, 1, 1, 1).expand(5, 1, 3, 4)
    sheet = viz.tile(x, columns=3, gap=2)
    assert sheet.shape == (3 + 2 + 3, 4 * 3 + 2 * 2, 3)
    assert sheet.dtype == np.uint8
    expected = np.full_like(sheet, 160)
    for i, value in enumerate((0, 64, 128, 191, 255)):
        top, left = 5 * (i // 3), 6 * (i % 3)
        expected[top : top + 3, left : left + 4] = value
    assert np.array_equal(sheet, expected)


@pytest.mark.parametrize("shape", [(2, 2, 4, 4), (1, 4, 4)])
def test_what_is_no_stack_of_pictures_is_refused(shape):
    with pytest.raises(ValueError) as refusal:
        viz.tile(torch.zeros(shape), 2)
    assert str(shape) in str(refusal.value)


def test_a_grid_shows_the_first_pictures_of_each_row_beside_its_name():
    x = torch.rand(5, 1, 4, 4) * 2 - 1
    fig = viz.grid({"observed": x, "truth": -x}, columns=3)
    assert [ax.get_ylabel() for ax in fig.axes] == ["observed", "truth"]
    for ax, shown in zip(fig.axes, (x, -x)):
        assert np.array_equal(ax.images[0].get_array(), viz.tile(shown[:3], 3))


def test_a_grid_of_few_pictures_has_no_empty_places():
    fig = viz.grid({"three": torch.zeros(3, 1, 4, 4)}, columns=10)
    assert fig.axes[0].images[0].get_array().shape == (4, 3 * 4 + 2 * 2, 3)


def test_curves_hold_the_numbers_and_can_be_told_apart_without_colour():
    lines = {"EM": [1.0, 2.0, 3.0], "DPS": [3.0, 2.0, 1.0]}
    fig = viz.curves([0, 1, 2], lines, "EM iteration", "PSNR (dB)", levels={"ceiling": 2.5})
    (ax,) = fig.axes
    for line, values in zip(ax.lines, lines.values()):
        assert line.get_ydata().tolist() == values
    assert len({line.get_marker() for line in ax.lines[:2]}) == 2
    assert ax.lines[2].get_linestyle() == "--"
    assert set(ax.lines[2].get_ydata()) == {2.5}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("EM iteration", "PSNR (dB)")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["EM", "DPS", "ceiling"]


def test_curves_draw_where_they_are_told():
    fig, (left, right) = plt.subplots(1, 2)
    assert viz.curves([0], {"a": [1.0]}, "x", "y", ax=right) is fig
    assert not left.lines


def test_more_lines_than_markers_are_refused_or_drawn_but_never_dropped():
    lines = {f"line {i}": [float(i)] for i in range(10)}
    try:
        fig = viz.curves([0], lines, "x", "y")
    except ValueError:
        return
    assert len(fig.axes[0].lines) == 10


def test_every_level_is_drawn():
    fig = viz.curves([0, 1], {"a": [0, 1]}, "x", "y", levels={f"level {i}": i / 10 for i in range(6)})
    assert len(fig.axes[0].lines) == 7


def test_a_saved_grid_gives_its_rows_back(tmp_path):
    rng = torch.Generator().manual_seed(0)
    x = {name: torch.rand(4, 3, 8, 8, generator=rng) * 2 - 1 for name in ("truth", "observed twice", "EM 1")}
    viz.save_grid(x, tmp_path / "a.png")
    rows = viz.read_grid(tmp_path / "a.png", list(x))
    assert list(rows) == list(x)
    for name, row in rows.items():
        sheet = viz.tile(x[name], 4)
        high, wide, _ = row.shape
        assert wide / high == pytest.approx(sheet.shape[1] / sheet.shape[0], rel=0.03)
        # the middle of each pixel, wherever drawing has put it
        found = row[((np.arange(8) + 0.5) * high / 8).astype(int)][
            :, ((np.arange(sheet.shape[1]) + 0.5) * wide / sheet.shape[1]).astype(int)
        ]
        assert np.abs(found.astype(int) - sheet).mean() < 8
    assert [ax.get_ylabel() for ax in viz.strips(rows).axes] == list(x)


def test_a_saved_grid_of_other_rows_or_of_none_is_refused(tmp_path):
    viz.save_grid({"one": torch.zeros(3, 1, 4, 4), "two": torch.zeros(3, 1, 4, 4)}, tmp_path / "a.png")
    with pytest.raises(ValueError, match="2 rows.*1 names"):
        viz.read_grid(tmp_path / "a.png", ["one"])
    plt.imsave(tmp_path / "b.png", np.zeros((9, 9)))
    with pytest.raises(ValueError, match="no saved grid"):
        viz.read_grid(tmp_path / "b.png", ["one"])


def narrowed(fig):
    return stacked(fig, 3.0), fig.get_figwidth(), [ax.get_position().bounds for ax in fig.axes]


def test_rows_of_pictures_have_their_names_above_them_on_a_phone():
    fig = viz.grid({"observed": torch.zeros(5, 1, 4, 4), "truth": torch.zeros(5, 1, 4, 4)})
    done, width, _ = narrowed(fig)
    assert done
    assert width == 3.0
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["observed", "truth"]
    assert {ax.get_ylabel() for ax in fig.axes} == {""}


@pytest.mark.parametrize(("panels", "columns"), [(1, 1), (2, 1), (3, 1), (5, 2)])
def test_panels_stand_under_each_other_on_a_phone_with_all_their_axes(panels, columns):
    fig, axes = plt.subplots(1, panels, figsize=(3 * panels, 3), sharey=True, squeeze=False)
    axes[0, 0].set_ylabel("dB")
    for ax in axes[0]:
        ax.plot([0, 1], [0, 1])
        ax.set_title("a panel")
    done, width, _ = narrowed(fig)
    fig.draw_without_rendering()
    places = [ax.get_position() for ax in axes[0]]
    assert done
    assert width == 3.0
    assert len({round(place.x0, 2) for place in places}) == columns
    assert len({round(place.y0, 2) for place in places}) == -(-panels // columns)
    for ax in axes[0][::columns]:
        assert ax.get_ylabel() == "dB"
        assert ax.yaxis.get_tick_params()["labelleft"]


def test_a_drawing_with_no_axes_and_one_of_many_rows_stay_as_they_are():
    drawing, ax = plt.subplots(figsize=(8, 3))
    ax.set_axis_off()
    for fig in (drawing, plt.subplots(2, 2, figsize=(8, 3))[0]):
        before = [ax.get_position().bounds for ax in fig.axes]
        assert narrowed(fig) == (False, 8.0, before)


def test_a_plot_whose_words_leave_no_room_on_a_phone_is_not_narrowed():
    fig, ax = plt.subplots(figsize=(9, 3))
    ax.barh(["a name that is as long as a phone is wide, and longer", "b"], [1, 2])
    assert not stacked(fig, 3.0)
