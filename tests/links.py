"""Are the addresses in the book's text still alive?  ``make check-links`` runs this; it needs a network.

Ends with status 0 if every address answers, 1 if one is broken, and 2 if none could be reached at all: then nothing was
checked, which is neither a pass nor a failure.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "_build" / "links"
REFUSALS = (401, 403, 429)
"""Answers of servers that are there but want no robots."""


def find_addresses() -> list[dict]:
    """One record for each address in the pages, as Sphinx's linkcheck writes it; nothing is executed."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    config["execute"] = {"execute_notebooks": "off"}
    config["sphinx"]["config"] |= {"linkcheck_timeout": 20, "linkcheck_retries": 2, "linkcheck_workers": 8}
    config["sphinx"]["config"] |= {"linkcheck_anchors": False}  # many pages make theirs by script
    OUT.mkdir(parents=True, exist_ok=True)
    ours = OUT / "_config.yml"
    ours.write_text(yaml.safe_dump(config), encoding="utf-8")
    found = OUT / "_build" / "html" / "output.json"
    found.unlink(missing_ok=True)
    command = [Path(sys.executable).parent / "jupyter-book", "build", ROOT, "--builder", "linkcheck", "--all", "-q"]
    with open(OUT / "log.txt", "w", encoding="utf-8") as log:
        command += ["--path-output", OUT, "--config", ours]
        subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)  # its status says "broken" offline too
    if not found.is_file():
        raise SystemExit(f"Sphinx could not read the pages; see {OUT / 'log.txt'}")
    return [json.loads(line) for line in found.read_text(encoding="utf-8").splitlines()]


def judge(records: Iterable[dict]) -> tuple[int, str]:
    """The exit status and what to say, from linkcheck's records."""
    external = {r["uri"]: r for r in records if r["uri"].startswith(("http://", "https://"))}
    fine, refused, broken, silent = [], [], [], []
    for record in external.values():
        answer = re.match(r"(\d{3}) (Client|Server) Error", record["info"])
        if record["status"] in ("working", "redirected", "ignored"):
            fine.append(record)
        elif answer and int(answer.group(1)) in REFUSALS or "rate limited" in record["info"]:
            refused.append(record)
        elif answer or record["code"] >= 400:
            broken.append(record)
        else:  # no answer: no such host, no route, too slow
            silent.append(record)
    if not external:
        return 1, "No page has an external address, which can't be right."
    if len(silent) == len(external):
        return 2, f"No network: not one of {len(external)} addresses could be reached, so NOTHING WAS CHECKED."
    lines = [f"{r['filename']}:{r['lineno']}: {r['uri']}\n    {r['info'][:200]}" for r in broken + silent]
    lines += [f"{r['filename']}:{r['lineno']}: {r['uri']} is there but wants no robots; look by hand" for r in refused]
    lines.append(
        f"{len(external)} addresses: {len(fine)} answer, {len(broken)} are broken, {len(silent)} can't be reached, "
        f"{len(refused)} refuse robots."
    )
    return int(bool(broken or silent)), "\n".join(lines)


if __name__ == "__main__":
    status, said = judge(find_addresses())
    print(said)
    sys.exit(status)
