import json
import subprocess
import sys
from dataclasses import replace
from unittest import mock

import pytest
import torch
from PIL import Image

import emlib
from emlib.cli.main import main
from emlib.runs import presets


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """A preset of seconds, in an empty folder, without scores by AlexNet."""
    em = replace(presets.SMOKE.em, init_updates=2, m_updates=2)
    p = replace(presets.SMOKE, name="toy", em=em, samples=4, unet=emlib.UNetConfig(channels=(8, 16), groups=4))
    monkeypatch.setitem(presets.PRESETS, "toy", p)
    monkeypatch.setattr("emlib.metrics.alexnet.alexnet_missing", lambda: "left out of this test")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["--operator", "mask"], "em-mask-mmps-toy"),
        (["--operator", "noise", "--noise-std", "0.2", "--sampler", "pigdm"], "em-noise-pigdm-toy"),
        (["--operator", "blur", "--sampler", "diffpir", "--start", "preprocessed"], "em-blur-diffpir-toy"),
        (["--sampler", "dps", "--scale", "1.5", "--start", "gaussian"], "em-mask-dps-toy"),
    ],
)
def test_em_prints_a_table_records_its_numbers_and_draws_a_picture(toy, capsys, words, kept):
    assert main(["em", "--preset", "toy", "--out", "result.json", *words]) == 0
    said = capsys.readouterr().out
    assert [
        line.split()[0] for line in said.splitlines() if line.strip().startswith(("observed", "1 ", "2 ", "held"))
    ] == ["observed", "1", "2", "held"]
    record = emlib.runs.record.read_result("result.json")
    assert [row["iteration"] for row in record["rows"]] == ["observed", 0, 1, 2, "held out"]
    assert all(-50 < row["PSNR"] < 50 for row in record["rows"] if row["iteration"] != 0)
    assert record["settings"]["preset"] == "toy"
    assert Image.open("result.png").size[0] > 300
    assert (toy / "runs" / kept / "prior_02.safetensors").is_file()
    # the same command again reads what is there
    assert main(["em", "--preset", "toy", "--out", "again.json", *words]) == 0
    again = json.loads((toy / "again.json").read_text())["rows"]
    drop = {"seconds"}
    assert [{k: v for k, v in row.items() if k not in drop} for row in again] == [
        {k: v for k, v in row.items() if k not in drop} for row in record["rows"]
    ]


def test_a_folder_of_other_pictures_may_start_em(toy, capsys):
    (toy / "mine").mkdir()
    for i in range(60):
        Image.new("L", (32, 32), 4 * i).save(toy / "mine" / f"{i}.png")
    assert main(["em", "--preset", "toy", "--iterations", "1", "--start", "mine"]) == 0
    assert "start mine" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["em", "--preset", "huge"], "unknown preset 'huge'"),
        (["em", "--fraction", "1.2"], "got 1.2"),
        (["em", "--noise-std", "-1"], "got -1.0"),
        (["em", "--operator", "haze"], "unknown operator 'haze'"),
        (["em", "--start", "nowhere"], "unknown start 'nowhere'"),
        (["em", "--sampler", "dps", "--scale", "much"], "got 'much'"),
        (["em", "--sampler", "dps", "--scale", "-2"], "got -2.0"),
        (["em", "--iterations", "-1"], "got -1"),
        (["reconstruct", "--prior", "absent.safetensors"], "no file at absent.safetensors"),
    ],
)
def test_a_mistake_ends_in_one_sentence_before_any_work(toy, capsys, words, says):
    assert main(words if "--preset" in words else [*words, "--preset", "toy"]) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert len(err.strip().splitlines()) == 1
    assert not (toy / "runs").exists()


def test_a_refusal_loads_nothing_that_only_a_run_needs():
    """What draws, scores or decodes takes seconds to load, which somebody with a slip of the pen need not wait for."""
    heavy = ("matplotlib", "tifffile", "torchvision", "torchmetrics", "scipy", "skimage", "diffusers", "lpips")
    code = f"""import sys
from emlib.cli.main import main
assert main(["em", "--operator", "nonsense"]) == 2
assert "torch" in sys.modules
print([name for name in {heavy} if name in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert "unknown operator 'nonsense'" in done.stderr


def test_train_and_reconstruct_work_on_each_others_files(toy, capsys, monkeypatch):
    monkeypatch.setitem(presets.PRESETS, "toy", replace(presets.PRESETS["toy"], prior_updates=60))
    assert main(["train", "--preset", "toy", "--out", "prior.safetensors"]) == 0
    assert main(["reconstruct", "--preset", "toy", "--prior", "prior.safetensors", "--picture", "p.png"]) == 0
    assert "rebuilt" in capsys.readouterr().out
    assert Image.open("p.png").size[0] > 300


def test_cost_says_what_a_run_takes(capsys):
    assert main(["cost", "--preset", "paper", "--device", "H100"]) == 0
    said = capsys.readouterr().out
    assert "M-step" in said
    assert "H100" in said


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 7.11 PiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes"),
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    ],
)
@pytest.mark.parametrize(("command", "goes_on"), [(["em"], True), (["cost"], False)])
def test_too_little_memory_is_a_sentence_with_the_remedy(monkeypatch, capsys, error, command, goes_on):
    monkeypatch.setattr(f"emlib.cli.{command[0]}.run", mock.Mock(side_effect=error))
    assert main(command) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"emlib {command[0]}: this takes more memory than there is (")
    assert "take a smaller preset or a smaller batch" in said
    assert ("the same command goes on" in said) == goes_on
    assert said.count("\n") == 1


def test_an_error_of_ones_own_is_no_lack_of_memory(monkeypatch):
    monkeypatch.setattr("emlib.cli.cost.run", mock.Mock(side_effect=RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        main(["cost"])
