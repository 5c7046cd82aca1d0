"""Chapters executed side by side: into the cache, once each, and what fails is named."""

import os
import subprocess
import sys
from pathlib import Path

import jupytext
import side_by_side
from jupyter_cache import get_cache
from myst_nb.core.read import read_myst_markdown_notebook

HEAD = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

"""


def chapter(path: Path, code: str) -> Path:
    path.write_text(f"{HEAD}# A chapter\n\n```{{code-cell}} ipython3\n{code}\n```\n")
    return path


def test_each_chapter_is_run_once_and_found_by_the_book(tmp_path, capfd):
    note = "import os, pathlib\nwith pathlib.Path('log').open('a') as file:\n    print({!r}, file=file)\n"
    files = [chapter(tmp_path / f"{name}.md", note.format(name)) for name in ("01_one", "08_two")]
    words = [str(tmp_path / "cache"), *map(str, files), "--at-once", "2"]
    assert side_by_side.main(words) == 0
    said = capfd.readouterr().out
    assert "01_one.md: " in said
    assert "08_two.md: " in said
    assert sorted((tmp_path / "log").read_text().split()) == ["01_one", "08_two"]
    cache = get_cache(str(tmp_path / "cache"))
    for file in files:  # as myst-nb looks for it
        cache.match_cache_notebook(read_myst_markdown_notebook(file.read_text()))
    assert side_by_side.main(words) == 0
    assert len((tmp_path / "log").read_text().split()) == 2
    chapter(files[0], note.format("again"))
    assert side_by_side.main(words) == 0
    assert sorted((tmp_path / "log").read_text().split()) == ["01_one", "08_two", "again"]


def test_what_nbval_has_run_is_not_run_again(tmp_path):
    """One notebook passes and is kept with its outputs; one fails, and is left for the site to run."""
    note = "import pathlib\nwith pathlib.Path('log').open('a') as file:\n    print({!r}, file=file)\nprint('said')\n{}"
    ends = {"01_one": "6 * 7", "02_two": "0 / 0"}
    files = [chapter(tmp_path / f"{name}.md", note.format(name, last)) for name, last in ends.items()]
    for file in files:
        jupytext.write(jupytext.read(file), file.with_suffix(".ipynb"))
    words = (
        f"-q -c {os.devnull} -p no:cacheprovider -p keep_outputs --nbval-lax --nbval-current-env --keep-outputs".split()
    )
    words += [str(tmp_path / "cache"), str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    assert subprocess.run([sys.executable, "-m", "pytest", *words], cwd=tmp_path, env=env).returncode == 1
    assert sorted((tmp_path / "log").read_text().split()) == ["01_one", "02_two"]
    cache = get_cache(str(tmp_path / "cache"))
    kept = cache.match_cache_notebook(read_myst_markdown_notebook(files[0].read_text()))
    (cell,) = cache.get_cache_bundle(kept.pk).nb.cells
    assert cell.outputs[0].text == "said\n"
    assert cell.outputs[1].data["text/plain"] == "42"
    assert side_by_side.main([str(tmp_path / "cache"), *map(str, files), "--at-once", "1"]) == 1
    assert sorted((tmp_path / "log").read_text().split()) == ["01_one", "02_two", "02_two"]


def test_a_chapter_that_fails_is_named_with_its_error(tmp_path, capfd):
    files = [
        chapter(tmp_path / "01_good.md", "1 + 1"),
        chapter(tmp_path / "02_bad.md", "raise ValueError('no picture')"),
    ]
    assert side_by_side.main([str(tmp_path / "cache"), *map(str, files), "--at-once", "1"]) == 1
    said = capfd.readouterr().out
    assert "no picture" in said
    assert "02_bad.md" in said


def test_the_longest_come_first_and_threads_are_shared_out(monkeypatch):
    files = [Path(f"{name}.md") for name in ("01_a", "02_b", "08_c", "90_d")]
    ordered = side_by_side.longest_first(files, {"01_a": 8.0, "02_b": 198.0, "08_c": 720.5})
    assert [path.stem for path in ordered] == ["08_c", "02_b", "01_a", "90_d"]
    assert max(side_by_side.recorded(), key=side_by_side.recorded().get) == "08_em_whole_loop"
    for cores, at_once in ((1, 1), (2, 2), (4, 4), (8, 4), (16, 8)):
        monkeypatch.setattr(side_by_side, "cores", lambda cores=cores: cores)
        assert side_by_side.usual() == at_once
