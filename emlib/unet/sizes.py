r"""The sizes of a U-Net, which may come from a file, where anything may stand."""

from __future__ import annotations

from dataclasses import dataclass

from emlib.runtime.numbers import is_number, is_whole


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a U-Net.

    Attributes:
        in_channels: colours of a picture, 1 or 3.
        channels: width of each resolution, finest first; each a multiple of ``groups``.
        blocks: residual blocks a resolution.
        attention: whether each resolution has self-attention, one entry a resolution.
        patch: side of the square of pixels folded into one at the start; 1 for none, which costs patch^2 times as much
            and is worth trying for blurred photographs: what alternates within a square is a constant to a folded
            network, and a blur hardly tells where it goes wrong (``benchmarks/folding.py``).
        dropout: share of activations dropped in training, in [0, 1).
        groups: groups of each normalisation.
        refine: width of two convolutions on the unfolded picture, which see it and x_t; 0 for none. They cost next to
            nothing and take away most of what alternates within a square (see ``patch``).
    """

    in_channels: int = 1
    channels: tuple[int, ...] = (48, 96)
    blocks: int = 1
    attention: tuple[bool, ...] = (False, False)
    patch: int = 2
    dropout: float = 0.0
    groups: int = 16
    refine: int = 0

    def __post_init__(self) -> None:
        self._check_kinds()
        if len(self.attention) != len(self.channels):
            raise ValueError(
                f"attention needs one entry a resolution: {len(self.channels)} widths {self.channels}, "
                f"but attention={self.attention}"
            )
        if self.channels[0] < 4 or self.channels[0] % 2:
            raise ValueError(
                f"the first width takes an even number from 4 on, for sines and cosines of the time, got "
                f"{self.channels[0]}"
            )
        if bad := [c for c in self.channels if c % self.groups]:
            raise ValueError(f"each width must be a multiple of groups={self.groups}, got {bad}")

    def _check_kinds(self) -> None:
        """Sizes may come from a file, where anything may stand."""
        for name in ("channels", "attention"):
            if not isinstance(getattr(self, name), (tuple, list)):
                raise ValueError(f"{name} takes one entry a resolution, got {getattr(self, name)!r:.80}")
        if not self.channels:
            raise ValueError("a network has at least one resolution, got channels=()")
        if bad := [x for x in self.attention if x not in (True, False)]:
            raise ValueError(f"attention is True or False at each resolution, got {bad[0]!r:.80}")
        counts = {"in_channels": self.in_channels, "blocks": self.blocks, "patch": self.patch, "groups": self.groups}
        for name, value in [*counts.items(), *(("channels", width) for width in self.channels)]:
            if not is_whole(value) or value < 1:
                raise ValueError(f"{name} takes whole numbers above 0, got {value!r:.80}")
        if not is_whole(self.refine) or self.refine < 0:
            raise ValueError(f"refine takes a whole number, 0 or more, got {self.refine!r:.80}")
        if not is_number(self.dropout) or not 0 <= self.dropout < 1:
            raise ValueError(f"dropout takes a share in [0, 1), got {self.dropout!r:.80}")

    @property
    def stride(self) -> int:
        """Height and width of a picture must be a multiple of this."""
        return self.patch * 2 ** (len(self.channels) - 1)
