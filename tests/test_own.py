"""Own pictures: tiles, squares, filters and the judge that knows no truth, against what is known in closed form."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import data

import emlib
from emlib.own import filters, tiles, verdict
from emlib.own.blur import Frame, kernel_of
from emlib.own.crops import Window, cut, padded, windows
from emlib.own.repair import draws, fitted, squares
from emlib.own.tiles import starts, tiled
from emlib.own.withheld import Judgement, judge_filters, mend, questions, tells, withhold
from emlib.runtime.graphs import recorded_network
from emlib.runtime.precision import filled_up

SHARP = Frame()


@pytest.mark.parametrize("length", [32, 33, 40, 57, 64, 100, 513])
@pytest.mark.parametrize("overlap", [0, 8, 16])
def test_tiles_cover_a_side_with_enough_overlap(length, overlap):
    found = starts(length, 32, overlap)
    assert found[0] == 0
    assert found[-1] == length - 32
    apart = np.diff(found)
    assert (apart <= 32 - overlap).all()
    assert (apart > 0).all()


def test_what_looks_at_one_pixel_alone_does_not_notice_tiles():
    x, t = torch.randn(2, 3, 50, 70), torch.tensor([3, 9])
    model = lambda x, t: x.square() * (1 + t.view(-1, 1, 1, 1))  # noqa: E731
    torch.testing.assert_close(tiled(model, 16, 5)(x, t), model(x, t))


def test_gradients_through_many_tiles_are_those_of_the_whole(monkeypatch):
    monkeypatch.setattr(tiles, "AT_ONCE", 16)  # so that some are computed again on the way back
    x, t = torch.randn(1, 1, 80, 64, requires_grad=True), torch.tensor([5])
    model = lambda x, t: x.square().sin()  # noqa: E731
    found = [torch.autograd.grad(eps(x, t).square().sum(), x)[0] for eps in (tiled(model, 16, 4), model)]
    torch.testing.assert_close(*found)


def test_tiles_of_a_recorded_network_have_gradients_too(net, monkeypatch):
    """On a GPU further tiles are computed again on the way back, by a tape that has played others since."""

    class Tape:
        """A recording without a GPU: one place for what it played last."""

        def __init__(self, model, x, t, back):
            self.model, self.turn = model, 0

        def forward(self, x, t):
            self.turn += 1
            self.x, self.t = x.detach().clone(), t.clone()
            return self.model(self.x, self.t).detach()

        def backward(self, grad):
            with torch.enable_grad():
                x = self.x.requires_grad_()
                return torch.autograd.grad(self.model(x, self.t), x, grad)[0]

    monkeypatch.setattr("emlib.runtime.graphs._Tape", Tape)
    monkeypatch.setattr(tiles, "AT_ONCE", 16)
    x, t = torch.randn(1, 1, 48, 32, requires_grad=True), torch.tensor([5])
    quick = filled_up(recorded_network(net.requires_grad_(False)))
    found = [torch.autograd.grad(tiled(eps, 8, 2)(x, t).square().sum(), x)[0] for eps in (quick, net)]
    torch.testing.assert_close(*found)


def test_batches_are_filled_up_to_those_of_pictures_as_large():
    asked = []
    eps = filled_up(lambda x, t: asked.append(tuple(x.shape)) or x)
    for shape in ((64, 1, 8, 8), (16, 1, 32, 32), (3, 1, 8, 8), (5, 1, 32, 32)):
        assert eps(torch.zeros(shape), torch.zeros(shape[0])).shape == shape
    assert asked == [(64, 1, 8, 8), (16, 1, 32, 32), (64, 1, 8, 8), (16, 1, 32, 32)]


def test_a_small_window_in_the_middle_of_a_tile_is_what_the_whole_picture_gives():
    """A 3 x 3 mean: wrong within a pixel of a tile's border, where the weight is least."""
    x, t = torch.rand(1, 1, 48, 48), torch.tensor([0])
    model = lambda x, t: torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)  # noqa: E731
    apart = (tiled(model, 16, 8)(x, t) - model(x, t)).abs()
    assert apart.mean() < 0.01
    assert apart[0, 0, 3:7, 3:7].max() < 1e-6


def test_tiles_refuse_what_they_do_not_fit():
    with pytest.raises(ValueError, match="overlap by 0 to 15, got 16"):
        tiled(lambda x, t: x, 16, 16)
    with pytest.raises(ValueError, match="pad the picture first"):
        tiled(lambda x, t: x, 16, 4)(torch.zeros(1, 1, 8, 32), torch.tensor([0]))


def test_squares_are_distinct_within_pictures_and_of_every_picture():
    sizes = [(40, 50), (20, 90), (32, 32)]
    where = windows(sizes, 32, 60, seed=1)
    assert len(set(where)) == len(where) == 60
    assert {w.picture for w in where} == {0, 1, 2}
    for w in where:
        height, width = sizes[w.picture]
        assert 0 <= w.top <= max(0, height - 32)
        assert 0 <= w.left <= max(0, width - 32)
    assert where == windows(sizes, 32, 60, seed=1)
    assert len(windows([(32, 32)], 32, 10, 0)) == 1, "no more than there are"
    x = torch.arange(2000.0).view(1, 40, 50)
    assert torch.equal(cut([x], [Window(0, 3, 4)], 32)[0], x[:, 3:35, 4:36])
    small = cut([torch.ones(1, 20, 90)], [Window(0, 0, 0)], 32)
    assert small[0, 0, 20:].sum() == 0
    assert padded(x, 48, 64).shape == (1, 48, 64)


def test_large_pictures_are_tiled_and_small_ones_padded():
    assert fitted(30, 50, 32, 4) == (32, 52)
    assert fitted(400, 33, 32, 4) == (400, 36)
    assert fitted(1000, 33, 32, 4) == (1000, 64)
    assert squares([(64, 64)], 32, 4) == 4
    assert squares([(512, 512)], 32, 4) > 256


def test_a_few_of_the_seen_pixels_are_withheld_by_picture():
    seen = [torch.rand(1, 20, 30) < 0.5, torch.ones(1, 9, 9, dtype=torch.bool)]
    out = withhold(seen, seed=0)
    for mask, asked in zip(seen, out, strict=True):
        assert not (asked & ~mask).any()
        assert asked.sum() == max(1, round(0.05 * int(mask.sum())))
    assert torch.equal(withhold(seen[:1], 0)[0], out[0]), "whatever pictures come after"
    assert not torch.equal(withhold(seen, 1)[0], out[0])


@pytest.mark.parametrize(("missing", "noise"), [(0.5, 0.0), (0.0, 0.2), (0.3, 0.1)])
def test_the_judge_tells_the_error_without_the_truth(missing, noise):
    """An answer that is wrong by so much in gaps and by so much elsewhere, and knows nothing of the fresh noise."""
    g = torch.Generator().manual_seed(0)
    truth, seen = torch.rand(3, 96, 96, generator=g), torch.rand(1, 96, 96, generator=g) >= missing
    y = (truth + noise * torch.randn(truth.shape, generator=g)) * seen
    (q,) = questions([y], [seen], withhold([seen], 0, 0.2), SHARP, noise, 0)
    wrong = torch.where(q.seen, 0.03 * (noise > 0), 0.1) * torch.randn(truth.shape, generator=g)
    assert q.noise_std == pytest.approx(noise * 1.25**0.5)
    assert q.error(truth + wrong) == pytest.approx(float((wrong.square() * ~(q.asked & seen)).mean()), rel=0.25)


def test_what_is_mended_and_what_judges_share_no_noise():
    """For a linear filter the split's answer is that of the truth: here one that does nothing at all."""
    g = torch.Generator().manual_seed(0)
    truth, seen = torch.zeros(1, 200, 200), torch.ones(1, 200, 200, dtype=torch.bool)
    y = 0.2 * torch.randn(truth.shape, generator=g)
    (q,) = questions([y], [seen], withhold([seen], 0), SHARP, 0.2, 0)
    assert q.error(q.y) == pytest.approx(0.05, rel=0.05)
    assert q.error(0.5 * q.y) == pytest.approx(0.0125, rel=0.15)


def test_the_recommendation_is_the_least_error_and_says_how_sure_it_is():
    better = Judgement(
        {"mean": (0.010,) * 20, "draw": (0.02,) * 20, "TV": (0.02,) * 20, "NLM": (0.04,) * 20}, {"TV": 1, "NLM": 1}
    )
    assert (better.recommended, better.filter) == ("mean", "TV")
    lead, low, high = better.lead("mean", "TV")
    assert lead == pytest.approx(3.01, abs=0.01)
    assert low == pytest.approx(high)
    assert "Take the mean" in verdict.recommendation(better)
    worse = Judgement({"mean": (0.010, 0.5), "draw": (0.02, 0.9), "TV": (0.02, 0.01)}, {"TV": 0.5})
    assert worse.recommended == "TV"
    said = verdict.recommendation(worse)
    assert "Take the filter, TV" in said
    assert "reaches 0" in said


def test_no_lead_is_told_where_the_error_is_lost_in_the_noise():
    filters = {"TV": 1.0}
    mean = Judgement({"mean": (-0.001,) * 9, "draw": (0.02,) * 9, "TV": (0.02,) * 9}, filters)
    other = Judgement({"mean": (0.02,) * 9, "draw": (0.02,) * 9, "TV": (-0.001,) * 9}, filters)
    for judgement, name in ((mean, "mean of the draws"), (other, "filter, TV")):
        said = verdict.recommendation(judgement)
        assert said.startswith(f"Take the {name}: by what was withheld its error is lost in the noise")
        assert "dB" not in said


def test_a_report_says_whether_to_go_on():
    assert "More time would help" in verdict.progress([0.02, 0.01], False)
    assert "Converged" in verdict.progress([0.0101, 0.01], False)
    assert "Stop here" in verdict.progress([0.01, 0.012], False)
    assert "The clock stopped" in verdict.progress([0.02, 0.01], True)
    assert verdict.cut(None, 100) == ""
    assert "after 85 of 100 updates" in verdict.cut(85, 100)
    assert "too poor" in verdict.copies(0.3)
    assert "no copies" in verdict.copies(1.1)
    assert verdict.copies(float("nan")) == ""
    assert verdict.start("clean") == ""
    assert "without a clean picture" in verdict.start("gaussian")


@pytest.fixture(scope="module")
def photograph():
    """A photograph on [-1, 1], [1, 64, 64], with every structure that a photograph has."""
    x = ndimage.zoom(data.camera()[60:316, 150:406].astype(np.float32), 0.25, order=1)
    return torch.from_numpy(x / 127.5 - 1)[None]


def psnr(x, truth):
    return float(10 * torch.log10(4 / (x - truth).square().mean()))


def test_gaps_are_filled_smoothly_and_what_was_seen_stays(photograph):
    seen = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0)) > 0.5
    near, smooth = (
        mend(name, photograph * seen, seen, 0.0, 1.0, SHARP) for name in ("nearest pixel", "smooth filling")
    )
    assert torch.equal(near[seen], photograph[seen])
    assert psnr(smooth, photograph) > psnr(near, photograph) + 1
    # what scipy and scikit-image agree on for large pictures, too
    large = filters.smooth.__globals__["LARGE"]
    filters.smooth.__globals__["LARGE"] = 0
    try:
        cubic = mend("smooth filling", photograph * seen, seen, 0.0, 1.0, SHARP)
    finally:
        filters.smooth.__globals__["LARGE"] = large
    assert psnr(cubic, photograph) > psnr(near, photograph) + 1


@pytest.mark.parametrize("name", ["total variation", "non-local means", "local Wiener filter"])
def test_noise_is_taken_away(photograph, name):
    noisy = photograph + 0.15 * torch.randn(photograph.shape, generator=torch.Generator().manual_seed(0))
    everywhere = torch.ones(1, 64, 64, dtype=torch.bool)
    best = max(psnr(mend(name, noisy, everywhere, 0.15, s, SHARP), photograph) for s in filters.STRENGTHS)
    assert best > psnr(noisy, photograph) + 2


def test_filters_are_judged_by_noise_that_they_did_not_get(photograph):
    g = torch.Generator().manual_seed(0)
    noisy = photograph + 0.15 * torch.randn(photograph.shape, generator=g)
    seen = [torch.ones(1, 64, 64, dtype=torch.bool)]
    errors, strengths = judge_filters(questions([noisy], seen, withhold(seen, 0), SHARP, 0.15, 0))
    assert set(errors) == {"total variation", "non-local means", "local Wiener filter"}
    told = min(errors, key=lambda name: errors[name])
    true = {name: psnr(mend(name, noisy, seen[0], 0.15, strengths[name], SHARP), photograph) for name in errors}
    assert true[told] > max(true.values()) - 0.5


def test_draws_of_a_picture_do_not_hang_on_the_others(net, schedule):
    g = torch.Generator().manual_seed(0)
    y = [torch.rand(1, h, w, generator=g) * 2 - 1 for h, w in ((8, 12), (10, 8), (8, 12))]
    seen = [torch.rand(1, *x.shape[1:], generator=g) < 0.5 for x in y]
    how = dict(frame=SHARP, noise_std=0.1, side=8, stride=4, steps=3, count=2, seed=0, purpose="test", batch=16)
    net.requires_grad_(False)
    model = SimpleNamespace(
        all=dict(draws(net, schedule, y, seen, [0, 1, 2], **how)), one=dict(draws(net, schedule, y, seen, [2], **how))
    )
    assert set(model.all) == {0, 1, 2}
    assert [x.shape for _, x in sorted(model.all.items())] == [(2, 1, 8, 12), (2, 1, 10, 8), (2, 1, 8, 12)]
    assert torch.equal(model.all[2], model.one[2])
    assert not torch.equal(model.all[2][0], model.all[2][1])


def test_a_large_picture_is_drawn_in_tiles(net, schedule, monkeypatch):
    monkeypatch.setattr("emlib.own.repair.WHOLE", 200)
    y, seen = [torch.zeros(1, 24, 20)], [torch.ones(1, 24, 20, dtype=torch.bool)]
    how = dict(frame=SHARP, noise_std=0.1, side=8, stride=4, steps=3, count=2, seed=0, purpose="test", batch=16)
    ((i, x),) = draws(net.requires_grad_(False), schedule, y, seen, [0], **how)
    assert i == 0
    assert x.shape == (2, 1, 24, 20)
    assert emlib.psnr(x, torch.zeros(2, 1, 24, 20)).min() > 10


def test_a_blur_is_asked_for_by_name_or_file(tmp_path):
    assert kernel_of("box:3").tolist() == [[pytest.approx(1 / 9)] * 3] * 3
    assert kernel_of("motion:5,0").shape[1] >= 5
    assert kernel_of("gaussian:1.5").sum() == pytest.approx(1)
    np.save(tmp_path / "k.npy", np.ones((3, 5)))
    assert kernel_of(str(tmp_path / "k.npy")).shape == (3, 5)
    for word, said in {
        "lens": "unknown blur 'lens'",
        "motion:5": "asked for as motion:LENGTH,ANGLE",
        "box:4": "odd",
    }.items():
        with pytest.raises(ValueError, match=said):
            kernel_of(word)


def test_a_blurred_picture_tells_of_its_frame_and_a_border(photograph):
    frame = Frame(kernel_of("box:5"))
    mask = torch.ones(1, 1, 60, 60)
    y = frame.operator(mask)(photograph[None])
    assert y.shape == (1, 1, 60, 60)
    known = ndimage.uniform_filter(photograph[0].numpy(), 5, mode="constant")[2:-2, 2:-2]
    np.testing.assert_allclose(y[0, 0].numpy(), known, atol=1e-5)
    assert torch.equal(frame.middle(photograph, 60, 60), photograph[:, 2:62, 2:62])
    again = frame.seen_through(photograph)
    np.testing.assert_allclose(again[0, 2:-2, 2:-2].numpy(), known, atol=1e-5)
    assert again[0, :2].isnan().all()


@pytest.mark.parametrize("name", ["Richardson-Lucy", "Wiener filter", "unsupervised Wiener filter"])
def test_blur_is_taken_away(photograph, name):
    frame = Frame(kernel_of("gaussian:1.2"))
    down, across = frame.border
    y = frame.operator(torch.ones(1, 1, 64 - down, 64 - across))(photograph[None])[0]
    truth = frame.middle(photograph, *y.shape[-2:])
    noisy = y + 0.01 * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    method = next(m for m in filters.methods(0.01, frame) if m.name == name)
    everywhere = torch.ones(1, *y.shape[-2:], dtype=torch.bool)
    best = max(psnr(mend(name, noisy, everywhere, 0.01, s, frame), truth) for s in method.strengths)
    assert best > psnr(noisy, truth) + 1


def test_a_blur_is_judged_by_what_it_would_have_shown(photograph):
    frame = Frame(kernel_of("box:3"))
    y = frame.operator(torch.ones(1, 1, 62, 62))(photograph[None])[0]
    seen = torch.ones(1, 62, 62, dtype=torch.bool)
    (exact,) = questions([y], [seen], withhold([seen], 0), frame, 0.0, 0)
    truth = frame.middle(photograph, 62, 62)
    assert exact.error(truth) < 1e-10
    assert exact.error(y) > 1e-4
    (noisy,) = questions([y + 0.1 * torch.randn(y.shape)], [seen], withhold([seen], 0), frame, 0.1, 0)
    assert abs(noisy.error(truth)) < 0.005


def test_only_pictures_that_tell_something_judge():
    """A blur as wide as a picture leaves nothing to hold an answer against; without gaps there is nothing to fill."""

    def told(side, frame, noise_std, gaps):
        seen = [torch.rand(1, side, side, generator=torch.Generator().manual_seed(0)) > gaps]
        asked = withhold(seen, 0)
        (one,) = questions([torch.zeros(1, side, side)], seen, asked, frame, noise_std, 0)
        said = tells(seen[0], asked[0], frame, noise_std)
        assert said <= np.isfinite(one.error(torch.zeros(1, side, side)))
        return said

    wide = Frame(kernel_of("box:17"))
    assert [told(side, wide, 0.0, 0.0) for side in (16, 40)] == [False, True]
    assert [told(side, wide, 0.1, 0.2) for side in (16, 40)] == [False, True]
    assert [told(16, Frame(), 0.0, gaps) for gaps in (0.0, 0.3)] == [False, True]
    assert told(16, Frame(), 0.1, 0.0)
    assert torch.equal(wide.told(30, 40), wide.seen_through(torch.zeros(1, 30, 40)).isfinite())


@pytest.mark.parametrize("at", [[], [(3, 7)], [(i, 7) for i in range(200)], [(i, 2 * i) for i in range(100)]])
def test_a_large_picture_of_one_line_or_less_is_filled_too(at):
    seen = np.zeros((200, 200), bool)
    for row, column in at:
        seen[row, column] = True
    y = np.where(seen, 0.5, 0)[None]
    assert np.array_equal(filters.smooth(y, seen, 0.0, 1.0), np.full((1, 200, 200), 0.5 if at else 0))


def test_draws_from_a_blur_fill_the_frame(net, schedule):
    frame = Frame(kernel_of("box:3"))
    y, seen = [torch.zeros(1, 8, 9)], [torch.ones(1, 8, 9, dtype=torch.bool)]
    how = dict(frame=frame, noise_std=0.1, side=8, stride=4, steps=2, count=2, seed=0, purpose="test", batch=16)
    ((_, x),) = draws(net.requires_grad_(False), schedule, y, seen, [0], **how)
    assert x.shape == (2, 1, 8, 9)
