"""Runs a reader's changed notebooks at preset smoke, and says in words which cell failed and why.

``make validate`` takes the chapters that differ from git's last commit; ``make validate FILES="mine.ipynb"`` those that
are named. A chapter's text (.md) stands for its notebook. Each runs as nbval runs it; outputs are not compared.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as tree
from pathlib import Path

import jupytext
import nbformat

ROOT = Path(__file__).resolve().parent.parent
CELL = re.compile(r"Cell (\d+)")
COLOUR = re.compile(r"(?:\x1b|#x1B)\[[0-9;]*m")  # as pytest writes them into its report


def changed() -> list[Path]:
    """Chapters that differ from the last commit and are still there: the text where it does, else the notebook."""
    asked = ["git", "-C", str(ROOT), "status", "--porcelain", "-z", "--no-renames", "-uall", "--", "book"]
    entries = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split("\0")
    found = {ROOT / entry[3:] for entry in entries if entry.endswith((".md", ".ipynb"))}
    texts = {path for path in found if path.suffix == ".md" and path.is_file() and b"jupytext" in path.read_bytes()}
    twins = {path for path in found if path.suffix == ".ipynb" and path.is_file()}
    return sorted(texts | {path for path in twins if path.with_suffix(".md") not in texts})


def told(case: tree.Element, notebook: nbformat.NotebookNode) -> str:
    """What failed in one cell: its number, its first line, and the error's last line."""
    number = int(CELL.search(case.get("name", "")).group(1))
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    first = next((line for line in code[number].source.splitlines() if line.strip()), "") if number < len(code) else ""
    trouble = next(case.iter("failure"), None)
    trouble = next(case.iter("error")) if trouble is None else trouble
    said = [line.strip() for line in COLOUR.sub("", trouble.text or "").splitlines() if line.strip()]
    errors = [line for line in said if re.match(r"[\w.]*(Error|Exception|Interrupt|Exit)\b", line)]
    why = (errors or said or ["no reason was given"])[-1]
    return f"code cell {number + 1} ({first[:60]}): {why[:300]}"


def validate(path: Path) -> list[str]:
    """Runs one notebook; a sentence for each cell that failed. Cells after the first may fail for its sake."""
    notebook = jupytext.read(path)
    copy = path.with_name(f".validate-{path.stem}.ipynb")  # beside it, since it may read files by relative names
    with tempfile.TemporaryDirectory() as room, contextlib.ExitStack() as after:
        report = Path(room) / "report.xml"
        after.callback(copy.unlink, missing_ok=True)
        notebook.metadata.setdefault(
            "kernelspec", {"display_name": "Python 3", "language": "python", "name": "python3"}
        )
        nbformat.write(notebook, copy)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env"]
        command += ["--nbval-cell-timeout=1800", f"--junitxml={report}", str(copy)]
        done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True)
        if not report.is_file():
            return [f"it could not be run: {(done.stdout + done.stderr).strip().splitlines()[-1]}"]
        cases = tree.parse(report).getroot().iter("testcase")
        return [
            told(case, notebook) for case in cases if case.find("failure") is not None or case.find("error") is not None
        ]


def main(words: list[str]) -> int:
    """Validates what is named, or what has changed; status 1 if anything failed."""
    paths, bad = [Path(word).resolve() for word in words] or changed(), 0
    if not paths:
        print("no chapter differs from the last commit; name notebooks: make validate FILES=book/NAME.ipynb")
        return 0
    for path in paths:
        if not path.is_file():
            print(f"{path.name}: no such file; name a notebook or a chapter's text")
            bad += 1
            continue
        troubles = validate(path)
        bad += bool(troubles)
        print(
            f"{path.name}: " + ("every cell runs" if not troubles else f"{len(troubles)} cell(s) failed, the first is")
        )
        for trouble in troubles[:1]:
            print(f"  {trouble}")
        if len(troubles) > 1:
            print(f"  and {len(troubles) - 1} after it, perhaps for its sake")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
