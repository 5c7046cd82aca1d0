"""CIFAR-10 and CelebA: small files of the true forms. The checks of their sums stay on, only the sums are those of
these files; no network is touched."""

import hashlib
import pickle
import shutil
import tarfile
import urllib.error

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.datasets import CIFAR10, CelebA

import emlib
from emlib.data import sources


@pytest.fixture(autouse=True)
def datasets(tmp_path, monkeypatch):
    """A folder of data sets, and no network."""

    def unreachable(*_, **__):
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setenv("EMLIB_DATASETS", str(tmp_path))
    return tmp_path


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def everything(split):
    x = torch.cat([split.clean, split.corrupted, split.held_out])
    return sorted(map(bytes, ((x + 1) * 127.5).round().byte().numpy()))


PIXELS = np.random.default_rng(0).integers(0, 256, (20, 3, 32, 32), dtype=np.uint8)


@pytest.fixture
def batches(datasets, monkeypatch):
    """CIFAR-10's files, with 4 pictures a batch."""
    base = datasets / CIFAR10.base_folder
    base.mkdir()

    def written(name, content):
        (base / name).write_bytes(pickle.dumps(content))
        return [name, md5(base / name)]

    parts = [
        written(name, {"data": PIXELS[4 * i : 4 * i + 4].reshape(4, -1), "labels": [0] * 4})
        for i, (name, _) in enumerate(CIFAR10.train_list)
    ]
    monkeypatch.setattr(CIFAR10, "train_list", parts)
    monkeypatch.setattr(CIFAR10, "test_list", [written("test_batch", {"data": PIXELS[:1], "labels": [0]})])
    name, total = written(CIFAR10.meta["filename"], {"label_names": ["a"]})
    monkeypatch.setattr(CIFAR10, "meta", {"filename": name, "key": "label_names", "md5": total})
    return base


def test_cifar10_is_read_from_its_own_files(batches):
    split = emlib.load("cifar10")
    assert split.name == "CIFAR-10"
    assert split.corrupted.shape == (16, 3, 32, 32)
    assert everything(split) == sorted(map(bytes, PIXELS))


def test_cifar10s_fingerprint_is_that_of_its_pixels_alone(batches, datasets, tmp_path_factory, monkeypatch):
    wanted = hashlib.sha256(np.ascontiguousarray(PIXELS.transpose(0, 2, 3, 1))).hexdigest()[:16]
    assert emlib.load("cifar10").fingerprint == wanted
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.move(batches, elsewhere / batches.name)
    monkeypatch.setenv("EMLIB_DATASETS", str(elsewhere))
    assert emlib.load("cifar10").fingerprint == wanted


def test_a_changed_byte_of_cifar10_is_noticed(batches):
    raw = bytearray((batches / "data_batch_3").read_bytes())
    raw[-100] ^= 1
    (batches / "data_batch_3").write_bytes(raw)
    with pytest.raises(FileNotFoundError, match="could not be fetched"):
        emlib.load("cifar10")


def test_cifar10s_archive_beside_the_folder_is_enough(batches, datasets, monkeypatch):
    archive = datasets / CIFAR10.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(batches, batches.name)
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(archive))
    shutil.rmtree(batches)
    assert everything(emlib.load("cifar10")) == sorted(map(bytes, PIXELS))


def test_cifar10_without_files_and_network_says_what_to_do(datasets):
    says = rf"CIFAR-10 is not in {datasets} .*no network in this test.* put cifar-10-python.tar.gz .*EMLIB_DATASETS"
    with pytest.raises(FileNotFoundError, match=says):
        emlib.load("cifar10")


@pytest.fixture
def faces(datasets, monkeypatch):
    """CelebA's files as torchvision lays them out: 24 JPEGs of 178 x 218, the first 20 for training."""
    folder = datasets / "celeba"
    pictures = folder / "img_align_celeba"
    pictures.mkdir(parents=True)
    names = [f"{i:06d}.jpg" for i in range(1, 25)]
    for i, name in enumerate(names):
        noise = np.random.default_rng(i).integers(0, 256, (11, 9, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((178, 218), Image.Resampling.BICUBIC).save(pictures / name)
    # six lists; this library reads the first, torchvision's loader all
    rows = {
        "list_eval_partition.txt": ["0"] * 20 + ["1", "1", "2", "2"],
        "identity_CelebA.txt": ["7"] * 24,
        "list_bbox_celeba.txt": ["1 2 3 4"] * 24,
        "list_landmarks_align_celeba.txt": ["1 2"] * 24,
        "list_attr_celeba.txt": ["-1  1"] * 24,
    }
    for name, values in rows.items():
        head = "" if "partition" in name or "identity" in name else "24\nx y\n"
        (folder / name).write_text(head + "".join(f"{n} {value}\n" for n, value in zip(names, values)))
    sums = [(a, md5(folder / name) if name in rows else b, name) for a, b, name in CelebA.file_list]
    monkeypatch.setattr(CelebA, "file_list", sums)
    return pictures


def test_celeba_is_torchvisions_training_part_cut_and_scaled_down(faces, datasets):
    scaled = transforms.Resize(64, transforms.InterpolationMode.BICUBIC, antialias=True)
    cut = transforms.Compose([transforms.CenterCrop(178), scaled, transforms.PILToTensor()])
    theirs = torch.stack([picture for picture, _ in CelebA(datasets, "train", transform=cut)])
    split = emlib.load("celeba")
    assert split.name == "CelebA (20 training pictures)"
    ours = torch.cat([split.clean, split.corrupted, split.held_out])
    assert (ours.dtype, ours.shape) == (torch.float32, (20, 3, 64, 64))
    # each of ours with the nearest of theirs; rows at the cut differ a little, as Pillow's filter looks across it
    ours = ((ours + 1) * 127.5).round()
    apart = (ours[:, None] - theirs[None])[..., 2:-2, :].abs().amax((2, 3, 4))
    assert (apart.min(1).values <= 1).all()
    assert sorted(apart.argmin(1).tolist()) == list(range(20))


def test_celeba_comes_in_other_sizes_and_in_grey(faces):
    assert emlib.load("celeba", size=32).corrupted.shape == (16, 3, 32, 32)
    assert emlib.load("celeba", size=32, channels=1).corrupted.shape == (16, 1, 32, 32)


def test_celeba_is_cut_to_the_papers_number_of_pictures(faces, monkeypatch):
    assert sources.CELEBA_PICTURES == 30_000
    monkeypatch.setattr(sources, "CELEBA_PICTURES", 12)
    assert emlib.load("celeba").name == "CelebA (12 training pictures)"


def test_celeba_is_decoded_once(faces, monkeypatch):
    before = emlib.load("celeba").fingerprint
    monkeypatch.setattr("emlib.data.decode.clean_picture", lambda *_: pytest.fail("decoded again"))
    assert emlib.load("celeba").fingerprint == before


HELP = r"never downloads CelebA.*faces.*non-commercial research.*few downloads a day.*img_align_celeba\.zip.*DATASETS"


@pytest.mark.parametrize("lost", ["celeba", "celeba/img_align_celeba", "celeba/list_eval_partition.txt"])
def test_what_celeba_lacks_is_named_with_terms_and_remedy(faces, datasets, lost):
    (datasets / lost).rename(datasets / "lost")
    with pytest.raises(FileNotFoundError, match=rf"CelebA lacks {datasets}/celeba/(list|img).*{HELP}"):
        emlib.load("celeba")


def test_a_half_unpacked_celeba_is_noticed(faces):
    for name in ("000003.jpg", "000017.jpg", "000024.jpg"):  # the last is not for training
        (faces / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"CelebA lacks 2 of 20 pictures in {faces}, 000003.jpg first"):
        emlib.load("celeba")


def test_another_list_of_parts_is_refused(faces):
    parts = faces.parent / "list_eval_partition.txt"
    parts.write_text(parts.read_text().replace(" 1\n", " 0\n"))
    with pytest.raises(ValueError, match="list_eval_partition.txt is not CelebA's own: its checksum differs"):
        emlib.load("celeba")


@pytest.fixture
def people(datasets):
    """40 people of ten grey pictures of 92 x 112 pixels; a person's number is the brightness."""
    for person in range(1, 41):
        folder = datasets / "orl-faces" / f"s{person}"
        folder.mkdir(parents=True)
        for i in range(1, 11):
            Image.fromarray(np.full((112, 92), 5 * person, dtype=np.uint8)).save(folder / f"{i}.pgm")
    return datasets / "orl-faces"


def test_nobodys_face_is_in_two_parts(people):
    split = emlib.load("faces", channels=1)
    assert split.name == "ORL faces (400 pictures of 40 people)"
    parts = (split.clean, split.corrupted, split.held_out)
    assert [tuple(part.shape) for part in parts] == [(50, 1, 64, 64), (270, 1, 64, 64), (80, 1, 64, 64)]
    who = [{round((x.item() + 1) * 127.5 / 5) for x in part.mean((1, 2, 3))} for part in parts]
    assert [len(group) for group in who] == [5, 27, 8]
    assert set.union(*who) == set(range(1, 41))
    assert emlib.load("faces", size=32, channels=3).held_out.shape == (80, 3, 32, 32)


def test_missing_faces_are_named_with_the_remedy(people):
    (people / "s7" / "3.pgm").unlink()
    (people / "s9" / "10.pgm").unlink()
    says = rf"faces lack 2 of 400 pictures, {people}/s7/3.pgm first.*Olivetti Research Laboratory.*EMLIB_DATASETS"
    with pytest.raises(FileNotFoundError, match=says):
        emlib.load("faces")
