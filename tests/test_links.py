"""What ``make check-links`` says of linkcheck's records: fine, broken, or not checked at all."""

from __future__ import annotations

import pytest

pytest.importorskip("yaml")

from links import judge  # noqa: E402


def record(name: str, status: str = "working", info: str = "", code: int = 0) -> dict:
    uri = f"https://example.org/{name}"
    return {"filename": "book/intro.md", "lineno": 3, "status": status, "code": code, "uri": uri, "info": info}


MISSING = record("missing", "broken", "404 Client Error: Not Found for url: https://example.org/missing")
ROBOTS = record("robots", "broken", "403 Client Error: Forbidden for url: https://example.org/robots")
SILENT = [
    record("a", "broken", "HTTPSConnectionPool(host='example.org'): Max retries exceeded (NameResolutionError)"),
    record("b", "timeout", "HTTPSConnectionPool(host='example.org', port=443): Read timed out."),
]


def test_living_addresses_pass():
    status, said = judge([record("a"), record("b", "redirected", "https://example.org/c", 301), ROBOTS])
    assert status == 0
    assert "2 answer, 0 are broken" in said
    assert "robots is there but wants no robots" in said


def test_a_broken_address_is_named_with_its_page():
    status, said = judge([record("a"), MISSING])
    assert status == 1
    assert "book/intro.md:3: https://example.org/missing" in said


def test_a_silent_host_is_a_failure_when_others_answer():
    status, said = judge([record("fine"), *SILENT])
    assert status == 1
    assert "2 can't be reached" in said


def test_without_a_network_it_says_that_nothing_was_checked():
    status, said = judge(SILENT)
    assert status == 2
    assert "NOTHING WAS CHECKED" in said


def test_no_address_at_all_is_suspicious():
    assert judge([{**record("a", "local"), "uri": "other.md"}])[0] == 1
