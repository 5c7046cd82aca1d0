"""What was begun or written before the move goes on: run folders, recorded tables, module paths in old tabs."""

import importlib
import json
import subprocess
import sys
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import emlib
from emlib import aliases
from emlib.cli.main import parser
from emlib.em import RunFolder
from emlib.em.loop import _all_settings
from emlib.experiments.config import read_experiment
from emlib.posterior import find_sampler
from emlib.runs import presets
from emlib.runs.build import start_of, task_of
from emlib.runs.job import job_of

ROOT = Path(__file__).resolve().parent.parent
TABLES = sorted((ROOT / "data" / "results").glob("*/seed-*/settings.json"))
# settings.json as `em --preset smoke` wrote it at 5701f3e, with the same words
WRITTEN = {
    "--operator mask": {
        "unet": {
            "in_channels": 1,
            "channels": [16, 32],
            "blocks": 1,
            "attention": [False, False],
            "patch": 2,
            "dropout": 0.0,
            "groups": 16,
        },
        "iterations": 2,
        "init_updates": 10,
        "m_updates": 10,
        "train_batch": 16,
        "init_lr": 0.001,
        "m_lr": 0.001,
        "ema_decay": 0.995,
        "e_batch": 16,
        "shard": 128,
        "snapshot": 200,
        "phases": {
            "subset": 1.0,
            "reset_iterations": 0,
            "reset_updates": 0,
            "switch_scale": 0.06324555320336758,
            "patience": 3,
        },
        "flip": False,
        "speed": {"precision": "float32", "compile": False},
        "e_speed": None,
        "seed": 0,
        "sampler": "mmps",
        "scale": "none",
        "start": "clean",
        "e_steps": 4,
        "cg_steps": 1,
        "data": "Fashion-MNIST (10,000 test pictures)",
        "fingerprint": "cc1d090a38ace84d",
        "operator": "mask",
        "fraction": 0.6,
        "noise_std": 0.0,
        "pictures": 24,
        "inputs": "2d5dad131e0067a1",
    },
}
WRITTEN |= {
    "--operator noise --noise-std 0.2 --sampler dps": {
        **{key: value for key, value in WRITTEN["--operator mask"].items() if key != "fraction"},
        "sampler": "dps",
        "scale": "auto",
        "operator": "noise",
        "noise_std": 0.2,
        "inputs": "f5019ba8f26d158f",
    },
    "--operator blur --sampler diffpir --start preprocessed": {
        **{key: value for key, value in WRITTEN["--operator mask"].items() if key != "fraction"},
        "sampler": "diffpir",
        "start": "preprocessed",
        "operator": "blur",
    },
}


FORMER = replace(
    presets.SMOKE,
    unet=replace(presets.SMOKE.unet, refine=0),
    em=replace(
        presets.SMOKE.em, optimizer="adamw", init_lr=1e-3, m_lr=1e-3, m_updates=10, last_updates=0, clean_copies=0
    ),
)
"""Sizes of the preset when these folders were begun."""


@pytest.mark.parametrize("words", WRITTEN)
def test_a_run_folder_of_an_older_release_is_gone_on_with_where_it_would_end_the_same(words, tmp_path, monkeypatch):
    monkeypatch.setitem(presets.PRESETS, "smoke", FORMER)
    job = job_of(parser().parse_args(["em", "--preset", "smoke", *words.split()]))
    task, schedule = task_of(job), emlib.linear_schedule()
    start = start_of(job, task, schedule)
    about = {**job.about(), **task.about}
    now = _all_settings(task.measurements, start, job.preset.unet, schedule, job.settings, about)
    written = dict(WRITTEN[words])
    if job.operator == "blur":  # its matrix products may round otherwise on another processor, and so their fingerprint
        del written["inputs"], now["inputs"]
    now = json.loads(json.dumps(now))
    assert {key: written[key] for key in written if key != "unet"} == {k: now[k] for k in written if k != "unet"}
    assert set(now) - set(written) == {"optimizer", "solver", "clean_copies", "last_updates"}
    (tmp_path / "settings.json").write_text(json.dumps(written))
    if job.sampler == "mmps":  # its solver is another now, and half a run by each is neither
        with pytest.raises(ValueError, match=r"'solver': 'plain'.*'solver': 'preconditioned'"):
            RunFolder(tmp_path).refuse_others(now)
        now["solver"] = "plain"
    RunFolder(tmp_path).refuse_others(now)
    for other in ({"optimizer": "muon"}, {"unet": {**now["unet"], "refine": 8}}):
        with pytest.raises(ValueError, match="name another folder"):
            RunFolder(tmp_path).refuse_others({**now, **other})


@pytest.mark.parametrize("file", TABLES, ids=lambda file: f"{file.parts[-3]} {file.parts[-2]}")
def test_recorded_tables_still_belong_to_their_experiments(file):
    """A row may be added to each of them, or, where the recipe was another, to none."""
    experiment = read_experiment(file.parts[-3])
    seed = int(file.parts[-2].removeprefix("seed-"))
    said = {key: value for key, value in asdict(experiment).items() if key not in ("about", "methods", "seeds")}
    written = json.loads(file.read_text())
    now = {**said, **asdict(experiment.sizes()), "seed": seed, "data": written["data"]}
    now["solver"] = find_sampler("mmps").solver
    if "solver" in written:
        RunFolder(file.parent).refuse_others(now)
        now["e_steps"] += 1
    with pytest.raises(ValueError, match="another folder"):
        RunFolder(file.parent).refuse_others(now)


@pytest.mark.parametrize("old", aliases.OLD)
def test_an_old_module_path_leads_to_the_new_one_with_a_warning(old):
    sys.modules.pop(f"emlib.{old}", None)
    with pytest.warns(FutureWarning, match=rf"emlib\.{old} is now emlib\."):
        module = importlib.import_module(f"emlib.{old}")
    for place in aliases.OLD[old]:
        new = importlib.import_module(f"emlib.{place}")
        names = [name for name, x in vars(new).items() if getattr(x, "__module__", "") == new.__name__]
        assert all(hasattr(module, name) for name in names)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        module.nothing  # noqa: B018


# what chapters of the release before imported, and what it is now
IMPORTED = {
    "results": "read_result",
    "tables": "NAMES labels over_seeds score table",
    "rules": "recorrupted RULES check",
    "settings": "EMSettings Phases over",
    "cost": "plan sustained network_cost total SAMPLERS",
    "presets": "PRESETS Preset preset",
    "evaluate": "draw against_truth with_interval",
    "experiment": "LAST_DRAWS read_experiment METHODS run_missing",
    "gathering": "pictures_of",
    "contenders": "Outcome Setting",
}


@pytest.mark.parametrize("old", IMPORTED)
def test_what_chapters_imported_is_found(old):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        module = importlib.import_module(f"emlib.{old}")
    for name in IMPORTED[old].split():
        assert getattr(module, name) is not None


def test_importing_the_library_warns_of_nothing():
    code = "import warnings; warnings.simplefilter('error', FutureWarning); import emlib; import emlib.cli.main"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_top_shows_the_ideas():
    """At most twelve files beside the rooms, and no stub among them."""
    files = list((ROOT / "emlib").glob("*.py"))
    assert len(files) <= 12
    assert all(len(file.read_text().splitlines()) > 5 for file in files)
