"""One file of a picture: read in full, or named with what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from emlib.data.arrays import decode_npy, decode_npz
from emlib.data.files import SUFFIXES, Decoded, Unreadable, check_regular
from emlib.data.pillow import KINDS, decode_pillow
from emlib.data.tiff import decode_tiff

DECODERS: dict[str, Callable[[Path], Decoded]] = {
    **{suffix: partial(decode_pillow, kinds=KINDS[suffix]) for suffix in (".png", ".jpg", ".webp", ".bmp")},
    ".tif": decode_tiff,
    ".npy": decode_npy,
    ".npz": decode_npz,
}
"""By the suffix that stands for a format."""


def read_file(path: Path, decoder: Callable[[Path], Decoded] | None = None) -> Decoded:
    """A file's numbers, whatever they are for; nothing in it is run.

    Args:
        path: the file.
        decoder: what decodes it; by default that of its suffix, one of :data:`emlib.data.files.SUFFIXES`.

    Raises:
        Unreadable: whatever goes wrong, as one sentence that goes on after the file's name.
    """
    try:
        check_regular(path)
        return (decoder or DECODERS[SUFFIXES[path.suffix.lower()]])(path)
    except Unreadable:
        raise
    except OSError as error:
        if error.errno is not None:  # said by the system: no right to read, a link that leads nowhere
            raise Unreadable(f"cannot be opened ({error.strerror}); allow reading it, or move it away") from error
        raise _damaged(error) from error
    except Exception as error:  # decoders raise nearly everything on damaged files
        raise _damaged(error) from error


def _damaged(error: Exception) -> Unreadable:
    said = " ".join(str(error).split())[:150] or type(error).__name__
    return Unreadable(f"is cut short, damaged, or of another kind ({said}); get it anew, or remove it")
