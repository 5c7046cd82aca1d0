"""Everything but the weights themselves: a file of the same form with random ones, in the place of the true one."""

import hashlib
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_fidelity import feature_extractor_inceptionv3 as package
from torchmetrics.image.fid import NoTrainInceptionV3

from emlib.cli.main import main
from emlib.data.pixels import from_bytes, from_pixels, to_pixels
from emlib.metrics import fid
from emlib.metrics.frechet import statistics


@pytest.fixture(scope="module")
def random_file(tmp_path_factory):
    """The package's network, randomly initialised, written as torch.hub would find it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(package.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        torch.manual_seed(0)
        network = package.FeatureExtractorInceptionV3("random", ["2048"])
    for part in network.modules():
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight)  # else the picture would fade to nothing on its way
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty TORCH_HOME, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("tried to download"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


def put(path: Path, place: Path, monkeypatch):
    """Puts a file where the weights belong, and has its fingerprint taken for the true one."""
    place.symlink_to(path)
    monkeypatch.setattr(fid, "DIGEST", hashlib.sha256(path.read_bytes()).hexdigest()[:8])


def test_features_are_the_packages_own_on_the_same_bytes(home, random_file, monkeypatch):
    put(random_file, home / fid.NAMES[0], monkeypatch)
    pixels = torch.randint(0, 256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    ours = torch.cat([fid.inception_features(part) for part in pixels.split(2)])
    (theirs,) = package.FeatureExtractorInceptionV3("inception", ["2048"], str(random_file))(pixels)
    # which by default enlarges by a rule of its own
    torchmetrics = NoTrainInceptionV3("inception", ["2048"], str(random_file), antialias=False)(pixels)
    assert ours.shape == (3, 2048)
    apart = theirs.std(0).mean()  # how well pictures are told apart
    assert apart > 0.01 * theirs.mean() > 0
    assert (ours - theirs).abs().max() < 1e-4 * apart
    assert (ours - torchmetrics).abs().max() < 1e-4 * apart


@pytest.mark.parametrize("name", fid.NAMES)
def test_the_weights_are_found_by_both_their_names(home, random_file, monkeypatch, name):
    put(random_file, home / name, monkeypatch)
    assert fid.inception_missing() == ""
    assert fid.inception_path() == home / name


def test_fid_takes_its_pictures_as_the_nearest_bytes(monkeypatch):
    """With features that are a picture's first six bytes, so that the distance is known."""
    seen = []

    def features(pixels, device):
        seen.append(pixels)
        return pixels.flatten(1).double()

    monkeypatch.setattr(fid, "FEATURES", 6)
    monkeypatch.setattr(fid, "inception_features", features)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 2, 3), dtype=np.uint8)
    x = from_bytes(pixels)
    reference = statistics([torch.from_numpy(pixels).flatten(1).double() + 2])
    assert fid.fid(x + 0.3 / 127.5, reference, batch=16) == pytest.approx(6 * 4, rel=1e-5)
    assert [len(part) for part in seen] == [16, 16, 8]
    assert torch.equal(torch.cat(seen)[:, 0], torch.from_numpy(pixels))
    with pytest.raises(ValueError, match="6 samples are too few for 6 features"):
        fid.fid(x[:6], reference)


def test_every_byte_comes_back_and_the_rest_is_clipped():
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    assert torch.equal(to_pixels(from_bytes(every))[0, 0], torch.from_numpy(every[0]))
    assert torch.equal(from_pixels(to_pixels(from_bytes(every))), from_bytes(every))
    assert to_pixels(torch.tensor([-7.0, -1, 0.999, 1, 7])).tolist() == [0, 0, 255, 255, 255]


def test_grey_is_repeated_in_three_channels(monkeypatch, home, random_file):
    put(random_file, home / fid.NAMES[0], monkeypatch)
    seen = []
    monkeypatch.setattr(fid, "_inception", lambda path, device: lambda pixels: (seen.append(pixels) or pixels.float(),))
    grey = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    fid.inception_features(grey)
    assert torch.equal(seen[0], grey.repeat(1, 3, 1, 1))


@pytest.mark.parametrize("x", [torch.zeros(2, 3, 8, 8), torch.zeros(3, 8, 8).byte(), torch.zeros(2, 4, 8, 8).byte()])
def test_what_is_no_bytes_of_pictures_is_refused(x):
    with pytest.raises(ValueError, match="Inception takes bytes"):
        fid.inception_features(x)


def test_without_weights_or_package_the_remedy_is_said_and_nothing_is_downloaded(home, monkeypatch):
    said = fid.inception_missing()
    assert str(home) in said
    assert "python -m emlib weights --fid" in said
    assert "FD-AlexNet" in said
    with pytest.raises(FileNotFoundError, match="TORCH_HOME"):
        fid.inception_features(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    monkeypatch.setattr(fid, "find_spec", lambda name: None)
    assert "pip install torch-fidelity" in fid.inception_missing()
    assert "FD-AlexNet" in fid.inception_missing()


def test_other_weights_are_not_taken_for_inceptions(home, random_file):
    (home / fid.NAMES[0]).symlink_to(random_file)
    assert "does not hold Inception's weights" in fid.inception_missing()
    with pytest.raises(FileNotFoundError, match="not 6726825d"):
        fid.inception_features(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))


class Intruder:
    """What a file could do to a reader that runs its code."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def test_code_in_a_file_is_not_run(home, tmp_path, monkeypatch):
    torch.save({"weight": Intruder(tmp_path / "trace")}, tmp_path / "bad.pth")
    put(tmp_path / "bad.pth", home / fid.NAMES[0], monkeypatch)
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0")
    with pytest.raises(pickle.UnpicklingError):
        fid.inception_features(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    assert not (tmp_path / "trace").exists()
    torch.load(tmp_path / "bad.pth", weights_only=False)  # the setting is as it was: this one would have
    assert (tmp_path / "trace").exists()


def test_weights_fid_fetches_them_once_and_by_their_fingerprint(home, random_file, monkeypatch, capsys):
    asked = []

    def download(url, place, hash_prefix):
        asked.append((url, hash_prefix))
        shutil.copy(random_file, place)

    true = fid.DIGEST
    monkeypatch.setattr(fid, "DIGEST", hashlib.sha256(random_file.read_bytes()).hexdigest()[:8])
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):
        assert main(["weights", "--fid"]) == 0
        assert str(home / fid.NAMES[0]) in capsys.readouterr().out
    assert asked == [(package.URL_INCEPTION_V3, fid.DIGEST)]
    assert package.URL_INCEPTION_V3.endswith(f"{fid.NAMES[0]}")
    assert f"-{true}." in package.URL_INCEPTION_V3


@pytest.mark.parametrize("error", [OSError("no route"), RuntimeError("invalid hash value")])
def test_weights_fid_without_a_network_ends_in_one_sentence(home, monkeypatch, capsys, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    assert main(["weights", "--fid"]) == 2
    said = capsys.readouterr().err
    assert str(error) in said
    assert len(said.strip().splitlines()) == 1
    assert not any(home.iterdir())
