r"""The same network in fewer bits or compiled: choices of a preset that change speed, and the last digits."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from emlib.runtime.fused import fuse
from emlib.runtime.graphs import recorded_network

Eps = Callable[[Tensor, Tensor], Tensor]
"""eps_theta(x_t, t): [B, C, H, W] and times [B] -> [B, C, H, W]; a network or anything that answers as one."""

PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Speed:
    """How a network computes.

    Attributes:
        precision: of convolutions and matrix products; weights, sums and answers stay in float32. bfloat16 needs an
            A100 or newer to be fast. float16 is for sampling alone, since its gradients underflow in training.
        compile: whether ``torch.compile`` fuses the network's kernels: minutes at the start, faster from then on.
            On CPUs it gains nothing.
    """

    precision: str = "float32"
    compile: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"unknown precision {self.precision!r}; there are {', '.join(PRECISIONS)}")


FLOAT32 = Speed()
"""Plain float32, not compiled."""


def filled_up(model: Eps) -> Eps:
    """The network, which never meets a batch smaller than one before of pictures as large: a rest is filled up.

    Kernels are compiled or recorded for one size, so each further one would take minutes, or memory, for the last few
    pictures of an E-step.
    """
    known: defaultdict[torch.Size, set[int]] = defaultdict(set)

    def eps(x: Tensor, t: Tensor) -> Tensor:
        n, sizes = len(x), known[x.shape[1:]]
        size = min((size for size in sizes if size >= n), default=n)
        sizes.add(size)
        if size > n:
            x, t = (torch.cat([part, part[-1:].expand(size - n, *part.shape[1:])]) for part in (x, t))
        return model(x, t)[:n]

    return eps


def quick(model: Eps, speed: Speed) -> Eps:
    """The network as ``speed`` wants it: takes and gives float32, [B, C, H, W] and [B] -> [B, C, H, W].

    A network on a GPU whose weights are fixed, as in an E-step, is copied and recorded
    (:mod:`emlib.runtime.graphs`): what happens to its weights later is not heard of.
    """
    if isinstance(model, nn.Module) and _fixed_on_gpu(model):
        return filled_up(recorded_network(_in_float32(remade(model, speed)[1], speed)))
    if speed.compile and isinstance(model, nn.Module):
        model = filled_up(compiled(model))
    if speed.precision == "float32":
        return model

    def eps(x: Tensor, t: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype=getattr(torch, speed.precision)):
            return _shrunk(lambda x: model(x, t), x)

    return eps


def compiled(model: nn.Module) -> Eps:
    """The network, compiled for the shapes that it meets."""
    # Each EM iteration brings another network; the kernels of those before would count against torch's limit of
    # recompilations, behind which it goes on uncompiled.
    torch.compiler.reset()
    return torch.compile(model, dynamic=False)


def remade(model: nn.Module, speed: Speed) -> tuple[nn.Module, Eps]:
    """A copy whose weights have the precision, and the same compiled where ``speed`` wants that."""
    made = copy.deepcopy(model).to(getattr(torch, speed.precision))
    return made, compiled(fuse(made)) if speed.compile else made


class Shadow:
    """A network's copy on a GPU that trains for it, as ``speed`` wants: weights come in, gradients go back.

    All its activations have the precision, which autocast would not give: there norms compute in float32. What an
    optimizer adds up stays in float32.
    """

    def __init__(self, model: nn.Module, speed: Speed) -> None:
        self.copy, fast = remade(model, speed)
        self.eps = _in_float32(fast, speed)
        self.theirs: list[Tensor] = list(model.parameters())
        self.mine: list[Tensor] = list(self.copy.parameters())

    @torch.no_grad()
    def take_weights(self) -> None:
        """theta_copy <- theta"""
        torch._foreach_copy_(self.mine, self.theirs)

    @torch.no_grad()
    def give_gradients(self) -> None:
        """The copy's gradients become the network's."""
        pairs = [(w, mine.grad) for w, mine in zip(self.theirs, self.mine, strict=True) if mine.grad is not None]
        grads = [torch.empty_like(w) for w, _ in pairs]
        torch._foreach_copy_(grads, [grad for _, grad in pairs])
        for (w, _), grad in zip(pairs, grads, strict=True):
            w.grad = grad
        for mine in self.mine:
            mine.grad = None


def _fixed_on_gpu(model: nn.Module) -> bool:
    weights = list(model.parameters())
    return bool(weights) and all(w.is_cuda and not w.requires_grad for w in weights)


def _in_float32(model: Eps, speed: Speed) -> Eps:
    """A network in fewer bits that takes and gives float32."""
    dtype = getattr(torch, speed.precision)

    def ask(x: Tensor, t: Tensor) -> Tensor:
        return model(x.to(dtype, memory_format=torch.channels_last), t)

    return lambda x, t: _shrunk(lambda x: ask(x, t), x)


def _shrunk(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The answer in float32, on whose way back the gradients by the pictures fit into sixteen bits."""
    if not x.requires_grad:  # in training, where gradients go to the weights
        return model(x).float()
    size: list[Tensor] = []
    return _Shrink.apply(model(_Grow.apply(x, size)).float(), size)


class _Same(torch.autograd.Function):
    """Its input, with a list in which one way back leaves a factor for the other."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: list[Tensor]) -> Tensor:
        ctx.size = size
        return x.view_as(x)


class _Shrink(_Same):
    """Its input; on the way back each picture's gradient is divided by a power of two that makes it about 1.

    A posterior sampler asks for gradients of x0_hat = (x_t - sigma_t eps) / alpha_t, and 1 / alpha_t goes up to 157: in
    float16, whose largest number is 65,504, they overflow within the network. A network is linear in the gradient that
    comes in, picture by picture, so :class:`_Grow` puts the factor back where they come out.
    """

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        most = grad.flatten(1).abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny)
        # 2^ceil(log2 m), by which a division changes no digit
        ctx.size[:] = [torch.exp2(most.log2().ceil()).view(-1, 1, 1, 1)]
        return grad / ctx.size[0], None


class _Grow(_Same):
    """Its input; on the way back gradients get the size back that :class:`_Shrink` took from them."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.size[0], None
