r"""The model card: what a network is, what it learned from, how well, under whose terms, and how to load it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from emlib.unet import UNet

LICENCES = {
    "Fashion-MNIST": "Fashion-MNIST is under the MIT licence, Zalando SE.",
    "CIFAR-10": "CIFAR-10 comes without a licence; its authors ask to cite Krizhevsky, *Learning Multiple Layers of "
    "Features from Tiny Images* (2009). Its pictures were gathered from the web and belong to their makers.",
    "CelebA": "CelebA is for non-commercial research only: read its agreement before you use or publish what was "
    "learned from it. It shows real people.",
}
"""What may be done with pictures, by the first word or words of the data set's name (:mod:`emlib.data`)."""


SAME = ("data", "fingerprint", "operator", "fraction", "noise_std", "sampler", "seed")
"""Settings by which a network and a recorded run know each other."""


UNKNOWN = "Whose the pictures are was not kept with the weights. Say it here before you publish them."


FRONT = """---
library_name: diffusers
pipeline_tag: unconditional-image-generation
tags: [pytorch, diffusers, unconditional-image-generation, ddpm, emdiffusion]
---
"""


def model_card(model: UNet, name: str, notes: Mapping[str, str], record: Mapping[str, Any] | None = None) -> str:
    """The card as Markdown, with the front matter that the Hugging Face hub reads.

    Args:
        model: the network.
        name: what it is called: its folder, or the end of its name at the hub.
        notes: words kept with the weights (:func:`emlib.unet.save_unet`).
        record: a recorded run (:func:`emlib.runs.record.read_result`), for its command, settings and numbers.

    Raises:
        ValueError: if the note "settings" is not what a run of EM keeps, or the recorded run is not the network's own.
    """
    record = record or {"settings": {}, "rows": []}
    kept, said = _kept(notes), record["settings"]
    if odd := [key for key in SAME if key in kept and key in said and kept[key] != said[key]]:
        there, here = ({key: x[key] for key in odd} for x in (said, kept))
        raise ValueError(f"the recorded run has {there}, but the network comes from {here}; name its own run")
    settings = {**kept, **said}
    data = settings.get("data")
    parts = [
        f"{FRONT}\n# {name}",
        _what(model, notes, settings),
        _table(("", ""), [(key, value) for key, value in _facts(model, notes, record, data).items()]),
        _numbers(record["rows"]),
        _use(model, name, notes),
        f"## The pictures\n\n{_licence(data)}\nWhat it draws can be near copies of them: look before you publish.",
    ]
    if settings.keys() - {"data"}:
        parts.append(f"## All settings\n\n```json\n{json.dumps(settings, indent=1)}\n```")
    return "\n\n".join(part for part in parts if part) + "\n"


def _kept(notes: Mapping[str, str]) -> dict[str, Any]:
    """The settings that are kept with the weights: those of a run of EM, and the data set of any training."""
    try:
        return {**json.loads(notes.get("settings", "{}")), **({"data": notes["data"]} if "data" in notes else {})}
    except (ValueError, TypeError, RecursionError):
        raise ValueError(f"the note 'settings' is no JSON object: {notes['settings'][:80]!r}") from None


def _what(model: UNet, notes: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    sides = f"sides in multiples of {model.cfg.stride}"
    net = (
        "The noise predictor eps_theta(x_t, t) of a DDPM (Ho et al. 2020; T = 1000, beta linear from 1e-4 to 0.02) for "
        f"pictures [B, {model.cfg.in_channels}, H, W] on [-1, 1] with {sides}."
    )
    if "iteration" in notes and notes["iteration"] != "0":
        operator = f" ({settings['operator']})" if "operator" in settings else ""
        return (
            f"{net} It learned from broken pictures{operator} by expectation-maximisation: its own repairs of them "
            f"taught it, {notes['iteration']} time(s) over, after the method of Bai, Wang, Chen and Sun, *An "
            "Expectation-Maximization Algorithm for Training Clean Diffusion Models from Corrupted Observations* "
            "(NeurIPS 2024)."
        )
    if "iteration" in notes:
        return f"{net} It is the first prior of a run of EM (EMDiffusion, NeurIPS 2024), before any broken picture."
    if "emlib train" in notes.get("command", ""):
        return f"{net} It was trained on clean pictures."
    return f"{net} How it was trained was not kept with its weights."


def _facts(model: UNet, notes: Mapping[str, str], record: Mapping[str, Any], data: str | None) -> dict[str, str]:
    """What is known, in the order of the table."""
    cfg = model.cfg
    known = {
        "parameters": f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} million",
        "widths, finest first": ", ".join(map(str, cfg.channels)),
        "attention": ", ".join("yes" if attends else "no" for attends in cfg.attention),
        "learned from": data or "",
        **{key: str(record.get(key, "")) for key in ("command", "seconds", "device", "commit", "torch", "recorded")},
    }
    # A note has the last word, as it stands with the weights themselves.
    known |= {key: x for key, x in notes.items() if key not in ("unet", "settings", "data")}
    return {key: f"`{x}`" if key == "command" else x for key, x in known.items() if x}


def _numbers(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[row.get(key, "") for key in columns] for row in rows]
    about = (
        "As the run recorded them. PSNR is in dB; Fréchet distances carry the features they are taken in, and only one "
        "in those of Inception-v3 is an FID."
    )
    return f"## Numbers\n\n{about}\n\n{_table(columns, cells)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    def line(cells: Sequence[Any]) -> str:
        words = [f"{x:.4g}" if isinstance(x, float) else str(x) for x in cells]
        return "| " + " | ".join(" ".join(word.split()).replace("|", "\\|") for word in words) + " |"

    return "\n".join([line(head), line(["---"] * len(head)), *map(line, rows)])


def _licence(data: str | None) -> str:
    return next((text for name, text in LICENCES.items() if data and data.startswith(name)), UNKNOWN)


def _use(model: UNet, name: str, notes: Mapping[str, str]) -> str:
    """Code that draws four pictures, here and in diffusers; both run as they stand beside the folder."""
    stride, channels = model.cfg.stride, model.cfg.in_channels
    side = int(notes.get("size", -(-32 // stride) * stride))
    shape = f"{channels}, {side}, {side}"
    return f"""## How to load it

`{name}` is this folder; or put its name at the hub; the pictures here are {side} x {side}. With emlib:

```python
import emlib

prior = emlib.load_pretrained("{name}")
pictures = next(emlib.draw(prior, emlib.linear_schedule(), ({shape}), count=4, steps=50))
```

and as the prior of a reconstruction, without training: `python -m emlib reconstruct --prior {name} --sampler dps`.
With diffusers:

```python
import torch
from diffusers import DDPMScheduler, UNet2DModel

unet = UNet2DModel.from_pretrained("{name}")
scheduler = DDPMScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
scheduler.set_timesteps(50)
pictures = torch.randn(4, {shape})
with torch.no_grad():
    for t in scheduler.timesteps:
        pictures = scheduler.step(unet(pictures, t).sample, t, pictures).prev_sample
```"""
