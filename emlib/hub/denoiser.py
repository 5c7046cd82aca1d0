r"""Our networks as DeepInverse asks for one: noisy pictures and their noise level in, clean pictures out.

So its samplers run on a prior that EM trained, unchanged.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from emlib.diffusion import Eps, predict_x0
from emlib.schedule import Schedule


def denoised(model: Eps, schedule: Schedule, x: Tensor, sigma: Tensor | float) -> Tensor:
    r"""E[x_0 | x_0 + sigma z], with one call of the network.

    The time is the nearest one at which sigma_t / alpha_t = sigma: x_t = alpha_t (x_0 + sigma z) then has the noise
    that the network knows there.

    Args:
        model: eps_theta.
        schedule: the noise levels it was trained on.
        x: x_0 + sigma z, [N, C, H, W], with x_0 on [-1, 1].
        sigma: standard deviation of the noise on that scale: one, or one for each picture [N] (any shape of N numbers).

    Returns:
        [N, C, H, W], about [-1, 1]; of x's dtype.

    Raises:
        ValueError: if there are neither one nor N noise levels, or one is negative or not finite.
    """
    levels = torch.as_tensor(sigma, dtype=torch.float32, device=x.device).reshape(-1)
    if len(levels) not in (1, len(x)):
        raise ValueError(f"{len(x)} pictures take 1 or {len(x)} noise levels, got {len(levels)}")
    if not bool((levels.isfinite() & (levels >= 0)).all()):
        raise ValueError(f"a noise level is a number of 0 or more, got {sigma}")
    every = torch.arange(schedule.T, device=schedule.beta.device)
    known = (schedule.sigma(every) / schedule.alpha(every)).reshape(-1).to(x.device)  # [T], rising
    t = (known - levels[:, None]).abs().argmin(1).expand(len(x))
    # x_t = alpha_t (x_0 + sigma z)
    x_t = schedule.alpha(t).to(x) * x
    return predict_x0(model(x_t.float(), t), schedule, x_t.float(), t).to(x)


class Denoiser(nn.Module):
    """A network on DeepInverse's terms: pictures on [0, 1], and ``sigma`` on that scale.

    Its samplers take it as it is, for instance ``deepinv.sampling.DPS(Denoiser(prior, schedule))``.
    """

    def __init__(self, model: nn.Module, schedule: Schedule) -> None:
        super().__init__()
        self.model, self.schedule = model, schedule

    def forward(self, x: Tensor, sigma: Tensor | float, **_: Any) -> Tensor:
        """[N, C, H, W] with noise ``sigma`` -> [N, C, H, W], about [0, 1]; as for :func:`denoised`."""
        # on [-1, 1] everything is twice as wide, noise too
        return (denoised(self.model, self.schedule, 2 * x - 1, 2 * sigma) + 1) / 2
