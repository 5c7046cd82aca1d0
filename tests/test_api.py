"""The page of names: it has every public name once, its roles lead somewhere, and formulas stay formulas."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import emlib
from emlib import operators, posterior

pytest.importorskip("sphinx", reason="sphinx isn't installed (it is in the extra 'book')")
yaml = pytest.importorskip("yaml")

from docstrings import locate, origin, plain  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
ENTRIES = re.findall(r"^\.\. auto(?:function|class|data):: (\S+)$", PAGE, re.MULTILINE)
BESIDE = {
    "emlib.diffusion.Eps",
    "emlib.em.e_step.EStep",
    "emlib.hub.Denoiser",
    "emlib.hub.denoised",
    "emlib.operators.Parameter",
    "emlib.operators.registry.OPERATORS",
    "emlib.posterior.SamplerRecord",
    "emlib.posterior.base.Sampler",
    "emlib.posterior.reconstruct_pairs",
    "emlib.posterior.registry.SAMPLERS",
    "emlib.testing.check_operator",
    "emlib.testing.check_sampler",
}
"""What the page has beside ``emlib.__all__``: types, registries, what holds yours to the contract, roads to others."""


def built(folder: Path, text: str) -> tuple[str, list[str]]:
    """A page with this text, built as the book's are, and what Sphinx has to say."""
    pages, config = folder / "pages", yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    pages.mkdir()
    (pages / "index.md").write_text(
        "# Beginning\n\n```{toctree}\napi\n```\n\n(notation)=\n## Notation\n", encoding="utf-8"
    )
    (pages / "api.md").write_text(text, encoding="utf-8")
    options = {key: value for key, value in config["sphinx"]["config"].items() if key.startswith("autodoc_")}
    options |= {"extensions": ["myst_parser", "docstrings"], "nitpicky": True}
    options["myst_enable_extensions"] = config["parse"]["myst_enable_extensions"]
    settings = "".join(f"{key} = {value!r}\n" for key, value in options.items())
    (pages / "conf.py").write_text(f"import sys\n\nsys.path.insert(0, {str(ROOT / 'tests')!r})\n{settings}")
    # in a process of its own, since autodoc changes the signatures of what it documents
    words = ["-b", "html", "-q", "--no-color", "-w", str(folder / "warnings"), str(pages), str(folder / "html")]
    subprocess.run([sys.executable, "-m", "sphinx", *words], check=True, capture_output=True)
    html = (folder / "html" / "api.html").read_text(encoding="utf-8")
    return html, (folder / "warnings").read_text(encoding="utf-8").splitlines()


def test_the_page_has_every_public_name_once():
    assert sorted(ENTRIES) == sorted({f"emlib.{name}" for name in emlib.__all__} | BESIDE)


def test_the_page_of_the_book_builds_without_a_warning(tmp_path):
    html, warnings = built(tmp_path, PAGE)
    assert warnings == []
    missing = [name for name in ENTRIES if f'id="{name}"' not in html]
    assert missing == []
    methods = [name for name, thing in vars(emlib.Operator).items() if callable(thing) and not name.startswith("_")]
    assert len(methods) > 8
    assert [name for name in [*methods, "__call__"] if f'id="emlib.Operator.{name}"' not in html] == []


def test_a_role_leads_to_an_entry_by_any_path_and_nowhere_else(tmp_path):
    page = "# Names\n\n```{eval-rst}\n.. autofunction:: emlib.dps\n\n.. autoclass:: emlib.Operator\n\n"
    page += ":func:`emlib.posterior.dps.dps` :attr:`emlib.operators.base.Operator.rules` :mod:`emlib.guidance.rules` "
    page += ":func:`emlib.posterior.dpss`\n```\n"
    html, warnings = built(tmp_path, page)
    assert 'href="#emlib.dps"' in html
    assert 'href="#emlib.Operator"' in html
    assert "#emlib.guidance" not in html
    assert len(warnings) == 1
    assert "emlib.posterior.dpss" in warnings[0]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("A^T y * z, |y - A x|^2", r"A^T y \* z, \|y - A x\|^2"),
        ("x_0 and x_ and _y", r"x_0 and x\_ and _y"),
        ("``a * b|_`` and :func:`emlib.dps_squared`", "``a * b|_`` and :func:`emlib.dps_squared`"),
        ("[len, *shape]", r"[len, \*shape]"),
    ],
)
def test_only_code_and_roles_are_markup(written, meant):
    assert plain(written) == meant


def test_what_is_the_same_has_one_origin():
    assert origin("emlib.posterior.dps.dps") == origin("emlib.dps") == origin("emlib.posterior.dps")
    assert origin("emlib.operators.base.Operator.solve") == origin("emlib.Operator.solve")
    assert origin("emlib.posterior.SAMPLERS") == origin("emlib.posterior.registry.SAMPLERS")
    assert origin("emlib.GaussianBlur.solve") != origin("emlib.Operator.solve")
    assert locate("emlib.operators.OPERATORS") is operators.OPERATORS
    assert locate("emlib.posterior.pigdm.pigdm_mean").__name__ == "pigdm_mean"  # in a module that a function hides
    assert locate("emlib.posterior.nothing") is None
    assert posterior.SamplerRecord is locate("emlib.posterior.SamplerRecord")
