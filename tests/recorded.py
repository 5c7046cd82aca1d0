"""The list of recorded runs in data/results: ``python tests/recorded.py`` renews its README, test_recorded.py compares.

What a run shows is written by hand, in the second column of its row; all else comes from its file.
"""

from __future__ import annotations

import re
from pathlib import Path

from emlib.runs.record import read_result
from emlib.viz.display import duration

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "data" / "results"
README = RESULTS / "README.md"
HEAD = "| file | what it shows | command | time | commit |\n| --- | --- | --- | --- | --- |\n"
ROW = re.compile(r"^\| `([\w-]+)\.json` \| (.*?) \| `.*\n", re.MULTILINE)
TABLE = re.compile(re.escape(HEAD) + r"(\|.*\n)*")


def listed(text: str) -> dict[str, str]:
    """What each run in the list shows, by its name."""
    return {match[1]: match[2] for match in ROW.finditer(text)}


def renewed(text: str, folder: Path = RESULTS) -> str:
    """The list with command, time and commit as the files have them.

    Raises:
        ValueError: if a file has no row that says what it shows, or a row no file.
    """
    shows, files = listed(text), {path.stem: path for path in sorted(folder.glob("*.json"))}
    if shows.keys() != files.keys() or not TABLE.search(text):
        apart = sorted(shows.keys() ^ files.keys())
        raise ValueError(f"each recorded run needs a row `NAME.json` that says what it shows; look at {apart}")
    rows = "".join(_row(name, shows[name], path) for name, path in files.items())
    return TABLE.sub(lambda _: HEAD + rows, text, count=1)


def _row(name: str, says: str, path: Path) -> str:
    record = read_result(path)
    # a gathered table has the commits of its parts
    commits = record["settings"].get("commits", [record["commit"]])
    cells = (f"`{name}.json`", says, f"`{record['command']}`", duration(record["seconds"]), ", ".join(commits))
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    README.write_text(renewed(README.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"renewed: {README.relative_to(ROOT)}")
