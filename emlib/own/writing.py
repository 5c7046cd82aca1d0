"""Repaired pictures in the form that the broken ones had: the same name, size, depth, channels and suffix."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from emlib.data.files import full
from emlib.data.png16 import write_png16
from emlib.own.pictures import Form, Picture
from emlib.runtime.files import atomic_file

SAVED: dict[str, tuple[str, dict]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True, "exact": True}),
    ".bmp": ("BMP", {}),
}
"""What Pillow calls a format, and how it is to save it."""

WHOLE = 2**53
"""Integers up to here are themselves in float64; wider types are clipped there."""


def write_picture(folder: Path, picture: Picture, pixels: np.ndarray, seen: np.ndarray | None = None) -> Path:
    """Writes a repaired picture below a folder, under the name that the broken one has below its own.

    Integers are clipped and rounded. An alpha channel stays where pixels were seen and is opaque where they are
    repaired. Kept is the colour profile; the camera's notes, resolution and comments are not, and the picture is
    upright without one. JPEG loses a little; all other formats give back the numbers.

    Args:
        folder: where to; made if need be. Not that of the broken pictures, nor one in it.
        picture: the broken picture.
        pixels: [C, H, W] as ``picture.pixels``, in the file's units.
        seen: bool [1 or C, H, W], where pixels were seen; ``picture.seen`` if None.

    Returns:
        The file.

    Raises:
        ValueError: if shapes differ, a number is not finite, or the file would lie among the broken ones.
    """
    pixels = np.asarray(pixels)
    if pixels.shape != picture.pixels.shape:
        was = list(picture.pixels.shape)
        raise ValueError(f"{picture.name} has shape {was}, and {list(pixels.shape)} was to be written; give that shape")
    if not np.isfinite(pixels).all():
        raise ValueError(f"{picture.name} would have numbers that are not finite; repair these pixels too")
    target = _target(Path(folder), picture)
    layers = _cast(np.moveaxis(pixels, 0, 2), np.dtype(picture.form.dtype))
    if picture.opacity is not None and picture.form.suffix != ".bmp":  # Pillow writes none to it
        whole = (picture.seen if seen is None else seen).all(axis=0)
        opaque = np.where(whole, picture.opacity, full(picture.opacity.dtype)).astype(picture.opacity.dtype)
        layers = np.concatenate([layers, opaque[..., None]], axis=2)
    if target.is_symlink():  # it would be written through, perhaps to an original
        target.unlink()
    with atomic_file(target) as part:
        part.unlink(missing_ok=True)  # a link of this name would be written through, too
        _write(part, layers, picture.form)
    return target


def _target(folder: Path, picture: Picture) -> Path:
    """Where the picture goes; refuses all places among the originals, by whatever way a name leads there."""
    name = PurePosixPath(picture.name)
    if name.is_absolute() or ".." in name.parts or not name.parts:
        raise ValueError(f"the name {picture.name!r} leads out of {folder}; give names below the pictures' folder")
    root = picture.root if picture.root is not None else picture.path.parents[len(name.parts) - 1]
    root, below, target = root.resolve(), folder.resolve(), folder / name
    lies = target.parent.resolve()
    if not lies.is_relative_to(below):
        raise ValueError(f"{target} leads out of {folder} through a link; name a folder without links in it")
    # a file that was named alone has others of its owner beside it, and a folder of results there is welcome
    own = root.parent if root.is_file() else root
    if own in (below, lies) or any(place.is_relative_to(root) for place in (below, lies)):
        raise ValueError(f"{target} lies among the broken pictures in {own}; name another folder to write to")
    if lies == picture.path.resolve().parent:
        raise ValueError(f"{target} lies beside the broken {picture.path}; name another folder to write to")
    return target


def _cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Numbers as the file's type; integers are rounded to the nearest and clipped to what it holds."""
    if dtype.kind not in "ui":
        return values.astype(dtype)
    info = np.iinfo(dtype)
    return np.rint(values.astype(np.float64)).clip(max(info.min, -WHOLE), min(info.max, WHOLE)).astype(dtype)


def _write(path: Path, layers: np.ndarray, form: Form) -> None:
    """Writes [H, W, C] to a file of this form."""
    flat = layers[..., 0] if layers.shape[2] == 1 else layers
    with path.open("wb") as file:
        if form.suffix == ".npy":
            np.save(file, flat, allow_pickle=False)
        elif form.suffix == ".npz":
            with (
                zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as box,
                box.open(f"{form.key}.npy", "w", force_zip64=True) as member,
            ):
                np.lib.format.write_array(member, flat, allow_pickle=False)
        elif form.suffix == ".tif":
            import tifffile

            extra = ["unassalpha"] if form.alpha else None
            meaning = "rgb" if form.colour else "minisblack"
            tifffile.imwrite(
                file,
                flat,
                photometric=meaning,
                planarconfig="contig",
                extrasamples=extra,
                metadata=None,
                iccprofile=form.icc,
            )
        elif form.suffix == ".png" and form.dtype == "uint16":
            write_png16(file, layers, form.icc)
        else:
            kind, options = SAVED[form.suffix]
            Image.fromarray(flat).save(file, kind, icc_profile=form.icc, **options)
