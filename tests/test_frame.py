"""The project's frame: requirements in step, no registry and no build machine in any file, one address."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def load_toml(path: Path) -> dict:
    if sys.version_info >= (3, 11):
        import tomllib as reader
    else:
        reader = pytest.importorskip("tomli", reason="Python 3.10 reads TOML with tomli, which isn't installed")
    return reader.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Every text file in git or about to be, by its path in the repository."""
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this isn't a git checkout, or git isn't installed")
    found = {}
    for name in filter(None, listing.split("\0")):
        try:
            found[name] = (ROOT / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):  # a picture, or deleted and not yet committed
            continue
    return found


def test_environment_and_pyproject_agree():
    yaml = pytest.importorskip("yaml")
    project = load_toml(ROOT / "pyproject.toml")["project"]
    extras = project["optional-dependencies"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *conda, pip = environment["dependencies"]
    assert conda == ["python" + project["requires-python"], "pip"]
    *requirements, itself = pip["pip"]
    assert itself == "-e ."
    assert requirements == project["dependencies"] + extras["book"] + extras["test"]
    assert {"book", "test"} < set(extras)
    for name in set(extras) - {"book", "test"}:  # what a reader may leave out, the tests do not
        assert set(extras[name]) <= set(extras["test"]), name


def test_the_lock_meets_every_requirement():
    requirements = pytest.importorskip("packaging.requirements")
    project = load_toml(ROOT / "pyproject.toml")["project"]
    extras = project["optional-dependencies"]
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [requirements.Requirement(line) for line in lines if not line.startswith("#")]
    assert len(pins) > 100
    assert [str(pin) for pin in pins if not str(pin.specifier).startswith("==") or pin.url] == []
    for wanted in map(requirements.Requirement, project["dependencies"] + extras["book"] + extras["test"]):
        versions = [next(iter(pin.specifier)).version for pin in pins if pin.name == wanted.name]
        assert versions, f"{wanted.name} is not in requirements.lock: make lock"
        assert all(wanted.specifier.contains(version) for version in versions), f"{wanted}: {versions}: make lock"


def test_no_package_registry_is_named(texts):
    # in pieces, so that this file doesn't name them
    hosts = [
        "pypi" + ".org",
        "pypi" + ".python.org",
        "python" + "hosted.org",
        "npm" + "js.org",
        "npm" + "js.com",
        "yarn" + "pkg.com",
        "anaconda" + ".org",
        "anaconda" + ".com",
        "download." + "pytorch.org",
        "deb." + "debian.org",
        "crates" + ".io",
    ]
    assert {name: host for name, text in texts.items() for host in hosts if host in text.lower()} == {}


def test_a_strangers_package_is_never_installed(texts):
    # on the registry the bare import name is a stranger's distribution
    command = re.compile(r"pip3?\s+install\s+(-\S+\s+)*[\"']?em" + r"lib\b(?!/)")
    assert [name for name, text in texts.items() if command.search(text)] == []


def test_no_path_of_a_build_machine(texts):
    path = re.compile(r"(?<![\w.~)}*])/(work|ro" + r"ot|home/\w+|Users/\w+|tmp/\w+)/")
    outside = {name: text for name, text in texts.items() if not name.startswith((".ci/", "book/assets/vendor/"))}
    assert {name: found.group() for name, text in outside.items() if (found := path.search(text))} == {}


def test_one_address(texts):
    yaml = pytest.importorskip("yaml")
    address = yaml.safe_load(texts["_config.yml"])["repository"]["url"]
    name = address.rsplit("/", 1)[-1]
    other = re.compile(r"https://github\.com/[\w.-]+/" + re.escape(name) + r"(?![\w-])")
    wrong = {(path, found) for path, text in texts.items() for found in other.findall(text) if found != address}
    assert wrong == set(), f"the repository's address is {address}, as _config.yml says"
    allowed = re.compile(r"_config\.yml|README\.md|book/\w+\.(md|ipynb)")
    assert [path for path, text in texts.items() if address in text and not allowed.fullmatch(path)] == []


def pages_of(toc: dict | list) -> list[str]:
    """Every page that a table of contents names, however it is nested."""
    if isinstance(toc, list):
        return [page for entry in toc for page in pages_of(entry)]
    own = [toc[key] for key in ("root", "file") if key in toc]
    return own + [page for key in ("parts", "chapters", "sections") for page in pages_of(toc.get(key, []))]


def test_every_page_is_in_git_with_the_notebook_that_colab_opens(texts):
    yaml = pytest.importorskip("yaml")
    pages = pages_of(yaml.safe_load(texts["_toc.yml"]))
    assert len(pages) == len(set(pages)) > 1
    assert [page for page in pages if f"{page}.md" not in texts] == []
    with_code = [page for page in pages if texts[f"{page}.md"].startswith("---\njupytext:")]
    assert with_code
    assert [page for page in with_code if f"{page}.ipynb" not in texts] == [], "`make notebooks` writes them"
    left_over = {name.removesuffix(".md") for name in texts if re.fullmatch(r"book/\w+\.md", name)} - set(pages)
    assert left_over == set(), "pages that the table of contents does not name"


def test_colab_addresses_come_from_the_configuration(texts):
    """Jupyter Book makes the button's address from these; tests/site compares it on every built page."""
    yaml = pytest.importorskip("yaml")
    config = yaml.safe_load(texts["_config.yml"])
    assert config["launch_buttons"]["colab_url"] == "https://colab.research.google.com"
    assert config["repository"]["path_to_book"] == ""
    written = re.compile(r"colab\.research\.google\.com/github")
    assert [name for name, text in texts.items() if name.startswith(("book/", "README")) and written.search(text)] == []


def test_the_makefile_says_what_each_command_does(texts):
    makefile = texts["Makefile"]
    phony = set(re.search(r"^\.PHONY: (.+)", makefile, re.MULTILINE).group(1).split())
    assert set(re.findall(r"^([a-z][a-z-]*):[^#\n]*## \S", makefile, re.MULTILINE)) == phony
    named = set(re.findall(r"`make ([a-z-]+)", texts["README.md"]))
    assert named - phony == set(), "the README names commands that the Makefile lacks"


def test_licences_stand_beside_what_they_cover():
    ours, data = ("LICENSE", "LICENSE-prose"), ("data/fashion-mnist/LICENSE", "data/checkpoints/LICENSE-alexnet")
    for name in (*ours, *data, "book/assets/vendor/mathjax/LICENSE", "book/assets/vendor/reveal/LICENSE"):
        assert (ROOT / name).stat().st_size > 300, f"{name} is missing or cut short"


def test_readme_links_to_what_exists():
    targets = re.findall(r"\]\(([^)\s]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert local
    assert [target for target in local if not (ROOT / target).exists()] == []
