r"""Muon: updates that turn every direction of a weight matrix by the same amount (Jordan et al. 2024).

The gradient of a matrix is dominated by a few directions; AdamW scales each weight alone and leaves it so. Muon
replaces the momentum by the nearest matrix whose singular values are all about 1, so that rare directions learn, too.
On the book's networks it needs half of AdamW's updates (``benchmarks/optimizers.py``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""a, b, c of x <- a x + b x^3 + c x^5, which five times over takes [0.003, 1] to about [0.7, 1.2] (Jordan et al.)."""
STEPS = 5

MATRIX_RATE, MATRIX_MOMENTUM, MATRIX_DECAY = 10, 0.9, 0.2
"""Muon's learning rate, as a multiple of AdamW's for the other weights (0.02 and 2e-3 in the presets), its momentum and
weight decay: each by one trial on the embedded pictures. With 0.95 and 0 FD-AlexNet was worse by a fifth."""


class Muon(torch.optim.Optimizer):
    r"""Momentum, orthogonalised, on weights of two dimensions and more; a convolution is [out, in k k].

    As ``torch.optim.Muon``, which takes matrices alone, one after another and in bfloat16; here all of one height are
    orthogonalised at once, in the precision of the weights.

    Args:
        params: weights, each of at least two dimensions.
        lr: length of an update: the singular values of a square matrix move by about this; a tensor on a GPU whose
            steps are to be recorded.
        momentum: share of the last updates in the next one, in [0, 1), as Nesterov takes it.
        weight_decay: share of lr by which weights shrink in an update.

    Raises:
        ValueError: if a number is out of range, or a weight is no matrix.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float | Tensor, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        if not lr > 0 or not 0 <= momentum < 1 or weight_decay < 0:
            raise ValueError(
                "Muon needs lr > 0, momentum in [0, 1) and weight_decay of 0 or more, "
                f"got {lr}, {momentum} and {weight_decay}"
            )
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for group in self.param_groups:
            if flat := [tuple(w.shape) for w in group["params"] if w.ndim < 2]:
                raise ValueError(f"Muon turns matrices, got weights of shape {flat[0]}; leave those to AdamW")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update of all weights that have a gradient."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            weights = [w for w in group["params"] if w.grad is not None]
            grads: list[Tensor] = [w.grad for w in weights if w.grad is not None]
            lr, momentum = group["lr"], group["momentum"]
            for w in weights:
                if not self.state[w]:
                    self.state[w]["momentum_buffer"] = torch.zeros_like(w)
            # m <- mu m + (1 - mu) g,   looked ahead: mu m + (1 - mu) g
            buffers = [self.state[w]["momentum_buffer"] for w in weights]
            torch._foreach_lerp_(buffers, grads, 1 - momentum)
            wanted = [g.flatten(1) for g in torch._foreach_lerp(grads, buffers, momentum)]
            turn = orthogonalized_at_once if weights and weights[0].is_cuda else orthogonalized
            for w, turned in zip(weights, turn(wanted), strict=True):
                # a tall matrix moves further, so that its outputs move as much (``adjust_lr_fn="original"`` in torch)
                taller = max(1.0, turned.shape[0] / turned.shape[1]) ** 0.5
                w.mul_(1 - lr * group["weight_decay"])
                if isinstance(lr, Tensor):  # one that lies on a GPU
                    w.sub_(turned.view(w.shape) * (lr * taller))
                else:
                    w.add_(turned.view(w.shape), alpha=-lr * taller)
        return loss


def orthogonalized(matrices: list[Tensor]) -> list[Tensor]:
    r"""For each M = U S V^T about U V^T, by five Newton-Schulz steps, [h, w] each.

    A step is M <- (a I + b G + c G^2) M with G = M M^T. All these factors are polynomials of the first G, so they are
    multiplied among themselves, where matrices are as small as the shorter side, and stacked: M itself is needed
    twice, for the first G and at the end.
    """
    wide = [M if M.shape[0] <= M.shape[1] else M.T for M in matrices]
    # M / ||M||, so that no singular value is above 1
    wide = [M / M.norm().clamp_min(1e-7) for M in wide]
    alike = defaultdict(list)
    for i, M in enumerate(wide):
        alike[len(M)].append(i)
    turned: dict[int, Tensor] = {}
    for height, indices in alike.items():
        G = torch.stack([wide[i] @ wide[i].T for i in indices])
        product = identity = torch.eye(height, dtype=G.dtype, device=G.device)
        a, b, c = COEFFICIENTS
        for step in range(STEPS):
            # P = a I + b G + c G^2
            P = torch.baddbmm(b * G, G, G, alpha=c) + a * identity
            product = P @ product
            # M M^T becomes P G P
            if step < STEPS - 1:
                G = P @ G @ P
        for i, P in zip(indices, product, strict=True):
            turned[i] = P @ wide[i]
    return [
        M if M.shape == before.shape else M.T
        for M, before in zip((turned[i] for i in range(len(wide))), matrices, strict=True)
    ]


def orthogonalized_at_once(matrices: list[Tensor]) -> list[Tensor]:
    """As :func:`orthogonalized`, for a GPU: all of one shape together, in bfloat16, by the plain five steps.

    There a product costs less than asking for it, and the polynomials among Gram matrices would need more digits.
    """
    alike = defaultdict(list)
    for i, M in enumerate(matrices):
        alike[tuple(M.shape)].append(i)
    turned: dict[int, Tensor] = {}
    a, b, c = COEFFICIENTS
    for (height, width), indices in alike.items():
        M = torch.stack([matrices[i] for i in indices]).bfloat16()
        M = M.mT if height > width else M
        M = M / M.flatten(1).norm(dim=1).clamp_min(1e-7).view(-1, 1, 1)
        for _ in range(STEPS):
            # M <- (a I + b G + c G^2) M,   G = M M^T
            G = M @ M.mT
            M = torch.baddbmm(M, torch.baddbmm(G, G, G, beta=b, alpha=c), M, beta=a)
        turned |= dict(zip(indices, (M.mT if height > width else M).to(matrices[0].dtype), strict=True))
    return [turned[i] for i in range(len(matrices))]


NOT_TURNED = ("conv_in", "conv_out", "time_embedding", "refine_in", "refine_out")
"""Layers that stay with AdamW: those where pictures, numbers and times come in, and pictures go out."""


def matrices_of(model: nn.Module, but: Iterable[str] = NOT_TURNED) -> list[nn.Parameter]:
    """The weights that Muon takes: every matrix within the network, none of its first and last layers.

    Args:
        model: the network.
        but: first words of the names of layers that stay with AdamW.
    """
    return [w for name, w in model.named_parameters() if w.ndim > 1 and name.split(".")[0] not in but]


def adamw(model: nn.Module, lr: float) -> tuple[torch.optim.Optimizer, ...]:
    """AdamW for all weights."""
    return (_adamw(model.parameters(), lr),)


def muon(model: nn.Module, lr: float) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices within the network, AdamW for its first and last layers, offsets and norms."""
    turned = matrices_of(model)
    rest = [w for w in model.parameters() if all(w is not other for other in turned)]
    rate = MATRIX_RATE * lr
    where = _in_place(rate, turned[0]) if turned[0].is_cuda else rate
    return Muon(turned, where, MATRIX_MOMENTUM, MATRIX_DECAY), _adamw(rest, lr)


OPTIMIZERS = {"adamw": adamw, "muon": muon}
"""What takes the step, by name: the paper's, and what learns as much in half of the updates."""


def _adamw(weights: Iterable[nn.Parameter], lr: float) -> torch.optim.AdamW:
    weights = list(weights)
    if weights[0].is_cuda:  # one kernel updates all weights
        return torch.optim.AdamW(weights, lr=_in_place(lr, weights[0]), fused=True, capturable=True)
    return torch.optim.AdamW(weights, lr=lr)  # the plain loop, whose bits are those of the recorded runs


def _in_place(lr: float, weight: Tensor) -> Tensor:
    """A learning rate on the GPU, where steps that are recorded read it (:mod:`emlib.runtime.graphs`)."""
    return torch.tensor(lr, device=weight.device)
