"""A browser without a network, for the tests of the built site."""

from __future__ import annotations

import shutil

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PATIENCE = 600_000
"""Milliseconds that a page may take to load or to answer, on a machine that does other work too."""


@pytest.fixture(scope="session")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright isn't installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium or Chrome on this machine")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=arguments)
        yield running
        running.close()


@pytest.fixture
def open_tab(browser):
    """Opens an address in the theme and width asked for; all is closed at the end."""
    contexts = []

    def opened(address: str, theme: str = "light", width: int = 1440, watch=None):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        context.add_init_script(f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')")
        tab = context.new_page()
        if watch is not None:
            watch(tab)
        tab.goto(address, wait_until="load")
        if tab.locator("article .math").count():
            tab.wait_for_selector("mjx-container", state="attached")
            tab.evaluate("() => MathJax.startup.promise")
        return tab

    yield opened
    for context in contexts:
        context.close()
