r"""A GPU's kernels, recorded once and replayed: asking for the kernels of a small network takes longer than they do.

A recording has fixed places in memory: inputs are copied in, answers are copied out, so callers notice nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

WARM = 3
"""Calls before a recording: what they set up, such as the choice of kernels, must not be recorded."""


def recorded(work: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same work, which from its fourth call on is replayed.

    Args:
        work: takes tensors of the same shapes on one GPU at each call, gives one, and never waits for the GPU. It may
            change tensors in place, such as weights, which must stay where they are.
    """
    side, calls, graph = torch.cuda.Stream(), 0, torch.cuda.CUDAGraph()
    inputs: list[Tensor] = []
    answer: list[Tensor] = []

    def run(*given: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls <= WARM:
            return _beside(side, lambda: work(*given))
        if not answer:
            inputs.extend(x.clone() for x in given)
            with torch.cuda.graph(graph):  # which only records
                answer.append(work(*inputs))
        for place, x in zip(inputs, given, strict=True):
            place.copy_(x)
        graph.replay()
        return answer[0].clone()

    return run


def recorded_network(model: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A network whose weights are fixed, [B, C, H, W] and [B] -> [B, C, H, W], recorded at its first call.

    One recording for each shape, with the way back to the pictures where a gradient is wanted. A gradient of an answer
    that is not the last of its shape plays the way there once more.
    """
    tapes: dict[Any, _Tape] = {}

    def eps(x: Tensor, t: Tensor) -> Tensor:
        back = torch.is_grad_enabled() and x.requires_grad
        tape = tapes.get((x.shape, back))
        if tape is None:
            tape = tapes[x.shape, back] = _Tape(model, x, t, back)
        return _Replay.apply(x, t, tape) if back else tape.forward(x, t)

    return eps


class _Tape:
    """The recording for one shape."""

    def __init__(self, model: Callable[[Tensor, Tensor], Tensor], x: Tensor, t: Tensor, back: bool) -> None:
        self.x, self.t, self.turn = x.detach().clone().requires_grad_(back), t.clone(), 0
        self.grad = torch.zeros_like(x)

        def rehearse() -> None:
            for _ in range(WARM):
                answer = model(self.x, self.t)
                if back:
                    torch.autograd.grad(answer, self.x, self.grad)

        with torch.set_grad_enabled(back):
            _beside(torch.cuda.Stream(), rehearse)
            self.there = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.there):
                self.answer = model(self.x, self.t)
            if back:
                self.back = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self.back, pool=self.there.pool()):
                    (self.gradient,) = torch.autograd.grad(self.answer, self.x, self.grad, retain_graph=True)

    @torch.no_grad()
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.turn += 1
        self.x.copy_(x)
        self.t.copy_(t)
        self.there.replay()
        return self.answer.detach().clone()

    @torch.no_grad()
    def backward(self, grad: Tensor) -> Tensor:
        self.grad.copy_(grad)
        self.back.replay()
        return self.gradient.clone()


class _Replay(torch.autograd.Function):
    """A tape's forward pass, and its way back, for which it is played again if another has played it since."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, t: Tensor, tape: _Tape) -> Tensor:
        answer = tape.forward(x, t)
        ctx.save_for_backward(x, t, torch.tensor(tape.turn))
        ctx.tape = tape
        return answer

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, t, turn = ctx.saved_tensors  # of a tile of a large picture they are made again, by playing the tape
        if int(turn) != ctx.tape.turn:
            ctx.tape.forward(x, t)
        return ctx.tape.backward(grad), None, None


def _beside(side: torch.cuda.Stream, work: Callable[[], Any]) -> Any:
    """Work on another stream, in its place among what is asked of the GPU; recordings want that of what is before."""
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        done = work()
    torch.cuda.current_stream().wait_stream(side)
    return done
