"""The README's addresses and times: ``python tests/readme.py`` renews them, test_readme.py compares.

Addresses come from ``_config.yml``, the one place where they are set; times from the chapters' texts and from the
recorded build. They stand between the marks ``<!-- made -->`` and ``<!-- /made -->``.
"""

from __future__ import annotations

import re

import heads
import yaml

README = heads.ROOT / "README.md"
MADE = re.compile(r"<!-- made -->\n.*?<!-- /made -->\n", re.DOTALL)


def made() -> str:
    """What stands between the marks."""
    config = yaml.safe_load((heads.ROOT / "_config.yml").read_text(encoding="utf-8"))
    address, site = config["repository"]["url"], config["html"]["baseurl"]
    chapters = heads.course()["chapters"]
    minutes = {chapter: heads.minutes_to_read(heads.text_of(chapter)) for chapter in chapters}
    core = sum(minutes[chapter] for chapter, entry in chapters.items() if entry["core"])
    run = sum(heads.seconds_to_run().values()) / 60
    return (
        f"**[Read it on its site]({site})**, or build it:\n\n"
        f"```sh\ngit clone {address}.git\ncd {address.rsplit('/', 1)[-1]}\n"
        "make book    # sets everything up, runs every chapter, builds the book and prints its address\n```\n\n"
        f"To read: {hours(sum(minutes.values()))}, the core {hours(core)}. "
        f"To run: {heads.in_minutes(run)} of computing on a laptop for all chapters, once PyTorch is installed.\n"
    )


def hours(minutes: float) -> str:
    """Minutes as halves of an hour."""
    halves = round(minutes / 30)
    return {1: "half an hour", 2: "1 hour"}.get(halves, f"{halves / 2:g} hours")


def renewed(text: str) -> str:
    """The README with what is made as it should be.

    Raises:
        ValueError: if the marks are not there.
    """
    if not MADE.search(text):
        raise ValueError("README.md lacks the marks <!-- made --> and <!-- /made -->")
    return MADE.sub(lambda _: f"<!-- made -->\n{made()}<!-- /made -->\n", text, count=1)


if __name__ == "__main__":
    README.write_text(renewed(README.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"renewed: {README.name}")
