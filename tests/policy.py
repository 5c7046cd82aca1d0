"""What a page of the book may load and run, said to the browser in each page's head: an extension of Sphinx.

All of it comes from the site or stands in the page, so a line that found its way into a page can neither fetch from
elsewhere nor send anything there. Inline scripts stay allowed, since the theme is made of them.
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

OWN = "'self' file:"
"""The site, as it is published and as it is opened from its files."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        f"script-src {OWN} blob: 'unsafe-inline' 'wasm-unsafe-eval'",  # the laboratory multiplies in WebAssembly
        f"worker-src {OWN} blob:",
        f"style-src {OWN} 'unsafe-inline'",
        f"img-src {OWN} data: blob:",
        f"font-src {OWN} data:",
        f"connect-src {OWN}",
        f"form-action {OWN}",  # the search
        "base-uri 'none'",
    )
)


def say(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Puts the policy before all that it speaks of."""
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}" />'
    context["metatags"] = policy + context.get("metatags", "")  # the index has none of its own


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("html-page-context", say)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
