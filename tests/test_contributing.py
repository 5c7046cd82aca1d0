"""CONTRIBUTING.md's own code, run: what it tells a reader to write keeps the contract and serves the commands.

CHANGELOG.md beside it: old paths lead where it says.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import emlib
from emlib import aliases, posterior
from emlib.cli.main import main
from emlib.experiments import methods
from emlib.experiments.config import read_experiment
from emlib.operators import OPERATORS, find_operator
from emlib.testing import check_operator, check_sampler

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = {
    re.search(r"emlib/\S+\.py", code).group(): code for code in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
}
"""What the text says of each file, by the path in its first line."""
NEW = {"experiments/NAME.json", "book/15_name.md", "book/15_name.ipynb"}
"""Paths that a reader makes."""
TABLES = {
    "LATER": "emlib/em/identity.py",
    "METHODS": "emlib/experiments/methods.py",
    "OPERATORS": "emlib/operators/registry.py",
    "OURS": "tests/test_contract.py",
    "SAMPLERS": "emlib/posterior/registry.py",
}
"""Where a line is to be added."""


def written(folder: Path, path: str) -> Path:
    file = folder / Path(path).name
    file.write_text(FILES[path], encoding="utf-8")
    return file


@pytest.fixture
def toy(toy_preset, tmp_path):
    """The folder that the toy preset is run in."""
    return tmp_path


@pytest.fixture
def sampler():
    """The sampler of the text, and its name."""
    scope: dict = {}
    exec(FILES["emlib/posterior/ddnm.py"], scope)  # our own text
    return scope["ddnm"]


@pytest.fixture
def registered(monkeypatch, sampler):
    """The registry with the line of the text."""
    line = FILES["emlib/posterior/registry.py"].splitlines()[-1]
    more = eval(f"{{{line}}}", {"SamplerRecord": posterior.SamplerRecord, "ddnm": sampler})  # our own text
    assert list(more) == ["ddnm"]
    monkeypatch.setitem(posterior.SAMPLERS, "ddnm", more["ddnm"])


def test_the_operator_keeps_the_contract(tmp_path):
    file = written(tmp_path, "emlib/operators/slices.py")
    kind = find_operator(f"{file}:Slices")
    check_operator(kind(2))
    check_operator(kind(4), (3, 16, 8))
    for thickness in (0, 1.5):
        with pytest.raises(ValueError, match="a whole thickness"):
            kind(thickness)


def test_the_command_line_takes_the_operator_with_its_parameter(toy):
    written(toy, "emlib/operators/slices.py")
    words = ["--operator", "slices.py:Slices", "--thickness", "4", "--preset", "toy", "--out", "result.json"]
    assert main(["em", *words]) == 0
    settings = json.loads((toy / "result.json").read_text())["settings"]
    assert (settings["operator"], settings["thickness"]) == ("slices", 4.0)


def test_the_sampler_keeps_its_promises(sampler):
    check_sampler(sampler)


def test_commands_and_methods_know_the_sampler_by_its_line(toy, registered, monkeypatch, capsys):
    assert main(["em", "--sampler", "ddnm", "--preset", "toy", "--out", "result.json"]) == 0
    assert json.loads((toy / "result.json").read_text())["settings"]["sampler"] == "ddnm"
    assert main(["cost", "--sampler", "ddnm", "--preset", "toy", "--device", "H100"]) == 0
    assert "EM with ddnm" in capsys.readouterr().out
    key, method = re.search(r'`"([\w-]+)": (by_em\("ddnm"\))`', TEXT).groups()
    monkeypatch.setitem(methods.METHODS, key, eval(method, {"by_em": methods.by_em}))  # our own text
    said = {"about": "A toy.", "preset": "toy", "operator": "mask", "methods": [key], "seeds": [0]}
    (toy / "own.json").write_text(json.dumps(said))
    assert main(["experiment", "own.json", "--preset", "toy"]) == 0
    (row,) = json.loads((toy / "runs" / "own-toy.json").read_text())["rows"]
    assert (row["method"], row["by"]) == (key, "DDNM")


def test_the_experiment_is_one(tmp_path):
    (said,) = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "NAME.json").write_text(said)
    experiment = read_experiment(str(tmp_path / "NAME.json"))
    assert experiment.operator in OPERATORS
    assert experiment.sizes().name == "pocket"
    assert emlib.preset(experiment.preset).data == "embedded", "a reader tries it without a network"


def test_what_the_text_names_is_there():
    paths = set(re.findall(r"`((?:emlib|book|tests|experiments|data)/[\w./-]*\w)`", TEXT))
    assert paths > NEW
    assert {path for path in paths if not (ROOT / path).exists()} == NEW
    for name, path in TABLES.items():
        assert f"`{name}`" in TEXT
        assert f"`{path}`" in TEXT
        assert re.search(rf"^{name}\b.*= ", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
    rooms = [room for line in re.findall(r"^\| (`.*?) \|", TEXT, re.MULTILINE) for room in re.findall(r"`(\w+)`", line)]
    there = {path.stem for path in (ROOT / "emlib").iterdir() if not path.name.startswith("_")}
    assert set(rooms) == there - {"aliases"}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = set(re.findall(r"`make ([a-z-]+)", TEXT))
    assert commands
    assert [name for name in commands if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []


def test_the_layers_stand_as_the_contract_has_them():
    from test_frame import load_toml

    (contract,) = load_toml(ROOT / "pyproject.toml")["tool"]["importlinter"]["contracts"]
    lines = re.findall(r"^\| (`.*?) \|", TEXT, re.MULTILINE)
    assert [set(re.findall(r"`(\w+)`", line)) for line in lines] == [
        set(layer.split(" | ")) for layer in contract["layers"]
    ]


def test_the_changelog_has_this_release_and_every_old_path():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)[:2] == ["Unreleased", emlib.__version__]
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", text, re.MULTILINE)
    assert {old: tuple(re.findall(r"`(.+?)`", new)) for old, new in rows} == aliases.OLD
