"""All that a GPU is wanted for, in the minutes that one is lent: tests, speed, and EM on photographs.

In this order, each part a process of its own whose result is on disk the moment it stands: what only a GPU can test;
training and E-step against diffusers, deepinv and the card's peak; EM for the minutes that are left, and the distance
of ten thousand of its samples. A network is compiled beside all this, which takes minutes of half of the processor's
cores, and timed when EM is done. Nothing is fetched: pictures are those of ``--data``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # a lent machine has the folder, and nothing installed

from emlib.runs.record import write_result  # noqa: E402
from emlib.runtime.device import pick_device  # noqa: E402

TASKS = {
    "mask": ["--operator", "mask", "--fraction", "0.6"],
    "noise": ["--operator", "noise", "--noise-std", "0.2"],
    "blur": ["--operator", "blur", "--noise-std", "0.05"],
}
"""Words of ``emlib em`` for each task."""
TESTS = ("tests/test_gpu.py", "tests/test_speed.py", "tests/test_placing.py")
SCORES, COMPILED = 45, 15
"""Seconds kept back for the samples' distance and for the compiled network."""


def options() -> argparse.ArgumentParser:
    """What the script understands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=9.0, help="for all of it (default: %(default)s)")
    parser.add_argument("--task", choices=TASKS, default="mask", help="what EM mends (default: mask)")
    parser.add_argument("--data", help="a folder of pictures, or a name as for em (default: the preset's)")
    parser.add_argument("--preset", default="colab", help="gives pictures and clean ones (default: colab)")
    parser.add_argument("--samples", type=int, default=10_000, help="of the last prior (default: %(default)s)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="(default: all)")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "results", help="folder of the results")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="folder of EM's run (default: runs)")
    parser.add_argument("--quick", action="store_true", help="smallest sizes, to see that all parts run; on a CPU, too")
    return parser


def main(words: list[str] | None = None) -> int:
    """Runs the parts; 1 if one of them failed, and the others have run all the same."""
    begin, args = time.perf_counter(), options().parse_args(words)
    if args.quick:
        args.minutes, args.preset, args.samples = 60.0, "smoke", 300
    ends = begin + 60 * args.minutes
    args.out, args.runs = args.out.resolve(), args.runs.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    gate = args.runs / f"gate-{os.getpid()}"
    gate.parent.mkdir(parents=True, exist_ok=True)
    beside = compiling(args, gate) if "compiled" in args.parts else None
    rows: list[dict[str, Any]] = []
    for name in args.parts:
        start = time.perf_counter()
        print(f"--- {name}, {ends - start:.0f} s left", flush=True)
        try:
            done = PARTS[name](args, ends, gate, beside)
        except subprocess.TimeoutExpired as late:
            done = f"cut off after {late.timeout:.0f} s"
        rows.append({"part": name, "done": done, "seconds": round(time.perf_counter() - start, 1)})
        print(f"--- {name}: {done}, {rows[-1]['seconds']:.0f} s", flush=True)
        settings = {"minutes": args.minutes, "task": args.task, "preset": args.preset, "card": card()}
        out = args.out / f"gpu-minutes-{args.task}.json"
        write_result(out, "gpu minutes", settings, rows, time.perf_counter() - begin)
    if beside is not None and beside.poll() is None:
        beside.kill()
    gate.unlink(missing_ok=True)
    return 0 if all(row["done"] == "done" for row in rows) else 1


def compiling(args: argparse.Namespace, gate: Path) -> subprocess.Popen[bytes]:
    """Starts what compiles beside all else, on cores of its own; it times nothing before the gate is there."""
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2
    words = ["benchmarks/gpu.py", "--compiled", "--gate", str(gate), "--out", str(args.out / "gpu-compiled.json")]
    beside = subprocess.Popen(command(words, args), cwd=ROOT, env=environment())
    if half > 1:
        os.sched_setaffinity(beside.pid, cores[half:])
        os.sched_setaffinity(0, cores[:half])  # what this process starts from here on inherits that
    return beside


def tests(args: argparse.Namespace, ends: float, *_: Any) -> str:
    """Runs what needs a GPU; without one each test says so."""
    report = args.out / "gpu-tests.xml"
    words = ["-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider", f"--junitxml={report}", *TESTS]
    code = run(words, ends)
    rows = []
    for case in ElementTree.parse(report).iter("testcase"):
        outcome = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")
        row = {"test": case.get("name"), "outcome": outcome, "seconds": float(case.get("time", "0"))}
        said = next((child.get("message", "") for child in case if child.tag in ("failure", "error")), "")
        rows.append(row | ({"message": said[:300]} if said else {}))
    report.unlink()
    write_result(args.out / "gpu-tests.json", "tests on a GPU", {"card": card()}, rows, sum(r["seconds"] for r in rows))
    failed = sum(row["outcome"] in ("failure", "error") for row in rows)
    return "done" if code == 0 else f"{failed} of {len(rows)} failed"


def speed(args: argparse.Namespace, ends: float, *_: Any) -> str:
    """Training and E-step, images a second and share of the card's peak."""
    return said(run(command(["benchmarks/gpu.py", "--out", str(args.out / "gpu.json")], args)[1:], ends))


def em(args: argparse.Namespace, ends: float, *_: Any) -> str:
    """EM for the minutes that are left; with ``--quick`` as long as the smallest preset takes."""
    left = ends - time.perf_counter() - SCORES - COMPILED * ("compiled" in args.parts)
    minutes = [] if args.quick else ["--minutes", f"{left / 60:.3f}"]
    data = ["--data", args.data] if args.data else []
    words = ["-m", "emlib", "em", "--preset", args.preset, *TASKS[args.task], *data, "--folder", str(folder(args))]
    return said(run([*words, "--out", str(args.out / f"gpu-em-{args.task}.json"), *minutes], ends))


def samples(args: argparse.Namespace, ends: float, *_: Any) -> str:
    """The distance of the last prior's samples to the real pictures."""
    priors = sorted(folder(args).glob("prior_*.safetensors"))
    if not priors:
        return "no prior was finished"
    data = ["--data", args.data] if args.data else []
    words = ["-m", "emlib", "evaluate", "--prior", str(priors[-1]), "--preset", args.preset, *data]
    words += ["--samples", str(args.samples), "--feature", "fd-alexnet", "--folder", str(folder(args) / "samples")]
    return said(run([*words, "--out", str(args.out / f"gpu-samples-{args.task}.json")], ends))


def compiled(args: argparse.Namespace, ends: float, gate: Path, beside: subprocess.Popen[bytes]) -> str:
    """Opens the gate, and waits for what was compiled beside."""
    gate.touch()
    return said(beside.wait(timeout=max(5.0, ends - time.perf_counter())))


PARTS = {"tests": tests, "speed": speed, "em": em, "compiled": compiled, "samples": samples}
"""The parts in their order."""


def run(words: list[str], ends: float) -> int:
    """A process that is cut off when the time is over."""
    left = max(5.0, ends - time.perf_counter())
    return subprocess.run([sys.executable, *words], cwd=ROOT, env=environment(), timeout=left).returncode


def command(words: list[str], args: argparse.Namespace) -> list[str]:
    """A benchmark's command line."""
    return [sys.executable, *words, *(["--quick"] if args.quick else [])]


def environment() -> dict[str, str]:
    """Where the parts find the library, also where it is not installed."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def folder(args: argparse.Namespace) -> Path:
    """Where EM's run is kept."""
    return args.runs / f"gpu-{args.task}{'-quick' if args.quick else ''}"


def said(code: int) -> str:
    """A part's exit status in words."""
    return "done" if code == 0 else f"ended with status {code}"


def card() -> str:
    """The GPU's name."""
    return torch.cuda.get_device_name() if pick_device() == "cuda" else "none, on the CPU"


if __name__ == "__main__":
    sys.exit(main())
