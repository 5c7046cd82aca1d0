"""A walk of the page's laboratory in headless Chromium, and the same walk by emlib: one picture, the same prior.

    python benchmarks/lab.py --out data/results/lab.json

The page's network is plain JavaScript in one worker, emlib's PyTorch on as many threads as it takes. Both draw a noise
of their own; what is compared is time, and the PSNR beside it is proof of the work.
"""

from __future__ import annotations

import shutil
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from e_step import alternated, broken, options, parse, ratio, report
from playwright.sync_api import Page, sync_playwright

import emlib

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from lab_weights import LAB, read_prior  # noqa: E402

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SAMPLERS = {
    "DiffPIR": ("diffpir", emlib.diffpir),
    "DPS": ("dps", partial(emlib.dps, scale=2.0)),
    "MMPS": ("mmps", emlib.mmps),
}
WALK = """async ([sampler, prior, y, mask, steps, seed]) => {
  await lab.ready();
  window.crew ??= lab.crew();
  await crew.need(prior);
  const broken = { y: Float32Array.from(y), mask: Float32Array.from(mask), noiseStd: 0, side: 28 };
  let last = null;
  await crew.start({ sampler, prior, broken, steps, seed, scale: 2 }, ({ x }) => { last = x; });
  return Array.from(last);
}"""


def main(words: list[str] | None = None) -> None:
    parser = options(__doc__, pictures=1, repeats=5)
    parser.add_argument("--steps", type=int, default=12, help="network calls of a walk (default: %(default)s)")
    args = parse(parser, words, repeats=1, steps=2)
    path = browser_here()
    if path is None:
        raise SystemExit(f"lab: no browser here; install Chromium or Chrome as one of {', '.join(BROWSERS)}")
    start = time.perf_counter()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        rows = measured(browser.new_page(), args.steps, args.repeats, args.seed)
        settings = {"steps": args.steps, "prior": "em3", "browser": f"Chromium {browser.version}, headless"}
        browser.close()
    report(args, "lab", settings, rows, time.perf_counter() - start)


def browser_here() -> str | None:
    """The path of a browser, where there is one."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def measured(page: Page, steps: int, repeats: int, seed: int) -> list[dict[str, Any]]:
    """A row for each sampler and place; ratios are to emlib's own walk by that sampler."""
    page.goto((LAB / "start.js").as_uri())  # a page from a file, to which the script itself is added
    page.add_script_tag(url=(LAB / "start.js").as_uri())
    truth, m = broken(1, seed)
    model, schedule = read_prior(LAB / "prior-em3.js").requires_grad_(False), emlib.linear_schedule()
    handed = [m.y.flatten().tolist(), m.operator.mask.flatten().tolist(), steps, seed]

    def here(sampler: Any) -> Any:
        *_, last = sampler(model, schedule, m, emlib.streams(seed, "lab", [0]), steps=steps)
        return last.x_t

    def there(word: str) -> Any:
        return torch.tensor(page.evaluate(WALK, [word, "em3", *handed])).view(1, 1, 28, 28)

    work = {}
    for name, (word, sampler) in SAMPLERS.items():
        work[f"emlib {name}"] = partial(here, sampler)
        work[f"page {name}"] = partial(there, word)
    scores = {name: emlib.psnr(run().clamp(-1, 1), truth).item() for name, run in work.items()}  # warms up, too
    seconds = alternated(work, repeats)
    return [
        {
            "walk": name,
            "seconds": median(seconds[name]),
            **ratio(seconds, name, f"emlib {name.split()[1]}"),
            "PSNR": scores[name],
        }
        for name in work
    ]


if __name__ == "__main__":
    main()
