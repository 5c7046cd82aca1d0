"""The laboratory in the page: its network and samplers against emlib's, on the same weights, pictures, masks and noise.

A page is opened from its file; of the network nothing is asked, of the machine no more than a browser.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import emlib
from emlib.posterior.mmps import posterior_mean

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lab_weights import LAB, read_prior  # noqa: E402

PRIOR, STEPS, PICTURES = "em3", 12, 2
HEAD = '<!doctype html><html lang="en" data-theme="light"><meta charset="utf-8"><title>Laboratory</title>'
MODEL = """async (name) => {
  await lab.ready();
  const keep = lab.keepPrior;
  lab.keepPrior = (_, about, text) => {
    window.model = lab.network(about.config, lab.unpack(about.shapes, lab.bytes(text)));
  };
  await lab.load(`prior-${name}.js`);
  lab.keepPrior = keep;
  window.numbers = (x) => Float32Array.from(x);
  window.handed = (noise) => { let i = 0; return () => numbers(noise[i++]); };
}"""
FORWARD = """([x, t, v]) => {
  const [eps, back] = model({ c: 1, h: 28, w: 28, x: numbers(x) }, t);
  const [, V] = lab.guessAndV(model, numbers(x), t, 28);
  return [Array.from(eps.x), Array.from(back(numbers(v))), Array.from(V(numbers(v)))];
}"""
WALK = """([sampler, y, mask, noiseStd, noise, steps, setting]) => {
  const broken = { y: numbers(y), mask: numbers(mask), noiseStd, side: 28 };
  const walks = {
    prior: () => lab.sample(model, 28, handed(noise), steps),
    mmps: () => lab.mmps(model, broken, handed(noise), steps, setting),
    dps: () => lab.dps(model, broken, handed(noise), steps, setting),
    diffpir: () => lab.diffpir(model, broken, handed(noise), steps, setting),
  };
  return Array.from([...walks[sampler]()].at(-1).x);
}"""


def page_of(folder: Path, body: str = "") -> str:
    """A page with the laboratory's first script, opened from its file."""
    page = folder / "page.html"
    script = f'<script src="{(LAB / "start.js").as_uri()}"></script>'
    page.write_text(f"{HEAD}<body><main><h1>Laboratory</h1>{body}</main>{script}</body></html>", encoding="utf-8")
    return page.as_uri()


@pytest.fixture(scope="module")
def prior():
    return read_prior(LAB / f"prior-{PRIOR}.js")


@pytest.fixture
def bench(open_tab, tmp_path):
    """A page that has the network in hand."""
    tab = open_tab(page_of(tmp_path))
    tab.evaluate(MODEL, PRIOR)
    return tab


@pytest.fixture(scope="module")
def broken():
    """Held-out pictures with 60 % hidden, and the truth."""
    task = emlib.make_task(emlib.preset("pocket"), operator="mask", fraction=0.6)
    return task.held_out.select(range(PICTURES)), task.held_out_truth[:PICTURES]


def flat(x: torch.Tensor) -> list[float]:
    return x.flatten().tolist()


def off(found: list[float], right: torch.Tensor) -> float:
    """Length of the difference, as a share of the right one's."""
    return ((torch.tensor(found) - right.flatten()).norm() / right.norm()).item()


@pytest.mark.parametrize("t", [999, 300, 20, 0])
def test_the_network_and_its_slope_are_emlibs(bench, prior, t):
    g, schedule = torch.Generator().manual_seed(t), emlib.linear_schedule()
    x, v = (torch.randn(1, 1, 28, 28, generator=g) for _ in range(2))
    x.requires_grad_()
    eps = prior(x, torch.tensor([t]))
    (slope,) = torch.autograd.grad(eps, x, v, retain_graph=True)
    # V v = sigma_t^2 / alpha_t  (d x0_hat / d x_t)^T v
    (guess,) = torch.autograd.grad(emlib.predict_x0(eps, schedule, x, t), x, v)
    V = schedule.sigma(t).square() / schedule.alpha(t) * guess
    found = bench.evaluate(FORWARD, [flat(x), t, flat(v)])
    assert off(found[0], eps.detach()) < 1e-5
    assert off(found[1], slope) < 1e-4
    assert off(found[2], V) < 1e-3


@pytest.mark.parametrize(
    ("name", "sampler", "setting", "noise_std"),
    [
        ("prior", None, 0, 0.0),
        ("mmps", emlib.mmps, 1, 0.0),
        ("mmps", emlib.mmps, 2, 0.1),
        ("dps", emlib.dps, 2.0, 0.0),
        ("diffpir", emlib.diffpir, 7.0, 0.0),
        ("diffpir", emlib.diffpir, 7.0, 0.1),
    ],
)
def test_a_walk_ends_where_emlibs_ends(bench, prior, broken, name, sampler, setting, noise_std):
    m, truth = broken
    m = emlib.measure(truth, m.operator, noise_std, seed=0)
    schedule, words = emlib.linear_schedule(), {"mmps": "cg_steps", "dps": "scale", "diffpir": "weight"}
    for i in range(PICTURES):
        one, noise = m.select([i]), emlib.streams(0, "lab", [i])
        handed = [flat(emlib.randn(noise, (1, 28, 28))) for _ in range(STEPS + 1)]
        streams = emlib.streams(0, "lab", [i])
        if sampler is None:
            *_, last = emlib.sample(prior, schedule, (1, 28, 28), streams, STEPS)
        else:
            *_, last = sampler(prior, schedule, one, streams, steps=STEPS, **{words[name]: setting})
        found = bench.evaluate(WALK, [name, flat(one.y), flat(one.operator.mask), noise_std, handed, STEPS, setting])
        ours = torch.tensor(found).view(1, 1, 28, 28)
        scores = [emlib.psnr(x.clamp(-1, 1), truth[i : i + 1]).item() for x in (ours, last.x_t)]
        assert abs(scores[0] - scores[1]) < 0.1, (i, scores)
        assert (ours - last.x_t).abs().max() < 0.02, i


def test_the_mean_given_y_is_emlibs(bench, prior, broken):
    m, truth = broken
    x = emlib.add_noise(emlib.linear_schedule(), truth[:1], 300, torch.randn(truth[:1].shape))
    right = posterior_mean(prior, emlib.linear_schedule(), m.select([0]), x, 300, 3)
    found = bench.evaluate(
        "([x, y, mask]) => Array.from(lab.posteriorMean(model, "
        "{ y: numbers(y), mask: numbers(mask), noiseStd: 0, side: 28 }, numbers(x), 300, 3))",
        [flat(x), flat(m.y[:1]), flat(m.operator.mask[:1])],
    )
    assert off(found, right) < 1e-2


def test_the_schedule_and_its_grids_are_emlibs(bench):
    schedule = emlib.linear_schedule()
    found = bench.evaluate("() => Array.from({ length: 1000 }, (_, t) => lab.alpha(t))")
    assert torch.allclose(torch.tensor(found), schedule.alpha_bar.sqrt(), rtol=1e-5)
    for steps in (1, 2, 3, 12, 25, 50, 1000):
        for power in (1.0, 1.5):
            assert bench.evaluate("([n, p]) => lab.timeGrid(n, p)", [steps, power]) == emlib.time_grid(
                schedule, steps, power
            )


def test_the_exact_posterior_of_fifty_pictures_is_chapter_1s(bench):
    world, schedule = emlib.load("embedded").clean[:50], emlib.linear_schedule()
    g = torch.Generator().manual_seed(0)
    mask = (torch.rand(28 * 28, generator=g) < 0.4).float()
    for t in (300, 800):
        x = emlib.add_noise(schedule, world[:1], t, torch.randn(world[:1].shape, generator=g))
        gap = mask * (x - schedule.alpha(t) * world).flatten(1)
        # w_i ~ exp(-||m (x_t - alpha_t c_i)||^2 / (2 sigma_t^2))
        w = (-gap.square().sum(1) / (2 * schedule.sigma(t).flatten() ** 2)).softmax(0)
        found = bench.evaluate(
            "([x, t, m]) => { const { weights, guess } = lab.exactPosterior(numbers(x), t, numbers(m), lab.clean);"
            "return [weights, Array.from(guess)]; }",
            [flat(x), t, mask.tolist()],
        )
        assert torch.allclose(torch.tensor(found[0]), w, atol=1e-4)
        assert off(found[1], w @ world.flatten(1)) < 1e-3
