import pytest
import torch

import emlib


def everything(net, schedule, **settings):
    given = {"shape": (1, 8, 8), "count": 7, "steps": 3, **settings}
    return torch.cat(list(emlib.draw(net, schedule, **given)))


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_what_is_drawn_does_not_depend_on_the_batch(net, schedule, eta):
    together = everything(net, schedule, eta=eta)
    for batch in (1, 3, 7):
        torch.testing.assert_close(everything(net, schedule, eta=eta, batch=batch), together, rtol=0, atol=1e-5)
    assert together.shape == (7, 1, 8, 8)
    assert together.abs().max() <= 1
    assert (together[0] - together[1]).abs().max() > 0.1


def test_fewer_pictures_are_the_first_of_more(net, schedule):
    torch.testing.assert_close(everything(net, schedule)[:2], everything(net, schedule, count=2), rtol=0, atol=1e-5)


def test_the_seed_decides_what_is_drawn(net, schedule):
    assert torch.equal(everything(net, schedule, seed=1), everything(net, schedule, seed=1))
    assert not torch.equal(everything(net, schedule, seed=1), everything(net, schedule, seed=2))


def test_a_batch_is_given_out_before_the_next_is_drawn(net, schedule):
    assert len(next(emlib.draw(net, schedule, (1, 8, 8), 10**9, 1, batch=2))) == 2


def test_without_alexnet_only_psnr_is_scored(monkeypatch):
    monkeypatch.setattr("emlib.metrics.alexnet.alexnet_missing", lambda: "no weights here")
    x, truth = torch.rand(2, 4, 1, 8, 8)
    assert emlib.against_truth(x, truth) == {"PSNR": pytest.approx(emlib.psnr(x, truth).mean().item())}
    assert emlib.features_or_none(x) is None
    assert emlib.against_real(x, emlib.features_or_none(x)) == {}


def test_with_alexnet_scores_are_those_of_the_metrics():
    x, truth = torch.rand(2, 4, 1, 8, 8) * 2 - 1
    scores = emlib.against_truth(x, truth)
    assert scores["LPIPS"] == pytest.approx(emlib.lpips_distance(x, truth).mean().item())
    assert set(scores) == {"PSNR", "LPIPS"}
    real, samples = torch.rand(2, 260, 1, 8, 8) * 2 - 1
    scores = emlib.against_real(samples, emlib.features_or_none(real))
    assert scores == {"FD-AlexNet": pytest.approx(emlib.fd_alexnet(samples, real), rel=1e-6)}
