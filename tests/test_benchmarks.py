"""Each benchmark runs at its smallest size and records what it says it does; times are not judged."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import emlib
from emlib.own import plan as own_plan
from emlib.planning.budgets import Budget, Speeds
from emlib.runs.record import read_result

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
# column that names a row, and rows that must be there
SCRIPTS = {
    "e_step": ("sampler", ["deepinv DPS", "our DPS", "our MMPS"]),
    "samplers": (
        "sampler",
        ["DPS-3 scale 1", "DPS-2 scale 1", "MMPS-2 CG 1", "MMPS-2 CG 2", "PiGDM-2", "DiffPIR-2"],
    ),
    "training": ("network", ["diffusers", "diffusers, channels last", "ours", "ours, folded as in the preset"]),
    "gpu": (
        "work",
        [
            "training, diffusers",
            "training, ours",
            "E-step, deepinv DPS",
            "E-step, our DPS",
            "E-step, our MMPS",
        ],
    ),
    "scaling": ("way", ["1 process, 1 thread", "1 process, 2 threads", "2 processes, 1 thread each"]),
}


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def test_every_script_is_tested_and_explained():
    # these have options of their own, and tests below
    others = (
        "lambda_rules",
        "sure_overfit",
        "drawing",
        "folding",
        "solvers",
        "optimizers",
        "gpu_minutes",
        "restore_sets",
        "lab",
        "startup",
        "tables",
    )
    assert {path.stem for path in FOLDER.glob("*.py")} == {*SCRIPTS, *others}
    readme = (FOLDER / "README.md").read_text()
    assert [name for name in (*SCRIPTS, *others) if f"`python benchmarks/{name}.py`" not in readme] == []


@pytest.fixture
def toy_blur(tmp_path):
    """The words that name an experiment of seconds, on blur."""
    said = {"about": "A toy.", "preset": "smoke", "operator": "blur", "methods": ["observed"], "seeds": [0]}
    (tmp_path / "toy.json").write_text(json.dumps(said))
    return ["--experiment", str(tmp_path / "toy.json")]


def test_each_solver_restores_with_and_without_noise(script, toy_blur, tmp_path, capsys):
    out = tmp_path / "result.json"
    assert script("solvers").main([*toy_blur, "--quick", "--out", str(out)]) == 0
    rows = read_result(out)["rows"]
    ways = [("plain", n) for n in (1, 2, 4, 8)] + [("preconditioned", n) for n in (1, 2, 4)]
    assert [(row["noise_std"], row["solver"], row["steps"]) for row in rows] == [
        (s, *way) for s in (0.0, 0.05) for way in ways
    ]
    assert all(row["ratio"] == 1 for row in rows if ways.index((row["solver"], row["steps"])) == 4)
    assert len({row["PSNR"] for row in rows}) == len(rows)
    assert len(capsys.readouterr().out.splitlines()) == len(rows)
    assert script("solvers").main([*toy_blur, "--pictures", "0"]) == 2
    assert "--pictures is 0, but 1 to 8 are held out" in capsys.readouterr().err


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_quick_run_prints_and_records_its_rows(script, tmp_path, capsys, monkeypatch, name):
    # In new processes threads that wait do not spin, which takes minutes where there are more of them than free cores.
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    out = tmp_path / "result.json"
    script(name).main(["--quick", "--out", str(out)])
    record, (column, names) = read_result(out), SCRIPTS[name]
    assert [row[column] for row in record["rows"]] == names
    assert record["rows"][0]["ratio"] == 1
    assert all(row["ratio_min"] <= row["ratio"] <= row["ratio_max"] for row in record["rows"])
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row[column] for row in printed] == names
    if name == "gpu":
        assert all(row["share_of_peak"] > 0 for row in record["rows"])
        assert record["settings"]["matmul_flops_per_s"] > 0
    if name == "scaling":
        assert all(row["largest_difference"] < 1e-3 for row in record["rows"])
    if name == "samplers":
        assert [row["gradients"] for row in record["rows"]] == [3, 2, 2, 4, 2, 0]


def test_rounds_alternate_their_order_and_ratios_are_those_of_a_round(script, monkeypatch):
    e_step = script("e_step")
    clock, order = [0.0], []
    monkeypatch.setattr(e_step.time, "perf_counter", lambda: clock[0])

    def work(name, seconds):
        def run():
            order.append(name)
            clock[0] += seconds * len(order)  # a machine that becomes slower and slower

        return run

    seconds = e_step.alternated({"slow": work("slow", 2.0), "fast": work("fast", 1.0)}, 3)
    assert order == ["slow", "fast", "fast", "slow", "slow", "fast"]
    assert seconds == {"slow": [2.0, 8.0, 10.0], "fast": [2.0, 3.0, 6.0]}
    assert e_step.ratio(seconds, "fast", "slow") == {"ratio": 10 / 6, "ratio_min": 1.0, "ratio_max": 8 / 3}
    with pytest.raises(ValueError, match="repeats=0"):
        e_step.alternated({}, 0)


def test_deepinv_is_handed_the_same_denoiser(script, net, schedule):
    x0, z = torch.rand(2, 1, 2, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5
    denoiser = script("e_step").Denoiser(net, schedule)
    for t in (0, 400, 999):
        x_t = emlib.add_noise(schedule, x0.transpose(0, 1), t, z.transpose(0, 1))
        with torch.no_grad():
            ours = emlib.predict_x0(net(x_t, torch.full((2,), t)), schedule, x_t, t)
            level = (schedule.sigma(t) / schedule.alpha(t)).item()
            theirs = denoiser(x_t / schedule.alpha(t), level)
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)


def test_the_rules_for_lambda_are_held_against_the_oracle(script, tmp_path, capsys, tiny):
    prior, out = tmp_path / "prior.safetensors", tmp_path / "lambda.json"
    emlib.save_unet(emlib.build_unet(tiny, 0), prior)
    words = ["--operator", "noise", "--prior", str(prior), "--preset", "smoke", "--probe", "8", "--evaluation", "8"]
    more = ["--scales", "0.5", "1", "2", "4", "--rules", "auto", "residual", "--out", str(out)]
    assert script("lambda_rules").main([*words, *more]) == 0
    record = read_result(out)
    chosen = {row["rule"]: row for row in record["rows"] if "rule" in row}
    curve = {row["scale"]: row for row in record["rows"] if "rule" not in row}
    assert set(chosen) == {"oracle", "auto", "residual", "search"}
    assert set(curve) == {0.5, 1.0, 2.0, 4.0}
    assert chosen["oracle"]["probe_gap"] == 0
    best = max(row["probe_psnr"] for row in curve.values())
    assert all(row["probe_gap"] == pytest.approx(best - row["probe_psnr"], abs=2e-3) for row in chosen.values())
    assert chosen["residual"]["scale"] == min(curve, key=lambda scale: curve[scale]["score_residual"])
    assert record["settings"]["auto"] == "recorrupted"
    assert script("lambda_rules").main([*words[:2], "--prior", "absent", "--out", str(out)]) == 2
    assert "absent" in capsys.readouterr().err


def test_sure_is_followed_on_what_it_was_trained_on_and_on_other_pictures(script, tmp_path, capsys):
    out, module = tmp_path / "result.json", script("sure_overfit")
    words = ["--preset", "smoke", "--weights", "0.1", "--every", "3", "--pictures", "8", "--out", str(out)]
    assert module.main(words) == 0
    rows = read_result(out)["rows"]
    assert [row["updates"] for row in rows] == [0, 3]  # ten on clean pictures come before
    # a denoiser that has seen no noisy picture yet is told rightly by SURE on either kind
    for name in ("seen", "held out"):
        assert rows[0][f"SURE, {name}"] == pytest.approx(rows[0][f"error, {name}"], rel=0.3)
    assert module.main(["--every", "0"]) == 2
    assert "both at least 1" in capsys.readouterr().err


def test_each_prior_is_drawn_from_in_each_way(script, tmp_path, capsys, monkeypatch):
    module, prior, out = script("drawing"), tmp_path / "prior.safetensors", tmp_path / "result.json"
    p = emlib.preset("smoke")
    emlib.save_unet(emlib.build_unet(p.unet, 0), prior)
    monkeypatch.setattr("emlib.metrics.alexnet.alexnet_missing", lambda: "")
    monkeypatch.setattr(module.summary, "features_or_none", lambda real: real)
    crowds = []
    monkeypatch.setattr(module.summary, "with_floor", lambda x, crowd: crowds.append(x) or {"n": len(x)})
    words = ["--prior", str(prior), "--preset", "smoke", "--ddim", "2", "--ancestral", "2", "3", "--out", str(out)]
    assert module.main([*words, "--seed", "4"]) == 0
    rows = read_result(out)["rows"]
    assert [(row["way"], row["steps"]) for row in rows] == [("DDIM", 2), ("ancestral", 2), ("ancestral", 3)]
    assert [row["brightness"] for row in rows] == [pytest.approx(x.mean().item()) for x in crowds]
    # the first crowd is the one that the tables take, the others are those of ancestral sampling
    net, schedule = emlib.load_unet(prior).eval(), emlib.linear_schedule()
    for x, (steps, eta) in zip(crowds, [(p.sample_steps, 0.0), (2, 1.0), (3, 1.0)], strict=True):
        wanted = torch.cat(list(emlib.diffusion.draw(net, schedule, (1, 28, 28), p.samples, steps, 4, eta=eta)))
        torch.testing.assert_close(x, wanted, rtol=1e-3, atol=1e-3)
    assert (crowds[1] - crowds[0]).abs().mean() > 2e-3
    crowds.clear()
    assert module.main([*words[:4], "--ddim", "--ancestral", "--copies", "3", "--out", str(out)]) == 0
    assert [row["prior"] for row in read_result(out)["rows"]] == ["3 real pictures, again and again"]
    assert len(crowds[0]) == p.samples
    torch.testing.assert_close(crowds[0][:7], emlib.make_task(p).real[[0, 1, 2, 0, 1, 2, 0]])
    assert module.main(["--prior", str(tmp_path / "absent")]) == 2
    assert "absent" in capsys.readouterr().err
    assert module.main([*words[:4], "--copies", "0"]) == 2
    assert "got 0" in capsys.readouterr().err
    assert module.main([*words[:4], "--ddim", "0"]) == 2
    assert "0" in capsys.readouterr().err


def test_a_network_is_trained_for_each_way_to_fold_and_restores_with_either_solver(
    script, toy_blur, tmp_path, capsys, monkeypatch
):
    out, module = tmp_path / "result.json", script("folding")
    priors, real = [], module.first_prior
    monkeypatch.setattr(module, "first_prior", lambda *how: priors.append(real(*how)) or priors[-1])
    assert module.main([*toy_blur, "--pictures", "4", "--out", str(out)]) == 0
    rows, p = read_result(out)["rows"], emlib.preset("smoke")
    assert [(prior.cfg.patch, prior.cfg.refine) for prior in priors] == [(2, p.unet.refine), (2, 0), (1, 0)]
    names = ["folded, two convolutions after", "folded", "not folded"]
    ways = [(name, solver) for name in names for solver in ("plain", "preconditioned")]
    assert [(row["network"], row["solver"]) for row in rows] == ways
    assert all(row["alternation"] > 0 for row in rows)
    assert len({row["PSNR"] for row in rows}) == 6
    assert module.main([*toy_blur, "--pictures", "9"]) == 2
    assert "1 to 8" in capsys.readouterr().err


def test_each_optimizer_trains_the_same_network_on_the_same_pictures(script, tmp_path, monkeypatch):
    out, module = tmp_path / "result.json", script("optimizers")
    monkeypatch.setattr("emlib.metrics.alexnet.alexnet_missing", lambda: "left out of this test")
    given, real = [], module.train

    def watched(model, schedule, images, updates, *how, optimizer):
        given.append((optimizer, updates, images, [w.detach().clone() for w in model.parameters()]))
        return real(model, schedule, images, updates, *how, optimizer=optimizer)

    monkeypatch.setattr(module, "train", watched)
    assert module.main(["--preset", "smoke", "--updates", "2", "3", "--pictures", "8", "--out", str(out)]) == 0
    rows = read_result(out)["rows"]
    assert [(row["optimizer"], row["updates"]) for row in rows] == [
        (name, n) for name in ("adamw", "muon") for n in (2, 3)
    ]
    assert [(name, n) for name, n, *_ in given] == [(row["optimizer"], row["updates"]) for row in rows]
    for _, _, images, weights in given:
        assert torch.equal(images, given[0][2])
        assert all(torch.equal(a, b) for a, b in zip(weights, given[0][3], strict=True))
    errors = [row["eps error, t = 350"] for row in rows]
    assert len(set(errors)) == 4
    assert all(0.5 < error < 1.5 for error in errors)  # a network of three updates answers next to nothing
    assert set(rows[0]) == {"optimizer", "updates", "lr", "seconds", "PSNR, mask", "PSNR, noise"} | {
        f"eps error, t = {t}" for t in module.TIMES
    }


def test_a_lent_gpu_s_script_reaches_every_part_and_leaves_each_result(tmp_path):
    """On a CPU, as a process of its own: it may pin itself to some of the cores."""
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for i in range(600):  # no more than a distance takes
        Image.fromarray(rng.integers(0, 256, (28, 28), dtype=np.uint8)).save(tmp_path / "pictures" / f"{i}.png")
    words = ["--quick", "--out", str(tmp_path / "out"), "--runs", str(tmp_path / "runs")]
    words += ["--data", str(tmp_path / "pictures")]
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu_minutes.py", *words], cwd=FOLDER.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = {path.stem: read_result(path) for path in (tmp_path / "out").glob("*.json")}
    assert set(found) == {"gpu", "gpu-compiled", "gpu-em-mask", "gpu-minutes-mask", "gpu-samples-mask", "gpu-tests"}
    assert [row["part"] for row in found["gpu-minutes-mask"]["rows"]] == ["tests", "speed", "em", "compiled", "samples"]
    assert {row["outcome"] for row in found["gpu-tests"]["rows"]} <= {"passed", "skipped"}
    assert found["gpu-em-mask"]["rows"][-1]["iteration"] == "held out"
    assert (tmp_path / "out" / "gpu-em-mask.png").is_file()


def test_a_part_that_is_cut_off_leaves_the_others(script, tmp_path, monkeypatch):
    lent = script("gpu_minutes")

    def late(args, ends, gate, beside):
        raise subprocess.TimeoutExpired("em", 3.0)

    parts = {"tests": lambda *_: "done", "em": late, "samples": lambda *_: "done"}
    monkeypatch.setattr(lent, "PARTS", parts)
    assert lent.main(["--out", str(tmp_path), "--runs", str(tmp_path / "runs")]) == 1
    rows = read_result(tmp_path / "gpu-minutes-mask.json")["rows"]
    assert [(row["part"], row["done"]) for row in rows] == [
        ("tests", "done"),
        ("em", "cut off after 3 s"),
        ("samples", "done"),
    ]


def test_a_set_is_repaired_and_judged_by_the_truth(script, tmp_path, monkeypatch):
    tiny = Budget("small", emlib.UNetConfig(channels=(8, 16), groups=4), 8, 2e-3, 0, 2, 3)
    monkeypatch.setattr("emlib.planning.budgets.BUDGETS", (tiny,))
    monkeypatch.setattr(own_plan, "timed_here", lambda p, device: lambda budget: Speeds(0.1, 0.02, 1e-4))
    monkeypatch.setattr("emlib.runs.progress.clock", lambda: 0.0)
    out = tmp_path / "result.json"
    script("restore_sets").main(["--quick", "--folder", str(tmp_path / "sets"), "--out", str(out)])
    (row,) = read_result(out)["rows"]
    assert row["pictures"] == 4
    assert row["recommended"] in ("mean", row["filter"])
    better = row["lead by truth"] > 0
    assert row["better"] == ("mean" if better else row["filter"])
    assert row["right"] == (row["better"] == row["recommended"])
    assert [p.name for p in (tmp_path / "result").iterdir()] == ["drawings-masks.png"]


def test_good_and_broken_pictures_of_a_set_share_no_pixel(script):
    sets = script("restore_sets")
    marked = np.arange(60 * 100, dtype=float).reshape(60, 100)
    kind = sets.Kind(("marked",), (16, 16))
    sets.whole, kept = lambda name: [marked], sets.whole
    try:
        good, rest = (
            np.unique(np.concatenate([x.ravel() for x in sets.crops(kind, 50, g, np.random.default_rng(0), margin)]))
            for g, margin in ((True, 0), (False, 2))
        )
    finally:
        sets.whole = kept
    assert len(good) > 1000
    assert len(rest) > 2000
    assert np.intersect1d(good, rest).size == 0


def test_the_pages_walks_are_timed_beside_emlibs(script, tmp_path):
    pytest.importorskip("playwright.sync_api", reason="playwright isn't installed")
    module, out = script("lab"), tmp_path / "result.json"
    if module.browser_here() is None:
        pytest.skip("no Chromium or Chrome on this machine")
    module.main(["--quick", "--out", str(out)])
    rows = read_result(out)["rows"]
    assert [row["walk"] for row in rows] == [
        f"{place} {name}" for name in ("DiffPIR", "DPS", "MMPS") for place in ("emlib", "page")
    ]
    assert [row["ratio"] for row in rows[::2]] == [1, 1, 1]
    assert all(row["seconds"] > 0 for row in rows)


def test_start_up_is_timed_in_processes_of_their_own(script, tmp_path):
    out = tmp_path / "result.json"
    script("startup").main(["--quick", "--out", str(out)])
    rows = read_result(out)["rows"]
    assert [row["way"] for row in rows] == ["import torch", "--help", "em --help", "a refused word", "a refused place"]
    assert all(row["processor seconds"] > 0 for row in rows)


@pytest.fixture
def toy_table(script, tmp_path, monkeypatch):
    # pictures alone, so that no process takes the time to see thousands of them with AlexNet
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "fashion-mnist").symlink_to(emlib.data.data_dir() / "fashion-mnist")
    for name in ("EMLIB_DATA", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "data"))
    words = ["table-embedded-mask:observed,classical", "--preset", "smoke", "--processes", "2"]
    return script("tables").main, [*words, "--out", str(tmp_path / "results"), "--folder", str(tmp_path / "runs")]


def test_missing_rows_of_tables_are_run_several_at_a_time_and_gathered(toy_table, tmp_path, capsys):
    main, words = toy_table
    table = tmp_path / "results" / "table-embedded-mask.json"
    assert main(["table-embedded-mask:observed", *words]) == 0, "one that is named twice is run once"
    said = capsys.readouterr().out
    assert [said.count(f"table-embedded-mask, {method}, seed 0: done") for method in ("observed", "classical")] == [
        1,
        1,
    ]
    rows = read_result(table)["rows"]
    assert [row["method"] for row in rows] == ["observed", "classical"]
    table.unlink()  # as if the last process had been killed before it could write it
    assert main([*words, "--minutes", "0.0001"]) == 0, "nothing is left to run"
    assert read_result(table)["rows"] == rows


def test_rows_that_the_clock_stops_or_that_fail_are_named(toy_table, tmp_path, capsys):
    main, words = toy_table
    assert main([*words, "--minutes", "0.0001"]) == 1
    assert capsys.readouterr().out.count("not finished") == 2
    assert main([*words, "--minutes", "0.0001", "--processes", "1", "--folder", str(tmp_path / "other")]) == 1
    said = capsys.readouterr().out
    assert (said.count("not finished"), said.count("not begun")) == (1, 1)
    (tmp_path / "in the way").write_text("a file")
    assert main([*words, "--folder", str(tmp_path / "third"), "--out", str(tmp_path / "in the way" / "results")]) == 1
    assert capsys.readouterr().out.count("failed") == 2


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["table-embedded-mask:magic"], "magic"),
        (["no-such-table"], "no-such-table"),
        (["table-embedded-mask", "--processes", "0"], "--processes 0"),
        (["table-embedded-mask", "--minutes", "nan"], "--minutes nan"),
        (["table-embedded-mask", "--preset", "smoke"], "--out"),
    ],
)
def test_tables_refuses_rows_that_there_are_not(script, capsys, wrong, says):
    assert script("tables").main(wrong) == 2
    assert says in capsys.readouterr().err
