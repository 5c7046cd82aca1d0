"""PNG of 16 bits per channel, which Pillow cuts to 8 bits in colour."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from emlib.data.files import Unreadable

START = b"\x89PNG\r\n\x1a\n"
KINDS = {1: 0, 2: 4, 3: 2, 4: 6}
"""PNG's number for grey, grey with alpha, RGB, RGB with alpha, by the number of channels."""
ROWS = 256
"""Rows that are packed at a time."""


def is_png16(path: Path) -> bool:
    """Whether a file is a PNG of 16 bits, as its first chunk says."""
    with path.open("rb") as file:
        start = file.read(25)
    return start.startswith(START) and start[24:] == b"\x10"


def read_png16(path: Path) -> np.ndarray:
    """Pixels of such a file as they are stored: uint16 [H, W, C], C from 1 to 4.

    Pillow unpacks each number's upper byte and leaves the lower one out. Asked to take the file's numbers for those of
    a machine that stores the lower byte first, it gives the other half.

    Raises:
        OSError, SyntaxError, ValueError: if it is damaged.
        Unreadable: if this version of Pillow unpacks such files in another way.
    """
    with Image.open(path, formats=["PNG"]) as image:
        mode, packed = image.mode, image.tile[0][3]
        if packed == "I;16B":
            return np.asarray(image).astype(np.uint16)[..., None]
    if (mode, packed) == ("RGBA", "LA;16B"):  # two numbers of two bytes are as long as four of one
        return _unpacked(path, "RGBA").view(">u2").astype(np.uint16)
    if (mode, packed) not in (("RGB", "RGB;16B"), ("RGBA", "RGBA;16B")):
        raise Unreadable(
            f"has 16 bits per channel, which this Pillow unpacks as {packed}; save it as a TIFF of 16 bits"
        )
    return _unpacked(path, packed).astype(np.uint16) << 8 | _unpacked(path, packed.replace("16B", "16L"))


def _unpacked(path: Path, packed: str) -> np.ndarray:
    """uint8 [H, W, C], one byte of each of the file's numbers, or all bytes in turn, as Pillow's raw mode says."""
    with Image.open(path, formats=["PNG"]) as image:
        image.tile = [(*image.tile[0][:3], packed)]  # type: ignore[list-item]
        return np.asarray(image)


def write_png16(file: IO[bytes], values: np.ndarray, icc: bytes | None = None) -> None:
    """Writes uint16 [H, W, C], C from 1 to 4, as a PNG of 16 bits, with a colour profile if there is one."""
    height, width, channels = values.shape
    file.write(START)
    _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, KINDS[channels], 0, 0, 0))
    if icc:
        _chunk(file, b"iCCP", b"ICC profile\0\0" + zlib.compress(icc))
    packer = zlib.compressobj(3)  # what noise is left hardly packs better for four times the time
    for first in range(0, height, ROWS):
        _chunk(file, b"IDAT", packer.compress(_filtered(values[first : first + ROWS])))
    _chunk(file, b"IDAT", packer.flush())
    _chunk(file, b"IEND", b"")


def _filtered(values: np.ndarray) -> bytes:
    """Rows as differences of each byte from that of the pixel to the left (filter 1), which pack better."""
    height, width, channels = values.shape
    rows = np.ascontiguousarray(values, dtype=">u2").view(np.uint8).reshape(height, width, 2 * channels)
    left = np.zeros_like(rows)
    left[:, 1:] = rows[:, :-1]
    packed = np.ones((height, 1 + width * 2 * channels), dtype=np.uint8)
    packed[:, 1:] = (rows - left).reshape(height, -1)  # modulo 256, as PNG has it
    return packed.tobytes()


def _chunk(file: IO[bytes], kind: bytes, content: bytes) -> None:
    if content or kind != b"IDAT":
        file.write(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)))
