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
        lr: length of an update: the singular values of a square matrix move by about this.
        momentum: share of the last updates in the next one, in [0, 1), as Nesterov takes it.
        weight_decay: share of lr by which weights shrink in an update.

    Raises:
        ValueError: if a number is out of range, or a weight is no matrix.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
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
            lr, momentum = group["lr"], group["momentum"]
            wanted = []
            for w in weights:
                state = self.state[w]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(w)
                # m <- mu m + (1 - mu) g,   looked ahead: mu m + (1 - mu) g
                m = state["momentum_buffer"].lerp_(w.grad, 1 - momentum)
                wanted.append(w.grad.lerp(m, momentum).flatten(1))
            for w, turned in zip(weights, orthogonalized(wanted), strict=True):
                # a tall matrix moves further, so that its outputs move as much (``adjust_lr_fn="original"`` in torch)
                taller = max(1.0, turned.shape[0] / turned.shape[1]) ** 0.5
                w.mul_(1 - lr * group["weight_decay"]).add_(turned.view(w.shape), alpha=-lr * taller)
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
    return Muon(turned, MATRIX_RATE * lr, MATRIX_MOMENTUM, MATRIX_DECAY), _adamw(rest, lr)


OPTIMIZERS = {"adamw": adamw, "muon": muon}
"""What takes the step, by name: the paper's, and what learns as much in half of the updates."""


def _adamw(weights: Iterable[nn.Parameter], lr: float) -> torch.optim.AdamW:
    weights = list(weights)
    # On a GPU one kernel updates all weights; on a CPU the plain loop's bits are those of the recorded runs.
    fused = True if weights[0].is_cuda else None
    return torch.optim.AdamW(weights, lr=lr, fused=fused)
