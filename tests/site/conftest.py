"""A browser without a network, for the tests of the built site."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field

import pytest
from built import PAGES, address
from patience import PATIENCE

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Where several processes share the tests, one has all tests of a page, which it opens once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByPage(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((page for page in PAGES if f"[{page}]" in nodeid or f"[{page}-" in nodeid), nodeid)

    return ByPage(config, log)


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


def opened(browser, where: str, theme: str, width: int, watch=None):
    """An address in a window of its own, whose theme is the system's, as a new reader has it."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    context.set_default_timeout(PATIENCE)
    context.add_init_script("localStorage.setItem('mode', 'auto')")
    tab = context.new_page()
    if watch is not None:
        watch(tab)
    tab.goto(where, wait_until="load")
    if tab.locator("article .math").count():
        tab.wait_for_selector("mjx-container", state="attached")
        tab.evaluate("() => MathJax.startup.promise")
    return tab


@pytest.fixture
def open_tab(browser):
    """Opens an address in the theme and width asked for; all is closed at the end."""
    tabs = []

    def open_one(where: str, theme: str = "light", width: int = 1440, watch=None):
        tabs.append(opened(browser, where, theme, width, watch))
        return tabs[-1]

    yield open_one
    for tab in tabs:
        tab.context.close()


@dataclass
class Heard:
    """What a page asked for and complained of since it was opened."""

    outside: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def listen(self, tab) -> None:
        own = ("file:", "data:", "blob:")
        tab.on("request", lambda request: request.url.startswith(own) or self.outside.append(request.url))
        tab.on("requestfailed", lambda request: self.failed.append(request.url))
        tab.on("pageerror", lambda error: self.errors.append(str(error)))
        tab.on("console", lambda said: "Content Security" in said.text and self.refused.append(said.text))


@pytest.fixture(scope="session")
def loaded(browser, request):
    """A page of the book, opened once for all tests of it: (tab, what was heard)."""
    heard = Heard()
    tab = opened(browser, address(request.param), "light", 1440, heard.listen)
    tab.evaluate("window.openAtFirst = new Set(document.querySelectorAll('details[open]'))")
    yield tab, heard
    tab.context.close()


@pytest.fixture
def theme():
    """What the reader's system prefers; a test may name another."""
    return "light"


@pytest.fixture
def tab(loaded, theme):
    """The page as it was when it was opened, whatever the test before this one did to it."""
    tab, _ = loaded
    tab.set_viewport_size({"width": 1440, "height": 900})
    tab.emulate_media(media="screen", color_scheme=theme)
    tab.evaluate(
        """() => {
            window.dispatchEvent(new Event('afterprint'));
            for (const part of document.querySelectorAll('details')) part.open = window.openAtFirst.has(part);
            for (const button of document.querySelectorAll('.emlib-lab-bench button'))
                if (button.textContent.startsWith('Close')) button.click();
            for (const dial of document.querySelectorAll('.emlib-dial input')) {
                dial.value = dial.defaultValue;
                dial.dispatchEvent(new Event('input'));
            }
        }"""
    )
    tab.wait_for_function("theme => document.documentElement.dataset.theme === theme", arg=theme)
    return tab
