"""The first cell of a chapter, run where Colab's reader runs it: torch is there, the book's library is not.

Nothing is downloaded. A wheel is built from this checkout and takes the address's place; the packages of this
environment, apart from emlib and lpips, take the place of Colab's; and beside the wheel lie baits, newer versions of
torch and numpy that pip must not take.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("jupytext", reason="jupytext isn't installed (it is in the extra 'book')")
nbformat = pytest.importorskip("nbformat")

from twins import ROOT, address, chapters, first_cell, origin, repository, take_origin  # noqa: E402

# What Colab had of our requirements in June 2026 (googlecolab/backend-info, pip-freeze.gpu.txt), under Python 3.12.
COLAB_PYTHON = "3.12"
COLAB = {
    "torch": "2.11.0+cu128",
    "torchvision": "0.26.0+cu128",
    "numpy": "2.0.2",
    "scipy": "1.16.3",
    "matplotlib": "3.10.0",
    "ipywidgets": "7.7.1",
    "tqdm": "4.67.3",
    "safetensors": "0.7.0",
    "pillow": "11.3.0",
    "scikit-image": "0.25.2",
    "tifffile": "2026.4.11",
}
KEPT = ("torch", "torchvision", "numpy")


@pytest.mark.parametrize("chapter", chapters(), ids=lambda path: path.stem)
def test_every_chapter_begins_with_the_first_cell(chapter):
    cells = nbformat.read(chapter.with_suffix(".ipynb"), as_version=4).cells
    first = next(cell for cell in cells if cell.cell_type == "code")
    assert first.source.strip() == first_cell().strip(), "`make notebooks` renews the first cell from tests/twins.py"
    assert first.metadata.get("tags") == ["hide-input"]


def test_the_address_is_the_repositorys_on_its_branch():
    url, branch = repository()
    assert address() is None or f'"git+{url}@{branch}"' in first_cell()
    assert re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", url), "Colab opens notebooks from GitHub only"


def test_an_address_that_nobody_has_is_said_and_nothing_is_installed(monkeypatch, tmp_path, offers):
    monkeypatch.setattr("twins.repository", lambda: ("https://github.com/-nobody-/book", "main"))
    assert address() is None
    assert "subprocess" not in first_cell()
    assert max(map(len, first_cell().splitlines())) <= 88
    colab = Colab(tmp_path, offers)
    there = set(colab.place.iterdir())
    said = colab.run(first_cell(), fails=True)
    assert "this copy of the book names no address" in said
    assert set(colab.place.iterdir()) == there
    monkeypatch.setattr("twins.repository", lambda: ("https://github.com/me/book", "main"))
    assert '"git+https://github.com/me/book@main"' in first_cell()


@pytest.mark.parametrize(
    ("remote", "url"),
    [
        ("git@github.com:me/my-book.git", "https://github.com/me/my-book"),
        ("https://github.com/me/my.book", "https://github.com/me/my.book"),
        ("https://token@github.com/me/book.git", "https://github.com/me/book"),
        ("ssh://git@github.com/me/book.git", "https://github.com/me/book"),
        ("/srv/git/book.git", None),
        ("https://example.org/github.com/book", None),
        ("", None),
    ],
)
def test_the_address_may_be_taken_from_gits_origin(remote, url):
    assert origin(remote) == url


def test_gits_origin_is_written_where_no_address_is_set(tmp_path, monkeypatch):
    """In a copy; one that is set already stays."""
    config, git = tmp_path / "_config.yml", ["git", "-C", str(tmp_path)]
    config.write_text("title: x\nrepository:\n  url: https://github.com/-nobody-/book\n  branch: main\n")
    subprocess.run([*git, "init", "-q"], check=True)
    monkeypatch.setattr("twins.CONFIG", config)
    monkeypatch.setattr("twins.ROOT", tmp_path)
    before = config.read_text()
    assert take_origin() is None
    assert config.read_text() == before
    subprocess.run([*git, "remote", "add", "origin", "git@github.com:me/book.git"], check=True)
    assert take_origin() == "https://github.com/me/book"
    assert config.read_text() == before.replace("-nobody-", "me")
    assert address() == "git+https://github.com/me/book@main"
    subprocess.run([*git, "remote", "set-url", "origin", "git@github.com:you/book.git"], check=True)
    assert take_origin() is None
    assert repository() == ("https://github.com/me/book", "main")


def test_colab_lacks_only_what_the_first_cell_installs():
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
    from test_frame import load_toml

    project = load_toml(ROOT / "pyproject.toml")["project"]
    wanted = [Requirement(line) for line in project["dependencies"]]
    missing = {one.name for one in wanted if one.name not in COLAB or not one.specifier.contains(COLAB[one.name])}
    assert missing == {"lpips", "torchmetrics"}, "Colab's own packages must do: to replace one there may break Colab"
    assert all(f'"{name}"' in first_cell("git+https://example.org/book") for name in missing)
    assert SpecifierSet(project["requires-python"]).contains(COLAB_PYTHON)


def hand_made_wheel(folder: Path, name: str, version: str, needs: tuple[str, ...] = (), code: str = "") -> None:
    """A wheel of one module, written by hand."""
    about = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": code or f"__version__ = {version!r}\n",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + "".join(f"Requires-Dist: {one}\n" for one in needs),
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {k: base64.urlsafe_b64encode(hashlib.sha256(v.encode()).digest()).decode() for k, v in files.items()}
    record = "".join(f"{k},sha256={digests[k].rstrip('=')},{len(v.encode())}\n" for k, v in files.items())
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in {**files, f"{about}/RECORD": record + f"{about}/RECORD,,\n"}.items():
            wheel.writestr(path, text)


@pytest.fixture(scope="module")
def book_wheel(tmp_path_factory) -> Path:
    """The project's wheel, built from this checkout without a network."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling isn't installed (it is in the extra 'test')")
    folder = tmp_path_factory.mktemp("wheel")
    words = ["--no-deps", "--no-build-isolation", "--quiet", "--disable-pip-version-check", "--wheel-dir", str(folder)]
    environment = {**os.environ, "PIP_NO_INDEX": "1"}
    subprocess.run([sys.executable, "-m", "pip", "wheel", *words, str(ROOT)], check=True, env=environment)
    return next(folder.glob("emdiffusion_book-*.whl"))


class Colab:
    """A fresh environment that sees this one's packages, but neither emlib nor lpips, and no network."""

    def __init__(self, folder: Path, offers: Path):
        self.empty = folder / "content"  # the reader's folder, where no checkout is
        self.empty.mkdir(parents=True)
        # Links in a folder outside the environment: pip sees these packages and cannot remove them.
        given = folder / "given"
        given.mkdir()
        hidden = re.compile(r"_?_?(editable_+)?(emlib|emdiffusion_book|lpips)\b.*|.*\.(pth|egg-link)", re.IGNORECASE)
        for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
            for path in Path(place).iterdir():
                if not hidden.fullmatch(path.name) and not path.name.startswith(("pip", "emlib-")):
                    (given / path.name).symlink_to(path)
        environment = folder / "environment"
        venv.create(environment, with_pip=True)
        self.python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
        self.place = Path(self.run("import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        (self.place / "given.pth").write_text(f"{given}\n", encoding="utf-8")
        self.offers = offers

    def run(self, code: str, fails: bool = False, **more: str) -> str:
        """Runs code in the reader's folder and returns what it prints."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON", "EMLIB_", "VIRTUAL_ENV"))}
        clean |= {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "MPLBACKEND": "agg", **more}
        done = subprocess.run(
            [self.python, "-c", code], cwd=self.empty, env=clean, capture_output=True, text=True, timeout=1800
        )
        assert (done.returncode != 0) == fails, f"{done.stdout}\n{done.stderr}"
        return done.stdout + (done.stderr if fails else "")

    def first_cell(self, wheel: Path, fails: bool = False) -> str:
        """Runs a chapter's first cell, with the wheel in the place of the address."""
        code = first_cell(wheel.as_uri())
        assert wheel.as_uri() in code
        return self.run(code, fails, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(self.offers))

    def kept(self) -> str:
        """Versions and places of what must stay as it is."""
        return self.run(
            "import importlib.metadata as m, importlib.util as u\n"
            f"for n in {KEPT}: print(n, m.version(n), u.find_spec(n).origin)"
        )


@pytest.fixture
def offers(tmp_path) -> Path:
    folder = tmp_path / "offers"
    folder.mkdir()
    for name in (*KEPT, "scipy", "matplotlib", "ipywidgets", "tqdm"):
        hand_made_wheel(folder, name, "99.0")
    return folder


def test_the_first_cell_installs_what_is_missing_and_nothing_else(book_wheel, tmp_path, offers):
    # a demand that would replace torch, had pip its way
    hand_made_wheel(offers, "lpips", "0.1.4", ("torch>=99", "numpy>=99"), "class LPIPS: pass\n")
    colab = Colab(tmp_path, offers)
    before, there = colab.kept(), set(colab.place.iterdir())
    colab.first_cell(book_wheel)
    assert colab.kept() == before
    new = {path.name for path in set(colab.place.iterdir()) - there} - {"__pycache__"}
    assert new == {"emlib", f"{'-'.join(book_wheel.name.split('-')[:2])}.dist-info", "lpips", "lpips-0.1.4.dist-info"}
    again = colab.first_cell(book_wheel)
    assert again == "", "a second run should find everything there"

    # from here a chapter goes on, in a folder that holds nothing
    place = colab.run("import emlib; print(emlib.__file__)").strip()
    assert Path(place).is_relative_to(colab.place)
    cells = nbformat.read(ROOT / "book" / "01_pictures_and_noise.ipynb", as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"][1:4]
    assert any("emlib.load" in source for source in code)
    said = colab.run("\n".join(code), EMLIB_PRESET="smoke")
    assert "preset smoke" in said
    assert "corrupted: (8500, 1, 28, 28)" in said
    # and every number can be had, with no weights in PyTorch's cache
    code = "import emlib; print(emlib.alexnet_missing() or emlib.metrics.alexnet.alexnet_path())"
    said = colab.run(code, TORCH_HOME=str(tmp_path))
    assert Path(said.strip()) == Path(place).parent / "_data" / "checkpoints" / "alexnet-features.safetensors"


def test_the_wheel_holds_every_file_that_a_chapter_reads(book_wheel):
    held = set(zipfile.ZipFile(book_wheel).namelist())
    for folder in ("fashion-mnist", "checkpoints", "results"):
        for path in (ROOT / "data" / folder).rglob("*"):
            assert path.is_dir() or f"emlib/_data/{path.relative_to(ROOT / 'data').as_posix()}" in held
    for chapter in chapters():
        for part in re.findall(r'data_dir\(\)((?: / f?"[^"]+")+)', chapter.read_text(encoding="utf-8")):
            folder = re.search(r'"([^"]+)"', part).group(1)
            assert (ROOT / "data" / folder).is_dir(), f"{chapter.name} reads data/{folder}, which isn't there"
            assert any(name.startswith(f"emlib/_data/{folder}") for name in held), f"the wheel lacks data/{folder}"


@pytest.mark.skipif(not os.environ.get("EMLIB_NETWORK"), reason="needs a network; EMLIB_NETWORK=1 runs it")
@pytest.mark.skipif(address() is None, reason="the repository has no address yet")
def test_the_address_itself_installs(tmp_path, offers):
    colab = Colab(tmp_path, offers)
    before = colab.kept()
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    colab.run(first_cell(), **{name: value for name, value in pip.items() if name != "PIP_NO_INDEX"})
    assert colab.kept() == before
    assert "clean" in colab.run("import emlib; print(emlib.load('embedded'))")
