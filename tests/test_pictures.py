import hashlib
import json
import os
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

import emlib
from emlib.data import decode
from emlib.data.png16 import write_png16


@pytest.fixture(autouse=True)
def datasets(tmp_path, monkeypatch):
    """A cache of this test's own."""
    monkeypatch.setenv("EMLIB_DATASETS", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


def kept(datasets):
    return sorted(path.name for path in (datasets / "decoded").glob("*.npy"))


def photographs(folder, count=12, size=(40, 30), quality=90):
    """Smooth colour pictures that all differ, as JPEG."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        noise = np.random.default_rng(i).integers(0, 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(folder / f"{i:02d}.jpg", quality=quality)
    return folder


@pytest.fixture
def album(tmp_path):
    return photographs(tmp_path / "album")


@pytest.fixture
def counted(monkeypatch):
    """The files that are decoded, one by one."""
    seen, plain = [], decode.clean_picture

    def picture(path, size, channels):
        seen.append(path.name)
        return plain(path, size, channels)

    monkeypatch.setattr(decode, "clean_picture", picture)
    return seen


def load(album, size=16, channels=3):
    return decode.decoded(album, decode.pictures_below(album), size, channels)


def test_pictures_are_torchvisions_central_square_scaled_down(album):
    pixels, _ = load(album)
    assert (pixels.dtype, pixels.shape) == (np.uint8, (12, 16, 16, 3))
    for i, ours in enumerate(pixels):
        square = tv.center_crop(Image.open(album / f"{i:02d}.jpg"), 30)
        theirs = np.asarray(tv.resize(square, 16, InterpolationMode.BICUBIC, antialias=True)).astype(int)
        # Pillow's filter looks across the cut where there is more picture, so the columns at its edges differ a little
        assert np.abs(ours.astype(int) - theirs)[:, 2:-2].max() <= 1
        assert np.abs(ours.astype(int) - theirs).max() < 12


def test_files_are_taken_folder_by_folder_in_the_order_of_their_paths(tmp_path):
    names = ["b.png", "a/z.JPG", "a-b/x.webp", "a/b/c.jpeg", "B.png", "a.png", "10.png", "9.png", "a/.png", "a/n.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = decode.pictures_below(tmp_path)
    assert set(found) == set(names) - {"a/.png", "a/n.txt"}
    assert [tmp_path / name for name in found] == sorted(tmp_path / name for name in found)


def test_the_fingerprint_is_that_of_the_pixels_however_they_are_cut_into_blocks(album, monkeypatch):
    digest = hashlib.sha256()
    for path in sorted(album.iterdir()):
        digest.update(decode.clean_picture(path, 16, 3).tobytes())
    for block, cores in ((1, 3), (5, 2), (256, 1)):
        monkeypatch.setattr(decode, "BLOCK", block)
        monkeypatch.setattr(decode, "_cores", lambda cores=cores: cores)
        for note in (decode.datasets_dir() / "decoded").glob("*.json"):
            note.unlink()
        pixels, fingerprint = load(album)
        assert fingerprint == digest.hexdigest()[:16] == hashlib.sha256(pixels).hexdigest()[:16]


def test_a_folder_is_decoded_once_and_then_mapped(album, datasets, counted):
    first = load(album)
    assert sorted(counted) == sorted(path.name for path in album.iterdir())
    again = load(album)
    assert len(counted) == 12
    assert np.array_equal(first[0], again[0])
    assert first[1] == again[1]
    assert isinstance(again[0], np.memmap)
    assert not again[0].flags.writeable
    (note,) = (datasets / "decoded").glob("*.json")
    about = json.loads(note.read_text())
    sizes = sum(path.stat().st_size for path in album.iterdir())
    wanted = (str(album), 12, sizes, 16, 3, first[1])
    assert tuple(about[key] for key in ("folder", "files", "bytes", "size", "channels", "fingerprint")) == wanted
    assert (np.load(note.with_suffix(".npy")) == first[0]).all()


@pytest.mark.parametrize("change", ["other pixels", "another time", "another name", "one more", "one less"])
def test_a_changed_folder_is_decoded_anew_and_what_was_kept_of_it_goes(album, datasets, counted, change):
    mapped, before = load(album)
    old, seen = kept(datasets), mapped.copy()
    file = album / "03.jpg"
    if change == "other pixels":
        photographs(album, quality=60)
    elif change == "another time":
        os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    elif change == "another name":
        file.rename(album / "99.jpg")
    elif change == "one more":
        photographs(album, 13)
    else:
        file.unlink()
    counted.clear()
    _, after = load(album)
    assert len(counted) == len(list(album.iterdir()))
    assert (after == before) == (change == "another time")
    assert len(kept(datasets)) == 1
    assert kept(datasets) != old
    assert np.array_equal(mapped, seen)  # whoever had mapped it before keeps what he had


def test_other_sizes_channels_and_folders_are_kept_apart(album, datasets, counted):
    other = photographs(album.parent / "other" / "album")
    for folder, size, channels in ((album, 16, 3), (album, 8, 3), (album, 16, 1), (other, 16, 3)):
        load(folder, size, channels)
    assert len(kept(datasets)) == 4
    counted.clear()
    assert load(album, 16, 1)[0].shape == (12, 16, 16, 1)
    assert not counted


def test_what_a_kill_left_halfway_is_not_taken_for_whole(album, datasets, counted):
    whole, _ = load(album)
    (file,) = (datasets / "decoded").glob("*.npy")
    whole = whole.copy()
    file.with_suffix(".json").unlink()  # written last
    file.write_bytes(file.read_bytes()[:500])
    file.with_name(file.name + ".999999999.part").write_bytes(b"half")  # no process has this number
    counted.clear()
    assert np.array_equal(load(album)[0], whole)
    assert len(counted) == 12
    assert not list((datasets / "decoded").glob("*.part"))


@pytest.mark.parametrize("deep", [False, True], ids=["8 bits", "16 bits"])
def test_a_bit_that_turned_in_what_was_kept_is_found(album, datasets, deep):
    if deep:
        with (album / "deep.png").open("wb") as file:
            write_png16(file, np.arange(16 * 16 * 3, dtype=np.uint16).reshape(16, 16, 3) * 80)
    pixels, fingerprint = load(album)
    whole = pixels.copy()
    (file,) = (datasets / "decoded").glob("*.npy")
    content = file.read_bytes()
    order = content.index(b"descr") + 9  # < and > are a bit apart
    for at in [*range(0, 128, 4), order, len(content) - 100]:
        file.write_bytes(content[:at] + bytes([content[at] ^ 2]) + content[at + 1 :])
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found, its = load(album)
        assert (found.dtype, its) == (whole.dtype, fingerprint), at
        assert np.array_equal(found, whole), at
    assert {f"{file} is damaged: its content is not what its note says, so it is decoded anew"} == {
        str(warning.message) for warning in said
    }
    assert file.read_bytes() == content


def test_two_at_once_decode_once(album, counted, monkeypatch):
    """Two threads, whose locks are as apart as those of two processes."""
    together, found = threading.Barrier(2), []
    plain = decode._keep

    def keep(*args):
        together.wait(10)  # both have seen that nothing is there
        plain(*args)

    monkeypatch.setattr(decode, "_keep", keep)
    threads = [threading.Thread(target=lambda: found.append(load(album))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 2
    assert np.array_equal(found[0][0], found[1][0])
    assert len(counted) == 12


def test_a_cache_that_cannot_be_written_costs_a_warning(album, datasets, counted):
    datasets.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match=r"decoded at each start, since .*datasets.* EMLIB_DATASETS") as warned:
        pixels, fingerprint = load(album)
    assert len(warned) == 1
    assert len(str(warned[0].message).splitlines()) == 1
    datasets.unlink()
    again = load(album)
    assert np.array_equal(pixels, again[0])
    assert fingerprint == again[1]
    assert len(counted) == 24


def test_a_disk_that_fills_up_costs_a_warning_too(album, datasets, monkeypatch):
    plain = np.lib.format.write_array_header_1_0

    def full(file, about):
        plain(file, about)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        pixels, _ = load(album)
    assert pixels.shape == (12, 16, 16, 3)
    assert [path.name for path in (datasets / "decoded").iterdir()] == ["lock"]


def test_the_default_place_is_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("EMLIB_DATASETS")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert decode.datasets_dir() == tmp_path / ".cache" / "emlib"


def test_of_two_ranks_the_first_decodes_and_both_map_the_same_file(album, datasets):
    script = textwrap.dedent(
        """
        import os, sys
        import emlib
        from emlib.data import decode
        from emlib.runtime.distributed import joined

        plain, count = decode.clean_picture, []
        decode.clean_picture = lambda *args: (count.append(1), plain(*args))[1]
        with joined() as here:
            split = emlib.load(sys.argv[1], size=16)
            os.write(1, f"{here.rank} {len(count)} {split.fingerprint}\\n".encode())
        """
    )
    file = album.parent / "two.py"
    file.write_text(script)
    command = [sys.executable, str(Path(__file__).with_name("pair.py")), str(file), str(album)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(emlib.__file__).parent.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=1200)
    assert done.returncode == 0, done.stderr[-2000:]
    fingerprint = load(album)[1]
    assert sorted(done.stdout.splitlines()) == [f"0 12 {fingerprint}", f"1 0 {fingerprint}"]
    assert len(kept(datasets)) == 1


def test_the_split_of_a_mapped_folder_is_that_of_its_pixels(album):
    pixels, _ = load(album)
    split = emlib.load(str(album), size=16)
    x = torch.cat([split.clean, split.corrupted, split.held_out])
    ours = ((x + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    assert sorted(map(bytes, ours)) == sorted(map(bytes, pixels))


@pytest.mark.parametrize("palette", [False, True])
def test_a_picture_with_gaps_is_refused_and_told_where_to_go(tmp_path, palette):
    for i in range(12):
        Image.fromarray(np.full((9, 9, 4), 200, np.uint8)).save(tmp_path / f"{i}.png")
    assert len(emlib.load(str(tmp_path), size=8, channels=3).corrupted) == 10, "opaque: nothing is missing"
    x = np.full((9, 9, 4), 200, np.uint8)
    x[2, 3, 3] = 0
    broken = Image.fromarray(x)
    (broken.quantize() if palette else broken).save(tmp_path / "broken.png")
    with pytest.raises(ValueError, match="has transparent pixels, so it is broken already.*emlib restore"):
        emlib.load(str(tmp_path), size=8, channels=3)
