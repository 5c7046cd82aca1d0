"""What the paper reports: Bai, Wang, Chen and Sun (2024), "An Expectation-Maximization Algorithm for Training Clean
Diffusion Models from Corrupted Observations", NeurIPS, tables 1, 4 and 5.

Tasks and methods go by this library's names; ``em`` is the paper's own, which has DPS for its E-step. Masks hide 60 %
of the pixels of CIFAR-10, noise of standard deviation 0.2 lies on CIFAR-10, blur of 9 x 9 pixels on CelebA. PSNR is in
dB, of 250 held-out pictures; FID, of 50,000 drawn ones, cannot be compared with the book's FD-AlexNet.
"""

from __future__ import annotations

from typing import NamedTuple


class Reported(NamedTuple):
    """A cell of table 1; what it prints is that cell, the FID without its digits."""

    psnr: float
    lpips: float
    fid: float

    def __str__(self) -> str:
        return f"{self.psnr:.2f} / {self.lpips:.3f} / {self.fid:.0f}"


TABLE_1 = {
    "mask": {
        "observed": Reported(13.49, 0.295, 234.47),
        "sure-score": Reported(15.75, 0.182, 220.01),
        "ambient": Reported(20.57, 0.027, 28.88),
        "em": Reported(24.70, 0.009, 21.08),
        "ceiling": Reported(25.44, 0.008, 7.08),
    },
    "noise": {
        "observed": Reported(18.05, 0.047, 132.59),
        "noise2self": Reported(21.32, 0.227, 92.06),
        "sure-score": Reported(22.42, 0.138, 132.61),
        "em": Reported(23.16, 0.022, 86.47),
        "ceiling": Reported(25.91, 0.010, 7.08),
    },
    "blur": {
        "observed": Reported(22.47, 0.365, 72.83),
        "sure-score": Reported(22.07, 0.383, 191.96),
        "em": Reported(23.74, 0.103, 91.89),
        "ceiling": Reported(29.05, 0.013, 10.24),
    },
}
"""By task and method."""

TABLE_4 = {
    "mask": {
        "observed": 13.49,
        "start-10": 20.21,
        "start-50": 20.93,
        "start-100": 20.95,
        "start-500": 20.58,
        "start-other": 20.10,
        "start-preprocessed": 16.16,
    },
    "noise": {
        "observed": 18.05,
        "start-10": 19.88,
        "start-50": 20.47,
        "start-100": 20.48,
        "start-500": 19.89,
        "start-other": 19.57,
        "start-preprocessed": 19.96,
    },
    "blur": {
        "observed": 22.47,
        "start-10": 21.19,
        "start-50": 22.80,
        "start-100": 24.99,
        "start-500": 25.56,
        "start-other": 25.50,
        "start-preprocessed": 22.00,
    },
}
"""PSNR of the first E-step, by task and first prior; figure 5a shows the same. Numbers count clean pictures."""

TABLE_5 = {
    "ambient": {40: 18.85, 60: 28.88, 80: 46.27},
    "em": {40: 13.75, 60: 21.08, 80: 45.24},
}
"""FID on CIFAR-10, by method and percentage of hidden pixels. Ambient Diffusion is its authors' own network."""
