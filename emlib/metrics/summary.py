r"""Scores of an EM iteration: what was reconstructed against the truth, what the prior draws against the real."""

from __future__ import annotations

import warnings

from torch import Tensor

from emlib.metrics import alexnet, reference
from emlib.metrics.alexnet import alexnet_features, lpips_distance
from emlib.metrics.frechet import frechet_distance
from emlib.metrics.image import psnr, ssim

CROWD = 10_000
"""Real pictures that a Fréchet distance is taken to, at most."""


def against_truth(x: Tensor, truth: Tensor) -> dict[str, float]:
    """PSNR in dB and, where AlexNet is at hand, LPIPS: means over pictures [N, C, H, W] on [-1, 1]."""
    x = x.cpu()
    row = {"PSNR": psnr(x, truth).mean().item()}
    if not alexnet.alexnet_missing():
        row["LPIPS"] = lpips_distance(x, truth).mean().item()
    return row


def with_interval(x: Tensor, truth: Tensor) -> dict[str, float]:
    """PSNR, SSIM and, where AlexNet is at hand, LPIPS: means over pictures [N, C, H, W] on [-1, 1], N at least 2.

    ``PSNR_low`` and ``PSNR_high`` are the ends of the mean's 95 % bootstrap interval over the pictures; so for others.
    """
    import scipy.stats  # takes longer to import than all else here

    measures = {"PSNR": psnr, "SSIM": ssim} | ({} if alexnet.alexnet_missing() else {"LPIPS": lpips_distance})
    row: dict[str, float] = {}
    for name, measure in measures.items():
        values = measure(x.cpu(), truth).double().numpy()
        ends = scipy.stats.bootstrap(
            (values,), lambda v, axis: v.mean(axis=axis), n_resamples=1000, method="percentile", random_state=0
        ).confidence_interval
        row |= {name: float(values.mean()), f"{name}_low": float(ends.low), f"{name}_high": float(ends.high)}
    return row


def against_real(samples: Tensor, real_features: Tensor | None) -> dict[str, float]:
    """FD-AlexNet of generated pictures to the features of real ones; empty where AlexNet is missing.

    Empty as well, with a warning, where there are no more pictures than the 256 features.
    """
    if real_features is None:
        return {}
    if (few := min(len(samples), len(real_features))) <= real_features.shape[1]:
        warnings.warn(f"FD-AlexNet is left out: {few} pictures are too few for its 256 features", stacklevel=2)
        return {}
    return {"FD-AlexNet": frechet_distance(alexnet_features(samples).cpu(), real_features)}


def with_floor(samples: Tensor | None, real_features: Tensor | None) -> dict[str, float]:
    """FD-AlexNet with its ``n``, and its ``floor``: n real pictures against the other real ones.

    Empty where AlexNet is missing or there are too few pictures for the 256 features.
    """
    if samples is None or real_features is None:
        return {}
    n, features = len(samples), real_features.shape[1]
    if not features < n < len(real_features) - features:
        return {}
    floor = frechet_distance(real_features[:n], real_features[n:])
    return {**against_real(samples, real_features), "n": n, "floor": floor}


def features_or_none(real: Tensor, device: str = "cpu") -> Tensor | None:
    """AlexNet features of the real pictures, [N, 256]; None without it, as :func:`emlib.alexnet_missing` says.

    Those of a thousand pictures and more are kept beside the data sets, for the next time.

    Args:
        real: pictures, [N, C, H, W] on [-1, 1].
        device: where they are seen, a few at a time.
    """
    return None if alexnet.alexnet_missing() else reference.real_features(real, device)
