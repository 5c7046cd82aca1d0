"""The contract of operators and samplers: kept by ours, by a stranger's, and refused in a sentence where it is not."""

import dataclasses
import functools
import json
import re
import subprocess
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

import emlib
from emlib import guidance, posterior
from emlib.baselines import ambient, classical, noise2self, run_diem, sure_score
from emlib.cli.main import main
from emlib.guidance import rules
from emlib.operators import OPERATORS, Operator, find_operator, load_measurements, save_measurements
from emlib.posterior import SAMPLERS, SamplerRecord, dps_squared
from emlib.runs import presets
from emlib.testing import check_operator, check_sampler

POOL = """
from torch.nn import functional as F
from emlib.operators import Operator


class AveragePool(Operator):
    name = "pool"

    def __call__(self, x):
        return F.avg_pool2d(x, 2)

    def adjoint(self, y):
        return F.interpolate(y, scale_factor=2, mode="nearest") / 4

    def image_shape(self, y_shape):
        channels, height, width = y_shape
        return channels, 2 * height, 2 * width
"""


@pytest.fixture
def pool(tmp_path):
    """A reader's file with one class, and that class."""
    file = tmp_path / "mine.py"
    file.write_text(POOL)
    return find_operator(f"{file}:AveragePool")


def sampler(name, steps=4, scale=1.0):
    record = SAMPLERS[name]
    sizes = replace(presets.SMOKE, e_steps=steps, dps_steps=steps)
    return record.filled_in(sizes, scale if record.guided else None)


# ---- operators ----

OURS = {
    "identity": (emlib.Identity(), (1, 16, 16)),
    "identity in colour": (emlib.Identity(), (3, 8, 12)),
    "mask": (emlib.random_mask(3, 16, 0.6, 0), (2, 16, 16)),
    "one mask for all": (emlib.random_mask(1, 16, 0.6, 0), (1, 16, 16)),
    "blur": (emlib.GaussianBlur(16, 16), (1, 16, 16)),
    "blur of 3 taps, not square": (emlib.GaussianBlur(12, 8, 0.7, 3), (3, 12, 8)),
    "box": (find_operator("box").for_pictures(3, 16, 0, side=3), (3, 16, 12)),
    "motion": (find_operator("motion").for_pictures(3, 16, 0, length=5, angle=30), (1, 16, 16)),
    "downsample": (find_operator("downsample").for_pictures(3, 16, 0, factor=4.0), (3, 16, 8)),
    "grey": (find_operator("grey").for_pictures(3, 16, 0), (3, 16, 12)),
    "withheld": (rules.Kept(emlib.GaussianBlur(16, 16, 1.0, 5), (torch.rand(3, 1, 16, 16) > 0.1).float()), (1, 16, 16)),
    "withheld of a mask": (
        rules.Kept(emlib.random_mask(3, 16, 0.6, 0), (torch.rand(3, 1, 16, 16) > 0.1).float()),
        (1, 16, 16),
    ),
}


@pytest.mark.parametrize(("A", "shape"), OURS.values(), ids=OURS)
def test_our_operators_keep_the_contract(A, shape, monkeypatch):
    if A.name == "kept":  # it is never kept on disk
        monkeypatch.setattr(type(A), "from_tensors", lambda tensors: A)
    check_operator(A, shape)


def test_every_operator_of_the_registry_is_tried_above():
    assert set(OPERATORS) <= {A.name for A, _ in OURS.values()}


def test_the_least_that_a_reader_writes_keeps_the_contract(pool):
    check_operator(pool(), (3, 8, 12))


def broken(**change):
    """Average-pooling with something wrong."""
    return type("Broken", (find_operator_class(),), {"name": "broken", **change})()


def find_operator_class():
    scope = {}
    exec(POOL, scope)  # the text above, nobody else's
    return scope["AveragePool"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"adjoint": lambda self, y: F.interpolate(y, scale_factor=2)}, "adjoint is not that of A"),
        ({"__call__": lambda self, x: F.avg_pool2d(x, 2) + 0.1}, "not linear"),
        ({"__call__": lambda self, x: F.avg_pool2d(x, 2).detach()}, "must be differentiable"),
        ({"image_shape": lambda self, shape: shape}, r"belong to pictures \(1, 16, 16\), but image_shape says"),
        ({"adjoint": lambda self, y: y}, "must have the pictures' shape"),
        ({"__call__": lambda self, x: F.avg_pool2d(x.float(), 2)}, "must keep the dtype torch.float64"),
        ({"solve": lambda self, v, a, b: v / a if a else v}, r"does not solve \(a I \+ b A A\^T\) u = v"),
        ({"seen": lambda self, y: 0.5 * torch.ones_like(y)}, "must be 0 or 1"),
        ({"seen": lambda self, y: torch.zeros_like(y)}, "must be 0 where"),
        ({"select": lambda self, rows: emlib.Identity()}, "otherwise than A"),
        ({"prefiltered": lambda self, y, noise_std: y}, "prefiltered"),
        ({"from_tensors": classmethod(lambda cls, tensors: emlib.Identity())}, "is another operator"),
        ({"name": ""}, "needs a name"),
    ],
)
def test_what_breaks_the_contract_is_named(change, says):
    with pytest.raises(AssertionError, match=says):
        check_operator(broken(**change))


def test_a_forgotten_image_shape_is_said_when_pictures_are_measured():
    A = broken(image_shape=lambda self, shape: shape)
    with pytest.raises(ValueError, match="write image_shape"):
        emlib.measure(torch.zeros(2, 1, 8, 8), A, 0.0, 0)


def dense(A, h, w):
    return A(torch.eye(h * w, dtype=torch.float64).view(-1, 1, h, w)).flatten(1).T


@pytest.mark.parametrize("case", ["pool", "mild blur"])
def test_the_default_solver_is_linear_algebra(pool, case):
    """Against dense matrices in float64; our blur without its own solver, which is the harder one."""
    A = pool() if case == "pool" else emlib.GaussianBlur(8, 8, 0.6, 3)
    M = dense(A, 8, 8)
    v = torch.randn(2, *A(torch.zeros(1, 1, 8, 8)).shape[1:], generator=torch.Generator().manual_seed(0)).double()
    each = torch.tensor([0.01, 3.0], dtype=torch.float64).view(2, 1, 1, 1)
    for a, b in [(0.3, 2.0), (each, 1.0), (0.5, each), (0.0, 0.7)]:
        found = Operator.solve(A, v, a, b)
        for i in range(2):
            a_i, b_i = (float(c.flatten()[i]) if isinstance(c, torch.Tensor) else c for c in (a, b))
            K = a_i * torch.eye(len(M), dtype=torch.float64) + b_i * M @ M.T
            exact = (torch.linalg.inv(K) if a_i else torch.linalg.pinv(K, hermitian=True)) @ v[i].flatten()
            assert (found[i].flatten() - exact).norm() < (1e-5 if a_i else 2e-3) * exact.norm()


def test_the_default_pseudo_inverse_gives_nothing_where_nothing_was_measured():
    mask = emlib.random_mask(2, 8, 0.6, 0)
    v = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = Operator.solve(mask, v, 0.0, 2.0)
    torch.testing.assert_close(found, mask.solve(v, 0.0, 2.0), rtol=1e-3, atol=1e-6)


def test_withheld_numbers_are_no_longer_seen():
    m = emlib.measure(torch.rand(8, 1, 16, 16) * 2 - 1, emlib.random_mask(8, 16, 0.6, 0), 0.1, 0)
    part, keep = rules.withhold(m, 0)
    assert part.operator.seen(part.y).mean() == pytest.approx(0.36, abs=0.03)
    assert torch.equal(part.operator.seen(part.y), keep)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("A", [emlib.random_mask(8, 8, 0.5, 0), emlib.GaussianBlur(8, 8)], ids=["mask", "blur"])
def test_every_sampler_draws_where_a_tenth_is_withheld(name, A, net, schedule):
    """PiGDM and DiffPIR ask the withheld operator for its inverse."""
    m = emlib.measure(torch.rand(8, 1, 8, 8) * 2 - 1, A, 0.1, 0)
    part, _ = rules.withhold(m, 0)
    (x,) = emlib.reconstruct(sampler(name), net, schedule, part, 0, "try", 8)
    assert x.shape == (8, 1, 8, 8)
    assert x.isfinite().all()


# ---- a stranger's operator through the whole library ----


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("noise_std", [0.0, 0.1])
def test_a_strangers_operator_runs_in_every_sampler(pool, name, noise_std, gaussian, schedule):
    x = gaussian.draw(4)
    m = emlib.measure(x.clamp(-1, 1), pool(), noise_std, 0)
    assert m.y.shape == (4, 1, 2, 2)
    (found,) = emlib.reconstruct(sampler(name, 50, scale=0.1), gaussian, schedule, m, 0, "try", 4)
    assert found.shape == x.shape
    blind = torch.cat(list(emlib.draw(gaussian, schedule, (1, 4, 4), 4, 8)))
    assert (m.y - pool()(found)).norm() < (m.y - pool()(blind)).norm()


def test_a_strangers_operator_is_drawn_from_its_exact_posterior(pool, gaussian, schedule, surprise):
    """MMPS with the exact prior and four solver steps, one for each number of y, against the textbook's formula."""
    A, n = pool(), 600
    x = gaussian.draw(1)
    y = A(x) + 0.1 * torch.randn(1, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    m = emlib.Measurements(y.expand(n, -1, -1, -1), A, 0.1, tuple(range(n)))
    run = functools.partial(emlib.mmps, steps=60, cg_steps=4)
    drawn = torch.cat(list(emlib.reconstruct(run, gaussian, schedule, m, 0, "try", 300)))
    mean, cov = gaussian.given(dense(A, 4, 4), y.flatten(1).double(), 0.1)
    z_mean, _, off = surprise(drawn, mean[0], cov)
    assert z_mean < 5
    assert off < 0.25


@pytest.mark.parametrize("rule", rules.RULES)
@pytest.mark.parametrize("noise_std", [0.0, 0.1])
def test_a_strangers_operator_meets_every_rule_that_applies(pool, rule, noise_std, net, schedule):
    m = emlib.measure(torch.rand(8, 1, 8, 8) * 2 - 1, pool(), noise_std, 0)
    refused = rule in rules.SPECIAL or (noise_std == 0 and rule in rules.NOISY)
    if refused:
        with pytest.raises(ValueError, match="use (auto|residual or auto)"):
            guidance.searched_dps(rule, m, schedule, 2, 0, (0.5, 1.0))
        return
    e_step = guidance.searched_dps(rule, m, schedule, 2, 0, (0.5, 1.0))
    (x,) = emlib.reconstruct(e_step(net, 1), net, schedule, m, 0, "try", 8)
    assert x.shape == (8, 1, 8, 8)
    assert all(tried.score < float("inf") for tried in e_step.tried)


@pytest.mark.parametrize("start", ["clean", "gaussian", "preprocessed"])
def test_a_strangers_operator_runs_in_em_and_resumes(pool, start, tiny, schedule, tmp_path):
    x = torch.rand(12, 1, 8, 8) * 2 - 1
    m = emlib.measure(x[4:], pool(), 0.1, 0)
    first = {
        "clean": lambda: x[:4],
        "gaussian": lambda: emlib.fit_gaussian(m, schedule, 2),
        "preprocessed": lambda: emlib.preprocessed(m),
    }[start]()
    settings = emlib.EMSettings(1, 2, 2, 4, 1e-3, 1e-3, 0.9, 4, shard=4)
    found = []
    for _ in range(2):  # the second call reads what the first one kept
        loop = emlib.run_em(m, first, tiny, schedule, lambda prior, k: sampler("mmps"), settings, tmp_path / "run")
        done = [event for event in loop if isinstance(event, emlib.Iteration)]
        assert done[0].reconstructions.shape == (0, 1, 8, 8)
        found.append(done[-1].reconstructions)
    assert found[0].shape == (8, 1, 8, 8)
    assert torch.equal(*found)


def test_a_strangers_operator_meets_the_baselines(pool, tiny, schedule):
    x = torch.rand(8, 1, 8, 8) * 2 - 1
    m, clean = emlib.measure(x, pool(), 0.1, 0), x[:2]
    mended = classical.classical(m)
    assert mended.shape == x.shape
    assert emlib.psnr(mended, x).mean() > 0
    for done in run_diem(m, tiny, schedule, emlib.EMSettings(1, 2, 2, 4, 1e-3, 1e-3, 0.9, 4), 2, 1):
        pass
    assert done.reconstructions.shape == x.shape
    for train, net in (
        (sure_score.train_sure_score, emlib.build_unet(tiny, 0)),
        (noise2self.train_noise2self, emlib.build_unet(tiny, 0)),
        (ambient.train_ambient, ambient.build_ambient(tiny, 0)),
    ):
        with pytest.raises(ValueError, match="'pool'") as refusal:
            next(train(net, schedule, m, clean, 1, 1, 2, 1e-3, 0))
        assert "\n" not in str(refusal.value)


def test_a_strangers_measurements_come_back_from_disk_with_their_class(pool, tmp_path):
    m = emlib.measure(torch.rand(2, 1, 8, 8), pool(), 0.1, 0)
    save_measurements(m, tmp_path / "m.safetensors")
    back = load_measurements(tmp_path / "m.safetensors", pool)
    assert torch.equal(back.y, m.y)
    assert back.image_shape == (1, 8, 8)
    with pytest.raises(ValueError, match="operator 'pool'.*hand its class"):
        load_measurements(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="operator 'pool', not mask"):
        load_measurements(tmp_path / "m.safetensors", emlib.PixelMask)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_command_line_takes_an_operator_from_a_file(toy_preset, pool, name, tmp_path, capsys):
    words = ["--preset", "toy", "--operator", "mine.py:AveragePool", "--sampler", name, "--noise-std", "0.1"]
    assert main(["em", *words, "--out", "result.json"]) == 0
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["settings"]["operator"] == "pool"
    assert "fraction" not in record["settings"]
    assert [row["iteration"] for row in record["rows"]] == ["observed", 0, 1, "held out"]
    assert all(-50 < row["PSNR"] < 60 for row in record["rows"] if row["iteration"] != 0)
    assert (tmp_path / "runs" / f"em-pool-{name}-toy" / "prior_01.safetensors").is_file()
    assert main(["em", *words, "--dry-run"]) == 0
    assert "pool, noise 0.1" in capsys.readouterr().out
    prior = f"runs/em-pool-{name}-toy/prior_01.safetensors"
    assert main(["reconstruct", *words, "--prior", prior, "--picture", "rebuilt.png"]) == 0


def test_an_experiment_takes_an_operator_from_a_file(toy_preset, pool, tmp_path):
    said = {"about": "A toy.", "preset": "toy", "operator": "mine.py:AveragePool", "seeds": [0], "noise_std": 0.1}
    said["methods"] = ["observed", "classical", "em-mmps", "em-dps-auto", "diem", "ceiling", "start-gaussian"]
    (tmp_path / "own.json").write_text(json.dumps(said))
    assert main(["experiment", "own.json", "--preset", "toy"]) == 0
    rows = json.loads((tmp_path / "runs" / "own-toy.json").read_text())["rows"]
    assert {row["method"] for row in rows} == set(said["methods"])


def test_parameters_of_a_strangers_operator_become_words_of_the_command_line(toy_preset, tmp_path, capsys):
    (tmp_path / "dim.py").write_text(
        """
from emlib.operators import Operator, Parameter


class Dim(Operator):
    name = "dim"
    parameters = {"light_share": Parameter(0.5, "share of the light that is left")}

    def __init__(self, light_share):
        if not 0 < light_share <= 1:
            raise ValueError(f"light_share must lie in (0, 1], got {light_share}")
        self.light_share = light_share

    def __call__(self, x):
        return self.light_share * x

    adjoint = __call__
"""
    )
    check_operator(find_operator("dim.py:Dim")(0.25))
    words = ["--preset", "toy", "--operator", "dim.py:Dim", "--noise-std", "0.1", "--folder", "run"]
    assert main(["em", *words, "--light-share", "0.25"]) == 0
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["light_share"] == 0.25
    assert main(["em", *words]) == 2  # another run
    assert "{'light_share': 0.25" in capsys.readouterr().err
    assert main(["em", *words, "--light-share", "2"]) == 2
    assert "must lie in (0, 1], got 2.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "word", "says"),
    [
        ("", "nowhere.py:Pool", "no file nowhere.py for the operator"),
        ("x = 1", "mine.py:Pool", "has no class Pool that is an emlib.operators.Operator"),
        (POOL.replace("def adjoint", "def other"), "mine.py:AveragePool", "lacks adjoint; write them"),
        (POOL.replace('"pool"', '"mask"'), "mine.py:AveragePool", "needs a name of its own"),
        (POOL.replace('"pool"', '"two words"'), "mine.py:AveragePool", "needs a name of its own"),
        (POOL + '    parameters = {"seed": 1}\n', "mine.py:AveragePool", "calls a parameter seed"),
        ("", "haze", "unknown operator 'haze'; there are mask, blur.* and .*, or one of yours as FILE.py:CLASS"),
    ],
)
def test_an_operator_that_cannot_be_had_is_refused(tmp_path, monkeypatch, capsys, text, word, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(text)
    assert main(["em", "--preset", "smoke", "--operator", word]) == 2
    assert re.search(says, capsys.readouterr().err)


def test_a_parameter_that_is_a_word_of_the_command_line_is_refused(toy_preset, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        POOL.replace("import Operator", "import Operator, Parameter")
        + '    parameters = {"e_batch": Parameter(1, "a word of em alone")}\n'
    )
    assert main(["em", "--preset", "toy", "--operator", "mine.py:AveragePool"]) == 2
    assert "--e-batch" in capsys.readouterr().err


def test_no_other_file_asks_of_which_kind_an_operator_is():
    """isinstance of an operator's class, or a comparison with its name, outside of emlib/operators."""
    found = subprocess.run(
        ["git", "grep", "-nE", r"isinstance\([^)]*(Identity|PixelMask|GaussianBlur)|operator(\.name)? ==|sampler =="],
        cwd=presets.__file__.rsplit("/emlib/", 1)[0] + "/emlib",
        capture_output=True,
        text=True,
    )
    if found.returncode > 1:
        pytest.skip("this isn't a git checkout, or git isn't installed")
    assert [line for line in found.stdout.splitlines() if not line.startswith("operators/")] == []


# ---- samplers ----


@pytest.mark.parametrize("name", SAMPLERS)
def test_our_samplers_keep_their_promises(name):
    record = SAMPLERS[name]
    settings = {"scale": 1.0} if record.guided else {}
    check_sampler(functools.partial(record.sampler, **settings))


def test_dps_by_the_squared_norm_keeps_them_too():
    check_sampler(functools.partial(dps_squared, scale=0.1))


def forgetful(model, schedule, m, generators, steps):
    """Asks the prior alone."""
    yield from emlib.sample(model, schedule, m.image_shape, generators, steps, eta=1.0)


def crowded(model, schedule, m, generators, steps, scale=1.0):
    """DPS with a norm over the batch."""
    for step in emlib.dps(model, schedule, m, generators, steps, scale):
        yield dataclasses.replace(step, x_t=step.x_t + 0.01 * step.x_t.norm())


def loose(model, schedule, m, generators, steps):
    for step in emlib.pigdm(model, schedule, m, generators, steps):
        yield dataclasses.replace(step, x_t=step.x_t + 0.01 * torch.randn_like(step.x_t))


def short(model, schedule, m, generators, steps):
    yield from emlib.pigdm(model, schedule, m, generators, steps - 1)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (forgetful, "fits y no better"),
        (crowded, "must not depend on its batch"),
        (loose, "random numbers must come from the generators|must not depend on its batch"),
        (short, "one SampleStep a network call"),
    ],
)
def test_a_sampler_that_breaks_its_promises_is_named(wrong, says):
    with pytest.raises(AssertionError, match=says):
        check_sampler(wrong)


def nearest(model, schedule, m, generators, steps, pull):
    """A sixth sampler: PiGDM, pulled towards y once more."""
    for step in emlib.pigdm(model, schedule, m, generators, steps):
        yield dataclasses.replace(step, x_t=step.x_t + pull * m.operator.adjoint(m.y - m.operator(step.x_t)))


@pytest.mark.parametrize("guided", [False, True])
def test_a_sixth_sampler_is_one_file_and_one_line(toy_preset, monkeypatch, capsys, tmp_path, guided):
    """One entry in the registry: command line, plan and cost know it, and so do run folders."""
    if guided:
        record = SamplerRecord(emlib.dps_squared, steps="dps_steps", gradients=1, guided=True)
    else:
        record = SamplerRecord(functools.partial(nearest, pull=0.1), steps="e_steps", gradients="cg_steps", settings=())
    monkeypatch.setitem(posterior.SAMPLERS, "sixth", record)
    with pytest.raises(SystemExit):
        main(["em", "--help"])
    assert "sixth" in capsys.readouterr().out
    words = ["--preset", "toy", "--sampler", "sixth", *(["--noise-std", "0.1"] if guided else [])]
    assert main(["em", *words, "--dry-run"]) == 0
    assert ("lambda by auto" in capsys.readouterr().out) == guided
    assert main(["em", *words]) == 0
    kept = json.loads((tmp_path / "runs" / "em-mask-sixth-toy" / "settings.json").read_text())
    assert kept["sampler"] == "sixth"
    assert kept["scale"] == ("auto" if guided else "none")
    assert main(["cost", "--preset", "toy", "--device", "H100", "--sampler", "sixth"]) == 0
    assert "EM with sixth" in capsys.readouterr().out


def test_a_record_refuses_a_scale_it_cannot_use():
    with pytest.raises(ValueError, match="takes no guidance scale"):
        SAMPLERS["mmps"].filled_in(presets.SMOKE, 1.0)
    with pytest.raises(ValueError, match="needs a guidance scale"):
        SAMPLERS["dps"].filled_in(presets.SMOKE)


def test_a_class_of_the_readers_makes_a_task(toy_preset, pool):
    """As in a notebook, with no file."""
    task = emlib.make_task(toy_preset, pool, noise_std=0.1)
    assert task.measurements.y.shape[-1] * 2 == task.truth.shape[-1]
    assert task.about["operator"] == "pool"
    assert task.measurements.image_shape == tuple(task.truth.shape[1:])
