"""Every page, in light and in dark, held against axe-core's rules: nothing serious, nothing critical."""

from __future__ import annotations

from pathlib import Path

import pytest
from built import PAGES, address, needs_site

AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"
ALLOWED: dict[str, str] = {}
"""Rule -> why a page may break it. Nothing so far: what the theme gets wrong, book.css and book.js put right."""

pytestmark = needs_site


@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("dark", 1440), ("light", 390)])
@pytest.mark.parametrize("page", PAGES)
def test_axe_finds_nothing_serious(page, theme, width, open_tab):
    tab = open_tab(address(page), theme, width)
    assert tab.evaluate("document.documentElement.dataset.theme") == theme
    # what is folded away is read too
    tab.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    tab.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    tab.wait_for_timeout(300)
    tab.evaluate(AXE.read_text(encoding="utf-8"))
    found = tab.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")["violations"]
    serious = [rule for rule in found if rule["impact"] in ("serious", "critical") and rule["id"] not in ALLOWED]
    said = [f"{rule['id']}: {node['target']} {node['failureSummary']}" for rule in serious for node in rule["nodes"]]
    assert said == []
