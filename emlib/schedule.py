r"""The variance-preserving noise schedule: x_t = alpha_t x_0 + sigma_t eps.

Time is counted as in ``diffusers``: t = 0 is the least noisy of the T noisy versions, t = T - 1 is
almost pure noise, so the weights of ``google/ddpm-cifar10-32`` fit without an offset. A clean
picture is written t = -1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Schedule:
    r"""Noise levels of a diffusion with T steps (Ho et al. 2020, section 2).

    Attributes:
        beta: [T], variance added in each step, in (0, 1).
        alpha_bar: [T], product of (1 - beta) up to and with step t; alpha_t^2 in our letters.
    """

    beta: Tensor
    alpha_bar: Tensor

    @property
    def T(self) -> int:
        """Number of noisy versions of a picture."""
        return len(self.beta)

    def alpha(self, t: Tensor | int) -> Tensor:
        """How much of the picture is left at time t, shape [B, 1, 1, 1]; 1 at t = -1."""
        return self._at(t).sqrt()

    def sigma(self, t: Tensor | int) -> Tensor:
        """Standard deviation of the noise at time t on the [-1, 1] scale, [B, 1, 1, 1]; 0 at t = -1."""
        return (1 - self._at(t)).clamp_min(0).sqrt()

    def _at(self, t: Tensor | int) -> Tensor:
        if not isinstance(t, Tensor):  # without a tensor, which a GPU would have to be sent
            if not -1 <= t < self.T:
                raise ValueError(f"time must lie in -1..{self.T - 1}, got [{t}]")
            return self.alpha_bar[t].view(1, 1, 1, 1) if t >= 0 else self.alpha_bar.new_ones(1, 1, 1, 1)
        t = t.to(self.alpha_bar.device).reshape(-1)
        # a GPU would have to be waited for; it refuses a time beyond T itself
        if not t.is_cuda and ((t < -1) | (t >= self.T)).any():
            raise ValueError(f"time must lie in -1..{self.T - 1}, got {t.tolist()[:8]}")
        alpha_bar = torch.where(t < 0, 1.0, self.alpha_bar[t.clamp_min(0)])
        return alpha_bar.view(-1, 1, 1, 1)

    def to(self, device: torch.device | str) -> Schedule:
        """The same schedule with its tensors on ``device``."""
        return Schedule(self.beta.to(device), self.alpha_bar.to(device))


def linear_schedule(T: int = 1000, beta_min: float = 1e-4, beta_max: float = 0.02) -> Schedule:
    r"""The schedule of DDPM and of the EMDiffusion paper: beta grows linearly (Ho et al. 2020, section 4).

    Args:
        T: number of steps, at least 2.
        beta_min: first beta, in (0, 1).
        beta_max: last beta, in [beta_min, 1).

    Raises:
        ValueError: if T or a beta is out of its range.
    """
    if T < 2:
        raise ValueError(f"a schedule needs at least two steps, got T={T}")
    if not 0 < beta_min <= beta_max < 1:
        raise ValueError(f"betas must satisfy 0 < beta_min <= beta_max < 1, got {beta_min} and {beta_max}")
    # beta_t = beta_min + (beta_max - beta_min) t / (T - 1)
    beta = torch.linspace(beta_min, beta_max, T, dtype=torch.float64)
    # alpha_bar_t = prod_{s <= t} (1 - beta_s)
    alpha_bar = torch.cumprod(1 - beta, dim=0)
    return Schedule(beta.float(), alpha_bar.float())


def add_noise(schedule: Schedule, x0: Tensor, t: Tensor | int, eps: Tensor) -> Tensor:
    r"""Noisy version of a picture at time t (Ho et al. 2020, eq. 4).

    Args:
        schedule: the noise levels.
        x0: clean pictures, [B, C, H, W] on [-1, 1].
        t: time, a whole number or [B], in -1..T-1.
        eps: standard normal noise, [B, C, H, W].

    Returns:
        x_t, [B, C, H, W].
    """
    # x_t = alpha_t x_0 + sigma_t eps
    return schedule.alpha(t) * x0 + schedule.sigma(t) * eps


def time_grid(schedule: Schedule, steps: int, power: float = 1.0) -> list[int]:
    r"""Times that a sampler visits: ``steps`` of them, from T - 1 down to 0, and then -1, the clean picture.

    The visit at t = 0 matters: a last step from a noisier time would end in a mean, not in a picture.

    Args:
        schedule: the noise levels.
        steps: network calls, 1 to T; all T times whatever the power when steps = T.
        power: 1 spaces the times equally, more crowds them towards 0, at least 1.

    Raises:
        ValueError: if ``steps`` or ``power`` is out of range.
    """
    if not 1 <= steps <= schedule.T:
        raise ValueError(f"a sampler takes 1 to {schedule.T} steps on this schedule, got steps={steps}")
    if not power >= 1:
        raise ValueError(f"the power of a time grid must be at least 1, got power={power}")
    # t_i = (T - 1) (left / (steps - 1))^power, and never two calls at the same time
    last = max(1, steps - 1)
    times = [max(round((schedule.T - 1) * (left / last) ** power), left) for left in range(steps - 1, -1, -1)]
    return [schedule.T - 1, *times[1:], -1]
