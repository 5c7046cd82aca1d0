"""Every page, in light and in dark, held against axe-core's rules: nothing serious, nothing critical."""

from __future__ import annotations

from pathlib import Path

import pytest
from built import DARK, LIGHT, needs_site
from patience import until

AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"
ALLOWED: dict[str, str] = {}
"""Rule -> why a page may break it. Nothing so far: what the theme gets wrong, book.css and book.js put right."""
COLOURS = ("color-contrast", "link-in-text-block")
"""The rules that colours decide; a page differs in nothing else from theme to theme."""

STILL = """() => document.getAnimations().every(
    one => one.playState !== "running" || one.timeline !== document.timeline
        || one.effect.getComputedTiming().endTime === Infinity)"""
"""Whether all that unfolds or fades has done so; what follows a reader's scrolling or goes on for ever never has."""

pytestmark = needs_site


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("loaded", LIGHT, indirect=True)
def test_axe_finds_nothing_serious(tab, width):
    tab.set_viewport_size({"width": width, "height": 900})
    assert serious(tab) == []


@pytest.mark.parametrize("loaded", DARK, indirect=True)
def test_axe_finds_nothing_serious_in_the_dark(tab):
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    assert serious(tab, COLOURS) == []


def serious(tab, rules: tuple[str, ...] = ()) -> list[str]:
    """What axe says by these rules, or all, of a page with all that is folded away, and is serious or critical."""
    tab.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    tab.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    until(tab, lambda: tab.evaluate(STILL), "the end of what unfolds")
    if not tab.evaluate("'axe' in window"):
        tab.evaluate(AXE.read_text(encoding="utf-8"))
    # no preload: axe would ask for the style sheets once more, which no page opened from a file may do
    options = {"resultTypes": ["violations"], "preload": False, **({"runOnly": rules} if rules else {})}
    found = tab.evaluate("options => axe.run(document, options)", options)["violations"]
    bad = [rule for rule in found if rule["impact"] in ("serious", "critical") and rule["id"] not in ALLOWED]
    return [f"{rule['id']}: {node['target']} {node['failureSummary']}" for rule in bad for node in rule["nodes"]]
