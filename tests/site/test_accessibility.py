"""Every page, in light and in dark, held against axe-core's rules: nothing serious, nothing critical."""

from __future__ import annotations

from pathlib import Path

import pytest
from built import PAGES, needs_site
from patience import until

AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"
ALLOWED: dict[str, str] = {}
"""Rule -> why a page may break it. Nothing so far: what the theme gets wrong, book.css and book.js put right."""
COLOURS = ("color-contrast", "link-in-text-block")
"""The rules that colours decide."""
UNTRIED = {"region": {"enabled": False}}
"""A rule that is moderate whatever it finds, and asks where each of ten thousand elements stands."""
FRAME = (".bd-header", ".bd-header-article", ".bd-sidebar-primary", ".bd-sidebar-secondary", ".prev-next-footer")
FRAME += (".bd-footer", "#pst-back-to-top")
"""What stands around the article, and differs from width to width. The article's words are the same in all; figures,
which have a form for phones, are pictures, at whose colours axe does not look."""

STILL = """() => document.getAnimations().every(
    one => one.playState !== "running" || one.timeline !== document.timeline
        || one.effect.getComputedTiming().endTime === Infinity)"""
"""Whether all that unfolds or fades has done so; what follows a reader's scrolling or goes on for ever never has."""

THINNED = """() => {
    const seen = new Set();
    window.whole = [...document.querySelectorAll('.highlight pre')].map(pre => [pre, [...pre.childNodes]]);
    for (const [pre, words] of window.whole) {
        const under = getComputedStyle(pre).backgroundColor;
        pre.replaceChildren(...words.map(word => {
            const plain = word.nodeName === 'SPAN' && !word.firstElementChild && word.checkVisibility();
            if (!plain) return word.cloneNode(true);
            const { color, backgroundColor, fontWeight, fontSize } = getComputedStyle(word);
            const look = [under, color, backgroundColor, fontWeight, fontSize].join();
            const known = seen.has(look);
            seen.add(look);
            return known ? document.createTextNode(word.textContent) : word.cloneNode(true);
        }));
    }
}"""
"""Leaves one word of code of each look: a page has thousands, in a dozen colours, and axe takes as long for each."""
WHOLE = "() => { for (const [pre, words] of window.whole) pre.replaceChildren(...words); }"

pytestmark = needs_site


@pytest.mark.parametrize(("theme", "width", "other"), [("light", 1440, 390), ("dark", 390, 1440)])
@pytest.mark.parametrize("loaded", PAGES, indirect=True)
def test_axe_finds_nothing_serious(tab, theme, width, other):
    """All rules in a wide window in light and on a phone in the dark; for the frame that the other one has, colours."""
    tab.set_viewport_size({"width": width, "height": 900})
    assert serious(tab) == []
    tab.set_viewport_size({"width": other, "height": 900})
    assert serious(tab, COLOURS, FRAME) == []


def serious(tab, rules: tuple[str, ...] = (), within: tuple[str, ...] = ("html",)) -> list[str]:
    """What axe says by these rules, or all, of a page with all that is folded away, and is serious or critical."""
    tab.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    tab.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    until(tab, lambda: tab.evaluate(STILL), "the end of what unfolds")
    if not tab.evaluate("'axe' in window"):
        tab.evaluate(AXE.read_text(encoding="utf-8"))
    # no preload: axe would ask for the style sheets once more, which no page opened from a file may do
    options = {"resultTypes": ["violations"], "preload": False, "selectors": False, "rules": UNTRIED}
    options |= {"runOnly": rules} if rules else {}
    parts = tab.evaluate("parts => parts.filter(part => document.querySelector(part))", within)
    tab.evaluate(THINNED)
    found = tab.evaluate("([parts, options]) => axe.run(parts, options)", [parts, options])["violations"]
    tab.evaluate(WHOLE)
    bad = [rule for rule in found if rule["impact"] in ("serious", "critical") and rule["id"] not in ALLOWED]
    return [f"{rule['id']}: {node['html']} {node['failureSummary']}" for rule in bad for node in rule["nodes"]]
