"""Networks from elsewhere, and ours for others: diffusers' layout, the Hugging Face hub, model cards."""

from emlib.hub.pretrained import load_pretrained, save_pretrained

__all__ = [
    "load_pretrained",
    "save_pretrained",
]
