"""The heads of the chapters, the front page's pieces and the slides, as far as they need no built book."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sphinx", reason="sphinx isn't installed (it comes with the extra 'book')")
nbformat = pytest.importorskip("nbformat")
bs4 = pytest.importorskip("bs4")

import front  # noqa: E402
import heads  # noqa: E402
import slides  # noqa: E402
import solutions  # noqa: E402
import terms  # noqa: E402
import times  # noqa: E402
from twins import chapters  # noqa: E402

CHAPTERS = heads.course()["chapters"]
TEXT = """\
# A chapter

{words}

```{{code-cell}} ipython3
# not a heading
{seen}
```

```{{code-cell}} ipython3
:tags: [hide-input]

{folded}
```

## One

$$
x
$$

### Inside

more

## Two

end
"""


def page(html: str):
    return bs4.BeautifulSoup(html, "html.parser")


def test_the_table_has_each_chapter_and_each_needs_only_earlier_ones():
    assert list(CHAPTERS) == [path.stem for path in chapters() if path.stem != "90_results"]
    for chapter, entry in CHAPTERS.items():
        assert {"core", "needs", "lit"} <= set(entry) <= {"core", "needs", "lit", "best_after"}, chapter
        assert entry.get("best_after", chapter) in CHAPTERS
        assert all(other in CHAPTERS and other < chapter for other in entry["needs"]), chapter
        assert set(entry["lit"]) <= set(heads.PARTS), chapter
        # who reads the core alone never meets a chapter that rests on another
        assert not entry["core"] or all(CHAPTERS[other]["core"] for other in entry["needs"]), chapter


def test_each_chapter_has_a_recorded_time():
    assert set(heads.seconds_to_run()) == set(CHAPTERS)
    assert all(seconds > 0 for seconds in heads.seconds_to_run().values())


@pytest.mark.parametrize("minutes", ["10", "45"])
def test_a_path_takes_the_time_that_it_promises(minutes):
    steps = heads.course()["paths"][minutes]
    total = sum(heads.minutes_to_read(heads.section(heads.text_of(chapter), name)) for chapter, name in steps)
    assert 0.75 * int(minutes) < total <= int(minutes)
    assert [chapter for chapter, _ in steps] == sorted(chapter for chapter, _ in steps)


def test_words_visible_code_and_equations_are_read_and_folded_code_is_not():
    short = TEXT.format(words="w", seen="x", folded="x")
    longer = heads.minutes_to_read(TEXT.format(words="w " * (1 + heads.WORDS), seen="x", folded="x"))
    assert longer - heads.minutes_to_read(short) == pytest.approx(1)
    coded = heads.minutes_to_read(TEXT.format(words="w", seen="x\n" * (1 + heads.LINES), folded="x"))
    assert coded - heads.minutes_to_read(short) == pytest.approx(1)
    assert heads.minutes_to_read(TEXT.format(words="w", seen="x", folded="x\n" * 99)) == heads.minutes_to_read(short)
    without = heads.minutes_to_read(short.replace("$$\nx\n$$", ""))
    assert heads.minutes_to_read(short) - without == pytest.approx(1 / heads.EQUATIONS)


def test_a_section_ends_at_the_next_heading_of_its_rank():
    text = TEXT.format(words="w", seen="x", folded="x")
    assert heads.section(text, "One").split() == ["##", "One", "$$", "x", "$$", "###", "Inside", "more"]
    assert heads.section(text, "Two").split() == ["##", "Two", "end"]
    for missing in ("Three", "not a heading"):
        with pytest.raises(ValueError, match=missing):
            heads.section(text, missing)


@pytest.mark.parametrize(
    ("minutes", "said"),
    [(0.1, "under a minute"), (1.2, "1 minute"), (4.4, "4 minutes"), (13, "15 minutes"), (31, "30 minutes")],
)
def test_minutes(minutes, said):
    assert heads.in_minutes(minutes) == said


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_head_lights_its_parts_and_links_what_it_needs(chapter, monkeypatch):
    shown = page(heads.head(chapter, lambda other: f"{other}.html"))
    entry = CHAPTERS[chapter]
    lit = [group.get_text() for group in shown.select("g.on")]
    assert sorted(lit) == sorted(heads.PARTS[part][2] for part in entry["lit"])
    assert all(name in shown.svg["aria-label"] for name in lit)
    assert [a["href"] for a in shown.select("a")] == [f"{other}.html" for other in entry["needs"]]
    assert ("core" if entry["core"] else "optional") in shown.dl.get_text()


def test_every_arrow_of_the_loop_starts_and_ends_at_the_edge_of_a_box():
    shown = page(heads.loop([], "x"))
    boxes = [[float(rect[key]) for key in ("x", "y", "width", "height")] for rect in shown.select("rect")]

    def on_an_edge(x, y):
        return any(
            (x in (left, left + w) and top <= y <= top + h) or (y in (top, top + h) and left <= x <= left + w)
            for left, top, w, h in boxes
        )

    paths = [path["d"] for path in shown.select("svg > path")]
    assert len(paths) == len(heads.ARROWS)
    for d in paths:
        x1, y1, x2, y2 = map(float, re.findall(r"-?[\d.]+", d))
        assert on_an_edge(x1, y1)
        assert on_an_edge(x2, y2)


def test_the_strip_goes_from_broken_to_repaired_to_true_with_the_runs_numbers(monkeypatch):
    monkeypatch.setattr("emlib.viz.html._numbers", {})
    run = front.read_result(front.data_dir() / "results" / f"{front.RUN}.json")
    scores = [row["PSNR"] for row in run["rows"] if "PSNR" in row][:-1]  # the last is of held-out pictures
    shown = page(front.strip())
    labels = json.loads(shown.input["data-labels"])
    assert labels[0].startswith("broken")
    assert "truth" in labels[-1]
    assert [float(re.search(r"([\d.]+) dB", label)[1]) for label in labels[:-1]] == [round(s, 1) for s in scores]
    assert shown.input["value"] == "0"
    assert len({image["src"] for image in shown.select("img")}) == len(labels)


def test_the_map_has_the_core_in_order_and_all_chapters_once():
    shown = page(front.chapter_map(lambda chapter: chapter.upper(), lambda chapter: f"{chapter}.html"))
    core, added = ([int(item["value"]) for item in column.select("li")] for column in shown.select("ol"))
    assert core == [heads.number(chapter) for chapter in CHAPTERS if CHAPTERS[chapter]["core"]]
    assert sorted(core + added) == [heads.number(chapter) for chapter in CHAPTERS]


def test_terms_are_found_as_words_long_ones_first_and_in_the_plural():
    words = terms.pattern(["Prior", "Posterior", "EMA", "E-step"])
    text = "A prior, two priors, an e-step of EMA; no supremacy, no a-priori, no schema"
    assert [match[0] for match in words.finditer(text)] == ["prior", "priors", "e-step", "EMA"]


def test_a_slide_stands_under_its_finding():
    figure = page(
        '<figure class="emlib-figure" id="figure-3"><div class="emlib-picture"><img src="data:," alt="a" width="200" '
        'height="400" style="min-width:640px"></div><figcaption><b>Figure 3.</b> It falls by 2.5 dB. The rest follows. '
        '<details class="emlib-provenance">source</details></figcaption></figure>'
    ).figure
    made = page(slides.slide(figure, "05_dps"))
    assert made.h2.get_text() == "It falls by 2.5 dB."
    assert made.figcaption.get_text().strip() == "The rest follows."
    assert made.footer.get_text() == "chapter 5, Figure 3"
    assert made.details is not None
    assert f"width:{slides.ROOM / 2:.0f}px" in made.img["style"]


def kept(folder: Path, names: list[str]) -> Path:
    """A cache that holds these chapters, each with one figure."""
    from jupyter_cache import get_cache
    from jupyter_cache.base import CacheBundleIn

    cache = get_cache(str(folder))
    shown = '<figure class="emlib-figure" id="figure-1"><img src="data:," alt="a" width="9" height="9"><figcaption>'
    for name in names:
        output = nbformat.v4.new_output("display_data", {"text/html": f"{shown}<b>Figure 1.</b> Seen.</figcaption>"})
        code = nbformat.v4.new_code_cell(f"'{name}'", outputs=[output])
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"# About {name}"), code])
        bundle = CacheBundleIn(book, f"{name}.md", data={"execution_seconds": 61.0})
        cache.cache_notebook_bundle(bundle, check_validity=False)
    return folder


def test_slides_and_times_come_from_a_built_books_cache(tmp_path, capsys):
    cache = kept(tmp_path / "cache", list(CHAPTERS))
    assert slides.main([str(cache), str(tmp_path / "out")]) == 0
    deck = page((tmp_path / "out" / "slides.html").read_text(encoding="utf-8"))
    columns = deck.select(".slides > section")
    assert len(columns) == len(CHAPTERS) + 1
    assert [len(column.select("section")) for column in columns[1:]] == [2] * len(CHAPTERS)
    for address in [tag["href"] for tag in deck.select("link")] + [tag["src"] for tag in deck.select("script[src]")]:
        assert (tmp_path / "out" / address).is_file()
    assert times.main([str(cache), "--out", str(tmp_path / "times.json")]) == 0
    rows = json.loads((tmp_path / "times.json").read_text())["rows"]
    assert rows == [{"chapter": chapter, "seconds": 61.0} for chapter in CHAPTERS]


@pytest.mark.parametrize("command", [slides, times])
def test_a_book_that_is_not_built_is_named_with_what_to_do(command, tmp_path, capsys):
    cache = kept(tmp_path / "cache", list(CHAPTERS)[1:])
    words = [str(cache), str(tmp_path / "out")] if command is slides else [str(cache), "--out", str(tmp_path / "t")]
    assert command.main(words) == 1
    said = capsys.readouterr().err
    assert next(iter(CHAPTERS)) in said
    assert "make site" in said
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(("said", "hidden"), [(None, False), ("1", False), ("0", True)])
def test_the_switch_leaves_solutions_out(said, hidden, monkeypatch):
    class Config:
        hide_solutions = None

    if said is None:
        monkeypatch.delenv(solutions.SWITCH, raising=False)
    else:
        monkeypatch.setenv(solutions.SWITCH, said)
    solutions.choose(None, Config)
    assert Config.hide_solutions is hidden
    monkeypatch.setenv(solutions.SWITCH, "no")
    with pytest.raises(solutions.ConfigError, match="'no'"):
        solutions.choose(None, Config)


def test_ten_pictures_in_a_row_become_five_above_five():
    ten = np.concatenate([np.full((8, 8 + front.GAP * (i < 9), 3), 20 * i, np.uint8) for i in range(10)], axis=1)
    two = front.in_two_rows(ten)
    assert two.shape == (2 * 8 + front.GAP, 5 * 8 + 4 * front.GAP, 3)
    centres = [4 + i * (8 + front.GAP) for i in range(5)]
    assert [[int(two[row, x, 0]) for x in centres] for row in (4, 12 + front.GAP)] == [
        [0, 20, 40, 60, 80],
        [100, 120, 140, 160, 180],
    ]
