import json

import pytest
import recorded

from emlib.runs.record import write_result


def test_the_list_of_recorded_runs_is_in_step_with_the_files():
    text = recorded.README.read_text(encoding="utf-8")
    assert recorded.renewed(text) == text, "run `make results`"
    assert all(says.strip() for says in recorded.listed(text).values())


def test_a_row_takes_command_time_and_commits_from_its_file(tmp_path):
    write_result(tmp_path / "toy.json", "toy", {"commits": ["abc", "def"]}, [], 240)
    record = json.loads((tmp_path / "toy.json").read_text())
    text = f"Before.\n\n{recorded.HEAD}| `toy.json` | a toy | `old` | 1 s | ? |\n\nAfter.\n"
    row = f"| `toy.json` | a toy | `{record['command']}` | 4.0 minutes | abc, def |\n"
    assert recorded.renewed(text, tmp_path) == f"Before.\n\n{recorded.HEAD}{row}\nAfter.\n"


@pytest.mark.parametrize("row", ["", "| `gone.json` | a toy | `old` | 1 s | ? |\n"], ids=["no row", "no file"])
def test_files_and_rows_must_agree(tmp_path, row):
    if not row:
        write_result(tmp_path / "toy.json", "toy", {}, [], 1)
    with pytest.raises(ValueError, match="look at"):
        recorded.renewed(recorded.HEAD + row, tmp_path)
