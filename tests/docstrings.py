r"""The library's docstrings on the book's page of names: an extension of Sphinx, which ``_config.yml`` names.

A docstring is plain text with sections (``Args:`` and the like), ``code`` and roles such as :func:`emlib.dps`. Stars,
bars and underscores are those of a formula. A role may name an object by any path that leads to it; it becomes a link
if the page has the object, else a word. A role that leads nowhere stays a warning, which fails the build.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import sys
from typing import Any

from docutils.nodes import Node
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.util.nodes import make_refnode

SECTIONS = Config(napoleon_custom_sections=[("Attributes", "params_style")])
CODE = re.compile(r"(``.+?``|:\w+:`[^`]+`)", re.DOTALL)
MARKUP = re.compile(r"[*|\\]|_(?!\w)")
"""What reStructuredText would take for the beginning of emphasis, a substitution, an escape, a link."""


def plain(text: str) -> str:
    """A docstring with all that is neither code nor a role meant as it stands."""
    pieces = CODE.split(text)
    pieces[::2] = [MARKUP.sub(r"\\\g<0>", piece) for piece in pieces[::2]]
    return "".join(pieces)


def read(app: Sphinx, what: str, name: str, thing: Any, options: dict, lines: list[str]) -> None:
    """Lines of a docstring as reStructuredText, in place; sections only where there is something to call."""
    text = plain("\n".join(lines))
    if what in ("class", "function", "method"):
        text = str(GoogleDocstring(text, SECTIONS, app, what, name, thing, options))
    lines[:] = text.split("\n")


def locate(path: str) -> Any:
    """What stands at this path; None if there is nothing. A function wins over the module of its name."""
    parts = path.split(".")
    for cut in range(1, len(parts) + 1):
        try:
            return functools.reduce(getattr, parts[cut:], importlib.import_module(".".join(parts[:cut])))
        except (ImportError, AttributeError):
            continue
    return None


@functools.cache
def origin(path: str) -> str | int | None:
    """What stands at this path, by the place where it was written; None if there is nothing."""
    thing = locate(path)
    thing = getattr(thing, "fget", thing)  # of a property
    if inspect.isclass(thing) or inspect.isroutine(thing):
        return f"{thing.__module__}.{thing.__qualname__}"
    return None if thing is None else id(thing)


def paths(node: pending_xref) -> list[str]:
    """What a role may mean, the nearest first: a name inside its class, inside its module, or inside any of ours."""
    target, module, inside = (node.get(key) or "" for key in ("reftarget", "py:module", "py:class"))
    rooms = [f"{module}.{inside}", module, "", *sorted(name for name in sys.modules if name.split(".")[0] == "emlib")]
    return [f"{room.strip('.')}.{target}".lstrip(".") for room in rooms]


def link(app: Sphinx, env: BuildEnvironment, node: pending_xref, words: Node) -> Node | None:
    """A link from a role that Sphinx cannot follow to the entry of what it means, or of the class that has it."""
    if node.get("refdomain") != "py":
        return None
    found = next((path for path in paths(node) if origin(path) is not None), None)
    if found is None:
        return None
    entries = {origin(name): entry for name, entry in env.get_domain("py").objects.items()}
    entry = entries.get(origin(found)) or entries.get(origin(found.rpartition(".")[0]))
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, words) if entry else words


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", read)
    app.connect("missing-reference", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
