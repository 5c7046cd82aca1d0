"""Writes the priors and the pictures of the laboratory in the page, as scripts that a page from a file may load.

    python -m emlib em --operator mask --fraction 0.6 --preset pocket --folder runs/em-mask-mmps-pocket
    python tests/lab_weights.py runs/em-mask-mmps-pocket

A matrix of weights becomes one byte a number, with one scale for each row; biases and norms stay as they are. On 48
held-out pictures with 60 % hidden that moved MMPS by 0.004 dB, and its pictures by 1/500 of their range.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import emlib
from emlib import viz
from emlib.data import data_dir
from emlib.runtime.files import atomic_file
from emlib.unet import UNet, UNetConfig, load_unet

LAB = Path(__file__).resolve().parent.parent / "book" / "assets" / "lab"
CLEAN = data_dir() / "checkpoints" / "fashion-mnist-clean.safetensors"
SHOWN = 12
"""Held-out pictures that a reader may break."""
STILL = 10
"""Pictures in a row of the still picture."""


def packed(w: Tensor) -> bytes:
    """Biases and norms in float32; a matrix as a float32 scale for each row, and then bytes -127 to 127."""
    if w.ndim < 2:
        return w.numpy().astype("<f4").tobytes()
    rows = w.flatten(1)
    scale = rows.abs().amax(dim=1, keepdim=True) / 127
    levels = (rows / scale.clamp_min(1e-30)).round().to(torch.int8)
    return scale.numpy().astype("<f4").tobytes() + levels.numpy().tobytes()


def unpacked(data: memoryview, shape: list[int]) -> tuple[Tensor, int]:
    """What the page makes of :func:`packed`, and how many bytes of it were used."""
    rows, size = shape[0], int(np.prod(shape))
    numbers = torch.from_numpy(np.frombuffer(data, "<f4", rows).copy())
    if len(shape) < 2:
        return numbers, 4 * rows
    levels = torch.from_numpy(np.frombuffer(data, np.int8, size, 4 * rows).copy())
    return (levels.float().view(rows, -1) * numbers[:, None]).view(shape), 4 * rows + size


def write_prior(model: UNet, name: str, label: str, folder: Path = LAB) -> Path:
    """One network as ``prior-NAME.js``."""
    state = {key: w.detach().float().contiguous() for key, w in model.state_dict().items()}
    about = {"label": label, "config": asdict(model.cfg), "shapes": {key: list(w.shape) for key, w in state.items()}}
    data = base64.b64encode(b"".join(map(packed, state.values()))).decode()
    path = folder / f"prior-{name}.js"
    with atomic_file(path) as part:
        part.write_text(f'lab.keepPrior("{name}", {json.dumps(about)}, "{data}");\n', encoding="utf-8")
    return path


def read_prior(path: Path) -> UNet:
    """The network as the page has it, rounding included."""
    about, data = re.search(r', (\{.*\}), "([^"]+)"\);', path.read_text(encoding="utf-8")).groups()
    about, rest, state = json.loads(about), memoryview(base64.b64decode(data)), {}
    for key, shape in about["shapes"].items():
        state[key], used = unpacked(rest, shape)
        rest = rest[used:]
    sizes = {key: tuple(x) if isinstance(x, list) else x for key, x in about["config"].items()}
    model = UNet(UNetConfig(**sizes))
    model.load_state_dict(state)
    return model.eval()


def write_pictures(folder: Path = LAB) -> Path:
    """Held-out pictures to break, and the clean ones of which chapter 1 makes its world, as bytes."""
    task = emlib.make_task(emlib.preset("pocket"), operator="mask", fraction=0.6)
    held_out, clean = (as_bytes(x) for x in (task.held_out_truth[:SHOWN], task.clean))
    path = folder / "pictures.js"
    with atomic_file(path) as part:
        part.write_text(f'lab.keepPictures("{held_out}", "{clean}");\n', encoding="utf-8")
    return path


def write_still(priors: dict[str, UNet], folder: Path = LAB) -> Path:
    """``draw.png``: a row for each prior, a column for each noise; what a page shows until it is tried."""
    rows = [
        next(emlib.diffusion.draw(prior, emlib.linear_schedule(), (1, 28, 28), STILL, steps=25))
        for prior in priors.values()
    ]
    path = folder / "draw.png"
    with atomic_file(path) as part:
        Image.fromarray(viz.tile(torch.cat(rows), columns=STILL)).save(part, format="PNG", optimize=True)
    return path


def as_bytes(x: Tensor) -> str:
    return base64.b64encode(((x + 1) * 127.5).round().to(torch.uint8).numpy().tobytes()).decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of an EM run on masks, with its prior_00.safetensors and so on")
    found = sorted(parser.parse_args().folder.glob("prior_*.safetensors"))
    if not found:
        parser.error("no prior_00.safetensors in that folder; name the folder of a finished run of `emlib em`")
    priors = {f"em{i}": load_unet(path) for i, path in enumerate(found)}
    labels = {name: f"after EM {i}" if i else "first, before EM" for i, name in enumerate(priors)}
    priors["clean"], labels["clean"] = load_unet(CLEAN), "clean pictures"
    made = [write_prior(prior, name, labels[name]) for name, prior in priors.items()]
    shown = {name: priors[name] for name in ("em0", f"em{len(found) - 1}", "clean")}
    made += [write_pictures(), write_still(shown)]
    for path in made:
        print(f"{path.relative_to(Path.cwd())}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
