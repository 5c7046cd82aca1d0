"""Muon against torch's own, exact polar factors, and its place in the training loop."""

import copy
from dataclasses import replace

import pytest
import torch

import emlib
from emlib.muon import MATRIX_RATE, OPTIMIZERS, Muon, orthogonalized
from emlib.training import train


@pytest.mark.parametrize("shape", [(24, 200), (200, 24), (48, 48), (1, 7)])
def test_singular_values_become_about_one_and_directions_stay(shape):
    M = torch.randn(shape)
    (turned,) = orthogonalized([M])
    U, S, Vh = torch.linalg.svd(M, full_matrices=False)
    inner = U.T @ turned @ Vh.T
    values = inner.diagonal()
    # what is not far below the largest comes near 1, along the same directions
    kept = 0.02 * S.norm() < S
    assert values[kept].min() > 0.6
    assert values.max() < 1.3
    torch.testing.assert_close(inner - torch.diag(values), torch.zeros_like(inner), atol=1e-3, rtol=0)


def test_a_matrix_comes_out_the_same_alone_and_among_others():
    matrices = [torch.randn(shape) for shape in [(16, 40), (16, 80), (40, 16), (8, 8), (16, 16)]]
    together = orthogonalized(matrices)
    for M, found in zip(matrices, together, strict=True):
        torch.testing.assert_close(orthogonalized([M])[0], found, atol=1e-4, rtol=0)


def test_a_gradient_of_zeros_moves_nothing():
    w = torch.nn.Parameter(torch.ones(4, 6))
    w.grad = torch.zeros(4, 6)
    Muon([w], lr=0.1).step()
    assert torch.equal(w, torch.ones(4, 6))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch before 2.9 has no Muon")
@pytest.mark.parametrize("shape", [(24, 200), (200, 24), (48, 48)])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_steps_are_those_of_torch(shape, decay):
    ours, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, shape[0] * shape[1]).view(shape)) for _ in range(2))
    one, other = Muon([ours], 0.02, weight_decay=decay), torch.optim.Muon([theirs], lr=0.02, weight_decay=decay)
    before = ours.detach().clone()
    for _ in range(4):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        one.step()
        other.step()
    # torch computes in bfloat16, which has three digits
    assert (ours - theirs).norm() < 0.02 * (theirs - before).norm()


def test_a_convolution_is_the_matrix_of_its_flattened_filters():
    kernel = torch.nn.Parameter(torch.randn(8, 3, 3, 3).to(memory_format=torch.channels_last))
    matrix = torch.nn.Parameter(kernel.detach().flatten(1).clone())
    kernel.grad = torch.randn(8, 3, 3, 3).to(memory_format=torch.channels_last)
    matrix.grad = kernel.grad.flatten(1).clone()
    for w in (kernel, matrix):
        Muon([w], lr=0.1, momentum=0.9).step()
    torch.testing.assert_close(kernel.flatten(1), matrix)


def test_bad_numbers_are_refused():
    w = torch.nn.Parameter(torch.zeros(3, 3))
    for words in ({"lr": 0.0}, {"lr": 0.1, "momentum": 1.0}, {"lr": 0.1, "weight_decay": -1.0}):
        with pytest.raises(ValueError, match="Muon needs lr > 0"):
            Muon([w], **words)
    with pytest.raises(ValueError, match=r"got weights of shape \(3,\); leave those to AdamW"):
        Muon([torch.nn.Parameter(torch.zeros(3))], lr=0.1)


def test_every_weight_has_one_optimizer_and_first_and_last_layers_have_adamw(tiny):
    model = emlib.build_unet(replace(tiny, refine=4), 0)
    muon, adamw = OPTIMIZERS["muon"](model, 1e-3)
    turned, rest = ([w for g in each.param_groups for w in g["params"]] for each in (muon, adamw))
    assert {id(w) for w in turned} | {id(w) for w in rest} == {id(w) for w in model.parameters()}
    assert len(turned) + len(rest) == len(list(model.parameters()))
    names = {id(w): name for name, w in model.named_parameters()}
    matrices = [name for name, w in model.named_parameters() if w.ndim > 1]
    assert [n for n in matrices if n not in {names[id(w)] for w in turned}] == [
        "conv_in.weight",
        "time_embedding.linear_1.weight",
        "time_embedding.linear_2.weight",
        "conv_out.weight",
        "refine_in.weight",
        "refine_out.weight",
    ]
    assert muon.param_groups[0]["lr"] == MATRIX_RATE * 1e-3


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_training_goes_on_to_the_same_bits(tiny, schedule, optimizer):
    images = torch.rand(6, 1, 8, 8) * 2 - 1

    def run(start=None):
        model = emlib.build_unet(tiny, 1)
        return list(
            (now.snapshot(), copy.deepcopy(now.ema.state_dict()))
            for now in train(model, schedule, images, 6, 4, 1e-3, 0, start=start, optimizer=optimizer)
        )

    whole = run()
    rest = run(start=whole[2][0])
    assert len(rest) == 3
    for name, x in whole[-1][1].items():
        assert torch.equal(x, rest[-1][1][name]), name
    assert set(whole[-1][0]) == set(rest[-1][0])
    for name, x in whole[-1][0].items():
        assert torch.equal(x, rest[-1][0][name]), name


def test_an_unknown_optimizer_is_refused_by_name(tiny, schedule):
    with pytest.raises(ValueError, match="unknown optimizer 'sgd'; there are adamw, muon"):
        next(train(emlib.build_unet(tiny, 0), schedule, torch.zeros(2, 1, 8, 8), 1, 2, 1e-3, 0, optimizer="sgd"))


def test_a_few_updates_learn_more_than_adamw(schedule, tiny):
    """Not a promise of Muon, but of this one: on the embedded pictures, at the same number of updates."""
    images = emlib.load("embedded").corrupted[:64]
    losses = {}
    for optimizer in OPTIMIZERS:
        model = emlib.build_unet(tiny, 0)
        found = [now.loss for now in train(model, schedule, images, 60, 16, 1e-3, 0, optimizer=optimizer)]
        losses[optimizer] = sum(found[-20:])
    assert losses["muon"] < losses["adamw"]
