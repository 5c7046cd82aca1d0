r"""AlexNet's convolution features as they come with the project: ``python tests/embed_alexnet.py FILE`` writes them.

FILE is torchvision's checkpoint, which ``python -m emlib weights --alexnet`` fetches into PyTorch's cache. LPIPS and
FD-AlexNet use its convolutions alone, 2.5 of its 61 million weights, and rounded to float16 these take 5 MB.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from emlib.metrics.alexnet import ALEXNET_FILE, ALEXNET_NOTE, read_features
from emlib.runtime.files import atomic_file

OUT = Path(__file__).resolve().parent.parent / "data" / "checkpoints" / "alexnet-features.safetensors"


def fingerprint(features: dict[str, Tensor]) -> str:
    """SHA-256 of the tensors' bytes in the order of their names, the same from whatever file they were read."""
    digest = hashlib.sha256()
    for name in sorted(features):
        digest.update(features[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def embed(source: Path, out: Path = OUT) -> str:
    """Rounds the features in torchvision's checkpoint to float16, and returns the note that goes with them.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
    """
    features = read_features(source)
    note = (
        f"torchvision's AlexNet, weights IMAGENET1K_V1 ({ALEXNET_FILE}), BSD-3-Clause: the convolution features, "
        "rounded to float16; the SHA-256 of their float32 bytes, in the order of their names, is "
        f"{fingerprint(features)}"
    )
    with atomic_file(out) as part:
        save_file({name: x.to(torch.float16) for name, x in features.items()}, part, metadata={ALEXNET_NOTE: note})
    return note


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help=f"torchvision's checkpoint {ALEXNET_FILE}")
    parser.add_argument("--out", type=Path, default=OUT, help="another place for them")
    args = parser.parse_args()
    print(embed(args.file, args.out))
