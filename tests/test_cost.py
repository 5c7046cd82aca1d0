import argparse
import inspect
from dataclasses import fields, replace
from functools import partial

import pytest
import torch

import emlib
from emlib.cli import cost as cli
from emlib.guidance.search import CALLS
from emlib.planning import cost
from emlib.runs.presets import PRESETS
from emlib.runtime.durations import short_duration

TINY = replace(
    PRESETS["smoke"],
    name="tiny",
    unet=emlib.UNetConfig(channels=(8, 16), groups=4),
    clean=6,
    observations=21,
    held_out=5,
    em=replace(
        PRESETS["smoke"].em, iterations=2, init_updates=3, m_updates=2, last_updates=0, train_batch=4, e_batch=16
    ),
    prior_updates=3,
    e_steps=3,
    cg_steps=2,
    dps_steps=2,
    samples=7,
    sample_steps=2,
)


def test_the_flops_of_a_forward_pass_are_those_of_its_layers():
    """A 16 x 16 picture, by hand: two for each multiplication and its addition; biases, norms and the like are free."""

    def conv(cin, cout, side, taps=3):
        return 2 * cin * cout * taps**2 * side**2

    def linear(cin, cout, rows=1):
        return 2 * cin * cout * rows

    def block(cin, cout, side):
        shortcut = conv(cin, cout, side, taps=1) if cin != cout else 0
        return conv(cin, cout, side) + linear(32, cout) + conv(cout, cout, side) + shortcut

    def attention(width, side):
        pixels = side**2
        # q, k, v and out; q k^T; its product with v
        return 4 * linear(width, width, pixels) + 2 * pixels * pixels * width + 2 * pixels * pixels * width

    by_hand = (
        conv(4, 8, 8)  # folded to 4 channels of 8 x 8
        + (linear(8, 32) + linear(32, 32))  # time
        + (block(8, 8, 8) + conv(8, 8, 4))  # down, ends in 4 x 4
        + block(8, 16, 4)
        + (block(16, 16, 4) + attention(16, 4) + block(16, 16, 4))  # middle
        + (block(16 + 16, 16, 4) + block(16 + 8, 16, 4) + conv(16, 16, 8))  # up, ends in 8 x 8
        + (block(16 + 8, 8, 8) + block(8 + 8, 8, 8))
        + conv(8, 4, 8)
    )
    assert cost.network_cost(TINY.unet, 16).forward == by_hand


@pytest.mark.parametrize("p", [TINY, *PRESETS.values()], ids=lambda p: p.name)
def test_a_gradient_costs_once_and_twice_a_forward_pass(p):
    found = cost.network_cost(p.unet, p.size)
    assert found.gradient == pytest.approx(found.forward, rel=0.05)  # by the picture
    assert found.update == pytest.approx(2 * found.forward, rel=0.05)  # by the weights


def test_memory_grows_with_what_is_kept():
    def live(batch, backward, train=False):
        return cost.live_bytes(TINY.unet, 16, batch, backward, train)

    plain, gradient, update = live(16, 0), live(16, 1), live(16, 1, train=True)
    assert plain < gradient < update
    assert gradient <= live(16, 2)
    assert live(32, 1) == pytest.approx(2 * gradient, rel=0.05)
    # eps_theta and what it is made from are there at the end of any pass
    assert plain > 2 * 4 * 16 * 16 * 16


class Counter:
    """Counts what goes through any U-Net, forward and backward."""

    def __init__(self, monkeypatch):
        self.calls = self.forwards = self.gradients = 0
        real = emlib.UNet.forward

        def forward(model, x, t):
            self.calls += 1
            self.forwards += len(x)
            out = real(model, x, t)
            if out.requires_grad:
                out.register_hook(self.backward)
            return out

        monkeypatch.setattr(emlib.UNet, "forward", forward)

    def backward(self, grad):
        self.gradients += len(grad)

    def take(self):
        found = self.calls, self.forwards, self.gradients
        self.calls = self.forwards = self.gradients = 0
        return found


E_STEPS = {
    "mmps": lambda p, m, schedule: lambda prior, k: partial(emlib.mmps, steps=p.e_steps, cg_steps=p.cg_steps),
    "dps": lambda p, m, schedule: lambda prior, k: partial(emlib.dps, steps=p.dps_steps, scale=1.0),
}


@pytest.mark.parametrize("sampler", E_STEPS)
def test_the_plan_counts_the_evaluations_that_a_run_makes(schedule, monkeypatch, sampler):
    p = TINY
    task = emlib.make_task(p)
    e_step = E_STEPS[sampler](p, task.measurements, schedule)
    stages = {stage.name: stage for stage in cost.plan(p, 1e12, sampler, searched=False)}
    counter, seen = Counter(monkeypatch), {}
    for event in emlib.run_em(task.measurements, task.clean, p.unet, schedule, e_step, p.em):
        if isinstance(event, emlib.Progress):
            found = seen.setdefault((event.iteration, event.stage), [0, 0, 0])
            seen[event.iteration, event.stage] = [a + b for a, b in zip(found, counter.take())]
        elif event.iteration == p.em.iterations:
            prior = event.prior
    for (_, name), found in seen.items():
        assert found == [stages[name].calls, stages[name].forwards, stages[name].gradients], name
    for name in ("first prior", "E-step", "M-step"):
        assert stages[name].times == sum(stage == name for _, stage in seen)

    def check(name):
        assert counter.take() == (stages[name].calls, stages[name].forwards, stages[name].gradients), name

    counter.take()
    list(emlib.draw(prior, schedule, (1, 28, 28), p.samples, p.sample_steps))
    check("samples to score")
    list(emlib.reconstruct(e_step(prior, 3), prior, schedule, task.held_out, 0, "held-out", p.em.e_batch))
    check("held-out check")
    for _ in emlib.train(emlib.build_unet(p.unet, 0), schedule, task.real, p.prior_updates, p.em.train_batch, 1e-3, 0):
        pass
    check("clean prior")


def test_a_search_takes_at_most_what_the_plan_counts(schedule):
    p = TINY
    task = emlib.make_task(p)
    with_search, without = (
        {stage.name: stage for stage in cost.plan(p, 1e12, "dps", searched)}["E-step"] for searched in (True, False)
    )
    choose = emlib.searched_dps("residual", task.measurements.select(range(21)), schedule, p.dps_steps, 0)
    choose(emlib.build_unet(p.unet, 0), 1)
    counted = with_search.forwards - without.forwards
    assert p.dps_steps * 32 * len(choose.tried) == choose.network_calls
    assert 0 < choose.network_calls <= counted == p.dps_steps * 32 * CALLS


def test_the_samplers_take_the_gradients_that_the_table_says(net, schedule, monkeypatch):
    m = emlib.measure(torch.zeros(2, 1, 8, 8), emlib.random_mask(2, 8, 0.6, 0), 0.1, seed=0)
    counter = Counter(monkeypatch)
    for name, record in emlib.posterior.SAMPLERS.items():
        steps, gradients = record.cost(TINY)
        sampler = record.filled_in(TINY, 1.0 if record.guided else None)
        for _ in sampler(net, schedule, m, emlib.streams(0, "x", range(2))):
            pass
        assert counter.take() == (steps, 2 * steps, 2 * steps * gradients), name


def test_a_search_for_the_scale_is_paid_for():
    (fixed,), (searched,) = (
        [s for s in cost.plan(TINY, 1e12, "dps", searched) if s.name == "E-step"] for searched in (False, True)
    )
    assert searched.forwards - fixed.forwards == 6 * 32 * TINY.dps_steps  # 21 pictures, filled up to 32


def test_phase_2_has_its_own_stages():
    phases = emlib.Phases(subset=0.5, reset_iterations=1, reset_updates=9)
    stages = {s.name: s for s in cost.plan(replace(TINY, em=replace(TINY.em, phases=phases)), 1e12)}
    assert stages["E-step"].forwards == 16 * TINY.e_steps  # 10 pictures, filled up
    assert stages["E-step on all"].forwards == 32 * TINY.e_steps
    assert stages["M-step afresh"].calls == 9
    assert stages["samples to score"].times == 4


def test_a_longer_last_m_step_has_its_own_stage():
    one = {s.name: s for s in cost.plan(replace(TINY, em=replace(TINY.em, last_updates=5)), 1e12)}
    two = {s.name: s for s in cost.plan(TINY, 1e12)}
    assert (one["M-step"].times, one["M-step"].calls) == (1, 2)
    assert (one["last M-step"].times, one["last M-step"].calls) == (1, 5)
    assert (two["M-step"].times, two["M-step"].calls) == (2, 2)
    assert "last M-step" not in two
    assert one["last M-step"].flops == pytest.approx(2.5 * one["M-step"].flops)


def test_the_total_adds_up():
    stages = cost.plan(TINY, 2e12)
    whole = cost.total(stages)
    for field in ("calls", "forwards", "gradients", "flops", "seconds"):
        by_hand = 0
        for stage in stages:
            for _ in range(stage.times):
                by_hand += getattr(stage, field)
        assert getattr(whole, field) == pytest.approx(by_hand)
    assert whole.seconds == pytest.approx(whole.flops / 2e12)
    assert whole.bytes == max(stage.weights + stage.optimizer + stage.ema + stage.activations for stage in stages)
    found = cost.network_cost(TINY.unet, 28)
    for stage in stages:
        sampled = stage.forwards * found.forward + stage.gradients * found.gradient
        trained = stage.forwards * (found.forward + found.update)
        assert stage.flops == (trained if stage.optimizer else sampled)
        assert stage.weights == 4 * found.parameters


def test_a_table_has_a_line_a_stage_and_a_total():
    stages = cost.plan(TINY, 1e12)
    head, *lines = cost.as_text(stages).splitlines()
    assert [line.split("  ")[0] for line in lines] == [*(s.name for s in stages), "total"]
    assert len({len(line) for line in (head, *lines)}) == 1


def test_numbers_keep_three_digits():
    assert [cost._short(n) for n in (0, 999, 999.6, 1234, 5e9, 1.6e18)] == [
        "0 ",
        "999 ",
        "1 k",
        "1.23 k",
        "5 G",
        "1.6 E",
    ]
    assert [short_duration(s) for s in (0.5, 119, 120, 7200, 3 * 86400, 1e8)] == [
        "0.5 s",
        "119 s",
        "2 min",
        "2 h",
        "3 d",
        "3.17 years",
    ]


def test_draw_still_takes_as_many_pictures_at_a_time():
    assert inspect.signature(emlib.draw).parameters["batch"].default == cost.DRAW_BATCH


def test_a_device_gives_the_assumed_share_of_its_peak():
    assert cost.sustained("H100") == pytest.approx(0.3 * 67e12)
    assert 1e8 < cost.sustained("cpu") < 1e14


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: cost.sustained("H200"), "unknown device 'H200'; there are T4, .*, A100, .*, H100, .*, and cpu"),
        (lambda: cost.plan(TINY, 1e12, "ddrm"), "unknown sampler 'ddrm'; there are mmps, mmps-plain, pigdm, "),
        (lambda: cost.plan(TINY, 0.0), r"rate=0\.0 and"),
    ],
)
def test_what_is_not_there_is_refused_beside_what_is(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def words(*args):
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser, [])
    return parser.parse_args(args)


def test_the_command_prints_the_plan(capsys):
    cli.run(words("--preset", "smoke", "--device", "T4", "--sampler", "dps", "--scale", "2"))
    out = capsys.readouterr().out
    assert "8.1 TFLOP/s at its peak, of which a share of 0.3 is assumed" in out
    assert cost.as_text(cost.plan(PRESETS["smoke"], 0.3 * 8.1e12, "dps", searched=False)) in out


@pytest.mark.parametrize(
    ("args", "says"), [(["--scale", "big"], "'big'"), (["--device", "TPU"], "'TPU'"), (["--preset", "xl"], "'xl'")]
)
def test_the_command_refuses_bad_words(args, says):
    with pytest.raises(ValueError, match=says):
        cli.run(words(*args))


def test_every_field_of_a_stage_is_explained():
    assert all(f"{field.name}:" in cost.Stage.__doc__ for field in fields(cost.Stage))
