import numpy as np
import pytest
import scipy.ndimage
import torch
from deepinv.physics import Inpainting
from safetensors.torch import save_file
from torchvision.transforms.v2.functional import gaussian_blur

import emlib
from emlib.operators import load_measurements, make_operator, save_measurements

CASES = {
    "identity": (lambda n, h, w: emlib.Identity(), 8, 8),
    "mask 28": (lambda n, h, w: emlib.random_mask(n, h, 0.6, 0), 28, 28),
    "mask 7": (lambda n, h, w: emlib.random_mask(n, h, 0.3, 1), 7, 7),
    "blur 28": (lambda n, h, w: emlib.GaussianBlur(h, w), 28, 28),
    "blur 5 x 13": (lambda n, h, w: emlib.GaussianBlur(h, w), 5, 13),
    "blur of 3 taps 32 x 20": (lambda n, h, w: emlib.GaussianBlur(h, w, 0.7, 3), 32, 20),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_adjoint_is_the_adjoint(case, channels):
    make, h, w = case
    x, y = torch.randn(2, 4, channels, h, w, generator=torch.Generator().manual_seed(0))
    A = make(4, h, w)
    a, b = (A(x).double() * y).sum(), (x.double() * A.adjoint(y)).sum()
    assert abs(a - b) <= 1e-5 * A(x).norm() * y.norm()
    # and picture by picture
    a, b = (A(x).double() * y).sum((1, 2, 3)), (x.double() * A.adjoint(y)).sum((1, 2, 3))
    assert ((a - b).abs() <= 1e-5 * x.flatten(1).norm(dim=1) * y.flatten(1).norm(dim=1)).all()


def dense(A, h, w):
    """A as a matrix on flattened pictures of one channel, in float64."""
    return A(torch.eye(h * w, dtype=torch.float64).view(-1, 1, h, w)).flatten(1).T


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_solve_inverts_the_covariance_of_a_residual(case):
    """Against dense linear algebra, with numbers and with tensors, and the pseudo-inverse where there is no noise."""
    make, h, w = case
    h, w = min(h, 16), min(w, 16)
    A, n = make(2, h, w), 2
    v = torch.randn(n, 1, h, w, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    each = torch.tensor([0.01, 3.0], dtype=torch.float64).view(n, 1, 1, 1)
    for a, b in [(0.3, 2.0), (torch.full((1, 1, 1, 1), 1e-4), 1.0), (each, 1.0), (0.5, each), (0.0, 0.7), (0.0, each)]:
        found = A.solve(v, a, b)
        for i in range(n):
            M = dense(A.select([i]), h, w)
            a_i, b_i = (float(c[i % len(c)]) if isinstance(c, torch.Tensor) else c for c in (a, b))
            K = a_i * torch.eye(h * w, dtype=torch.float64) + b_i * M @ M.T
            inverse = torch.linalg.inv(K) if a_i > 0 else torch.linalg.pinv(K, rtol=1e-4, hermitian=True)
            torch.testing.assert_close(found[i].flatten(), inverse @ v[i].flatten(), rtol=1e-8, atol=1e-8)
    # 32-bit pictures give the same up to their rounding, and stay 32-bit
    low = A.solve(v.float(), 0.1, 1.0)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low.double(), A.solve(v, 0.1, 1.0), rtol=1e-5, atol=1e-5)


def test_solve_treats_channels_and_hidden_pixels_apart():
    A = emlib.random_mask(3, 8, 0.6, 0)
    v = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    hidden = (A.mask == 0).expand_as(v)
    assert (A.solve(v, 0.0, 2.0)[hidden] == 0).all()
    torch.testing.assert_close(A.solve(v, 0.0, 2.0)[~hidden], v[~hidden] / 2)
    torch.testing.assert_close(A.solve(v, 0.5, 2.0)[hidden], v[hidden] / 0.5)
    both = emlib.GaussianBlur(8, 8).solve(v, 0.1, 1.0)
    torch.testing.assert_close(both[:, 1:], emlib.GaussianBlur(8, 8).solve(v[:, 1:], 0.1, 1.0))


@pytest.mark.parametrize("A", [emlib.Identity(), emlib.random_mask(2, 8, 0.5, 0), emlib.GaussianBlur(8, 8)])
@pytest.mark.parametrize(("a", "b"), [(-0.1, 1.0), (0.1, 0.0), (0.0, -1.0), (float("nan"), 1.0), (0.1, float("nan"))])
def test_solve_refuses_what_is_no_variance(A, a, b):
    with pytest.raises(ValueError, match="a >= 0 and b > 0"):
        A.solve(torch.zeros(2, 1, 8, 8), a, b)


@pytest.mark.parametrize("A", [emlib.random_mask(3, 8, 0.5, 0), emlib.GaussianBlur(8, 8)], ids=["mask", "blur"])
def test_solve_refuses_pictures_that_do_not_fit(A):
    with pytest.raises(ValueError, match="9, 9"):
        A.solve(torch.zeros(3, 1, 9, 9), 0.1, 1.0)


@pytest.mark.parametrize(("h", "w", "std", "taps"), [(28, 28, 2.0, 9), (32, 20, 1.0, 5), (5, 6, 2.0, 9)])
def test_blur_is_that_of_scipy_and_torchvision(h, w, std, taps):
    x = torch.rand(2, 3, h, w, generator=torch.Generator().manual_seed(0)) * 2 - 1
    ours = emlib.GaussianBlur(h, w, std, taps)(x)
    line = np.exp(-0.5 * ((np.arange(taps) - taps // 2) / std) ** 2)
    kernel = np.outer(line, line) / line.sum() ** 2
    scipys = scipy.ndimage.convolve(x.double().numpy(), kernel[None, None], mode="mirror")
    np.testing.assert_allclose(ours.numpy(), scipys, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours, gaussian_blur(x, [taps, taps], [std, std]), rtol=0, atol=1e-6)


def test_a_mask_is_that_of_deepinv():
    A = emlib.random_mask(1, 8, 0.6, 0)
    x = torch.rand(3, 2, 8, 8)
    physics = Inpainting((2, 8, 8), mask=A.mask[0].expand(2, -1, -1))
    assert torch.equal(A(x), physics.A(x))


@pytest.mark.parametrize("fraction", [0.1, 0.6, 0.9])
@pytest.mark.parametrize("size", [28, 7])
def test_each_mask_hides_the_same_number_of_pixels_at_other_places(size, fraction):
    mask = emlib.random_mask(20, size, fraction, 0).mask
    assert mask.shape == (20, 1, size, size)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert ((mask == 0).sum((1, 2, 3)) == round(fraction * size * size)).all()
    assert len({tuple(m.flatten().tolist()) for m in mask}) == 20


def test_masks_hide_every_place_equally_often():
    hidden = 1 - emlib.random_mask(2000, 5, 0.6, 0).mask.mean(0)
    assert (hidden - 0.6).abs().max() < 5 * (0.6 * 0.4 / 2000) ** 0.5


def test_a_mask_belongs_to_the_index_of_its_picture():
    ten = emlib.random_mask(10, 8, 0.6, 0).mask
    assert torch.equal(emlib.random_mask(3, 8, 0.6, 0, first=4).mask, ten[4:7])
    assert not torch.equal(emlib.random_mask(10, 8, 0.6, 1).mask, ten)


def test_measurements_are_the_same_whenever_they_are_drawn():
    x = torch.rand(9, 1, 8, 8) * 2 - 1
    whole = emlib.measure(x, emlib.Identity(), 0.2, seed=3)
    part = emlib.measure(x[4:6], emlib.Identity(), 0.2, seed=3, first=4)
    assert torch.equal(part.y, whole.y[4:6])
    assert part.index == whole.select([4, 5]).index == (4, 5)
    assert not torch.equal(emlib.measure(x, emlib.Identity(), 0.2, seed=4).y, whole.y)


@pytest.mark.parametrize("make", [lambda: emlib.Identity(), lambda: emlib.GaussianBlur(16, 16)])
def test_noise_has_the_standard_deviation_it_is_given_and_is_not_clipped(make):
    x, A = torch.ones(100, 1, 16, 16), make()
    noise = (emlib.measure(x, A, 0.2, seed=0).y - A(x)).flatten()
    n = len(noise)
    assert abs(noise.mean()) < 5 * 0.2 / n**0.5
    assert abs(noise.std() - 0.2) < 5 * 0.2 / (2 * n) ** 0.5
    # neighbouring pictures have nothing in common
    a, b = noise.view(100, -1)[:-1], noise.view(100, -1)[1:]
    assert abs((a * b).mean()) < 5 * 0.04 / a.numel() ** 0.5


def test_without_noise_y_is_a_x():
    x, A = torch.rand(2, 3, 9, 9), emlib.GaussianBlur(9, 9)
    assert torch.equal(emlib.measure(x, A, 0.0, seed=0).y, A(x))


def test_hidden_pixels_carry_neither_picture_nor_noise():
    A = emlib.random_mask(4, 8, 0.6, 0)
    m = emlib.measure(torch.rand(4, 3, 8, 8) * 2 - 1, A, 0.5, seed=0)
    seen = A.mask.expand(-1, 3, -1, -1).bool()
    assert (m.y[~seen] == 0).all()
    assert (m.y[seen] != 0).all()
    assert torch.equal(A.seen(m.y).bool(), seen)
    assert emlib.Identity().seen(m.y).all()


def test_select_keeps_each_picture_with_its_own_mask():
    x = torch.rand(6, 1, 8, 8)
    m = emlib.measure(x, emlib.random_mask(6, 8, 0.5, 0), 0.0, seed=0, first=10)
    some = m.select([5, 0, 2])
    assert some.index == (15, 10, 12)
    assert torch.equal(some.operator(x[[5, 0, 2]]), some.y)


def test_one_mask_may_serve_all_pictures():
    x = torch.rand(5, 1, 8, 8)
    m = emlib.measure(x, emlib.random_mask(1, 8, 0.5, 0), 0.0, seed=0)
    some = m.select([3, 4])
    assert torch.equal(some.operator(x[3:]), some.y)


@pytest.mark.parametrize(
    "make",
    [lambda: emlib.Identity(), lambda: emlib.random_mask(3, 10, 0.6, 0), lambda: emlib.GaussianBlur(10, 12, 1.5, 7)],
    ids=["noise", "mask", "blur"],
)
def test_measurements_come_back_from_disk_as_they_were(make, tmp_path):
    A = make()
    x = torch.rand(3, 1, 10, 12 if A.name == "blur" else 10)
    m = emlib.measure(x, A, 0.1, seed=0, first=7)
    path = tmp_path / "deep" / "m.safetensors"
    save_measurements(m, path)
    back = load_measurements(path)
    assert torch.equal(back.y, m.y)
    assert (back.noise_std, back.index, type(back.operator), back.operator.name) == (0.1, (7, 8, 9), type(A), A.name)
    assert torch.equal(back.operator(x), A(x))
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_files_without_measurements_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        load_measurements(tmp_path / "none.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors carries no note 'measurements'"):
        load_measurements(tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("not tensors at all")
    with pytest.raises(ValueError, match=r"text\.safetensors"):
        load_measurements(tmp_path / "text.safetensors")


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 60, float("nan")])
def test_fractions_outside_0_1_are_refused(fraction):
    with pytest.raises(ValueError, match=rf"\(0, 1\), got {fraction};"):
        emlib.random_mask(2, 8, fraction, 0)


@pytest.mark.parametrize("noise_std", [-0.1, float("nan"), float("inf")])
def test_impossible_noise_is_refused(noise_std):
    with pytest.raises(ValueError, match=f"got {noise_std}"):
        emlib.measure(torch.zeros(1, 1, 8, 8), emlib.Identity(), noise_std, 0)


@pytest.mark.parametrize(
    ("A", "shape"),
    [
        (emlib.random_mask(3, 8, 0.5, 0), (3, 1, 9, 9)),
        (emlib.random_mask(3, 8, 0.5, 0), (2, 1, 8, 8)),
        (emlib.GaussianBlur(8, 8), (1, 1, 8, 9)),
    ],
    ids=["mask of another size", "masks of other pictures", "blur of another size"],
)
def test_operators_refuse_pictures_that_do_not_fit(A, shape):
    with pytest.raises(ValueError) as refusal:
        emlib.measure(torch.zeros(shape), A, 0.0, 0)
    assert str(shape) in str(refusal.value)


@pytest.mark.parametrize("value", [255.0, float("nan")])
def test_pictures_off_the_scale_are_not_measured(value):
    with pytest.raises(ValueError, match=r"\[-1, 1\]"):
        emlib.measure(torch.full((1, 1, 8, 8), value), emlib.Identity(), 0.1, 0)


def test_a_blur_wider_than_the_picture_is_refused():
    with pytest.raises(ValueError, match="9 taps do not fit pictures of 4 x 28"):
        emlib.GaussianBlur(4, 28)
    assert emlib.GaussianBlur(5, 28)(torch.ones(1, 1, 5, 28)).allclose(torch.ones(1))


@pytest.mark.parametrize(("std", "taps"), [(0.0, 9), (-1.0, 9), (2.0, 8), (2.0, 0), (float("nan"), 9)])
def test_impossible_blurs_are_refused(std, taps):
    with pytest.raises(ValueError, match=f"got {std} and {taps}"):
        emlib.GaussianBlur(28, 28, std, taps)


def test_operators_are_made_by_name_and_strange_names_refused():
    assert torch.equal(make_operator("mask", 2, 8, 3, 4, fraction=0.5).mask, emlib.random_mask(2, 8, 0.5, 3, 4).mask)
    assert make_operator("blur", 2, 28, 0) == emlib.GaussianBlur(28, 28, 2.0, 9)
    assert make_operator("noise", 2, 28, 0) == emlib.Identity()
    with pytest.raises(ValueError, match="'haze'; there are mask, blur"):
        make_operator("haze", 2, 28, 0)
