import gzip
import hashlib
import shutil
import struct

import numpy as np
import pytest
import torch
from PIL import Image

import emlib
from emlib import data


def unshuffled(n):
    """Pictures that carry their own number, in the four bytes of their pixels."""
    return np.arange(n, dtype="<u4").view(np.uint8).reshape(n, 2, 2)


def numbers(part):
    return to_bytes(part).numpy().reshape(len(part), 4).view("<u4")[:, 0].tolist()


def to_bytes(x):
    return ((x + 1) * 127.5).round().byte()


def test_the_embedded_pictures_are_fashion_mnists_test_set():
    """Read here byte by byte, as its authors describe the format."""
    raw = gzip.decompress((data.data_dir() / "fashion-mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    assert struct.unpack(">4i", raw[:16]) == (2051, 10_000, 28, 28)
    split = emlib.load("embedded")
    ours = torch.cat([split.clean, split.corrupted, split.held_out])
    assert ours.dtype == torch.float32
    assert (ours.shape, ours.min().item(), ours.max().item()) == ((10_000, 1, 28, 28), -1.0, 1.0)
    bytes_ = ((ours + 1) * 127.5).round().byte().numpy().reshape(10_000, -1)
    theirs = np.frombuffer(raw, np.uint8, offset=16).reshape(10_000, -1)
    assert sorted(map(bytes, bytes_)) == sorted(map(bytes, theirs))
    assert (len(split.clean), len(split.corrupted), len(split.held_out)) == (500, 8500, 1000)


def test_the_split_is_the_same_each_time():
    a, b = emlib.load("embedded"), emlib.load("embedded")
    assert torch.equal(a.clean, b.clean)
    assert torch.equal(a.corrupted, b.corrupted)
    assert torch.equal(a.held_out, b.held_out)


@pytest.mark.parametrize(
    ("n", "sizes"), [(10, (1, 8, 1)), (999, (99, 801, 99)), (7000, (500, 5800, 700)), (20_000, (500, 18_500, 1000))]
)
def test_the_three_parts_are_disjoint_and_hold_every_picture(n, sizes):
    s = data.split(unshuffled(n), "numbers", "-")
    parts = [numbers(part) for part in (s.clean, s.corrupted, s.held_out)]
    assert tuple(map(len, parts)) == sizes
    assert sorted(sum(parts, [])) == list(range(n))
    assert parts[1] != sorted(parts[1])  # shuffled


def test_fewer_than_ten_pictures_are_refused():
    with pytest.raises(ValueError, match="numbers has 9 pictures; at least 10"):
        data.split(unshuffled(9), "numbers", "-")


def test_bytes_become_numbers_chunk_by_chunk_as_at_once(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 4, 3), dtype=np.uint8)
    monkeypatch.setattr("emlib.data.pixels.CHUNK", 3)
    at_once = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    assert torch.equal(data.from_bytes(pixels), at_once)
    assert torch.equal(data.from_bytes(pixels[..., 0]), at_once[:, :1])


@pytest.fixture
def own_copy(tmp_path, monkeypatch):
    shutil.copytree(data.data_dir() / "fashion-mnist", tmp_path / "fashion-mnist")
    monkeypatch.setenv("EMLIB_DATA", str(tmp_path))
    return tmp_path / "fashion-mnist" / "t10k-images-idx3-ubyte.gz"


def test_a_changed_byte_is_noticed(own_copy):
    assert emlib.load("embedded").fingerprint == hashlib.sha256(own_copy.read_bytes()).hexdigest()[:16]
    raw = bytearray(own_copy.read_bytes())
    raw[5000] ^= 1
    own_copy.write_bytes(raw)
    found = hashlib.sha256(raw).hexdigest()[:12]
    with pytest.raises(ValueError, match=f"{own_copy} has fingerprint {found}, not .*; restore it with git"):
        emlib.load("embedded")


def test_a_missing_data_folder_or_file_is_named_with_the_remedy(own_copy, tmp_path, monkeypatch):
    own_copy.unlink()
    with pytest.raises(FileNotFoundError, match=own_copy.name):
        emlib.load("embedded")
    monkeypatch.setenv("EMLIB_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="nowhere; set EMLIB_DATA to the repository's data folder"):
        emlib.load("embedded")


@pytest.fixture
def album(tmp_path):
    """Six grey and six colour pictures of two sizes in nested folders, and a file that is no picture."""
    root = tmp_path / "album"
    (root / "sub").mkdir(parents=True)
    (root / "notes.txt").write_text("no picture")
    for i in range(6):
        Image.fromarray(np.full((8, 12), 20 * i, np.uint8)).save(root / f"grey{i}.png")
        Image.fromarray(np.full((20, 8, 3), (20 * i, 0, 255), np.uint8)).save(root / "sub" / f"colour{i}.PNG")
    return root


def everything(split):
    return torch.cat([split.clean, split.corrupted, split.held_out])


def test_a_folder_of_grey_and_colour_pictures_loads_in_colour(album):
    split = emlib.load(str(album), size=8, channels=3)
    x = everything(split)
    assert x.shape == (12, 3, 8, 8)
    assert x.dtype == torch.float32
    colours = sorted(tuple(round((c + 1) * 127.5) for c in p[:, 4, 4].tolist()) for p in x)
    assert colours == sorted([(20 * i, 20 * i, 20 * i) for i in range(6)] + [(20 * i, 0, 255) for i in range(6)])
    assert split.name == "folder album"


def test_a_folder_loads_in_grey_with_the_weights_of_the_eye(album):
    x = everything(emlib.load(str(album), size=8, channels=1))
    assert x.shape == (12, 1, 8, 8)
    found = sorted(((p[0, 4, 4] + 1) * 127.5).item() for p in x)
    luma = [0.299 * 20 * i + 0.114 * 255 for i in range(6)]  # ITU-R 601
    np.testing.assert_allclose(found, sorted([20.0 * i for i in range(6)] + luma), atol=0.6)


def test_the_central_square_is_kept_without_distortion(tmp_path):
    wide = np.zeros((8, 24), np.uint8)
    wide[:, 8:16] = 255
    for i in range(10):
        Image.fromarray(wide).save(tmp_path / f"{i}.png")
    x = everything(emlib.load(str(tmp_path), size=8, channels=1))
    assert torch.equal(x, torch.ones(10, 1, 8, 8))


def test_a_folders_fingerprint_follows_its_pixels(album):
    before = emlib.load(str(album), size=8).fingerprint
    assert emlib.load(str(album), size=8).fingerprint == before
    Image.fromarray(np.full((8, 12), 7, np.uint8)).save(album / "grey0.png")
    assert emlib.load(str(album), size=8).fingerprint != before


def test_folders_without_pictures_and_odd_channels_are_refused(tmp_path, album):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no PNG, JPEG or WebP pictures in .*empty"):
        emlib.load(str(tmp_path / "empty"))
    with pytest.raises(ValueError, match="channels=2"):
        data.load_folder(album, 8, channels=2)


def test_a_broken_picture_is_named(album):
    (album / "broken.png").write_bytes(b"not a picture")
    said = r"broken\.png holds no picture, or its beginning is damaged; get it anew, or remove it"
    with pytest.raises(ValueError, match=said):
        emlib.load(str(album), size=8)
    cut = (album / "grey0.png").read_bytes()
    (album / "broken.png").write_bytes(cut[: len(cut) // 2])
    with pytest.raises(ValueError, match=said):
        emlib.load(str(album), size=8)


def test_sizes_that_make_no_sense_are_refused(album):
    with pytest.raises(ValueError, match="size=0"):
        emlib.load(str(album), size=0)


def test_unknown_data_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown data 'imagenet'; take embedded, cifar10, celeba, faces or the path"):
        emlib.load("imagenet")


def test_pictures_of_another_set_are_fitted():
    colour = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
    grey = data.fitted(colour, 28, 1)
    assert grey.shape == (2, 1, 28, 28)
    # Pillow rounds to bytes twice
    bytes_of = ((colour[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    pillow = np.asarray(Image.fromarray(bytes_of).convert("L").resize((28, 28), Image.Resampling.BILINEAR))
    assert np.abs((grey[0, 0].numpy() + 1) * 127.5 - pillow).max() < 1.6
    back = data.fitted(grey, 28, 3)
    assert back.shape == (2, 3, 28, 28)
    assert torch.equal(back[:, 0], back[:, 2])
    assert torch.equal(data.fitted(colour, 32, 3), colour)
