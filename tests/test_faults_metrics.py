"""Scores of pictures of any shape and type; weights that are cut, or something else."""

from __future__ import annotations

import pytest
import torch

import emlib
from emlib.cli.main import main
from emlib.metrics import alexnet as alex


def pair(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    x, noise = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    return x.to(dtype), (0.7 * x + 0.3 * noise).to(dtype)


@pytest.mark.parametrize("size", [32, 64, None])
def test_both_sides_count_for_lpips(size):
    """AlexNet sees a picture and its quarter turn a little differently, not at another size."""
    wide, truth = pair(4, 1, 32, 64)
    turned = [part.rot90(1, (2, 3)) for part in (wide, truth)]
    assert alex._colour(wide, size).shape == alex._colour(turned[0], size).transpose(2, 3).shape
    found, other = emlib.lpips_distance(wide, truth, size), emlib.lpips_distance(*turned, size)
    torch.testing.assert_close(found.mean(), other.mean(), rtol=0.35, atol=0)  # it was off by 1.3


def test_the_shape_of_a_picture_is_kept_before_lpips():
    x, truth = pair(2, 3, 20, 50)
    scaled = [torch.nn.functional.interpolate(p, (64, 160), mode="bilinear", antialias=True) for p in (x, truth)]
    torch.testing.assert_close(emlib.lpips_distance(x, truth), emlib.lpips_distance(*scaled, size=None))


def test_float64_is_scored_as_float32_is():
    x, truth = pair(2, 1, 28, 28, dtype=torch.float64)
    torch.testing.assert_close(emlib.lpips_distance(x, truth), emlib.lpips_distance(x.float(), truth.float()))
    torch.testing.assert_close(emlib.lpips_distance(x, truth.float()), emlib.lpips_distance(x.float(), truth.float()))
    assert emlib.ssim(x, truth.float()).tolist() == pytest.approx(
        emlib.ssim(x.float(), truth.float()).tolist(), abs=1e-5
    )
    assert alex.alexnet_features(x).dtype == torch.float32


def test_pictures_too_small_are_refused_with_what_serves():
    x, truth = pair(2, 1, 16, 64)
    assert emlib.lpips_distance(x, truth).isfinite().all()
    with pytest.raises(ValueError, match="AlexNet needs sides of 31 pixels or more, got 16 x 64; take size=64"):
        emlib.lpips_distance(x, truth, size=None)
    with pytest.raises(ValueError, match="got 30 x 120"):
        emlib.lpips_distance(x, truth, size=30)
    x, truth = pair(1, 1, 31, 40)
    assert emlib.lpips_distance(x, truth, size=None).isfinite().all()
    x, truth = pair(1, 1, 4, 40)
    with pytest.raises(ValueError, match="SSIM needs sides of 6 pixels or more, got 4 x 40; PSNR serves"):
        emlib.ssim(x, truth)
    x, truth = pair(1, 1, 6, 6)
    assert emlib.ssim(x, truth).isfinite().all()


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """AlexNet's place in a cache of this test's own, with the project's numbers in torchvision's form."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    embedded = alex.alexnet_path()
    path = alex.alexnet_cached()
    path.parent.mkdir(parents=True)
    torch.save({f"features.{key}": x for key, x in alex.read_features(embedded).items()}, path)
    return path


@pytest.mark.parametrize("what", ["half", "empty", "page", "code", "others", "nan", "list"])
def test_a_file_that_is_not_alexnet_counts_as_missing(cached, what, capsys, monkeypatch):
    whole = cached.read_bytes()
    assert alex.alexnet_name() == "alexnet"
    known = {f"features.{key}": x for key, x in alex.read_features(cached).items()}
    if what in ("half", "empty", "page"):
        cached.write_bytes({"half": whole[: len(whole) // 2], "empty": b"", "page": b"<html>Log in here</html>"}[what])
    else:
        first = next(iter(known))
        bad = {
            "code": [print, known],
            "others": {key: x for key, x in known.items() if key != first},
            "nan": {**known, first: known[first] * float("nan")},
            "list": list(known.values()),
        }
        torch.save(bad[what], cached)
    with pytest.warns(UserWarning, match=f"{cached.name} does not hold AlexNet's weights .*in float16, serve instead"):
        assert alex.alexnet_name() == "alexnet-float16"
    with pytest.warns(UserWarning, match="weights --alexnet` puts the right ones there"):
        assert emlib.alexnet_missing() == ""
    with pytest.warns(UserWarning, match="does not hold"):
        assert emlib.lpips_distance(*pair(1, 1, 28, 28)).isfinite().all()
    # the same command as after a fresh installation puts it right

    def fetched(url, place, hash_prefix):
        cached.write_bytes(whole)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetched)
    assert main(["weights", "--alexnet"]) == 0
    assert "float16" not in capsys.readouterr().out
    assert alex.alexnet_name() == "alexnet"


def test_the_projects_own_file_is_looked_into_as_well(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    embedded = alex.alexnet_path()
    (tmp_path / "data" / "checkpoints").mkdir(parents=True)
    (tmp_path / "data" / "fashion-mnist").mkdir()
    copy = tmp_path / "data" / "checkpoints" / embedded.name
    copy.write_bytes(embedded.read_bytes()[:-1000])
    monkeypatch.setenv("EMLIB_DATA", str(tmp_path / "data"))
    assert f"{copy} does not hold AlexNet's weights" in emlib.alexnet_missing()
    with pytest.raises(FileNotFoundError, match="restore it with git"):
        emlib.lpips_distance(*pair(1, 1, 28, 28))
