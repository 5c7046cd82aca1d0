import copy
from dataclasses import replace
from functools import partial

import pytest
import torch

import emlib
from emlib.runtime.fused import fuse, norm_silu_as_it_lies
from emlib.runtime.precision import Shadow
from emlib.unet import norm_silu

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=[CUDA, pytest.mark.cuda])]


def ask(n=5, device="cpu"):
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, 1, 8, 8, generator=g).to(device), torch.randint(1000, (n,), generator=g).to(device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_fewer_bits_give_nearly_the_same_answer_in_float32(net, precision, device):
    net, (x, t) = net.to(device), ask(device=device)
    whole, fewer = net(x, t), emlib.quick(net, emlib.Speed(precision))(x, t)
    assert fewer.dtype == torch.float32
    error = ((fewer - whole).norm() / whole.norm()).item()
    assert 1e-6 < error < 0.03, "other than float32, and near it"


def test_float32_is_the_network_itself(net):
    assert emlib.quick(net, emlib.Speed()) is net


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_pass_through_fewer_bits(net, device):
    net, (x, t) = net.to(device), ask(device=device)
    grads = []
    for model in (net, emlib.quick(net, emlib.Speed("bfloat16"))):
        x = x.detach().requires_grad_()
        grads.append(torch.autograd.grad(model(x, t).square().sum(), x)[0])
    assert ((grads[1] - grads[0]).norm() / grads[0].norm()).item() < 0.05


@pytest.mark.parametrize("device", DEVICES)
def test_training_and_sampling_in_bfloat16_stay_near_float32(tiny, schedule, device):
    x = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    m = emlib.measure(x, emlib.random_mask(8, 8, 0.6, 0), 0.1, seed=0)
    weights, pictures = [], []
    for speed in (emlib.Speed(), emlib.Speed("bfloat16")):
        model = emlib.build_unet(tiny, 0).to(device)
        for now in emlib.train(model, schedule.to(device), x, 20, 8, 1e-3, 0, 0.9, speed=speed):
            pass
        assert next(now.ema.parameters()).dtype == torch.float32
        weights.append(torch.cat([p.flatten() for p in now.ema.parameters()]).cpu())
        sampler = partial(emlib.mmps, steps=4)
        start = emlib.Measurements(m.y.to(device), m.operator, m.noise_std, m.index)
        eps = emlib.quick(now.ema, speed)
        pictures.append(torch.cat(list(emlib.reconstruct(sampler, eps, schedule.to(device), start, 0, "x", 8))).cpu())
    assert ((weights[1] - weights[0]).norm() / weights[0].norm()).item() < 0.02
    assert (pictures[1] - pictures[0]).abs().mean().item() < 0.05


@pytest.mark.cuda
@CUDA
def test_a_compiled_network_answers_the_same(net):
    net, (x, t) = net.cuda(), ask(16, "cuda")
    torch.testing.assert_close(emlib.quick(net, emlib.Speed(compile=True))(x, t), net(x, t), rtol=1e-3, atol=1e-3)


def test_a_rest_of_a_batch_compiles_nothing_anew(net, monkeypatch):
    """Compiled for each size that is larger than all before: here the probe of a search and a full batch."""
    compiled = []

    def backend(graph, inputs):
        compiled.append(inputs)
        return graph

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **words: real(model, backend=backend, **words))
    for prior in (net, copy.deepcopy(net)):  # two EM iterations
        compiled.clear()
        eps, counts = emlib.quick(prior, emlib.Speed(compile=True)), []
        for n in (32, 48, 16, 48, 32, 1):
            x, t = ask(n)
            (ours,), (theirs,) = (
                torch.autograd.grad(model(y, t).square().sum(), y)
                for model in (eps, prior)
                for y in [x.clone().requires_grad_()]
            )
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
            counts.append(len(compiled))
        assert counts == [1, 2, 2, 2, 2, 2]


def test_the_fused_norm_computes_what_stands_between_convolutions():
    """Against PyTorch's own normalisation, values and gradients."""
    g = torch.Generator().manual_seed(0)
    for shift in (None, torch.randn(3, 24, generator=g)):
        norm = torch.nn.GroupNorm(4, 24, eps=1e-6)
        torch.nn.init.normal_(norm.weight, generator=g)
        torch.nn.init.normal_(norm.bias, generator=g)
        x = 2 + 3 * torch.randn(3, 24, 6, 4, generator=g).to(memory_format=torch.channels_last)
        found = []
        for between in (norm_silu, norm_silu_as_it_lies):
            given = [w.detach().requires_grad_() for w in (x, *([] if shift is None else [shift]))]
            y = between(given[0], norm, *given[1:])
            assert y.is_contiguous(memory_format=torch.channels_last)
            wanted = [*given, norm.weight, norm.bias]
            found.append([y, *torch.autograd.grad(y.square().sum(), wanted)])
        for ours, theirs in zip(*found, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_shadow_trains_for_its_network(net):
    """In float32 its gradients are the network's own."""
    x, t = ask()
    net.requires_grad_(True)
    net(x, t).square().sum().backward()
    wanted = [w.grad.clone() for w in net.parameters()]
    net.zero_grad()
    shadow = Shadow(net, emlib.Speed())
    fuse(shadow.copy)
    with torch.no_grad():
        for w in shadow.copy.parameters():
            w.zero_()
    shadow.take_weights()
    shadow.eps(x, t).square().sum().backward()
    shadow.give_gradients()
    for w, grad in zip(net.parameters(), wanted, strict=True):
        torch.testing.assert_close(w.grad, grad, rtol=1e-4, atol=1e-4)
    assert all(w.grad is None for w in shadow.copy.parameters())


def test_e_steps_may_compute_in_float16_while_training_does_not(tiny, schedule):
    x = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    m = emlib.measure(x, emlib.random_mask(8, 8, 0.6, 0), 0.1, seed=0)
    em = emlib.EMSettings(1, 2, 2, 4, 1e-3, 1e-3, 0.9, 8)
    pictures = []
    for e_speed in (None, emlib.Speed("float16")):
        e_step = lambda prior, k: partial(emlib.mmps, steps=4)  # noqa: E731
        *_, last = emlib.run_em(m, x, tiny, schedule, e_step, replace(em, e_speed=e_speed))
        pictures.append(last.reconstructions)
    assert 0 < (pictures[1] - pictures[0]).abs().mean().item() < 0.05


def test_float16_is_not_for_training(tiny, schedule):
    loop = emlib.train(
        emlib.build_unet(tiny, 0), schedule, torch.zeros(4, 1, 8, 8), 1, 4, 1e-3, 0, speed=emlib.Speed("float16")
    )
    with pytest.raises(ValueError, match="take bfloat16 or float32"):
        next(loop)


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="'float8'; there are float32"):
        emlib.Speed("float8")


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_gradients_by_the_picture_fit_into_sixteen_bits_whatever_their_size(net, precision, size):
    """Such as posterior samplers ask for at t = T - 1, where 1 / alpha_t is 157."""
    quick = emlib.quick(net, emlib.Speed(precision))
    x, t = ask(4)
    v = (
        size
        * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1e-3, 1, 10, 0])[:, None, None, None]
    )
    found = []
    for eps in (quick, net):
        leaf = x.clone().requires_grad_()
        out = eps(leaf, t)
        found += [torch.autograd.grad(out, leaf, k * v, retain_graph=k == 1)[0] / k for k in (1, 4)]
    for g in found[:2]:
        far = (g - found[2]).flatten(1).norm(dim=1) / found[2].flatten(1).norm(dim=1).clamp_min(1e-30)
        assert far.max() < (0.005 if precision == "float16" else 0.05)


def test_training_in_sixteen_bits_has_the_gradients_of_the_weights(net):
    x, t = ask(4)
    grads = []
    for eps in (emlib.quick(net, emlib.Speed("bfloat16")), net):
        net.requires_grad_().zero_grad()
        (1000 * eps(x, t).square().mean()).backward()
        grads.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    assert ((grads[0] - grads[1]).norm() / grads[1].norm()).item() < 0.05


def test_mmps_in_float16_draws_numbers_where_the_first_guess_is_wild(net, schedule):
    """A prior that knows little guesses pictures of a hundred and more at t = T - 1; MMPS sends their residual back."""
    m = emlib.measure(torch.rand(4, 1, 8, 8) * 2 - 1, emlib.random_mask(4, 8, 0.6, 0), 0.0, 0)
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    half, full = (
        emlib.posterior_mean(emlib.quick(net, emlib.Speed(precision)), schedule, m, x, 999, 2)
        for precision in ("float16", "float32")
    )
    assert full.abs().max() > 100
    assert ((half - full).norm() / full.norm()).item() < 0.01
