r"""Terms of the glossary, linked and explained where a chapter first uses them: an extension of Sphinx.

The first time that a page's prose says a term, the word becomes a link to its entry and carries the entry's text, which
the book's style shows to whoever points at it or reaches it by keys. Nothing needs a script, and no chapter marks a
term by hand.
"""

from __future__ import annotations

import html
import re

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

GLOSSARY = "book/notation_glossary"
UNLINKED = (GLOSSARY, "book/api", "book/bibliography", "book/90_results")
"""Pages whose words stay as they are."""

SKIPPED = (
    nodes.title,
    nodes.reference,
    nodes.literal,
    nodes.literal_block,
    nodes.math,
    nodes.math_block,
    nodes.table,
    nodes.raw,
    nodes.caption,
    nodes.term,
    addnodes.pending_xref,
    addnodes.download_reference,
)
"""What no link is put into."""


def read(app: Sphinx, tree: nodes.document) -> None:
    """Notes the glossary's entries, each with its words and its text, when its page is read."""
    if app.env.docname != GLOSSARY:
        return
    found: dict[str, tuple[str, str]] = {}
    for item in tree.findall(nodes.definition_list_item):
        term, said = item.next_node(nodes.term), item.next_node(nodes.definition)
        place = f"term-{nodes.make_id(term.astext())}"
        term["ids"].append(place)
        for word in re.split(r",\s*", term.astext()):
            found[word] = (place, said.astext().replace("\n", " "))
    app.env.book_terms = found  # type: ignore[attr-defined]


def pattern(words: list[str]) -> re.Pattern[str]:
    """Any of the terms, as a word of its own, in the singular or the plural; long ones win."""
    longest = sorted(words, key=len, reverse=True)
    return re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, longest))})s?(?![\w-])", re.IGNORECASE)


def link(app: Sphinx, tree: nodes.document, page: str) -> None:
    """Links the first use of each term in a page's prose."""
    terms: dict[str, tuple[str, str]] = getattr(app.env, "book_terms", {})
    if page in UNLINKED or not terms:
        return
    known = {word.lower(): entry for word, entry in terms.items()}
    words, done = pattern(list(terms)), set[str]()
    address = app.builder.get_relative_uri(page, GLOSSARY)
    for text in [text for text in tree.findall(nodes.Text) if _is_prose(text)]:
        said, at, pieces = text.astext(), 0, list[nodes.Node]()
        for match in words.finditer(said):
            word = match[1].lower()
            if word in done:
                continue
            done.add(word)
            place, meaning = known[word]
            link = f'<a class="book-term" href="{address}#{place}" data-meaning="{html.escape(meaning)}">{match[0]}</a>'
            pieces += [nodes.Text(said[at : match.start()]), nodes.raw("", link, format="html")]
            at = match.end()
        if pieces:
            text.parent.replace(text, [*pieces, nodes.Text(said[at:])])


def _is_prose(text: nodes.Text) -> bool:
    node, paragraph = text.parent, False
    while node is not None:
        if isinstance(node, SKIPPED) or "cell" in node.get("classes", ()):
            return False
        paragraph = paragraph or isinstance(node, nodes.paragraph)
        node = node.parent
    return paragraph


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("doctree-read", read)
    app.connect("doctree-resolved", link)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
