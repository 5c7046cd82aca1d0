"""Networks from elsewhere, and ours for others: diffusers' layout, the Hugging Face hub, DeepInverse, model cards."""

from emlib.hub.denoiser import Denoiser, denoised
from emlib.hub.pretrained import load_pretrained, save_pretrained

__all__ = [
    "Denoiser",
    "denoised",
    "load_pretrained",
    "save_pretrained",
]
