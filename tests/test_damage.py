"""A run folder of which one file is damaged: made again, or named with what to do; never another result."""

import json
import shutil
import warnings
from dataclasses import replace

import em_process
import numpy as np
import pytest
import torch

import emlib
from emlib.cli.main import main
from emlib.em.checkpoint import RunFolder
from emlib.runs import presets
from emlib.runtime.tensors import load_tensors, read_notes, write_tensors


def finished(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return [event for event in em_process.loop(folder, "clean") if isinstance(event, emlib.Iteration)]


def tried(folder):
    """What a run ends with, or the sentence that it is refused with."""
    try:
        return ended(finished(folder)), ""
    except ValueError as error:
        return [], str(error)


def ended(steps):
    """All that a run ends with."""
    return [steps[-1].reconstructions, *steps[-1].prior.state_dict().values()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run, and what it ended with."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, ended(finished(folder))


@pytest.fixture(scope="module")
def halfway(tmp_path_factory):
    """A run as kill -9 leaves it: in its second E-step, with a snapshot of the training before put back."""
    folder = tmp_path_factory.mktemp("halfway") / "run"
    for event in em_process.loop(folder, "clean"):
        at = isinstance(event, emlib.Progress) and (event.iteration, event.stage, event.done)
        if at == (1, "M-step", 10):
            kept = (folder / "training_01.safetensors").read_bytes()
        if at == (2, "E-step", 8):
            break
    (folder / "prior_01.safetensors").unlink()
    (folder / "training_01.safetensors").write_bytes(kept)
    assert sorted(file.name for file in folder.glob("shards_02/*"))[0] == "00000.safetensors"
    return folder


def empty(content):
    return b""


def cut(content):
    return content[: len(content) // 2]


def turned(content):
    middle = 2 * len(content) // 3
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


FILES = ["settings.json", "prior_00.safetensors", "prior_02.safetensors", "e_step_01.json", "reconstructions_01.npy"]


@pytest.mark.parametrize("harm", [empty, cut, turned])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_with_the_remedy_which_helps(whole, tmp_path, name, harm):
    folder, wanted = tmp_path / "run", whole[1]
    shutil.copytree(whole[0], folder)
    (folder / name).write_bytes(harm((folder / name).read_bytes()))
    found, refusal = tried(folder)
    if refusal:
        assert name in refusal
        assert "delete" in refusal
        gone = ["e_step_01.json", "reconstructions_01.npy"] if "draws them again" in refusal else [name]
        for each in gone:
            (folder / each).unlink()
        found, refusal = tried(folder)
    assert not refusal
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


COMMAND = ["em", "--preset", "small", "--out", "result.json", "--folder", "run"]


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A preset of a second, in an empty folder."""
    em = replace(presets.SMOKE.em, iterations=1, init_updates=2, m_updates=2, last_updates=0, train_batch=4)
    p = replace(presets.SMOKE, name="small", em=em, unet=em_process.UNET, samples=4, observations=6, held_out=3)
    monkeypatch.setitem(presets.PRESETS, "small", p)
    monkeypatch.setattr("emlib.metrics.alexnet.alexnet_missing", lambda: "left out of this test")
    monkeypatch.setattr("emlib.planning.dry_run.rate_here", lambda *words: (1e12, "not timed"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["prior_00.safetensors", "prior_01.safetensors", *FILES[-2:]])
def test_the_dry_run_and_a_run_say_beforehand_that_a_file_is_damaged(small, capsys, monkeypatch, name):
    assert main(COMMAND) == 0
    assert main([*COMMAND, "--dry-run"]) == 0
    file = small / "run" / name
    content = file.read_bytes()
    monkeypatch.setattr("emlib.cli.em.task_of", lambda *_: pytest.fail("pictures were read"))
    for harm in (empty, cut, turned):
        capsys.readouterr()
        file.write_bytes(harm(content))
        for words in (["--dry-run"], []):
            assert main([*COMMAND, *words]) == 2, (harm, words)
            said = "".join(capsys.readouterr())
            assert name in said, (harm, words)
            assert "delete" in said, (harm, words)
            assert "goes on after" not in said, (harm, words)
    file.write_bytes(content)
    assert main([*COMMAND, "--dry-run"]) == 0


@pytest.mark.parametrize("harm", [empty, cut, turned])
@pytest.mark.parametrize("name", ["training_01.safetensors", "shards_02/00000.safetensors"])
def test_what_can_be_made_again_is(whole, halfway, tmp_path, name, harm):
    folder = tmp_path / "run"
    shutil.copytree(halfway, folder)
    (folder / name).write_bytes(harm((folder / name).read_bytes()))
    with pytest.warns(UserWarning, match=name.split("/")[-1]):
        events = list(em_process.loop(folder, "clean"))
    assert all(torch.equal(a, b) for a, b in zip(ended(events), whole[1], strict=True))


def lacking(state):
    return {name: x for name, x in state.items() if name != "ema.conv_in.weight"}


def misshapen(state):
    return {**state, "model.conv_in.weight": state["model.conv_in.weight"][:, :, :1]}


def forgetful(state):
    return {name: x for name, x in state.items() if not name.endswith("exp_avg")}


def far_on(state):
    return {**state, "step": torch.tensor(10**9)}


def diverged(state):
    return {**state, "ema.conv_in.weight": state["ema.conv_in.weight"] * float("nan")}


def unsettled(state):
    return {**state, "rng": torch.zeros_like(state["rng"])}


def longer(state):
    return {"x": torch.cat([state["x"], state["x"][:1]])}


SNAPSHOT, SHARD = "training_01.safetensors", "shards_02/00000.safetensors"
STRANGE = [(SNAPSHOT, harm) for harm in (lacking, misshapen, forgetful, far_on, diverged, unsettled)]


@pytest.mark.parametrize(("name", "harm"), [*STRANGE, (SHARD, longer)], ids=lambda x: getattr(x, "__name__", ""))
def test_what_is_whole_and_not_of_this_run_is_made_again(whole, halfway, tmp_path, name, harm):
    folder = tmp_path / "run"
    shutil.copytree(halfway, folder)
    write_tensors(folder / name, harm(load_tensors(folder / name)[0]))
    with pytest.warns(UserWarning, match=f"{name.split('/')[-1]}.*again|{name.split('/')[-1]}.*begins anew"):
        events = list(em_process.loop(folder, "clean"))
    assert all(torch.equal(a, b) for a, b in zip(ended(events), whole[1], strict=True))


@pytest.mark.parametrize("name", ["prior_02.safetensors", SNAPSHOT, SHARD, "reconstructions_01.npy", "e_step_03.json"])
def test_a_folder_where_a_file_is_to_be_kept_is_refused_before_any_work(halfway, tmp_path, name):
    shutil.copytree(halfway, tmp_path / "run")
    (tmp_path / "run" / name).unlink(missing_ok=True)
    (tmp_path / "run" / name).mkdir()
    with pytest.raises(ValueError, match=f"{name} is no file, where a run keeps one; move it away or name another"):
        em_process.loop(tmp_path / "run", "clean")


def test_settings_are_read_from_a_prior_where_their_file_is_damaged(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run")
    (tmp_path / "run" / "settings.json").write_text("[]")
    with pytest.warns(UserWarning, match=r"settings in prior_02\.safetensors are taken"):
        list(em_process.loop(tmp_path / "run", "clean"))
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["m_updates"] == 30
    (tmp_path / "run" / "settings.json").write_text("3")
    for prior in (tmp_path / "run").glob("prior_*"):
        prior.unlink()
    with pytest.raises(ValueError, match=r"settings\.json holds no JSON object.*delete the folder"):
        em_process.loop(tmp_path / "run", "clean")


@pytest.mark.parametrize("word", ["iterations", "inputs", "m_updates", "channels", "float32", "sha256"])
def test_a_bit_that_turned_in_the_settings_is_found_and_their_file_named(whole, tmp_path, word):
    shutil.copytree(whole[0], tmp_path / "run")
    file = tmp_path / "run" / "settings.json"
    content = file.read_bytes()
    at = content.index(word.encode()) + 2
    file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    if word != "sha256":  # a turned name of the checksum's is one more setting, which is refused
        with pytest.warns(UserWarning, match=r"settings\.json.*damaged.*settings in prior_02\.safetensors are taken"):
            list(em_process.loop(tmp_path / "run", "clean"))
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    for prior in (tmp_path / "run").glob("prior_*"):
        prior.unlink()
    with pytest.raises(ValueError, match=r"settings\.json"):
        em_process.loop(tmp_path / "run", "clean")


def test_a_folder_without_checksums_goes_on(whole, tmp_path):
    """As releases before this one wrote them."""
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    from safetensors.torch import save_file

    for file in folder.glob("*.safetensors"):
        tensors, notes = load_tensors(file)
        save_file(tensors, file, metadata=notes)
    for file in folder.glob("e_step_*.json"):
        about = json.loads(file.read_text())
        assert len(about.pop("sha256")) == 64
        file.write_text(json.dumps(about))
    assert all(torch.equal(a, b) for a, b in zip(ended(finished(folder)), whole[1], strict=True))


def test_a_snapshot_left_between_the_prior_and_its_end_is_swept(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run")
    left = [tmp_path / "run" / name for name in ("training_01.safetensors", "prior_02.safetensors.1.part")]
    for file in left:
        file.write_bytes(b"half")
    finished(tmp_path / "run")
    assert not [file for file in left if file.exists()]


def test_the_same_weights_are_the_same_bytes(tmp_path, tiny):
    model, notes = emlib.build_unet(tiny, 0), {name: name * 3 for name in "zyxwvut"}
    for i in range(6):
        emlib.save_unet(model, tmp_path / f"{i}.safetensors", **notes)
    assert len({file.read_bytes() for file in tmp_path.iterdir()}) == 1
    assert read_notes(tmp_path / "0.safetensors").keys() == {"unet", *notes}


def test_any_bit_that_turns_is_found_or_changes_nothing(tmp_path):
    x = {"x": torch.arange(6.0), "half": torch.ones(3, dtype=torch.bfloat16)}
    write_tensors(tmp_path / "x.safetensors", x, {"unet": '{"groups": 4}'})
    content = (tmp_path / "x.safetensors").read_bytes()
    found = 0
    for bit in range(8 * len(content)):
        harmed = bytearray(content)
        harmed[bit // 8] ^= 1 << bit % 8
        (tmp_path / "y.safetensors").write_bytes(harmed)
        try:
            tensors, notes = load_tensors(tmp_path / "y.safetensors")
        except ValueError:
            found += 1
            continue
        # the name of the checksum's own note
        assert notes["unet"] == '{"groups": 4}'
        assert all(torch.equal(tensors[name], x[name]) for name in x)
    assert found > 0.9 * 8 * len(content)


def test_shards_of_another_shape_are_not_joined(tmp_path):
    keep = RunFolder(tmp_path)
    keep.save_shard(1, 0, torch.zeros(2, 1, 4, 4))
    keep.save_shard(1, 1, torch.zeros(2, 1, 4, 5))
    with pytest.raises(ValueError, match="delete"):
        keep.join_shards(1, 2, 4, {})
    keep.save_shard(1, 1, torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match="3 pictures, where there are 4"):
        keep.join_shards(1, 2, 4, {})
    assert not list(tmp_path.glob("reconstructions*"))


def test_an_array_is_what_numpy_would_write(tmp_path):
    keep = RunFolder(tmp_path)
    x = torch.rand(3, 1, 4, 4)
    keep.save_shard(1, 0, x)
    keep.join_shards(1, 1, 3, {})
    np.save(tmp_path / "other.npy", x.numpy())
    assert (tmp_path / "reconstructions_01.npy").read_bytes() == (tmp_path / "other.npy").read_bytes()
