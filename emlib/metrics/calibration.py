r"""Whether a posterior's uncertainty is true: how often the truth lies where several draws say that it does.

If K draws and the truth come from one distribution, the truth is as likely to have any rank among them as any other.
So the interval from the j-th smallest to the j-th largest draw holds it with probability (K + 1 - 2 j) / (K + 1),
exactly and for any K; no Gaussian is assumed.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ranks(draws: Tensor, truth: Tensor) -> Tensor:
    """How often the truth has each rank among the draws, pixel by pixel: shares [K + 1], all 1 / (K + 1) if calibrated.

    Where draws equal the truth, as in black corners that all are clamped to, it has each rank in question to an equal
    share.

    Args:
        draws: [K, ...], draws of a posterior each.
        truth: [...], what they are drawn for.

    Raises:
        ValueError: if the shapes do not fit, or there is no draw.
    """
    if draws.ndim < 1 or len(draws) < 1 or draws.shape[1:] != truth.shape:
        raise ValueError(
            f"draws [K, ...] of a truth [...] are wanted, got {tuple(draws.shape)} and {tuple(truth.shape)}"
        )
    below, equal = (draws < truth).sum(0).flatten(), (draws == truth).sum(0).flatten()
    # a pixel's weight 1 / (equal + 1) begins at rank `below` and ends after rank `below + equal`
    weight = 1 / (equal + 1.0).double()
    begins = torch.bincount(below, weight, minlength=len(draws) + 2)
    ends = torch.bincount(below + equal + 1, weight, minlength=len(draws) + 2)
    return ((begins - ends).cumsum(0)[:-1] / truth.numel()).float()


def coverage(draws: Tensor, truth: Tensor) -> dict[float, float]:
    """Nominal -> found share of pixels whose truth lies within the draws' central intervals, widest first.

    Args:
        draws, truth: as for :func:`ranks`; at least two draws.

    Raises:
        ValueError: as :func:`ranks`, or if there is but one draw.
    """
    if len(draws) < 2:
        raise ValueError(f"an interval takes at least two draws, got {len(draws)}")
    share, count = ranks(draws, truth), len(draws)
    return {
        (count + 1 - 2 * j) / (count + 1): float(share[j : count + 1 - j].sum())
        for j in range(1, (count + 1) // 2 + 1)
        if count + 1 - 2 * j > 0
    }
