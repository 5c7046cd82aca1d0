"""Tables: seeds become one row with mean and interval; HTML with heads that a screen reader can read out."""

import math

import pytest
from bs4 import BeautifulSoup

from emlib.experiments import summary
from emlib.viz import tables

RECORD = {
    "experiment": "toy",
    "command": "python -m emlib experiment toy",
    "rows": [
        {"method": "b", "by": "MMPS", "seed": 0, "PSNR": 20.0, "PSNR_low": 19.0, "PSNR_high": 21.5, "FD": 3.0},
        {"method": "a", "by": "DPS", "seed": 0, "PSNR": 10.0, "PSNR_low": 9.0, "PSNR_high": 11.0},
        {"method": "b", "by": "MMPS", "seed": 1, "PSNR": 21.0, "PSNR_low": 20.0, "PSNR_high": 22.5, "FD": 5.0},
    ],
}


@pytest.fixture(autouse=True)
def _a_fresh_chapter(monkeypatch):
    monkeypatch.setattr("emlib.viz.html._numbers", {})


def test_seeds_become_one_row_in_the_records_order():
    scores = summary.over_seeds(RECORD, "PSNR")
    assert list(scores) == [("b", "MMPS"), ("a", "DPS")]
    b = scores["b", "MMPS"]
    assert (b.values, b.mean, b.low, b.high) == ((20.0, 21.0), 20.5, 19.5, 22.0)


def test_rows_without_a_measure_are_left_out_and_an_interval_may_be_missing():
    scores = summary.over_seeds(RECORD, "FD")
    assert list(scores) == [("b", "MMPS")]
    assert scores["b", "MMPS"].mean == 4
    assert math.isnan(scores["b", "MMPS"].low)


def test_a_measure_that_no_row_has_is_named():
    with pytest.raises(ValueError, match="no row of toy has 'FID'; there are FD, PSNR, PSNR_high"):
        summary.over_seeds(RECORD, "FID")


def test_a_table_has_heads_a_number_and_where_it_came_from():
    page = tables.table(["method", "dB"], [["a <b>", "1"], ["c", ""]], "Two.", recorded=RECORD).data
    shown = BeautifulSoup(page, "html.parser")
    assert [th.text for th in shown.find_all("th", scope="col")] == ["method", "dB"]
    assert [th.text for th in shown.find_all("th", scope="row")] == ["a <b>", "c"]
    assert shown.figcaption.text.startswith("Table 1. Two.")
    assert "python -m emlib experiment toy" in shown.figcaption.text
    again = tables.table(["method", "dB"], [["a <b>", "7"], ["c", "8"]], "Two.")
    other = tables.table(["method", "dB"], [["x", "7"]], "One.")
    assert 'id="table-1"' in again.data
    assert 'id="table-2"' in other.data


def test_rows_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"each row needs 2 cells, as the head has, but one has 1: \['a'\]"):
        tables.table(["method", "dB"], [["a"]], "None.")


def test_one_score_is_found_by_method_and_way():
    assert summary.score(RECORD, "b").mean == 20.5
    assert summary.score(RECORD, "b", "FD", by="MMPS").values == (3.0, 5.0)
    twice = {**RECORD, "rows": [*RECORD["rows"], {**RECORD["rows"][1], "by": "MMPS", "PSNR": 11.0}]}
    assert summary.score(twice, "a", by="MMPS").mean == 11
    with pytest.raises(ValueError, match="a has PSNR in toy by DPS, MMPS; name one"):
        summary.score(twice, "a")
    with pytest.raises(ValueError, match="c has PSNR in toy by none"):
        summary.score(RECORD, "c")


def test_a_sentence_in_a_cell_breaks_into_lines_and_a_number_does_not():
    page = tables.table(["method", "dB", "why"], [["a", "21.15, 21.20 / 0.105 / 219", "word " * 12]], "One.").data
    number, sentence = BeautifulSoup(page, "html.parser").find_all("td")
    assert "style" not in number.attrs
    assert "white-space:normal" in sentence["style"]


def test_methods_are_called_by_their_names_in_the_order_of_our_tables():
    ways = [("start-10", "MMPS"), ("ceiling", "MMPS"), ("observed", "as it is"), ("ceiling", "DPS"), ("ceiling", "DPS")]
    assert summary.labels(ways) == {
        ("observed", "as it is"): "broken pictures",
        ("ceiling", "MMPS"): "clean prior, MMPS",
        ("ceiling", "DPS"): "clean prior, DPS",
        ("start-10", "MMPS"): "start-10",
    }
    assert list(summary.labels(ways).values())[-1] == "start-10"
