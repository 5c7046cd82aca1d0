import base64
import io
import json
import queue
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from bs4 import BeautifulSoup
from jupyter_client.manager import start_new_kernel
from PIL import Image

from emlib import viz
from emlib.runs.record import read_result, write_result
from emlib.viz import display

NASTY = 'λ < 1 & "sharp" <script>'
GREY = np.arange(24, dtype=np.uint8).reshape(4, 6)
SHEETS = [np.full((4, 6, 3), value, np.uint8) for value in (0, 100, 200)]


@pytest.fixture(autouse=True)
def _a_fresh_chapter(monkeypatch):
    monkeypatch.setattr("emlib.viz.html._numbers", {})
    monkeypatch.delenv("EMLIB_STATIC", raising=False)
    yield
    plt.close("all")


def page(shown):
    return BeautifulSoup(getattr(shown, "data", shown), "html.parser")


def raw(img):
    return Image.open(io.BytesIO(base64.b64decode(img["src"].removeprefix("data:image/png;base64,"))))


def pixels(img):
    return np.asarray(raw(img).convert("RGB"))


def line():
    return viz.curves([0], {"a": [1.0]}, "x", "y")


def test_a_figure_carries_escaped_alt_text_and_caption_and_is_closed():
    fig = line()
    shown = viz.figure(fig, alt=NASTY, caption=NASTY)
    figure = page(shown).figure
    assert "<script" not in shown.data
    assert figure.img["alt"] == NASTY
    assert figure.figcaption.text == f"Figure 1. {NASTY}"
    assert min(pixels(figure.img).shape[:2]) > 100
    assert not plt.fignum_exists(fig.number)


@pytest.mark.parametrize("alt", ["", "  "])
def test_no_picture_leaves_without_alt_text(alt):
    with pytest.raises(ValueError, match="alt text"):
        viz.figure(line(), alt, "caption")
    with pytest.raises(ValueError, match="alt text"):
        viz.frames(SHEETS[:1], ["label"], [alt], "caption")
    with pytest.raises(ValueError, match="alt text"):
        viz.explore(lambda t: GREY, alt, "caption", t=[1])


def test_figures_count_up_and_keep_their_number_when_their_cell_is_run_again():
    def number(shown):
        return page(shown).figure["id"], page(shown).figcaption.b.text

    def sheets(labels):
        return viz.frames(SHEETS, labels, ["first", "second", "third"], "c")

    assert number(viz.figure(line(), "one", "c")) == ("figure-1", "Figure 1.")
    assert number(sheets(["a", "b", "c"])) == ("figure-2", "Figure 2.")
    assert number(viz.explore(lambda t: GREY, "at {t}", "c", t=[1, 2])) == ("figure-3", "Figure 3.")
    assert number(viz.figure(line(), "5.1 dB", "c", name="scores")) == ("figure-4", "Figure 4.")
    assert number(viz.figure(line(), "5.2 dB", "c", name="scores")) == ("figure-4", "Figure 4.")
    assert number(sheets(["x", "y", "z"])) == ("figure-2", "Figure 2.")
    assert number(viz.figure(line(), "one", "another caption")) == ("figure-1", "Figure 1.")


def test_pictures_are_stored_exactly_and_in_as_few_channels_as_they_have():
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.integers(0, 256, (40, 40, 1), np.uint8), 3, axis=2)
    few = rng.integers(0, 256, (50, 3), np.uint8)[rng.integers(0, 50, (40, 40))]
    many = rng.integers(0, 256, (40, 40, 3), np.uint8)
    for picture, mode in ((grey, "L"), (few, "P"), (many, "RGB")):
        img = page(viz.frames([picture], ["l"], ["a"], "c")).img
        assert raw(img).mode == mode
        assert np.array_equal(pixels(img), picture)
    assert page(viz.figure(line(), "drawn", "c")).img["class"][0] == "emlib-drawn"


@pytest.mark.parametrize(("inches", "least"), [(4, 273), (8, 546), (14, 640)])
def test_only_a_drawing_too_wide_for_a_phone_is_moved_sideways_there_and_takes_keys(inches, least):
    fig, ax = plt.subplots(figsize=(inches, 3))
    ax.set_axis_off()
    shown = page(viz.frames([fig], ["l"], ["a"], "c"))  # untrimmed
    assert f"min-width:{least}px" in shown.img["style"]
    assert (shown.select_one(".emlib-picture").get("tabindex") == "0") == (least > 340)


def test_frames_show_one_picture_at_a_time_each_with_its_alt_text():
    frames = page(viz.frames(SHEETS, ["t = 9", NASTY, "t < 0"], ["first", NASTY, "last"], "c")).select(".emlib-frame")
    assert [frame.has_attr("hidden") for frame in frames] == [False, True, True]
    assert [frame.img["alt"] for frame in frames] == ["first", NASTY, "last"]
    assert [int(pixels(frame.img).mean()) for frame in frames] == [0, 100, 200]


@pytest.mark.parametrize(("start", "seen"), [(-1, 2), (0, 0), (1, 1)])
def test_the_slider_stands_at_the_frame_that_is_seen_and_says_its_label(start, seen):
    labels = ["t = 9", NASTY, "t < 0"]
    soup = page(viz.frames(SHEETS, labels, ["first", "second", "third"], "c", start=start))
    (slider,) = soup.find_all("input")
    assert (slider["type"], slider["min"], slider["max"], slider["value"]) == ("range", "0", "2", str(seen))
    assert [frame.has_attr("hidden") for frame in soup.select(".emlib-frame")] == [i != seen for i in range(3)]
    assert slider["aria-valuetext"] == soup.select_one(".emlib-label").text == labels[seen]
    assert json.loads(slider["data-labels"]) == labels
    assert soup.find("label", {"for": slider["id"]}).text.strip()


def test_there_is_no_frame_beyond_the_last():
    with pytest.raises(IndexError):
        viz.frames(SHEETS, ["a"] * 3, ["b"] * 3, "c", start=3)


@pytest.mark.parametrize(("pictures", "labels", "alts"), [(0, 0, 0), (2, 1, 2), (2, 2, 1), (1, 2, 2)])
def test_frames_without_a_label_or_alt_text_each_are_refused(pictures, labels, alts):
    with pytest.raises(ValueError, match=re.escape(f"got {pictures}, {labels}, {alts}")):
        viz.frames(SHEETS[:1] * pictures, ["l"] * labels, ["a"] * alts, "caption")


def test_on_a_page_exploring_shows_each_combination_and_begins_in_the_middle():
    made = []

    def make(scale, sampler):
        made.append((scale, sampler))
        return np.full((2, 2), 10 * len(made), np.uint8)

    soup = page(viz.explore(make, "{sampler} at {scale}", "c", scale=[0.1, 1.0, 10.0], sampler=["DPS", "MMPS"]))
    assert made == [(s, n) for s in (0.1, 1.0, 10.0) for n in ("DPS", "MMPS")]
    frames = soup.select(".emlib-frame")
    assert [frame.img["alt"] for frame in frames] == [f"{n} at {s}" for s, n in made]
    scale, sampler = soup.find_all("input")
    assert [json.loads(dial["data-labels"]) for dial in (scale, sampler)] == [["0.1", "1", "10"], ["DPS", "MMPS"]]
    seen = int(scale["value"]) * int(scale["data-stride"]) + int(sampler["value"]) * int(sampler["data-stride"])
    assert [i for i, frame in enumerate(frames) if not frame.has_attr("hidden")] == [seen]
    assert made[seen] == (1.0, "MMPS")
    assert scale["id"] != sampler["id"]


@pytest.mark.parametrize("parameters", [{}, {"t": []}, {"s": [1], "t": ()}])
def test_nothing_to_explore_is_refused(parameters):
    with pytest.raises(ValueError, match="needs values"):
        viz.explore(lambda **now: GREY, "alt", "c", **parameters)


def test_in_a_live_notebook_a_moved_slider_changes_the_picture(monkeypatch):
    monkeypatch.setenv("EMLIB_STATIC", "0")

    def make(level, shift):
        return np.full((2, 2), round(level) + shift, np.uint8)

    box = viz.explore(make, "grey {level:.0f} and {shift}", NASTY, level=[0.0, 50.0, 100.0], shift=[0, 5, 9])
    level, shift, picture = box.children
    assert int(pixels(page(picture.value).img).mean()) == 55
    level.value = 73.0  # between the values that a page shows
    assert page(picture.value).img["alt"] == "grey 73 and 5"
    assert int(pixels(page(picture.value).img).mean()) == 78
    shift.value = 7
    assert int(pixels(page(picture.value).img).mean()) == 80
    assert page(picture.value).figcaption.text == f"Figure 1. {NASTY}"


def test_a_page_and_a_live_notebook_give_an_explored_picture_the_same_number(monkeypatch):
    viz.figure(line(), "one", "c")
    static = page(viz.explore(lambda t: GREY, "at {t}", "c", t=[1, 2]))
    monkeypatch.setenv("EMLIB_STATIC", "0")
    live = viz.explore(lambda t: GREY, "at {t}", "c", t=[1, 2])
    assert page(live.children[-1].value).figcaption.b.text == static.figcaption.b.text == "Figure 2."


@pytest.fixture(scope="module")
def kernel():
    manager, client = start_new_kernel(startup_timeout=600, kernel_name="python3")
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


@pytest.mark.parametrize(("metadata", "widget"), [({"cellId": "a1"}, True), ({}, False)])
def test_only_a_front_end_that_names_its_cells_gets_widgets(kernel, metadata, widget):
    code = (
        "import os, numpy\nos.environ.pop('EMLIB_STATIC', None)\nfrom emlib import viz\n"
        "viz.explore(lambda t: numpy.zeros((2, 2), numpy.uint8), 'at {t}', 'c', t=[1, 2])"
    )
    # a front end's own message; Jupyter's clients for whole notebooks send no metadata
    request = kernel.session.msg("execute_request", {"code": code, "silent": False}, metadata=metadata)
    kernel.shell_channel.send(request)
    while True:
        try:
            message = kernel.get_iopub_msg(timeout=600)
        except queue.Empty:
            pytest.fail("the kernel gave no result")
        if message["msg_type"] == "error":
            pytest.fail("\n".join(message["content"]["traceback"]))
        if message["msg_type"] == "execute_result" and message["parent_header"]["msg_id"] == request["msg_id"]:
            break
    assert ("application/vnd.jupyter.widget-view+json" in message["content"]["data"]) == widget
    assert ("emlib-frames" in message["content"]["data"].get("text/html", "")) != widget


def test_a_recorded_figure_says_where_its_numbers_come_from(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["emlib", "em", "--out", "a <b>.json"])
    settings = {"data": "Fashion-MNIST & co"}
    write_result(tmp_path / "run.json", "em", settings, [], seconds=222.2)
    record = read_result(tmp_path / "run.json")
    said = page(viz.figure(line(), "one", "Caption.", recorded=record)).figcaption.small.text
    for fact in (record["command"], record["commit"], record["device"], settings["data"], "3.7 minutes"):
        assert fact in said
    assert re.search(r"\b\d{1,2} \w+ 20\d\d\b", said)
    two = page(viz.frames(SHEETS[:1], ["l"], ["a"], "c", recorded=[record, record]))
    assert len(two.figcaption.find_all("small")) == 2
    assert page(viz.figure(line(), "two", "Caption.")).figcaption.small is None


def test_a_record_that_lacks_facts_says_what_it_has():
    said = page(viz.provenance({"experiment": "e", "settings": {}, "rows": [], "seconds": 9.6})).text
    assert said == "sourceRecorded run: · 10 s"


@pytest.mark.parametrize(("seconds", "said"), [(0.2, "0 s"), (119, "119 s"), (120, "2.0 minutes"), (9000, "2.5 hours")])
def test_durations(seconds, said):
    assert display.duration(seconds) == said


def test_a_plot_is_ink_on_transparent_ground_before_white():
    img = page(viz.figure(line(), "one", "c")).img
    ink = np.asarray(raw(img).convert("RGBA"))
    assert (ink[..., 3] == 0).mean() > 0.5
    assert ink[..., 3].max() == 255
    assert "background-color:#fff" in img["style"]


@pytest.mark.parametrize("origin", ["upper", "lower"])
@pytest.mark.parametrize("trim", [True, False])
def test_photographs_lie_behind_the_ink_pixel_by_pixel_where_the_figure_has_them(origin, trim):
    rng = np.random.default_rng(0)
    photos = rng.integers(0, 256, (2, 3, 5, 3), np.uint8)
    fig, axes = plt.subplots(1, 2, figsize=(4, 2))
    for ax, photo in zip(axes, photos):
        ax.imshow(photo, origin=origin)
        ax.set_title("words")
    fig.tight_layout()
    expected = io.BytesIO()
    fig.savefig(expected, dpi=160, facecolor="white", **({"bbox_inches": "tight", "pad_inches": 0.04} if trim else {}))
    whole = np.asarray(Image.open(expected).convert("RGB")).astype(int)
    shown = page(viz.figure(fig, "a", "c") if trim else viz.frames([fig], ["l"], ["a"], "c"))
    sources = re.findall(r"--photo-\d:url\((data:[^)]+)\)", shown.select_one(".emlib-photos")["style"])
    style = dict(part.split(":", 1) for part in shown.select_one(".emlib-sheet")["style"].split(";"))
    ink = np.asarray(raw(shown.select_one(".emlib-sheet img")).convert("RGBA"))
    assert (ink[..., :3][ink[..., 3] == 255] < 30).all(), "a photograph is among the ink, which dark pages turn over"
    high, wide = ink.shape[:2]
    assert whole.shape[:2] == pytest.approx((high, wide), abs=2)
    for source, photo, place, size in zip(
        sources, photos, *(style[f"background-{key}"].split(",") for key in ("position", "size")), strict=True
    ):
        found = pixels({"src": source})
        assert np.array_equal(found, photo if origin == "upper" else photo[::-1])
        (x, y), (w, h) = ([float(n) / 100 for n in re.findall(r"[\d.]+", text)] for text in (place, size))
        left, top = x * (1 - w) * wide, y * (1 - h) * high
        for i in range(3):
            for j in range(5):
                at = int(top + (i + 0.5) / 3 * h * high), int(left + (j + 0.5) / 5 * w * wide)
                assert np.array_equal(whole[at], found[i, j])


def test_a_figure_too_wide_for_a_phone_has_a_narrow_form_that_is_hidden_until_a_page_shows_it():
    fig, axes = plt.subplots(1, 2, figsize=(9, 3))
    for ax in axes:
        ax.plot([0, 1], [0, 1])
    shown = page(viz.figure(fig, NASTY, "c"))
    wide, narrow = shown.select_one(".emlib-wide img"), shown.select_one(".emlib-narrow[hidden] img")
    assert wide["alt"] == narrow["alt"] == NASTY
    assert int(narrow["width"]) < 340 * 160 / 110 < int(wide["width"])
    assert int(narrow["height"]) > int(wide["height"])
    assert not plt.fignum_exists(fig.number)
    assert page(viz.figure(line(), "one", "c")).select(".emlib-narrow, .emlib-wide") == []


def test_sliders_are_as_wide_as_their_pictures():
    fig, ax = plt.subplots(figsize=(4, 3))
    drawn = page(viz.frames([fig], ["l"], ["a"], "c")).select_one(".emlib-frames")
    assert drawn["style"] == f"max-width:{4 * 110}px"
    pixels = page(viz.frames(SHEETS[:1], ["l"], ["a"], "c")).select_one(".emlib-frames")
    assert pixels["style"].removeprefix("max-width:") in pixels.img["style"]
    assert "width:100%" in pixels.input["style"]
