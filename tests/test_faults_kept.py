"""What commands keep to go on with, damaged: made again to the same bits, or named with what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save, save_file
from test_restore import folders  # noqa: F401, a fixture

import emlib
from emlib.cli.main import main
from emlib.em.checkpoint import RunFolder
from emlib.planning.plan import kept_plan
from emlib.runs import samples
from emlib.runtime.tensors import read_notes


def turned(content):
    middle = 2 * len(content) // 3
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


DAMAGE = {
    "empty": lambda content: b"",
    "garbage": lambda content: b"\x93NUMPY or anything else" * 9,
    "cut": lambda content: content[:-100],
    "a bit": turned,
    "foreign": lambda content: save({"y": torch.zeros(3)}),
}


@pytest.fixture
def drawn(net, schedule, monkeypatch, tmp_path):
    """Draws 40 pictures in shards of 16, and gives them and their files."""
    monkeypatch.setattr(samples, "SHARD", 16)

    def draw():
        for _ in samples.draw_shards(net, schedule, (1, 8, 8), 40, 2, tmp_path, batch=16):
            pass
        return torch.cat(list(samples.read_shards(tmp_path, 40))), sorted(tmp_path.glob("samples/*.safetensors"))

    return draw


OTHERS = {
    "too few pictures": lambda content: save({"x": torch.zeros(3, 1, 8, 8, dtype=torch.uint8)}),
    "other pictures": lambda content: save({"x": torch.zeros(16, 1, 4, 4, dtype=torch.uint8)}),
    "numbers": lambda content: save({"x": torch.zeros(16, 1, 8, 8)}),
}


@pytest.mark.parametrize("harm", [*DAMAGE, *OTHERS])
def test_a_damaged_shard_of_samples_is_drawn_again(drawn, harm):
    whole, files = drawn()
    before = {file: file.read_bytes() for file in files}
    assert len(files) == 3
    files[1].write_bytes({**DAMAGE, **OTHERS}[harm](before[files[1]]))
    if harm == "too few pictures":  # what a call for fewer leaves
        again, _ = drawn()
    else:
        with pytest.warns(UserWarning, match=f"{files[1].name} .*so it is drawn again"):
            again, _ = drawn()
    assert torch.equal(again, whole)
    assert {file: file.read_bytes() for file in files} == before
    assert files[1].stat().st_mtime_ns > max(files[0].stat().st_mtime_ns, files[2].stat().st_mtime_ns)


@pytest.mark.parametrize(
    "content", [None, b"", b"null", b"3", b"[]", b"{", b"[" * 100_000], ids=lambda x: ascii(x)[:12]
)
def test_settings_that_cannot_be_read_are_named_with_the_remedy(tmp_path, content):
    file = tmp_path / "settings.json"
    file.mkdir() if content is None else file.write_bytes(content)
    for ask in (lambda keep: keep.settings(), lambda keep: keep.claim({"seed": 0})):
        with pytest.raises(ValueError, match=r"settings\.json .*delete"):
            ask(RunFolder(tmp_path))


@pytest.fixture
def network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    emlib.save_unet(emlib.build_unet(emlib.UNetConfig(channels=(8, 16), groups=4, patch=1), 0), "w.safetensors")
    return tmp_path


RECORD = {"experiment": "em", "settings": {}, "rows": []}
RECORDS = ["", "null", "3", '"x"', "[]", "{}", "{", "[" * 100_000]
RECORDS += [json.dumps({**RECORD, "rows": rows}) for rows in (None, 3, "x", {}, [3], [None], [[]])]
RECORDS += [json.dumps({**RECORD, "settings": settings}) for settings in (None, 3, "x", [])]


@pytest.mark.parametrize("content", RECORDS, ids=lambda x: x[:60])
def test_what_is_no_recorded_run_does_not_go_into_a_card(network, capsys, content):
    Path("r.json").write_text(content)
    assert main(["export", "--prior", "w.safetensors", "--out", "new", "--result", "r.json"]) == 2
    err = capsys.readouterr().err
    assert "r.json is no recorded run" in err
    assert err.count("\n") == 1
    assert not Path("new").exists()


GOOD = {"minutes": 1, "budget": "small", "observations": 9, "first": 1, "between": 1, "last": 1, "samples": 0}
PLANS = ["", "null", "[]", "3", "{", "{}", "[" * 100_000]
PLANS += [json.dumps({**GOOD, "seconds": x}) for x in (None, 3, [], {}, {"first prior": 1})]
PLANS += [json.dumps({**GOOD, "seconds": {"scores": 1.0}, **odd}) for odd in (
    {"minutes": "x"}, {"minutes": None}, {"observations": -1}, {"first": [1]}, {"budget": "huge"}, {"budget": None},
    {"samples": float("nan")}, {"colour": "blue"},
)]  # fmt: skip


@pytest.mark.parametrize("content", PLANS, ids=lambda x: x[-40:])
def test_a_damaged_plan_is_named_with_the_remedy(tmp_path, content):
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(ValueError, match=r"plan\.json is no plan .*; delete .* begins anew"):
        kept_plan(tmp_path)


@pytest.mark.parametrize("kind", [torch.int8, torch.int64, torch.bool])
def test_weights_that_are_whole_numbers_are_no_weights(network, capsys, kind):
    """In a folder of the hub's layout and in a file of ours."""
    assert main(["export", "--prior", "w.safetensors", "--out", "net"]) == 0
    (weights,) = Path("net").glob("*.safetensors")
    state = {name: x.to(kind).contiguous() for name, x in emlib.load_pretrained("net").state_dict().items()}
    theirs = {name: x.to(kind) for name, x in load_file(weights).items()}
    save_file(theirs, weights)
    save_file(state, "whole.safetensors", metadata=read_notes("w.safetensors"))
    for prior, name in (("net", weights.name), ("whole.safetensors", "whole.safetensors")):
        assert main(["reconstruct", "--prior", prior, "--preset", "smoke"]) == 2
        err = capsys.readouterr().err
        assert name in err
        assert "no weights" in err
