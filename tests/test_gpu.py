"""What only a GPU can show: its numbers against the CPU's, recordings against plain calls (`pytest -m cuda`)."""

from dataclasses import replace
from functools import partial

import pytest
import torch

import emlib
import emlib.training.update
from emlib.metrics.alexnet import alexnet_features
from emlib.muon import orthogonalized, orthogonalized_at_once
from emlib.runtime.fused import norm_silu_as_it_lies
from emlib.runtime.graphs import recorded, recorded_network
from emlib.unet import norm_silu

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
BF16 = emlib.Speed("bfloat16")


@pytest.fixture
def whole(monkeypatch):
    """Convolutions in all of float32's digits; by default PyTorch drops some on a GPU."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def pictures():
    return torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def measured(x, noise_std=0.1):
    return emlib.measure(x, emlib.random_mask(len(x), x.shape[-1], 0.6, 0), noise_std, 0)


def drawn(model, schedule, m, batch=256, **words):
    sampler = partial(emlib.mmps, steps=6, **words)
    return torch.cat(list(emlib.reconstruct(sampler, model, schedule, m, 0, "test", batch))).cpu()


def test_network_and_gradient_are_those_of_the_cpu(net, pictures, whole):
    answers = []
    for device in ("cpu", "cuda"):
        x = pictures.to(device).requires_grad_()
        y = net.to(device)(x, torch.arange(40, device=device) * 20)
        answers.append((y.detach().cpu(), torch.autograd.grad(y.square().sum(), x)[0].cpu()))
    for ours, theirs in zip(*answers, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("blur", [False, True])
def test_an_e_step_draws_the_pictures_of_the_cpu(net, schedule, pictures, whole, blur):
    A = emlib.GaussianBlur(8, 8, taps=5) if blur else emlib.random_mask(len(pictures), 8, 0.6, 0)
    m = emlib.measure(pictures, A, 0.1, 0)
    cpu = drawn(net.requires_grad_(False), schedule, m)
    gpu = drawn(emlib.quick(net.cuda(), emlib.Speed()), schedule.to("cuda"), m.on("cuda"))
    assert (cpu - gpu).abs().mean() < 1e-3  # a sampler magnifies the last digit in single pixels


def test_training_learns_what_it_learns_on_the_cpu(tiny, schedule, pictures, whole):
    losses, weights = [], []
    for device in ("cpu", "cuda"):
        model = emlib.build_unet(tiny, 0).to(device)
        steps = list(emlib.train(model, schedule, pictures, 12, 16, 1e-3, 0, flip=True))
        losses.append([now.loss for now in steps])
        weights.append(torch.cat([w.flatten() for w in steps[-1].ema.parameters()]).cpu())
    torch.testing.assert_close(*map(torch.tensor, losses), rtol=1e-3, atol=1e-4)
    assert (weights[0] - weights[1]).norm() < 0.02 * weights[0].norm()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("speed", [emlib.Speed(), BF16], ids=["float32", "bfloat16"])
def test_recorded_updates_are_those_that_are_not(tiny, schedule, pictures, monkeypatch, optimizer, speed):
    found = []
    for plain in (False, True):
        if plain:
            monkeypatch.setattr(emlib.training.update, "recorded", lambda work: work)
        model = emlib.build_unet(replace(tiny, dropout=0.1), 0).cuda()
        loop = emlib.train(model, schedule, pictures, 10, 16, 1e-3, 0, 0.9, speed=speed, optimizer=optimizer)
        losses = [now.loss for now in loop]
        found.append((losses, torch.cat([w.flatten() for w in model.parameters()]).detach()))
    torch.testing.assert_close(torch.tensor(found[0][0]), torch.tensor(found[1][0]), rtol=0.02, atol=0.01)
    assert (found[0][1] - found[1][1]).norm() < 0.02 * found[1][1].norm()


@pytest.mark.parametrize("speed", [emlib.Speed(), BF16], ids=["float32", "bfloat16"])
def test_a_training_goes_on_from_a_snapshot(tiny, schedule, pictures, speed):
    def ends(start=None, stop=12):
        model = emlib.build_unet(tiny, 0).cuda()
        for now in emlib.train(model, schedule, pictures, 12, 16, 1e-3, 0, speed=speed, optimizer="muon", start=start):
            if now.step + 1 == stop:
                return now.snapshot()

    half, end = ends(stop=5), ends()
    again = ends(half)
    for name, x in end.items():
        if name.startswith(("model", "ema")):
            torch.testing.assert_close(again[name], x, rtol=0.02, atol=2e-3)


def test_a_picture_is_the_same_in_any_company(net, schedule, whole):
    x = torch.rand(600, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    m, gpu = measured(x).on("cuda"), schedule.to("cuda")
    for speed in (emlib.Speed(), BF16):
        model = emlib.quick(net.cuda().requires_grad_(False), speed)
        together = drawn(model, gpu, m)
        rest, larger = drawn(model, gpu, m.select(range(100, 470))), drawn(model, gpu, m, 512)
        assert (rest - together[100:470]).abs().max() < 1e-4
        assert (larger - together).abs().max() < 1e-4


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_fewer_bits_draw_nearly_the_same(net, schedule, pictures, precision):
    m, gpu = measured(pictures).on("cuda"), schedule.to("cuda")
    net.cuda().requires_grad_(False)
    whole, fewer = (drawn(emlib.quick(net, emlib.Speed(p)), gpu, m, cg_steps=2) for p in ("float32", precision))
    assert 0 < (whole - fewer).abs().mean() < 0.05


def test_the_fused_norm_is_the_plain_one_in_bfloat16():
    x = torch.randn(16, 64, 16, 16, device="cuda").bfloat16().to(memory_format=torch.channels_last)
    norm, shift = torch.nn.GroupNorm(8, 64).cuda().bfloat16(), torch.randn(16, 64, device="cuda").bfloat16()
    theirs = norm_silu(x.float(), norm.float(), shift.float())
    ours = norm_silu_as_it_lies(x, norm.bfloat16(), shift)
    assert (ours.float() - theirs).norm() < 0.01 * theirs.norm()


def test_a_gradient_of_an_older_answer_is_its_own(net):
    eps = recorded_network(net.cuda().requires_grad_(False))
    x, t = torch.randn(2, 1, 8, 8, device="cuda", requires_grad=True), torch.tensor([3, 4], device="cuda")
    old, new = eps(x, t), eps(2 * x, t)
    (first,) = torch.autograd.grad(net(x, t).sum(), x)
    (second,) = torch.autograd.grad(net(2 * x, t).sum(), x)
    for answer, theirs in ((new, second), (new, second), (old, first), (new, second)):  # as often as one likes
        (ours,) = torch.autograd.grad(answer.sum(), x, retain_graph=True)
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-3)


def test_work_is_recorded_after_three_calls():
    asked = []

    def work(x):
        asked.append(1)
        return x + 1

    again = recorded(work)
    for i in range(8):
        assert again(torch.full((2,), float(i), device="cuda")).tolist() == [i + 1, i + 1]
    assert len(asked) == 4


def test_matrices_turned_at_once_are_nearly_those_turned_one_by_one():
    matrices = [torch.randn(shape, device="cuda") for shape in [(24, 200), (200, 24), (24, 200), (48, 96)]]
    for ours, M in zip(orthogonalized_at_once(matrices), matrices, strict=True):
        U, _, Vh = torch.linalg.svd(M, full_matrices=False)
        values = torch.linalg.svdvals(ours.float())
        assert values.min() > 0.5
        assert values.max() < 1.4
        # the same directions
        assert (U @ Vh - ours).norm() < 0.4 * ours.norm()
        assert ours.shape == orthogonalized([M])[0].shape


def test_em_runs_and_goes_on_from_its_folder(tiny, schedule, pictures, tmp_path):
    m = measured(pictures).on("cuda")
    em = emlib.EMSettings(2, 6, 6, 8, 1e-3, 1e-3, 0.9, 64, optimizer="muon", speed=BF16, snapshot=2)
    e_step = lambda prior, k: partial(emlib.mmps, steps=4)  # noqa: E731
    run = partial(emlib.run_em, m, pictures[:6], tiny, schedule.to("cuda"), e_step, em, tmp_path)
    stopped = run()
    for event in stopped:
        if isinstance(event, emlib.Progress) and event.stage == "M-step" and event.done == 3:
            break
    stopped.close()
    *_, last = run()
    assert last.iteration == 2
    assert last.reconstructions.isfinite().all()
    assert last.prior(m.y[:4], torch.zeros(4, dtype=torch.long, device="cuda")).isfinite().all()


def test_alexnet_sees_on_a_gpu_what_it_sees_on_a_cpu(pictures):
    theirs = alexnet_features(pictures)
    ours = alexnet_features(pictures.cuda())
    assert ours.is_cuda
    assert torch.backends.cudnn.allow_tf32, "as it was before"
    torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-4, atol=1e-4)
