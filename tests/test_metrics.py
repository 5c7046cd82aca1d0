import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torchmetrics.functional.image import peak_signal_noise_ratio
from torchmetrics.image.fid import _compute_fid

import emlib
from emlib.cli.main import main
from emlib.metrics import alexnet as alex
from emlib.metrics.alexnet import alexnet_features
from emlib.runtime.tensors import read_notes


@pytest.fixture
def no_download(monkeypatch):
    for name in ("load_state_dict_from_url", "download_url_to_file"):
        monkeypatch.setattr(torch.hub, name, lambda *_, **__: pytest.fail("tried to download"))


@pytest.fixture
def embedded(no_download, tmp_path, monkeypatch):
    """PyTorch's cache is empty: what comes with the project counts."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return emlib.data.datasets.data_dir() / "checkpoints" / "alexnet-features.safetensors"


@pytest.fixture
def in_cache(tmp_path, monkeypatch):
    """A checkpoint as torchvision distributes it, in PyTorch's cache: full float32 numbers and an empty classifier."""
    from torchvision.models import alexnet

    embedded = emlib.data.datasets.data_dir() / "checkpoints" / "alexnet-features.safetensors"
    weights = {name: x * (1 + 1e-4 * torch.randn_like(x)) for name, x in alex.read_features(embedded).items()}
    with torch.device("meta"):
        names = alexnet().classifier.state_dict()
    known = {f"features.{name}": x for name, x in weights.items()}
    known |= {f"classifier.{name}": torch.zeros(1).expand(x.shape) for name, x in names.items()}
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = alex.alexnet_cached()
    path.parent.mkdir(parents=True)
    torch.save(known, path)
    return path


def test_psnr_is_that_of_numpy_and_of_torchmetrics_picture_by_picture():
    x, truth = torch.rand(2, 5, 3, 8, 8) * 2 - 1
    x[1] = truth[1] + 0.001 * x[1]
    ours = emlib.psnr(x, truth)
    error = ((x.double().numpy() - truth.double().numpy()) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(ours.numpy(), 20 * np.log10(2) - 10 * np.log10(error), rtol=1e-5)
    theirs = torch.stack([peak_signal_noise_ratio(a, b, data_range=2.0) for a, b in zip(x, truth)])
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_psnr_of_a_constant_error_is_known():
    truth = torch.zeros(1, 1, 4, 4)
    assert emlib.psnr(truth + 0.2, truth).item() == pytest.approx(20.0, abs=1e-4)
    assert np.isfinite(emlib.psnr(truth, truth).item())


@pytest.mark.parametrize("measure", [emlib.psnr, emlib.lpips_distance])
@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (3, 1, 8, 9), (3, 8, 8)])
def test_pictures_of_other_shapes_are_not_compared(measure, shape):
    with pytest.raises(ValueError, match=r"\(3, 1, 8, 8\)") as refusal:
        measure(torch.zeros(3, 1, 8, 8), torch.zeros(shape))
    assert str(shape) in str(refusal.value)


def crowds(d, n=400, m=300, seed=0):
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(n, d, generator=g) @ torch.randn(d, d, generator=g) + 1
    b = torch.randn(m, d, generator=g) @ torch.randn(d, d, generator=g)
    return a, b


@pytest.mark.parametrize("d", [2, 8, 64])
def test_frechet_distance_is_that_of_torchmetrics(d):
    a, b = crowds(d)
    means, covs = zip(*((x.double().mean(0), torch.cov(x.double().T)) for x in (a, b)))
    theirs = _compute_fid(means[0], covs[0], means[1], covs[1]).item()
    assert emlib.frechet_distance(a, b) == pytest.approx(theirs, rel=1e-6)
    assert emlib.frechet_distance(b, a) == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("d", [1, 3])
def test_frechet_distance_of_axes_that_do_not_mix_is_known(d):
    """|m_a - m_b|^2 + |s_a - s_b|^2, on crowds whose sample covariance is exactly diagonal."""
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * d).view(-1, d)
    s = (len(corners) / (len(corners) - 1)) ** 0.5  # standard deviation of a column
    a, b = torch.arange(1.0, d + 1), torch.arange(2.0, 2 * d + 1, 2)
    shift = torch.full((d,), 3.0)
    expected = 9 * d + (s * (a - b)).square().sum().item()
    assert emlib.frechet_distance(corners * a, corners * b + shift) == pytest.approx(expected, rel=1e-5)


def test_frechet_distance_of_a_crowd_to_itself_is_0():
    a, _ = crowds(16)
    assert abs(emlib.frechet_distance(a, a)) < 1e-6 * a.var(0).sum().item()


def test_features_that_do_not_match_or_too_few_pictures_are_refused():
    with pytest.raises(ValueError, match=r"\(9, 4\) and \(9, 5\)"):
        emlib.frechet_distance(torch.randn(9, 4), torch.randn(9, 5))
    with pytest.raises(ValueError, match="9 and 8 pictures are too few for 8 features"):
        emlib.frechet_distance(torch.randn(9, 8), torch.randn(8, 8))
    assert emlib.frechet_distance(torch.randn(9, 8), torch.randn(9, 8)) > 0


@pytest.mark.parametrize("channels", [1, 3])
def test_lpips_is_the_lpips_packages_own(in_cache, channels):
    import lpips

    x, truth = torch.rand(2, 5, channels, 64, 64) * 2 - 1
    with torch.no_grad():
        theirs = lpips.LPIPS(net="alex", verbose=False)(x.expand(-1, 3, -1, -1), truth.expand(-1, 3, -1, -1)).flatten()
    for size in (None, 64):
        for batch in (2, 250):
            ours = emlib.lpips_distance(x, truth, size=size, batch=batch)
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert torch.equal(emlib.lpips_distance(x, truth, size=None), theirs), "the same bits from the same weights"
    assert emlib.lpips_distance(x, x, size=None).abs().max() == 0


def test_small_pictures_are_enlarged_before_lpips():
    x, truth = torch.rand(2, 3, 1, 28, 28) * 2 - 1
    bigger = [torch.nn.functional.interpolate(p, (64, 64), mode="bilinear", antialias=True) for p in (x, truth)]
    torch.testing.assert_close(emlib.lpips_distance(x, truth), emlib.lpips_distance(*bigger, size=None))


def test_lpips_of_the_official_example_pair():
    """imgs/ex_ref.png, ex_p0.png and ex_p1.png of github.com/richzhang/PerceptualSimilarity, not in its package."""
    if "EMLIB_LPIPS_EXAMPLES" not in os.environ:
        pytest.skip("EMLIB_LPIPS_EXAMPLES names no folder with ex_ref.png, ex_p0.png and ex_p1.png")
    from PIL import Image

    folder = Path(os.environ["EMLIB_LPIPS_EXAMPLES"])
    pixels = [np.asarray(Image.open(folder / f"ex_{name}.png").convert("RGB")) for name in ("ref", "p0", "p1")]
    ref, p0, p1 = (torch.from_numpy(p.copy()).permute(2, 0, 1)[None] / 127.5 - 1 for p in pixels)
    assert emlib.lpips_distance(ref, p0, size=None).item() == pytest.approx(0.722, abs=5e-4)
    assert emlib.lpips_distance(ref, p1, size=None).item() == pytest.approx(0.138, abs=5e-4)


def test_alexnet_features_are_torchvisions_averaged_over_the_picture(in_cache):
    from torchvision.models import AlexNet_Weights, alexnet
    from torchvision.transforms.v2.functional import normalize, resize

    x = torch.rand(6, 3, 28, 28) * 2 - 1
    ours = alexnet_features(x, batch=4)
    seen = normalize((resize(x, [64, 64], antialias=True) + 1) / 2, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        theirs = alexnet(weights=AlexNet_Weights.IMAGENET1K_V1).eval().features(seen).mean((2, 3))
    assert ours.shape == (6, 256)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_grey_picture_is_its_own_repetition_in_three_channels():
    x = torch.rand(3, 1, 28, 28) * 2 - 1
    torch.testing.assert_close(alexnet_features(x), alexnet_features(x.repeat(1, 3, 1, 1)))
    truth = torch.rand(3, 1, 28, 28) * 2 - 1
    torch.testing.assert_close(
        emlib.lpips_distance(x, truth), emlib.lpips_distance(x.repeat(1, 3, 1, 1), truth.repeat(1, 3, 1, 1))
    )


def test_fd_alexnet_tells_real_from_noisy_pictures():
    real = emlib.load("embedded").corrupted[:600]
    floor = emlib.fd_alexnet(real[:300], real[300:])
    broken = (real[:300] + 0.3 * torch.randn(300, 1, 28, 28)).clamp(-1, 1)
    assert floor > 0
    assert emlib.fd_alexnet(broken, real[300:]) > 2 * floor


def test_the_projects_own_weights_serve_where_the_cache_has_none(embedded):
    assert emlib.alexnet_missing() == ""
    assert alex.alexnet_path() == embedded
    assert embedded.stat().st_size < 5.5e6
    rounded, note = load_file(embedded), read_notes(embedded)["alexnet"]
    assert {x.dtype for x in rounded.values()} == {torch.float16}
    assert sum(x.numel() for x in rounded.values()) == 2_469_696
    assert all(part in note for part in ("torchvision", "IMAGENET1K_V1", alex.ALEXNET_FILE, "BSD-3-Clause"))
    net = alex._alexnet(embedded)
    assert all(torch.equal(x, rounded[name].float()) for name, x in net.state_dict().items())


# of full precision: mean LPIPS of a hundred noisy pictures to the true ones, and FD-AlexNet of three hundred
EXACT_LPIPS, EXACT_FD = 0.306529, 641.905


def test_the_projects_own_weights_give_the_scores_of_full_precision(embedded):
    real = emlib.load("embedded").corrupted[:600]
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((300, 1, 28, 28)).astype(np.float32))
    broken = (real[:300] + 0.3 * noise).clamp(-1, 1)
    assert emlib.lpips_distance(broken[:100], real[:100]).mean().item() == pytest.approx(EXACT_LPIPS, abs=2e-4)
    assert emlib.fd_alexnet(broken, real[300:]) == pytest.approx(EXACT_FD, rel=1e-3)


def test_weights_in_the_cache_come_first(in_cache):
    assert alex.alexnet_path() == in_cache
    assert alex.alexnet_name() == "alexnet"
    ours = alex._alexnet(in_cache).state_dict()
    assert all(torch.equal(x, alex.read_features(in_cache)[name]) for name, x in ours.items())
    in_cache.unlink()
    assert alex.alexnet_name() == "alexnet-float16"
    theirs = alex._alexnet(alex.alexnet_path()).state_dict()
    assert not torch.equal(ours["0.weight"], theirs["0.weight"])


def test_a_checkpoint_is_embedded_by_one_command(in_cache, tmp_path):
    out = tmp_path / "out.safetensors"
    command = [sys.executable, str(Path(__file__).with_name("embed_alexnet.py")), str(in_cache), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    exact, rounded = alex.read_features(in_cache), alex.read_features(out)
    assert all(torch.equal(rounded[name], x.half().float()) for name, x in exact.items())
    note = read_notes(out)["alexnet"]
    assert done.stdout.strip() == note
    digest = hashlib.sha256(b"".join(exact[name].numpy().tobytes() for name in sorted(exact))).hexdigest()
    assert note.endswith(digest)


def test_a_broken_installation_says_what_to_do_and_nothing_is_downloaded(embedded, tmp_path, monkeypatch):
    monkeypatch.setenv("EMLIB_DATA", str(tmp_path))
    x = torch.zeros(2, 1, 28, 28)
    for made in ("nowhere", "fashion-mnist"):  # no data of the project at all; pictures without weights
        (tmp_path / made).mkdir()
        assert str(tmp_path) in emlib.alexnet_missing()
        for measure in (emlib.lpips_distance, emlib.fd_alexnet):
            with pytest.raises(FileNotFoundError, match="EMLIB_DATA" if made == "nowhere" else "weights --alexnet"):
                measure(x, x)
    assert main(["weights"]) == 2


def test_weights_says_where_they_are_and_fetches_nothing_unasked(embedded, capsys):
    assert main(["weights"]) == 0
    said = capsys.readouterr().out
    assert str(embedded) in said
    assert "float16" in said


def test_full_precision_is_fetched_when_it_is_asked_for_once_and_by_its_fingerprint(
    in_cache, tmp_path, monkeypatch, capsys
):
    kept, asked = tmp_path / "kept.pth", []
    in_cache.rename(kept)

    def download(url, place, hash_prefix):
        asked.append((url, hash_prefix))
        shutil.copy(kept, place)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):
        assert main(["weights", "--alexnet"]) == 0
        said = capsys.readouterr().out
        assert str(in_cache) in said
        assert "float16" not in said
    ((url, prefix),) = asked
    assert url.endswith(alex.ALEXNET_FILE)
    assert f"-{prefix}." in url


@pytest.mark.parametrize("error", [OSError("no route"), RuntimeError("invalid hash value")])
def test_full_precision_without_a_network_ends_in_one_sentence(embedded, monkeypatch, capsys, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    assert main(["weights", "--alexnet"]) == 2
    said = capsys.readouterr().err
    assert str(error) in said
    assert len(said.strip().splitlines()) == 1


def test_alternation_is_1_for_noise_and_known_for_a_checkerboard_on_noise():
    g = torch.Generator().manual_seed(0)
    z = torch.randn(400, 3, 16, 16, generator=g)
    assert emlib.metrics.image.alternation(z) == pytest.approx(1, abs=0.1)
    i = torch.arange(16)
    board = (-1.0) ** (i[:, None] + i)
    # |X|^2 of c times the board is (256 c)^2 at its frequency, that of the noise 256 at each
    assert emlib.metrics.image.alternation(z + 0.5 * board) == pytest.approx(1 + 256 * 0.25 / 3, rel=0.1)
    with pytest.raises(ValueError, match="5 x 5"):
        emlib.metrics.image.alternation(torch.zeros(1, 1, 5, 5))
