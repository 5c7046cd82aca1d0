"""The index of the paper on "Paper, code, here": nothing is missing from it, and all that it points to exists."""

from __future__ import annotations

import ast
import json
import pkgutil
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
PAGE = (BOOK / "paper_versus_code.md").read_text(encoding="utf-8")
CHAPTERS = {file.name: file.read_text(encoding="utf-8") for file in sorted(BOOK.glob("*.md"))}
NUMBERED = (
    *(f"eq. {n}" for n in range(1, 14)),
    "algorithm 1",
    *(f"table {n}" for n in range(1, 6)),
    *(f"figure {n}" for n in (1, 2, 3, 4, "5a", "5b", "5c", 6, 7, 8)),
)
"""All that Bai et al. (2024) number, in the proceedings."""
Row = dict[str, str]


def tables(text: str) -> list[list[Row]]:
    """The tables of a page: each row by the names of its columns."""
    found = []
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in block.splitlines()]
        assert all(len(row) == len(head) for row in rows), f"a row of another length in the table of {head}"
        found.append([dict(zip(head, row)) for row in rows])
    return found


TABLES = tables(PAGE)
INDEX = [row for table in TABLES if "in the paper" in table[0] for row in table]
SAMPLERS = [row for table in TABLES if "there" in table[0] for row in table]


def names(text: str) -> list[str]:
    """What of the library a text names in code font."""
    return re.findall(r"`(emlib\.[\w.]+)`", text)


def equations(text: str) -> list[str]:
    return re.findall(r"\{eq\}`([\w-]+)`", text)


def files(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def links(text: str) -> list[tuple[str, str]]:
    """(words, label) of each link to a label."""
    return re.findall(r"\[([^\]]+)\]\(#([\w-]+)\)", text)


def homes(mark: str) -> list[str]:
    """The pages with a line that is, or ends in, this mark: once for each time."""
    return [page for page, text in CHAPTERS.items() for line in text.splitlines() if line.endswith(mark)]


def test_nothing_that_the_paper_numbers_is_missing():
    assert Counter(row["in the paper"] for row in INDEX) == Counter(NUMBERED)


def test_every_row_leads_somewhere():
    assert [row for row in INDEX + SAMPLERS if not row["what it is"] or not links(row["chapter"])] == []
    target = re.compile(r"\{eq\}`|\{prf:ref\}`|`emlib\.")
    bare = [row for row in INDEX + SAMPLERS if not target.search(" ".join(row.values()))]
    assert [row for row in bare if not files(row.get("experiments", "") + row.get("other recorded runs", ""))] == []


def test_every_equation_is_defined_once():
    labels = set(equations(PAGE))
    assert len(labels) > 10
    assert {label: found for label in labels if len(found := homes(f"$$ ({label})")) != 1} == {}
    algorithms = set(re.findall(r"\{prf:ref\}`([\w-]+)`", PAGE))
    assert algorithms
    assert {label: found for label in algorithms if len(found := homes(f":label: {label}")) != 1} == {}


def test_equations_stand_in_the_chapters_that_their_row_names():
    wrong = []
    for row in INDEX + SAMPLERS:
        named = {homes(f"({label})=")[0] for _, label in links(row["chapter"])}
        wrong += [(row, label) for label in equations(" ".join(row.values())) if homes(f"$$ ({label})")[0] not in named]
    assert wrong == []


@pytest.mark.parametrize("name", sorted(set(names(PAGE))))
def test_every_name_of_the_library_can_be_had(name):
    assert pkgutil.resolve_name(name) is not None


def test_every_label_exists_in_the_chapter_of_that_number():
    found = links(PAGE)
    assert len(found) > 30
    assert {label for _, label in found if len(homes(f"({label})=")) != 1} == set()
    numbers = [(words, homes(f"({label})=")[0]) for words, label in found if words.isdigit()]
    assert [(words, page) for words, page in numbers if int(page.split("_")[0]) != int(words)] == []


def test_experiments_and_recorded_runs_exist():
    rows = [row for row in INDEX if "experiments" in row]
    experiments = {name for row in rows for name in files(row["experiments"])}
    runs = {name for row in rows for name in files(row["other recorded runs"])}
    assert experiments
    assert runs
    assert {name for name in experiments if not (ROOT / "experiments" / f"{name}.json").is_file()} == set()
    recorded = ROOT / "data" / "results"
    assert {name for name in experiments | runs if not (recorded / f"{name}.json").is_file()} == set()


def test_recorded_experiments_stand_where_they_say():
    rows = {row["in the paper"]: files(row.get("experiments", "")) for row in INDEX}
    lost, told = [], 0
    for file in sorted((ROOT / "experiments").glob("*.json")):
        if (ROOT / "data" / "results" / file.name).is_file():
            about = json.loads(file.read_text(encoding="utf-8"))["about"].lower()
            things = re.findall(r"(?:table|figure) \d+[abc]?", about)
            told += len(things)
            lost += [(thing, file.stem) for thing in things if file.stem not in rows.get(thing, ())]
    assert told > 10
    assert lost == []


def test_docstrings_name_no_equation_under_which_the_index_lacks_them():
    rows = {row["in the paper"]: {name.split(".")[-1] for name in names(" ".join(row.values()))} for row in INDEX}
    says = re.compile(r"EMDiffusion(?:,|'s) (eq\.|algorithm) (\d+)")
    cited = []
    for file in sorted((ROOT / "emlib").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                text = " ".join((ast.get_docstring(node) or "").split())
                cited += [(f"{kind} {number}", node.name) for kind, number in says.findall(text)]
    assert {kind for kind, _ in cited} >= {"eq. 11", "eq. 12", "algorithm 1"}
    assert [(kind, name) for kind, name in cited if name not in rows.get(kind, ())] == []
