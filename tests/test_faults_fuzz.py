"""Files that something has happened to, thousands of ways: every reader reads them or says so in a sentence of ours.

``EMLIB_FUZZ=10000 pytest tests/test_faults_fuzz.py`` tries as many of each kind. A seed that fails is named, and kept.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from fuzzing import TRIES, damaged, files_in, read_or_said
from PIL import Image
from safetensors.torch import load, save

import emlib
from emlib.data import decode
from emlib.data.clean import clean_picture
from emlib.data.png16 import write_png16
from emlib.data.sources import celeba_files
from emlib.em.checkpoint import RunFolder
from emlib.experiments.config import read_experiment
from emlib.experiments.table import read_part
from emlib.hub.pretrained import CONFIG, PICKLED, WEIGHTS
from emlib.metrics import alexnet as alex
from emlib.operators import load_measurements, read_kernel, save_measurements
from emlib.own.reading import read_folder
from emlib.planning.plan import kept_plan
from emlib.runs.record import read_result, write_result
from emlib.runtime.files import write_json

pytestmark = pytest.mark.filterwarnings("ignore")

NOISE = np.random.default_rng(0).integers(0, 256, (17, 15, 3), np.uint8)


def made(write: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


PICTURES = {
    "grey.png": made(lambda f: Image.fromarray(NOISE[..., 0]).save(f, "PNG")),
    "palette.png": made(lambda f: Image.fromarray(NOISE).quantize(9).save(f, "PNG", transparency=3)),
    "deep.png": made(lambda f: write_png16(f, NOISE.astype(np.uint16) * 200)),
    "colour.jpg": made(
        lambda f: Image.fromarray(NOISE).save(f, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\1\3\0")
    ),
    "colour.webp": made(lambda f: Image.fromarray(NOISE).save(f, "WEBP", lossless=True)),
    "colour.bmp": made(lambda f: Image.fromarray(NOISE).save(f, "BMP")),
    "deep.tif": made(lambda f: tifffile.imwrite(f, NOISE.astype(np.uint16), photometric="rgb", compression="zlib")),
    "float.tif": made(lambda f: tifffile.imwrite(f, NOISE[..., 0].astype(np.float32), photometric="minisblack")),
    "lzw.tif": made(lambda f: Image.fromarray(NOISE).save(f, "TIFF", compression="tiff_lzw")),
    "array.npy": made(lambda f: np.save(f, NOISE)),
    "array.npz": made(lambda f: np.savez_compressed(f, a=NOISE.astype(np.float32))),
}
FOREIGN = [*PICTURES.values(), b"", b"\0" * 300, b"<html>Log in here</html>", b"%PDF-1.4\n%%EOF", b"GIF89a\1\0\1\0"]


@pytest.mark.parametrize("name", PICTURES)
def test_folders_of_broken_pictures(tmp_path, name):
    path, good = tmp_path / name, tmp_path / "good.png"
    good.write_bytes(PICTURES["grey.png"])
    for seed, content in damaged(PICTURES[name], 60, FOREIGN):
        path.write_bytes(content)
        pictures, troubles = read_folder(tmp_path)
        assert {p.name for p in pictures} | {t.name for t in troubles} == {name, "good.png"}, seed
        assert all(np.isfinite(p.pixels).all() for p in pictures), seed
        assert all(";" in t.why and "\n" not in t.why and len(t.why) < 400 for t in troubles), (seed, troubles)
        assert files_in(tmp_path) == {path, good}, seed


@pytest.mark.parametrize("name", [name for name in PICTURES if Path(name).suffix in decode.SUFFIXES])
def test_clean_pictures(tmp_path, name):
    path = tmp_path / name
    for seed, content in damaged(PICTURES[name], 60, FOREIGN):
        path.write_bytes(content)
        x = read_or_said(lambda path: clean_picture(path, 8, 3), path, seed)
        assert x is None or x.shape == (8, 8, 3), seed
        assert files_in(tmp_path) == {path}, seed


def test_a_set_with_one_bad_picture_is_read_or_refused_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("EMLIB_DATASETS", str(tmp_path / "cache"))
    folder = tmp_path / "album"
    folder.mkdir()
    for i in range(10):
        (folder / f"{i}.png").write_bytes(PICTURES["grey.png"])
    path = folder / "x.png"
    for seed, content in damaged(PICTURES["deep.png"], 12, FOREIGN):
        path.write_bytes(content)
        split = read_or_said(lambda path: emlib.load(str(path.parent), size=8), path, seed)
        assert split is None or split.corrupted.isfinite().all(), seed
        assert len(files_in(folder)) == 11, seed


@pytest.mark.parametrize("name", ["mask.png", "mask.npy", "mask.tif"])
def test_masks(tmp_path, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "good.png").write_bytes(PICTURES["grey.png"])
    whole = {"mask.png": "grey.png", "mask.npy": "array.npy", "mask.tif": "float.tif"}[name]
    path = tmp_path / name
    for seed, content in damaged(PICTURES[whole], 40, FOREIGN):
        path.write_bytes(content)
        read_or_said(lambda mask: read_folder(tmp_path / "in" / "good.png", masks=mask), path, seed)


@pytest.mark.parametrize("name", ["kernel.png", "kernel.npy", "kernel.tif"])
def test_kernels(tmp_path, name):
    path, values = tmp_path / name, NOISE[..., 0]
    whole = made(lambda f: np.save(f, values)) if name.endswith("npy") else PICTURES["grey.png"]
    whole = PICTURES["float.tif"] if name.endswith("tif") else whole
    for seed, content in damaged(whole, 60, FOREIGN, kept=(88,)):  # an archive in an array's name
        path.write_bytes(content)
        kernel = read_or_said(read_kernel, path, seed)
        assert kernel is None or kernel.sum().item() == pytest.approx(1), seed


def test_measurements(tmp_path):
    path = tmp_path / "m.safetensors"
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    save_measurements(emlib.measure(x, emlib.random_mask(3, 8, 0.5, 0), 0.1, 0), path)
    whole = path.read_bytes()
    for seed, content in damaged(whole, 200, [*FOREIGN, save({"y": x})]):
        path.write_bytes(content)
        m = read_or_said(load_measurements, path, seed)
        assert m is None or m.y.isfinite().all(), seed
        assert files_in(tmp_path) == {path}, seed


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("net") / "net"
    cfg = emlib.UNetConfig(channels=(8, 8), groups=4, patch=1)
    emlib.save_pretrained(emlib.build_unet(cfg, 0), folder)
    (folder / "README.md").unlink()
    return folder


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, PICKLED])
def test_networks_from_elsewhere(pretrained, tmp_path, name):
    wholes = {file.name: file.read_bytes() for file in pretrained.iterdir()}
    if name == PICKLED:
        weights = load(wholes.pop(WEIGHTS))
        wholes[PICKLED] = made(lambda f: torch.save(weights, f))
    for other, content in wholes.items():
        (tmp_path / other).write_bytes(content)
    path = tmp_path / name
    foreign = [*FOREIGN, b"null", b"[]", b'{"a": 1}', b"[" * 100_000, save({"a": torch.zeros(2)})]
    for seed, content in damaged(wholes[name], 40, foreign, kept=(71,)):  # brackets without end
        path.write_bytes(content)
        read_or_said(lambda path: emlib.load_pretrained(path.parent), path, seed)
        assert len(files_in(tmp_path)) == 2, seed


def test_a_configs_values(pretrained, tmp_path):
    """A word changed for another that JSON has."""
    said = json.loads((pretrained / CONFIG).read_text())
    (tmp_path / WEIGHTS).write_bytes((pretrained / WEIGHTS).read_bytes())
    others = [None, True, -1, 0, 3, 10**30, 0.5, float("nan"), "", "DownBlock2D", [], {}, [8], [[8], 8], ["x", None]]
    for i, key in enumerate(said):
        for value in others if TRIES else others[i % 4 :: 4]:
            (tmp_path / CONFIG).write_text(json.dumps({**said, key: value}))
            parts = (tmp_path / CONFIG, tmp_path / WEIGHTS)
            read_or_said(emlib.load_pretrained, tmp_path, (key, value), *parts)


def test_alexnets_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    known = {f"features.{key}": x for key, x in alex.read_features(alex.alexnet_path()).items()}
    path = alex.alexnet_cached()
    path.parent.mkdir(parents=True)
    whole = made(lambda f: torch.save(known, f))
    for seed, content in damaged(whole, 6, FOREIGN):
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert emlib.alexnet_missing() == "", seed


def made_at(path: Path, write: Callable[[Path], object]) -> bytes:
    """What a writer of ours writes to a place, which is then free again."""
    write(path)
    content = path.read_bytes()
    path.unlink()
    return content


UNET = emlib.build_unet(emlib.UNetConfig(channels=(8, 8), groups=4, patch=1), 0)
ROWS = [{"method": "observed", "seed": 0, "seconds": 1.5, "PSNR": 20.25}]
PLAN = {"minutes": 1, "budget": "small", "observations": 9, "first": 1, "between": 1, "last": 1, "samples": 0}
JSON = [b"null", b"3", b"[]", b"{}", b'"x"', b'{"rows": []}', b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe{\0"]
OURS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "net.safetensors": (lambda path: emlib.save_unet(UNET, path, size="8"), emlib.load_unet),
    "result.json": (lambda path: write_result(path, "em", {"seed": 0}, ROWS, 1.0), read_result),
    "method.json": (lambda path: write_json(path, {"rows": ROWS, "task": {}, "commit": "x"}), read_part),
    "plan.json": (
        lambda path: write_json(path, {**PLAN, "seconds": {"scores": 1.0}}),
        lambda path: kept_plan(path.parent),
    ),
    "table.json": (
        lambda path: write_json(path, {"about": "", "preset": "smoke", "operator": "mask", "methods": ["observed"],
                                       "seeds": [0], "iterations": 2}),
        lambda path: read_experiment(str(path)),
    ),
    "settings.json": (
        lambda path: write_json(path, {"seed": 0, "unet": {"channels": [8, 8]}}),
        lambda path: RunFolder(path.parent).settings(),
    ),
}  # fmt: skip
"""Files of ours: what writes and what reads one."""


@pytest.mark.parametrize("name", OURS)
def test_files_of_ours(tmp_path, name):
    path, (write, read) = tmp_path / name, OURS[name]
    whole = made_at(path, write)
    for seed, content in damaged(whole, 100, [*FOREIGN, *JSON, save({"x": torch.zeros(2)})]):
        path.write_bytes(content)
        read_or_said(read, path, seed)
        assert files_in(tmp_path) == {path}, seed


@pytest.mark.parametrize("name", ["reconstructions_01.npy", "e_step_01.json"])
def test_a_finished_e_step(tmp_path, name):
    """With their checksum, so whatever happened to them is found, or changed nothing."""
    keep, x = RunFolder(tmp_path), torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    keep.save_shard(1, 0, x)
    keep.join_shards(1, 1, 3, {"scale": 2.5})
    path = tmp_path / name
    whole = path.read_bytes()
    others = [*FOREIGN, *JSON, made(lambda f: np.save(f, NOISE))]
    for seed, content in damaged(whole, 60, others, kept=(36,)):  # a header of lines without an end
        path.write_bytes(content)
        found = read_or_said(lambda path: keep.reconstructions(1), path, seed)
        assert found is None or torch.equal(found[0], x), seed


def test_the_faces_and_a_list_of_celebas(tmp_path, monkeypatch):
    monkeypatch.setenv("EMLIB_DATASETS", str(tmp_path / "cache"))
    names = [f"s1/{i}.pgm" for i in range(1, 4)]
    (tmp_path / "orl-faces" / "s1").mkdir(parents=True)
    whole = made(lambda f: Image.fromarray(NOISE[..., 0]).save(f, "PPM"))
    for name in names:
        (tmp_path / "orl-faces" / name).write_bytes(whole)
    path = tmp_path / "orl-faces" / names[1]
    for seed, content in damaged(whole, 60, FOREIGN):
        path.write_bytes(content)
        found = read_or_said(lambda path: decode.decoded(tmp_path / "orl-faces", names, 8, 1), path, seed)
        assert found is None or found[0].shape[:3] == (3, 8, 8), seed
    parts = tmp_path / "celeba" / "list_eval_partition.txt"
    (tmp_path / "celeba" / "img_align_celeba").mkdir(parents=True)
    for seed, content in damaged(b"000001.jpg 0\n000002.jpg 1\n" * 20, 30, FOREIGN):
        parts.write_bytes(content)
        assert read_or_said(lambda path: celeba_files(tmp_path), parts, seed) is None, seed
