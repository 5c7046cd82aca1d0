"""Reports on recorded runs: labels, cells, orders and dots of a made-up record, and refusals in plain words."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest
import torch

from emlib.experiments import reports
from emlib.experiments.methods import NAMES
from emlib.experiments.paper_tables import TABLE_1, TABLE_4, TABLE_5, Reported
from emlib.experiments.reports import FD, FIRST_PRIORS, TASKS
from emlib.experiments.table import SHOWN, keep_pictures
from emlib.runs.record import write_result


def row(method: str, by: str, seed: int, psnr: float, **more) -> dict:
    return {"method": method, "by": by, "seed": seed, "PSNR": psnr, **more}


TOY = {
    "experiment": "toy",
    "rows": [
        row("observed", "as it is", 0, 10.0, LPIPS=0.5),
        row("em-mmps", "MMPS", 0, 20.0, LPIPS=0.1, floor=3.0, **{FD: 30.4}),
        row("em-dps-paper", "DPS", 0, 18.0, LPIPS=0.2, floor=3.5, **{FD: 40.0}),
        row("ceiling", "DPS", 0, 21.0, LPIPS=0.1, **{FD: 20.0}),
        row("ceiling", "MMPS", 0, 23.0, LPIPS=0.1, **{FD: 20.0}),
        row("em-mmps", "MMPS", 1, 21.0, LPIPS=0.2, floor=3.0, **{FD: 31.0}),
    ],
}
"""Two seeds of one method, two ways of another, no distance of the broken pictures."""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A data folder with nothing recorded yet."""
    (tmp_path / "fashion-mnist").mkdir()
    (tmp_path / "results").mkdir()
    monkeypatch.setenv("EMLIB_DATA", str(tmp_path))
    return tmp_path / "results"


def test_a_recorded_run_is_read_by_its_name(project):
    write_result(project / "toy.json", "toy", {"seed": 3}, TOY["rows"], 1)
    assert reports.recorded("toy")["settings"] == {"seed": 3}
    with pytest.raises(FileNotFoundError, match="no recorded run at .*other.json"):
        reports.recorded("other")


def test_all_six_tables_are_read_in_the_papers_order(project):
    for data in ("embedded", "cifar10"):
        for task in ("mask", "noise", "blur"):
            write_result(project / f"table-{data}-{task}.json", f"{data} {task}", {}, [], 1)
    tables = reports.read_tables()
    assert list(tables)[:4] == [("embedded", "mask"), ("embedded", "noise"), ("embedded", "blur"), ("cifar10", "mask")]
    assert all(record["experiment"] == " ".join(key) for key, record in tables.items())
    assert reports.title("cifar10", "blur") == "CIFAR-10, blur 9 × 9"


def test_pictures_go_by_the_labels_of_the_tables(project):
    def keep(method, samples, **rebuilt):
        task = type("Task", (), {"held_out_truth": torch.zeros(SHOWN + 1, 1, 2, 2)})
        outcome = type("Outcome", (), {"rebuilt": rebuilt})
        keep_pictures(outcome, samples, task, project / "toy" / "seed-0" / f"{method}.safetensors")

    (project / "toy" / "seed-0").mkdir(parents=True)
    one = torch.ones(SHOWN, 1, 2, 2)
    keep("ceiling", one, DPS=-one, MMPS=one)
    keep("em-mmps", -one, MMPS=one)
    keep("start-10", None, DPS=one)
    restored, drawn = reports.pictures("toy")
    assert list(restored) == ["EM, MMPS", "clean prior, DPS", "clean prior, MMPS", "truth"]
    assert restored["clean prior, DPS"].max() == -1
    assert restored["truth"].shape == (SHOWN, 1, 2, 2)
    assert restored["truth"].abs().max() < 0.01
    assert {label: x.max().item() for label, x in drawn.items()} == {"EM, MMPS": -1, "clean prior": 1}
    assert list(reports.pictures("toy", ["start-10"])[0]) == ["start-10", "truth"]


def test_a_method_counts_by_its_best_way_and_all_its_seeds():
    assert reports.best(TOY, "ceiling").mean == 23
    assert reports.best(TOY, "em-mmps").values == (20, 21)
    assert reports.lead(TOY, "ceiling", "em-mmps") == pytest.approx(2.5)
    assert reports.lead(TOY, "em-dps-paper", "em-mmps") == pytest.approx(-2.5)
    with pytest.raises(ValueError, match="toy has no PSNR of diem"):
        reports.lead(TOY, "diem", "em-mmps")


def test_the_floor_is_the_greatest():
    assert reports.floor([TOY]) == 3.5
    with pytest.raises(ValueError, match="no row of these records has a floor"):
        reports.floor([{"rows": TOY["rows"][:1]}])


def test_numbers_become_cells_and_what_there_is_not_stays_empty():
    way = ("em-mmps", "MMPS")
    assert reports.in_mean(TOY, way, "PSNR", 2) == "20.50"
    assert reports.by_seed(TOY, way, "PSNR", 1) == "20.0, 21.0"
    assert reports.in_mean(TOY, ("observed", "as it is"), FD, 0) == ""
    assert reports.by_seed(TOY, ("diem", "MMPS"), "PSNR", 1) == ""
    with pytest.raises(ValueError, match="no row of toy has 'FID'; there are FD-AlexNet, LPIPS, PSNR"):
        reports.in_mean(TOY, way, "FID", 0)


def test_records_side_by_side_have_a_row_for_each_way():
    diem = row("diem", "MMPS", 0, 12.345, LPIPS=0.3)
    other = {"experiment": "other", "rows": [diem, row("observed", "as it is", 0, 11, LPIPS=0.6, **{FD: 50.0})]}
    head, rows = reports.side_by_side("set", {"toy": TOY, "other": other})
    measures = ("PSNR", "LPIPS", "FD")
    assert head == ["set", *(f"{title}: {measure}" for title in ("toy", "other") for measure in measures)]
    assert rows == [
        ["broken pictures", "10.00", "0.500", "", "11.00", "0.600", "50"],
        ["DiEM", "", "", "", "12.35", "0.300", ""],
        ["EM, DPS, paper's rule", "18.00", "0.200", "40", "", "", ""],
        ["EM, MMPS", "20.00, 21.00", "0.150", "31", "", "", ""],
        ["clean prior, DPS", "21.00", "0.100", "20", "", "", ""],
        ["clean prior, MMPS", "23.00", "0.100", "20", "", "", ""],
    ]


def test_a_column_by_others():
    assert reports.indexed(TOY["rows"], "floor", "method", "seed") == {
        ("em-mmps", 0): 3.0,
        ("em-dps-paper", 0): 3.5,
        ("em-mmps", 1): 3.0,
    }
    assert reports.indexed(TOY["rows"][:2], "PSNR", "method") == {"observed": 10, "em-mmps": 20}
    with pytest.raises(ValueError, match="two rows have PSNR for ceiling; name more keys than method"):
        reports.indexed(TOY["rows"], "PSNR", "method")


def test_priors_that_were_drawn_from_again_are_known_by_their_files():
    rows = [
        {"prior": "runs/table/seed-1/em-mmps/prior_03.safetensors", "way": "DDIM", "steps": 25, FD: 1.0, "n": 9},
        {"prior": "runs/table/seed-1/ceiling.safetensors", "way": "ancestral", "steps": 50, FD: 2.0, "n": 8},
        {"prior": "50 real pictures, again and again", FD: 3.0, "n": 7},
    ]
    first, second = {"rows": rows[:1]}, {"rows": rows[1:]}
    assert reports.redrawn([first, second]) == {
        ("table", "em-mmps", ("DDIM", 25)): 1.0,
        ("table", "ceiling", ("ancestral", 50)): 2.0,
    }
    assert list(reports.redrawn([first], "n").values()) == [9]


def test_methods_rank_by_their_best_way_among_those_that_count():
    assert reports.ranking(TOY) == ["ceiling", "em-mmps", "em-dps-paper", "observed"]
    assert reports.ranking(TOY, {"DPS"}) == ["ceiling", "em-dps-paper"]
    assert reports.in_order(["ceiling", "em", "observed"]) == "clean prior > EM > broken pictures"


def test_the_papers_order_is_that_of_the_methods_that_both_have():
    reported = {
        "observed": Reported(10, 0, 0),
        "ambient": Reported(11, 0, 0),
        "ceiling": Reported(13, 0, 0),
        "em": Reported(12, 0, 0),
    }
    assert reports.paper_ranking(reported) == ["ceiling", "em", "ambient", "observed"]
    assert reports.order_holds(TOY, reported)
    assert not reports.order_holds(TOY, reported | {"em": Reported(14, 0, 0)})


def test_dots_stand_by_their_names_from_top_to_bottom():
    _, ax = plt.subplots()
    series = {"paper": {"a": 10.0}, "ours": {"b": 20.0, "a": -30.0}}
    paper, ours = reports.dots(ax, series, {"a": "A", "b": "B"}, apart=0.2, markersize=7)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["A", "B"]
    assert ax.yaxis_inverted()
    assert paper.get_marker() == "*"
    assert paper.get_xydata().tolist() == [[10, pytest.approx(-0.1)]]
    assert ours.get_xydata().tolist() == [[-30, pytest.approx(0.1)], [20, pytest.approx(1.1)]]
    assert ours.get_markersize() == 7
    plt.close()


def test_rows_as_cells_have_a_column_for_each_key():
    head, rows = reports.as_cells([{"a": 1.23456, "b": "long"}, {"b": "x", "c": 2}])
    assert head == ["a", "b", "c"]
    assert rows == [["1.235", "long", ""], ["", "x", "2"]]


def test_the_papers_tables_have_this_librarys_tasks_and_methods():
    assert str(TABLE_1["mask"]["em"]) == "24.70 / 0.009 / 21"
    assert TABLE_1["blur"]["ceiling"].fid == 10.24
    for table in (TABLE_1, TABLE_4):
        assert set(table) == set(TASKS)
    assert {method for task in TASKS for method in TABLE_1[task]} <= {*NAMES, "em"}
    assert all(set(TABLE_4[task]) <= {"observed", *FIRST_PRIORS} for task in TASKS)
    # what two tables report of one thing agrees
    for task in TASKS:
        assert TABLE_4[task]["observed"] == TABLE_1[task]["observed"].psnr
    assert all(TABLE_5[method][60] == TABLE_1["mask"][method].fid for method in ("ambient", "em"))
