r"""The network eps_theta: a U-Net, its sizes, and the file that its weights are kept in."""

from emlib.unet.files import check_weights, load_unet, save_unet
from emlib.unet.network import UNet, build_unet, norm_silu, time_embedding
from emlib.unet.sizes import UNetConfig

__all__ = [
    "UNet",
    "UNetConfig",
    "build_unet",
    "check_weights",
    "load_unet",
    "norm_silu",
    "save_unet",
    "time_embedding",
]
