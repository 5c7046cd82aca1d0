"""``make serve``: it shows the last good build, sees a change, and tells open pages of a new one."""

from __future__ import annotations

import os
import sys
import threading
import urllib.request
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import serve


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "html"
    (folder / "book").mkdir(parents=True)
    (folder / "book" / "a.html").write_text("<p>first</p>")
    (folder / "index.html").write_text("start")
    (folder / "style.css").write_text("p {}")
    return folder


@pytest.fixture
def server(site, tmp_path):
    running = serve.Server(site, tmp_path / "served", 0)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def get(server, path: str) -> str:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return direct.open(f"http://127.0.0.1:{server.server_port}/{path}", timeout=300).read().decode()


def write_then(site: Path, text: str, status: int = 0) -> list[str]:
    code = f"open({str(site / 'book' / 'a.html')!r}, 'w').write({text!r}); raise SystemExit({status})"
    return [sys.executable, "-c", code]


def test_pages_are_shown_and_reload_themselves(server):
    assert get(server, "book/a.html").startswith("<p>first</p><script>")
    assert get(server, "").startswith("start")
    assert get(server, "style.css") == "p {}"
    assert get(server, serve.BUILDS[1:]) == "1"


def test_a_build_is_shown_when_it_succeeds_and_only_then(server, site, capsys):
    assert not serve.build(server, write_then(site, "half", status=1))
    assert "first" in get(server, "book/a.html")
    assert get(server, serve.BUILDS[1:]) == "1"
    assert serve.build(server, write_then(site, "second"))
    assert "second" in get(server, "book/a.html")
    assert get(server, serve.BUILDS[1:]) == "2"
    said = capsys.readouterr().out
    assert "That build failed" in said
    assert "Built again" in said


def test_it_listens_on_this_machine_only(server):
    assert server.server_address[0] == "127.0.0.1"


def test_changes_are_seen_once_they_have_come_to_rest(tmp_path, monkeypatch):
    book = tmp_path / "book"
    book.mkdir()
    for name in ("old.md", "gone.md"):
        (book / name).write_text("a")

    def save(name, when):
        (book / name).write_text("b")
        os.utime(book / name, (when, when))

    def last():
        (book / "gone.md").unlink()
        (book / "old.ipynb").write_text("a notebook is no source")

    def sleep(pause):
        """What an editor does in each pause between two looks; a save in every one is one change."""
        pauses.append(pause)
        next(edits, lambda: None)()

    saves = [partial(save, "new.md", when) for when in (1, 2, 3)]
    edits, pauses = iter([lambda: None, *saves, last]), []
    monkeypatch.setattr(serve, "time", SimpleNamespace(sleep=sleep))
    changes = serve.watch(lambda: serve.sources(tmp_path), pause=0.05)
    assert [path.name for path in next(changes)] == ["gone.md", "new.md"]
    assert pauses == [0.05] * 6  # one of them after the last edit


def test_the_projects_sources_are_watched():
    watched = {str(path.relative_to(serve.ROOT)) for path in serve.sources()}
    assert {"_config.yml", "_toc.yml", "book/intro.md", "emlib/em/loop.py", "emlib/posterior/dps.py"} <= watched
    assert not any(name.endswith((".ipynb", ".pyc")) for name in watched)
