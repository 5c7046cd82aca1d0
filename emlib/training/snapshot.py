r"""A training halfway, as named tensors: what belongs to it, whether a file holds one, and how it is gone on with."""

from __future__ import annotations

import copy

import torch
from torch import Generator, Tensor, nn

from emlib.muon import OPTIMIZERS


def check_snapshot(start: dict[str, Tensor], model: nn.Module, steps: int, optimizer: str) -> None:
    """Refuses what is no :meth:`TrainStep.snapshot` of a training like this one, before half of it is put in place.

    Args:
        start: what was kept, by name.
        model: the network; is not changed.
        steps: updates of the whole training; some of them must be left.
        optimizer: a key of :data:`emlib.muon.OPTIMIZERS`.

    Raises:
        ValueError: naming what is missing, too much, of another shape or no number.
    """
    # an optimizer has its state after an update; one of a copy tells what that is
    like = copy.deepcopy(model).cpu()
    for w in like.parameters():
        w.grad = torch.zeros_like(w)
    optimizers = OPTIMIZERS[optimizer](like, 1e-3)
    for each in optimizers:
        each.step()
    wanted = {"step": torch.tensor(0), "rng": Generator().get_state(), **parts_of(like, like, optimizers)}
    if strange := sorted(wanted.keys() ^ start.keys()):
        lacks = "lacks" if strange[0] in wanted else "also holds"
        raise ValueError(f"it is no snapshot of this training: it {lacks} {strange[0]!r:.80}")
    for name, x in start.items():
        if (x.shape, x.dtype) != (wanted[name].shape, wanted[name].dtype):
            found, should = (f"{y.dtype} {tuple(y.shape)}" for y in (x, wanted[name]))
            raise ValueError(f"it is no snapshot of this training: {name} is {found}, not {should}")
        if not x.isfinite().all():
            raise ValueError(f"it is no snapshot to go on from: {name} holds numbers that are not finite")
    if not 0 <= (step := int(start["step"])) < steps - 1:
        raise ValueError(f"it is no snapshot of this training: its update is the {step + 1}th of {steps}")
    try:
        Generator().set_state(start["rng"])
    except RuntimeError as error:
        raise ValueError(f"it is no snapshot to go on from: its random state is none ({error})") from None


def parts_of(model: nn.Module, ema: nn.Module, optimizers: tuple[torch.optim.Optimizer, ...]) -> dict[str, Tensor]:
    """Weights, averages and what optimizers remember, by the names that a snapshot has for them."""
    parts = {f"model.{name}": x for name, x in model.state_dict().items()}
    parts |= {f"ema.{name}": x for name, x in ema.state_dict().items()}
    for i, state in enumerate(_states(optimizers)):
        parts |= {f"optimizer.{i}.{name}": x for name, x in state.items()}
    return parts


def _states(optimizers: tuple[torch.optim.Optimizer, ...]) -> list[dict[str, Tensor]]:
    """What each optimizer remembers of each weight, one optimizer after another."""
    return [each.state[w] for each in optimizers for group in each.param_groups for w in group["params"]]


def go_on(
    start: dict[str, Tensor],
    model: nn.Module,
    ema: nn.Module,
    optimizers: tuple[torch.optim.Optimizer, ...],
    rng: Generator,
) -> int:
    """Puts a snapshot in place; returns the next step."""
    for name, net in (("model.", model), ("ema.", ema)):
        net.load_state_dict({key.removeprefix(name): x for key, x in start.items() if key.startswith(name)})
    weights = [w for each in optimizers for group in each.param_groups for w in group["params"]]
    states = _states(optimizers)
    for key, x in start.items():
        if key.startswith("optimizer."):
            _, i, name = key.split(".")
            like = weights[int(i)]
            # The fused kernel walks through memory, so moments must lie as their weights do (channels last).
            states[int(i)][name] = (
                torch.empty_like(like).copy_(x) if x.shape == like.shape else x.to(like.device, copy=True)
            )
    rng.set_state(start["rng"])
    return int(start["step"]) + 1
