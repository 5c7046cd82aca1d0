"""Command lines out of a grammar of options with bad values: each is refused in a sentence, and nothing is written.

Only what cannot begin to work is tried in earnest: ``em`` by its dry run, the others with something that is not there.
A line that ends well although one of its values means nothing (:data:`RIGHT`) has ended badly.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from emlib.cli.main import main
from emlib.guidance.rules import RULES
from emlib.operators import OPERATORS
from emlib.posterior import SAMPLERS
from emlib.runs.job import STARTS
from emlib.runs.presets import PRESETS

LIMIT = 120
"""Seconds after which a command line hangs."""


class Hang(BaseException):
    """No answer within :data:`LIMIT`; no error that a command catches, or a hang would be counted as a refusal."""


NUMBERS = [
    "0",
    "1",
    "-1",
    "2",
    "7",
    "0.5",
    "1e-9",
    "0.9999999",
    "1e300",
    "-1e300",
    "nan",
    "inf",
    "-inf",
    "1e-300",
    "99999999999999999",
    "abc",
]
NUMBERS += ["", "1" * 400, "0x10", "1_0", "٣", "½", " 1", "1,5", "--", "1e", "9" * 19]
PLACES = [
    "new",
    "new/deep/x",
    "file",
    "file/x",
    "dir",
    "dangling",
    "loop",
    "mine.json",
    "mine.png",
    "mine.safetensors",
    "deep.json",
    "null.json",
]
PLACES += [
    "",
    ".",
    "..",
    "/proc/x",
    "/dev/null",
    "/dev/full",
    "n" * 300,
    "a\udcff",
    "a\0b",
    "x.json",
    "x.png",
    "é.json",
]
PLACES += ["~", "-", "*", "a b.json", "a\nb", "https://x/y", "no/such", "x.safetensors", "t.json", "cut.safetensors"]
NAMES = [
    "",
    "mask",
    "blur",
    "noise",
    "box",
    "motion",
    "downsample",
    "grey",
    "haze",
    "file:X",
    "code.py:X",
    "code.py:",
    ":",
]
NAMES += [
    "code.py:Odd",
    "dir:X",
    "smoke",
    "pocket",
    "dps",
    "mmps",
    "clean",
    "gaussian",
    "auto",
    "sure",
    "n" * 300,
    "a\0b",
]
EXPERIMENTS = ["null.json", "deep.json", "mine.json", "odd1.json", "odd2.json", "odd3.json", "odd4.json", "absent", ""]

TASK = {
    "--operator": NAMES, "--fraction": NUMBERS, "--noise-std": NUMBERS, "--sampler": NAMES, "--scale": NUMBERS + NAMES,
    "--seed": NUMBERS, "--data": PLACES + NAMES, "--side": NUMBERS, "--length": NUMBERS, "--factor": NUMBERS,
}  # fmt: skip
OPTIONS = {
    "em": TASK | {
        "--start": PLACES + NAMES, "--iterations": NUMBERS, "--folder": PLACES, "--out": PLACES, "--e-batch": NUMBERS,
        "--train-batch": NUMBERS, "--tensorboard": PLACES, "--device": NAMES + ["T4"],
    },
    "train": {"--data": PLACES, "--seed": NUMBERS, "--preset": NAMES},
    "reconstruct": TASK | {"--picture": PLACES},
    "restore": {
        "--out": PLACES, "--clean": PLACES, "--start": NAMES, "--minutes": NUMBERS, "--blur": NAMES + PLACES,
        "--noise": NUMBERS, "--missing": NUMBERS, "--masks": PLACES, "--truth": PLACES, "--draws": NUMBERS,
        "--seed": NUMBERS,
    },
    "evaluate": {
        "--data": PLACES, "--samples": NUMBERS, "--steps": NUMBERS, "--eta": NUMBERS, "--seed": NUMBERS,
        "--batch": NUMBERS, "--feature": NAMES, "--folder": PLACES, "--out": PLACES,
    },
    "export": {"--result": PLACES},
    "experiment": {
        "--data": PLACES, "--preset": NAMES, "--methods": NAMES, "--seeds": NUMBERS, "--folder": PLACES,
        "--out": PLACES,
    },
    "cost": {"--preset": NAMES, "--device": NAMES + ["T4"], "--sampler": NAMES, "--scale": NUMBERS + NAMES},
}  # fmt: skip
BAD_PRIORS = ["absent.safetensors", "file", "dir", "mine.safetensors", "cut.safetensors", "a\0b", "n" * 300, "loop", ""]


def _number(low: float, high: float, kind: Callable[[str], float] = int) -> Callable[[str], bool]:
    """Says whether a word is a number from ``low`` to ``high``; NaN lies nowhere."""

    def right(word: str) -> bool:
        try:
            return low <= kind(word) <= high
        except ValueError:
            return False

    return right


POSITIVE = 5e-324
"""The least number above 0."""

RIGHT: dict[str, Callable[[str], bool]] = {
    "--seed": _number(0, 2**32 - 1),
    "--noise-std": _number(0, 1000, float),
    "--fraction": _number(1e-4, 1 - 1e-4, float),  # else it hides nothing of pictures this small, or all
    "--side": _number(1, 1e6, float),
    "--length": _number(POSITIVE, 1e6, float),
    "--factor": _number(1, 1e6, float),
    "--iterations": _number(1, 10**6),
    "--e-batch": _number(1, 10**6),
    "--train-batch": _number(1, 10**6),
    "--scale": lambda word: word in RULES or _number(POSITIVE, 1e308, float)(word),
    "--operator": lambda word: word in OPERATORS,
    "--sampler": lambda word: word in SAMPLERS,
    "--preset": lambda word: word in PRESETS,
    "--start": lambda word: word in STARTS,
    "--data": lambda word: word in ("embedded", "cifar10", "celeba", "faces"),
    "--folder": lambda word: word not in ("", "file", "file/x", "dangling", "loop", "a\0b", "a\udcff", "n" * 300),
    "--out": lambda word: word in ("new/deep/x.json", "x.json", "t.json", "é.json", "a b.json"),
}
"""What a word must be to mean anything, by its option: needed, not enough. Of folders none holds a picture."""

OWNED = {f"--{name}": kind.name for kind in OPERATORS.values() for name in kind.parameters}
"""Options that one operator has and no other."""


def nonsense(words: list[str]) -> str:
    """The first word of a line that means nothing there, with its option; empty if none is known to."""
    given = {name: word for name, word in zip(words, words[1:], strict=False) if name in RIGHT}
    for name, word in given.items():
        if not RIGHT[name](word):
            return f"{name} {word[:40]}"
    operator = given.get("--operator", "mask")
    strange = [name for name, own in OWNED.items() if name in given and operator != own]
    return f"{strange[0]} with {operator}" if strange else ""


def line(dice: random.Random) -> list[str]:
    """One command line."""
    if dice.random() < 0.03:
        odd = ["--help", "", "x", "-x", "--version", "\0"]
        return dice.sample([*sorted(OPTIONS.keys() - {"em"}), *odd], dice.randint(0, 3))
    command = dice.choice([*OPTIONS, "em", "em", "em"])
    words = [command]
    if command == "em":
        words.append("--dry-run")
    elif command in ("reconstruct", "evaluate", "export"):
        words += ["--prior", dice.choice(BAD_PRIORS)]
    elif command == "train":
        words += ["--out", dice.choice([place for place in PLACES if not place.endswith(".safetensors")])]
    elif command == "restore":
        words.append(dice.choice(["absent", "dir", "file", "", "n" * 300, "a\0b", "loop"]))
    elif command == "experiment":
        words.append(dice.choice(EXPERIMENTS))
    if command == "export":
        words += ["--out", dice.choice(PLACES)]
    options = OPTIONS[command]
    for name in dice.sample(sorted(options), dice.randint(0, min(4, len(options)))):
        words += [name, dice.choice(options[name])]
    return words


def fuzz(count: int, seed: int = 0) -> Iterator[tuple[list[str], str]]:
    """Tries command lines one after another in an empty folder; yields each with how it ended, "ok" or "refused"."""
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory() as outer, _inside(Path(outer) / "room"), _quick():
        _furnish()
        before = _listing(Path(outer))
        for _ in range(count):
            words = line(dice)
            end = tried(words)
            if end == "ok" and (taken := nonsense(words)):
                end = f"wrong: {taken} was taken"
            if (now := _listing(Path(outer))) != before:
                end, before = f"wrong: files changed: {sorted(map(str, dict(now.items() ^ before.items())))[:3]}", now
            yield words, end


def tried(words: list[str]) -> str:
    """How one command line ends."""
    out, err = io.StringIO(), io.StringIO()
    signal.signal(signal.SIGALRM, _hangs)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(list(words))
    except SystemExit as error:  # argparse's own way
        status = error.code
    except BaseException as error:  # whatever it is, it is what is looked for
        return f"wrong: {type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if status not in (0, 2):
        return f"wrong: status {status!r}"
    if status == 2 and not (err.getvalue().strip() or "missing" in out.getvalue()):
        return "wrong: refused without a word"
    return "ok" if status == 0 else "refused"


def _hangs(*_: object) -> None:
    raise Hang(f"no answer after {LIMIT} s")


def _furnish() -> None:
    """Files of all sorts, none of them ours."""
    Path("file").write_text("x")
    Path("dir").mkdir()
    os.symlink("nowhere", "dangling")
    os.symlink("loop", "loop")
    Path("mine.json").write_text('{"a": 1}')
    Path("mine.png").write_bytes(b"\x89PNG of mine")
    Path("mine.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    Path("cut.safetensors").write_bytes(b"\xff\0\0\0\0\0\0\0{")
    Path("deep.json").write_text("[" * 100_000)
    Path("null.json").write_text("null")
    Path("code.py").write_text("class Odd: pass\n")
    good = {"about": "", "preset": "smoke", "operator": "mask", "methods": ["observed"], "seeds": [0]}
    for i, odd in enumerate(({"seeds": [-1]}, {"methods": []}, {"fraction": "x"}, {"operator": "haze"}), 1):
        Path(f"odd{i}.json").write_text(json.dumps({**good, **odd}))


def _listing(folder: Path) -> dict[Path, tuple[int, int]]:
    """All that there is, with sizes and times, so that any change is seen."""
    found = {}
    for path in folder.rglob("*"):
        about = path.lstat()
        found[path] = (about.st_size if path.is_file() else 0, 0 if path.is_dir() else about.st_mtime_ns)
    return found


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Works in a new folder, and comes back."""
    before = Path.cwd()
    folder.mkdir()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def _quick() -> Iterator[None]:
    """The smallest preset, an empty cache, no network, and no timing of the machine, which tells nothing here."""
    room = {"EMLIB_PRESET": "smoke", "EMLIB_DATASETS": "nowhere", "HF_HUB_OFFLINE": "1"}
    with (
        mock.patch.dict(os.environ, room),
        mock.patch("emlib.planning.dry_run.rate_here", return_value=(1e12, "not timed")),
        mock.patch("emlib.planning.cost._measured", return_value=1e12),
    ):
        yield
