r"""One update of the network and of the average of its weights; on a GPU recorded once and replayed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from emlib.diffusion import Eps, diffusion_loss
from emlib.runtime.distributed import parallel, ranks
from emlib.runtime.graphs import recorded
from emlib.runtime.precision import FLOAT32, Shadow, Speed, quick
from emlib.schedule import Schedule

Loss = Callable[[Eps, Schedule, Tensor, Tensor, Tensor], Tensor]
"""(network, noise levels, rows of ``images`` [B, C, H, W], times [B], normal noise like the rows) -> a number."""


def updating(
    model: nn.Module,
    ema: nn.Module,
    optimizers: tuple[torch.optim.Optimizer, ...],
    loss: Loss,
    schedule: Schedule,
    speed: Speed,
) -> Callable[[Tensor, Tensor, Tensor, float], Tensor]:
    """(pictures, times, noise, decay of the average) -> loss, of one update; on a single GPU recorded and replayed."""
    alone = schedule.beta.is_cuda and ranks().world == 1
    shadow = Shadow(model, speed) if alone and speed != FLOAT32 else None
    net = quick(parallel(model), speed) if shadow is None else shadow.eps

    def update(x0: Tensor, t: Tensor, eps: Tensor, decay: Tensor | float) -> Tensor:
        model.zero_grad(set_to_none=True)
        if shadow is not None:
            shadow.take_weights()
        value = loss(net, schedule, x0, t, eps)
        value.backward()
        if shadow is not None:
            shadow.give_gradients()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for each in optimizers:
            each.step()
        update_ema(ema, model, decay)
        return value.detach()

    if not alone or loss is not diffusion_loss:  # another loss may look at numbers, which a recording cannot
        return update
    replayed = recorded(update)
    return lambda x0, t, eps, decay: replayed(x0, t, eps, torch.full((), decay, device=x0.device))


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, decay: Tensor | float) -> None:
    """Moves the averaged weights towards the network's own, in place."""
    averaged: list[Tensor] = list(ema.parameters())
    current: list[Tensor] = list(model.parameters())
    if isinstance(decay, Tensor):  # one that lies on a GPU
        torch._foreach_mul_(averaged, decay)
        torch._foreach_add_(averaged, torch._foreach_mul(current, 1 - decay))
        return
    get_ema_multi_avg_fn(decay)(averaged, current, None)
