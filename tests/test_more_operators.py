"""Operators of real measurements, against scipy, numpy, PIL and DeepInverse, and against dense linear algebra."""

import json

import deepinv.physics
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import torch
from PIL import Image, ImageDraw

import emlib
from emlib.cli.main import main
from emlib.operators import (
    KINDS,
    OPERATORS,
    BoxBlur,
    ChannelMask,
    Composed,
    Convolution,
    Downsample,
    FourierMask,
    FromPhysics,
    Grey,
    MotionBlur,
    Operator,
    PixelMask,
    bayer_mask,
    box_kernel,
    conjugate_gradients,
    gaussian_kernel,
    load_measurements,
    make_operator,
    motion_kernel,
    read_kernel,
    save_measurements,
)
from emlib.operators.registry import RESERVED
from emlib.posterior.mmps import by_operator
from emlib.testing import check_operator


def rand(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


def bits(*shape, seed=0, share=0.5):
    return (rand(*shape, seed=seed) > 1 - 2 * share).float()


LOPSIDED = rand(3, 5, seed=7) + 0.5
"""A kernel without any symmetry, and with negative numbers."""
SOFT = Convolution(gaussian_kernel(1.0, 5))

CASES = {
    "convolution": (Convolution(LOPSIDED), (2, 12, 9)),
    "convolution, std 2": (Convolution(gaussian_kernel(2.0, 9)), (1, 16, 16)),
    "kernel as large as the picture": (Convolution(box_kernel(7)), (1, 7, 7)),
    "box": (BoxBlur(box_kernel(3)), (3, 10, 8)),
    "motion": (MotionBlur(motion_kernel(6, 30)), (1, 16, 12)),
    "downsample": (Downsample(2), (3, 8, 12)),
    "grey": (Grey(), (3, 6, 8)),
    "channel mask": (ChannelMask(bits(3, 3, 8, 6)), (3, 8, 6)),
    "mosaic": (bayer_mask(8, 6), (3, 8, 6)),
    "fourier": (FourierMask(bits(3, 1, 8, 6)), (2, 8, 6)),
    "fourier, odd sides": (FourierMask(bits(1, 2, 7, 9)), (2, 7, 9)),
    "fourier, nothing twice": (FourierMask(torch.tensor([0.0, 1, 0, 0]).expand(1, 1, 8, 4)), (1, 8, 4)),
    "mask of a blur": (Composed(PixelMask(bits(3, 1, 8, 6)), SOFT), (1, 12, 10)),
    "pool of a blur": (Composed(Downsample(2), SOFT), (1, 12, 10)),
    "grey of a blur": (Composed(Grey(), SOFT), (3, 8, 10)),
    "blur of a mosaic": (Composed(SOFT, bayer_mask(10, 8)), (3, 10, 8)),
    "blur of a blur": (Composed(Convolution(box_kernel(3)), SOFT), (1, 10, 10)),
    "mask of the grey of a pool": (Composed(PixelMask(bits(3, 1, 4, 6)), Composed(Grey(), Downsample(2))), (3, 8, 12)),
}


@pytest.mark.parametrize(("A", "shape"), CASES.values(), ids=CASES)
def test_they_keep_the_contract(A, shape):
    check_operator(A, shape)


def dense(A, shape):
    """The matrix of A on flattened pictures, and that of its adjoint."""
    x = torch.eye(int(np.prod(shape)), dtype=torch.float64).view(-1, *shape)
    y = A(x)
    e = torch.eye(y[0].numel(), dtype=torch.float64).view(-1, *y.shape[1:])
    return y.flatten(1).T, A.adjoint(e).flatten(1).T, y.shape[1:]


ALONE = {key: (A.select([1]), shape) for key, (A, shape) in CASES.items()}


@pytest.mark.parametrize(("A", "shape"), ALONE.values(), ids=ALONE)
def test_adjoint_and_solvers_against_dense_matrices(A, shape):
    M, back, y_shape = dense(A, shape)
    torch.testing.assert_close(back, M.T, rtol=0, atol=1e-12)
    v = rand(2, *y_shape, seed=3)
    each = torch.tensor([0.02, 3.0], dtype=torch.float64).view(2, 1, 1, 1)
    near = A.approximate_solve(torch.eye(len(M), dtype=torch.float64).view(-1, *y_shape), 0.02, 0.7).flatten(1)
    torch.testing.assert_close(near, near.T, rtol=0, atol=1e-6 * float(near.abs().max()))
    assert torch.linalg.eigvalsh(near).min() > 0
    for a, b in ((0.3, 2.0), (each, 0.5), (0.1, each)):
        found = A.solve(v, a, b)
        for i in range(2):
            a_i, b_i = (float(c[i]) if isinstance(c, torch.Tensor) else c for c in (a, b))
            exact = torch.linalg.solve(a_i * torch.eye(len(M), dtype=torch.float64) + b_i * M @ M.T, v[i].flatten())
            torch.testing.assert_close(found[i].flatten(), exact, rtol=1e-4, atol=1e-5)


EXACT = ["downsample", "grey", "channel mask", "mosaic", "fourier", "fourier, odd sides", "fourier, nothing twice"]


@pytest.mark.parametrize("key", EXACT)
def test_known_eigenvalues_give_the_exact_pseudo_inverse(key):
    A, shape = ALONE[key]
    M, _, y_shape = dense(A, shape)
    v = rand(1, *y_shape, seed=3)
    exact = torch.linalg.pinv(0.7 * M @ M.T, rtol=1e-6, hermitian=True) @ v.flatten()
    torch.testing.assert_close(A.solve(v, 0.0, 0.7).flatten(), exact, rtol=1e-10, atol=1e-10)


# ---- convolution ----


def test_a_convolution_is_that_of_scipy():
    x, A = rand(2, 3, 12, 9), Convolution(LOPSIDED)
    k, y = LOPSIDED.numpy(), A(x)
    again = A.adjoint(y)
    for i in range(2):
        for c in range(3):
            wanted = scipy.signal.convolve2d(x[i, c].numpy(), k, mode="valid")
            np.testing.assert_allclose(y[i, c].numpy(), wanted, rtol=0, atol=1e-12)
            back = scipy.signal.correlate2d(wanted, k, mode="full")
            np.testing.assert_allclose(again[i, c].numpy(), back, rtol=0, atol=1e-12)
    assert A(x.float()).dtype == torch.float32
    torch.testing.assert_close(A(x.float()).double(), y, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", ["constant", "mirror", "wrap"])
def test_a_crop_of_a_blurred_picture_is_the_valid_blur_of_a_larger_crop(mode):
    """Whatever the world outside is taken for, as far from the edges as the kernel reaches."""
    world = rand(20, 24)
    blurred = scipy.ndimage.convolve(world.numpy(), LOPSIDED.numpy(), mode=mode)
    photograph = blurred[4:14, 6:17]
    found = Convolution(LOPSIDED)(world[None, None, 3:15, 4:19])[0, 0]
    np.testing.assert_allclose(found.numpy(), photograph, rtol=0, atol=1e-12)


def test_our_own_blur_is_the_same_away_from_its_mirrors():
    x = rand(1, 1, 20, 20).float()
    whole, valid = emlib.GaussianBlur(20, 20)(x), Convolution(gaussian_kernel(2.0, 9))(x)
    torch.testing.assert_close(valid, whole[..., 4:-4, 4:-4], rtol=0, atol=1e-6)


def steps_to(tolerance, K, v, M=None):
    """Conjugate-gradient steps until the residual is this share of v."""
    count = 0

    def counted(p):
        nonlocal count
        count += 1
        return K(p)

    conjugate_gradients(counted, v, 2000, tolerance, M)
    return count


@pytest.mark.parametrize(("kernel", "share"), [(gaussian_kernel(2.0), 0.25), (motion_kernel(9, 30), 0.25)])
def test_the_preconditioner_spares_most_steps(kernel, share):
    A, a = Convolution(kernel), 1e-3
    v = A(rand(1, 1, 64, 64))
    v = v + a**0.5 * rand(*v.shape, seed=1)

    def K(p):
        return a * p + A(A.adjoint(p))

    plain = steps_to(1e-6, K, v)
    assert steps_to(1e-6, K, v, lambda r: A.approximate_solve(r, a, 1.0)) < share * plain
    assert plain > 100


def test_solve_takes_few_steps_too(monkeypatch):
    A, calls = Convolution(gaussian_kernel(2.0, 9)), []
    v = A(rand(1, 1, 64, 64))
    monkeypatch.setattr(Convolution, "_check", lambda self, x: calls.append(1))
    A.solve(v, 1e-3, 1.0)
    own = len(calls)
    Operator.solve(A, v, 1e-3, 1.0)
    assert 3 * own < len(calls) - own


def test_no_preconditioner_and_the_identity_are_the_same_to_the_bit():
    A, v = emlib.GaussianBlur(8, 8, 1.0, 3), rand(2, 1, 8, 8).float()

    def K(p):
        return 0.1 * p + A(A.adjoint(p))

    for tolerance in (None, 1e-4):
        plain = conjugate_gradients(K, v, 30, tolerance)
        assert torch.equal(plain, conjugate_gradients(K, v, 30, tolerance, lambda r: r))


def test_mmps_asks_for_the_approximate_solution(schedule):
    """And gets the exact one where that is all there is."""
    v = rand(2, 1, 12, 12).float()
    m = emlib.Measurements(SOFT(v), SOFT, 0.1, (0, 1))
    r = rand(2, 1, 8, 8, seed=1).float()
    M = by_operator(m, schedule, 400)
    b = 1 / (1 / 0.3 + schedule.alpha(400) ** 2 / schedule.sigma(400) ** 2)
    torch.testing.assert_close(M(r), SOFT.approximate_solve(r, 0.01 / b, 1.0))
    assert (M(r) - SOFT.solve(r, 0.01 / b, 1.0)).norm() > 1e-3 * M(r).norm()
    blur = emlib.GaussianBlur(8, 8)
    assert torch.equal(blur.approximate_solve(r, 0.1, 1.0), blur.solve(r, 0.1, 1.0))


def test_a_view_of_a_blur_is_the_blur_in_its_frame():
    y = rand(2, 3, 8, 9)
    view = Convolution(LOPSIDED).view(y)
    assert torch.equal(view[..., 1:-1, 2:-2], y)
    assert torch.equal(view[..., 0, 2:-2], y[..., 0, :])


@pytest.mark.parametrize(
    ("kernel", "says"),
    [
        (torch.ones(4, 3), r"odd sides, got \[4, 3\]"),
        (torch.ones(3), r"odd sides, got \[3\]"),
        (torch.zeros(3, 3), "not all 0"),
        (torch.full((3, 3), float("nan")), "finite"),
        (torch.ones(3, 3, dtype=torch.int64), "floating-point"),
    ],
)
def test_impossible_kernels_are_refused(kernel, says):
    with pytest.raises(ValueError, match=says):
        Convolution(kernel)


def test_a_kernel_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"5 x 5 does not fit pictures \(1, 1, 4, 9\)"):
        SOFT(torch.zeros(1, 1, 4, 9))
    with pytest.raises(ValueError, match="a >= 0 and b > 0"):
        SOFT.approximate_solve(torch.zeros(1, 1, 4, 9), -1.0, 1.0)


# ---- kernels ----


def test_gaussian_and_box_are_what_scipy_makes_of_a_bright_pixel():
    dot = np.zeros((21, 21))
    dot[10, 10] = 1
    scipys = scipy.ndimage.gaussian_filter(dot, 1.5, truncate=4 / 1.5)[6:15, 6:15]
    np.testing.assert_allclose(gaussian_kernel(1.5, 9).numpy(), scipys, rtol=0, atol=1e-12)
    assert gaussian_kernel(1.5).shape == (11, 11)
    np.testing.assert_allclose(box_kernel(5).numpy(), scipy.ndimage.uniform_filter(dot, 5)[8:13, 8:13], atol=1e-15)


@pytest.mark.parametrize(("length", "angle"), [(9, 30), (7.5, -50), (5, 0), (6, 90), (12, 117)])
def test_a_motion_kernel_is_a_line_that_pil_draws(length, angle):
    kernel = motion_kernel(length, angle)
    (h, w), fine = kernel.shape, 40
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    corners = [(u * length / 2, v / 2) for u, v in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    # x to the right, y up; PIL's rows go down
    points = [((w / 2 + u * c - v * s) * fine, (h / 2 - (u * s + v * c)) * fine) for u, v in corners]
    picture = Image.new("F", (w * fine, h * fine))
    ImageDraw.Draw(picture).polygon(points, fill=1.0)
    drawn = np.asarray(picture).reshape(h, fine, w, fine).mean((1, 3))
    assert kernel.sum() == pytest.approx(1)
    assert np.abs(kernel.numpy() - drawn / drawn.sum()).max() < 0.06 / length
    assert kernel[0].any()  # no larger than it must be
    assert kernel[:, 0].any()
    torch.testing.assert_close(kernel, kernel.flip(0, 1))


def test_motion_along_rows_is_a_mean_of_neighbours():
    torch.testing.assert_close(motion_kernel(5, 0), torch.full((1, 5), 0.2, dtype=torch.float64))
    torch.testing.assert_close(motion_kernel(5, 90), torch.full((5, 1), 0.2, dtype=torch.float64))
    torch.testing.assert_close(motion_kernel(1, 0), torch.ones(1, 1, dtype=torch.float64))


@pytest.mark.parametrize("word", ["eight.png", "sixteen.png", "float.tiff", "array.npy", "colour.png"])
def test_kernels_come_from_files(word, tmp_path):
    values = np.array([[0, 10, 200], [5, 255, 30], [1, 2, 3]])
    path = tmp_path / word
    if word == "array.npy":
        np.save(path, values)
    elif word == "sixteen.png":
        Image.fromarray((values * 257).astype(np.uint16)).save(path)
    elif word == "float.tiff":
        Image.fromarray((values / 7).astype(np.float32)).save(path)
    else:
        picture = Image.fromarray(values.astype(np.uint8))
        (picture.convert("RGB") if word == "colour.png" else picture).save(path)
    np.testing.assert_allclose(read_kernel(path).numpy(), values / values.sum(), rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.array([[1.0, -0.5, 1]]), "down to -0.5"),
        (np.array([[1.0, np.nan, 1]]), "no numbers below 0"),
        (np.zeros((3, 3)), "0 everywhere"),
        (np.ones((4, 3)), r"odd sides, but .* holds \[4, 3\]"),
        (np.zeros((0, 3)), r"holds \[0, 3\]"),
        (np.arange(27.0).reshape(3, 3, 3), r"holds \[3, 3, 3\]"),
        (np.ones((3, 3), dtype=complex), "are complex128"),
    ],
)
def test_files_without_a_kernel_are_refused(values, says, tmp_path):
    np.save(tmp_path / "k.npy", values)
    with pytest.raises(ValueError, match=says):
        read_kernel(tmp_path / "k.npy")
    with pytest.raises(FileNotFoundError, match="none"):
        read_kernel(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: gaussian_kernel(0.0), "got 0.0"),
        (lambda: gaussian_kernel(float("nan")), "got nan"),
        (lambda: gaussian_kernel(1.0, 4), "taps must be an odd number, 1 to 255, got 4"),
        (lambda: box_kernel(2), "side must be an odd number, 1 to 255, got 2"),
        (lambda: box_kernel(4.5), "got 4.5"),
        (lambda: box_kernel(257), "got 257"),
        (lambda: motion_kernel(0.5, 0), "length=0.5"),
        (lambda: motion_kernel(1e9, 0), "length=1000000000.0"),
        (lambda: motion_kernel(5, float("inf")), "angle=inf"),
    ],
)
def test_impossible_kernels_are_not_made(make, says):
    with pytest.raises(ValueError, match=says):
        make()


# ---- fewer pixels, no colour ----


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_downsampling_is_pils_reduce(factor):
    x = rand(1, 1, 6, 12).float()
    pils = Image.fromarray(x[0, 0].numpy()).reduce(factor)
    np.testing.assert_allclose(Downsample(factor)(x)[0, 0].numpy(), np.asarray(pils), rtol=0, atol=1e-6)


def test_downsampling_refuses_what_it_cannot_do():
    for factor in (0, -2, 1.5, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"got {factor}"):
            Downsample(factor)
    with pytest.raises(ValueError, match=r"3 does not divide pictures \(1, 1, 9, 8\)"):
        Downsample(3)(torch.zeros(1, 1, 9, 8))
    assert Downsample(2.0) == Downsample(2)


def test_grey_is_pils_luminance():
    colours = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    pils = np.asarray(Image.fromarray(colours).convert("L")).astype(float)
    x = torch.from_numpy(colours).permute(2, 0, 1)[None].double() / 127.5 - 1
    ours = (Grey()(x)[0, 0].numpy() + 1) * 127.5
    assert np.abs(ours - pils).max() <= 0.51
    with pytest.raises(ValueError, match=r"\(1, 1, 8, 8\); take colour"):
        Grey()(torch.zeros(1, 1, 8, 8))


def test_grey_is_viewed_without_colour():
    y = rand(2, 1, 4, 5)
    view = Grey().view(y)
    assert torch.equal(view[:, 0], view[:, 2])
    torch.testing.assert_close(Grey()(view), y)


# ---- masks of channels and of frequencies ----


def test_a_channel_mask_is_that_of_deepinv_and_with_equal_channels_a_pixel_mask():
    mask, x = bits(1, 3, 8, 6), rand(2, 3, 8, 6).float()
    assert torch.equal(ChannelMask(mask)(x), deepinv.physics.Inpainting((3, 8, 6), mask=mask[0]).A(x))
    same, v = mask[:, :1], rand(2, 3, 8, 6, seed=1)
    ours, theirs = ChannelMask(same.expand(-1, 3, -1, -1)), PixelMask(same)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.solve(v, 0.1, 2.0), theirs.solve(v, 0.1, 2.0))
    assert torch.equal(ours.seen(x), theirs.seen(x))


def test_a_mosaic_has_one_colour_a_pixel():
    mask = bayer_mask(6, 7, "GRBG").mask
    assert torch.equal(mask.sum(1), torch.ones(1, 6, 7))
    assert mask[0, :, 0, :2].argmax(0).tolist() == [1, 0]
    assert mask[0, :, 1, :2].argmax(0).tolist() == [2, 1]
    with pytest.raises(ValueError, match="'RGGX'"):
        bayer_mask(6, 7, "RGGX")


def test_frequencies_are_numpys():
    mask, x = bits(2, 1, 8, 6), rand(2, 3, 8, 6)
    y = FourierMask(mask)(x)
    numpys = mask.numpy() * np.fft.fft2(x.numpy(), norm="ortho")
    np.testing.assert_allclose(y[:, :3].numpy() + 1j * y[:, 3:].numpy(), numpys, rtol=0, atol=1e-12)
    assert torch.equal(FourierMask(mask).seen(y), mask.double().expand(-1, 6, -1, -1))


def test_frequencies_are_those_of_deepinvs_mri():
    """Whose pictures are complex, and whose zero frequency stands in the middle."""
    mask, x = bits(1, 1, 8, 6), rand(2, 1, 8, 6)
    mri = deepinv.physics.MRI(mask=torch.fft.fftshift(mask, (-2, -1))[0, 0], img_size=(2, 8, 6))
    theirs = mri.A(torch.cat([torch.fft.fftshift(x, (-2, -1)), torch.zeros_like(x)], 1).float())
    ours = torch.fft.fftshift(FourierMask(mask)(x), (-2, -1)).float()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_mirrored_frequencies_are_tied():
    """A A^T is not diagonal where k and -k are kept: its off-diagonal numbers are 1/2 and -1/2."""
    M, _, _ = dense(FourierMask(torch.ones(1, 1, 4, 4)), (1, 4, 4))
    off = M @ M.T - torch.diag((M @ M.T).diagonal())
    assert sorted(set(off.round(decimals=9).abs().unique().tolist())) == [0, 0.5]


@pytest.mark.parametrize("kind", [ChannelMask, FourierMask])
def test_what_is_no_mask_is_refused(kind):
    with pytest.raises(ValueError, match=r"\[N, C, H, W\], got \[8, 8\]"):
        kind(torch.ones(8, 8))
    with pytest.raises(ValueError, match="got 0.5 to 0.5"):
        kind(torch.full((1, 1, 8, 8), 0.5))
    for shape in ((2, 3, 8, 8), (3, 2, 8, 8), (3, 3, 8, 9)):
        with pytest.raises(ValueError, match="do not fit pictures"):
            kind(torch.ones(3, 3, 8, 8))(torch.zeros(shape))


# ---- one after another ----


def test_a_mask_of_a_blur_is_a_blur_with_holes():
    mask, x = bits(3, 1, 8, 6), rand(3, 1, 12, 10)
    A = Composed(PixelMask(mask), SOFT)
    assert torch.equal(A(x), mask * SOFT(x))
    assert torch.equal(A.seen(A(x)), mask.double())
    torch.testing.assert_close(A.select([2])(x[2:]), A(x)[2:], rtol=0, atol=1e-12)
    m = emlib.measure(x, A, 0.5, 0)
    assert (m.y[mask == 0] == 0).all()
    assert m.image_shape == (1, 12, 10)


def test_what_neither_part_sees_is_not_seen():
    one, two, y = bits(2, 3, 8, 6), bits(2, 3, 8, 6, seed=1), torch.ones(2, 3, 8, 6)
    assert torch.equal(Composed(ChannelMask(one), ChannelMask(two)).seen(y), one * two)
    blind = torch.ones(1, 1, 8, 8)
    blind[..., :4] = 0
    seen = Composed(Downsample(2), PixelMask(blind)).seen(torch.ones(1, 1, 4, 4))
    assert torch.equal(seen, torch.tensor([0.0, 0, 1, 1]).expand(1, 1, 4, 4))


def test_the_approximate_solution_of_a_composition_is_exact_where_the_parts_are():
    v = rand(2, 1, 4, 6)
    A = Composed(PixelMask(bits(2, 1, 4, 6)), Composed(Grey(), Downsample(2)))
    torch.testing.assert_close(A.approximate_solve(v, 0.1, 2.0), Operator.solve(A, v, 0.1, 2.0), rtol=1e-6, atol=1e-6)
    grey, c = Composed(Grey(), SOFT), Grey().gain()
    v = rand(2, 1, 8, 6)
    torch.testing.assert_close(grey.approximate_solve(v, 0.1, 2.0), SOFT.approximate_solve(v, 0.1, 2.0 * c))


def test_compositions_come_back_from_disk(tmp_path):
    A = Composed(PixelMask(bits(3, 1, 8, 6)), Composed(Convolution(LOPSIDED), Grey()))
    x = rand(3, 3, 10, 10).float()
    m = emlib.measure(x, A, 0.1, 0)
    save_measurements(m, tmp_path / "m.safetensors")
    back = load_measurements(tmp_path / "m.safetensors")
    assert torch.equal(back.y, m.y)
    assert torch.equal(back.operator(x), A(x))
    assert torch.equal(load_measurements(tmp_path / "m.safetensors", A).y, m.y)
    with pytest.raises(ValueError, match="through another 'composed'"):
        load_measurements(tmp_path / "m.safetensors", Composed(A.outer, Composed(Convolution(box_kernel(5)), Grey())))


def test_a_composition_with_a_strangers_part_is_read_with_the_operator_at_hand(tmp_path):
    stranger = type("Half", (emlib.Identity,), {"name": "half"})()
    A = Composed(Downsample(2), stranger)
    save_measurements(emlib.measure(rand(2, 1, 4, 4), A, 0.1, 0), tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="inner part is 'half', none of ours"):
        load_measurements(tmp_path / "m.safetensors")
    assert load_measurements(tmp_path / "m.safetensors", A).operator is A


# ---- DeepInverse's ----

FILTER = LOPSIDED[None, None].float()
PHYSICS = {
    "inpainting": (lambda: deepinv.physics.Inpainting((2, 8, 6), mask=bits(2, 8, 6)), (2, 8, 6)),
    "blur, valid": (lambda: deepinv.physics.Blur(filter=FILTER, padding="valid"), (2, 12, 9)),
    "blur, circular": (lambda: deepinv.physics.Blur(filter=FILTER, padding="circular"), (1, 12, 9)),
    "blur by FFT": (lambda: deepinv.physics.BlurFFT((1, 8, 12), filter=FILTER), (1, 8, 12)),
    "downsampling": (
        lambda: deepinv.physics.Downsampling(img_size=(1, 16, 16), factor=2, filter="gaussian", padding="circular"),
        (1, 16, 16),
    ),
    "MRI": (lambda: deepinv.physics.MRI(mask=bits(8, 6), img_size=(2, 8, 6)), (2, 8, 6)),
}


@pytest.mark.parametrize(("make", "shape"), PHYSICS.values(), ids=PHYSICS)
def test_deepinvs_physics_keep_the_contract(make, shape):
    physics = make()
    dtypes = [part.dtype for part in physics.state_dict().values()]
    A = FromPhysics(physics, shape)
    x = rand(2, *shape).float()
    assert torch.equal(A(x), physics.A(x))
    check_operator(A, shape)
    assert [part.dtype for part in physics.state_dict().values()] == dtypes  # copies were cast, not the object


class Ghost(deepinv.physics.LinearPhysics):
    """A blur whose Fourier transform is kept, as complex numbers."""

    def __init__(self):
        super().__init__()
        self.register_buffer("symbol", torch.fft.rfft2(FILTER[0, 0], s=(8, 6)))

    def A(self, x):
        return torch.fft.irfft2(self.symbol * torch.fft.rfft2(x), s=(8, 6))

    def A_adjoint(self, y):
        return torch.fft.irfft2(self.symbol.conj() * torch.fft.rfft2(y), s=(8, 6))


def test_complex_numbers_of_a_physics_stay_complex():
    A, x = FromPhysics(Ghost(), (1, 8, 6)), rand(2, 1, 8, 6)
    wanted = scipy.ndimage.convolve(x[0, 0].numpy(), LOPSIDED.numpy(), mode="wrap", origin=(-1, -2))
    np.testing.assert_allclose(A(x)[0, 0].numpy(), wanted, rtol=0, atol=1e-6)
    check_operator(A, (1, 8, 6))
    A(x)
    assert {part.symbol.dtype for part in A.copies.values()} == {torch.complex64, torch.complex128}


def test_the_same_blur_by_deepinv_and_by_us_mends_the_same():
    """deepinv's Blur convolves as scipy does and we do."""
    x = rand(2, 1, 12, 9)
    theirs = FromPhysics(deepinv.physics.Blur(filter=FILTER, padding="valid"), (1, 12, 9))
    ours = Convolution(FILTER[0, 0])
    torch.testing.assert_close(theirs(x), ours(x), rtol=0, atol=1e-12)
    v = ours(x)
    torch.testing.assert_close(theirs.solve(v, 0.1, 1.0), ours.solve(v, 0.1, 1.0), rtol=1e-5, atol=1e-5)


def test_physics_are_told_apart_and_read_with_the_object_at_hand(tmp_path):
    blurs = [FromPhysics(deepinv.physics.Blur(filter=f, padding="valid"), (1, 9, 9)) for f in (FILTER, 2 * FILTER)]
    m = emlib.measure(rand(2, 1, 9, 9).float(), blurs[0], 0.1, 0)
    save_measurements(m, tmp_path / "m.safetensors")
    back = load_measurements(tmp_path / "m.safetensors", blurs[0])
    assert torch.equal(back.y, m.y)
    assert back.operator is blurs[0]
    with pytest.raises(ValueError, match="through another 'physics'"):
        load_measurements(tmp_path / "m.safetensors", blurs[1])
    with pytest.raises(ValueError, match="isn't made of tensors; make it as you did"):
        load_measurements(tmp_path / "m.safetensors", FromPhysics)


def test_what_is_no_physics_is_refused():
    with pytest.raises(ValueError, match="Phase.* has no A_adjoint; hand over"):
        FromPhysics(type("PhaseRetrieval", (), {"A": abs, "clone": abs})(), (1, 8, 8))
    with pytest.raises(ValueError, match=r"\(C, H, W\), got \(8, 8\)"):
        FromPhysics(deepinv.physics.Denoising(), (8, 8))
    with pytest.raises(ValueError, match=r"for pictures \(1, 8, 8\), got \(2, 1, 9, 9\)"):
        FromPhysics(deepinv.physics.Denoising(), (1, 8, 8))(torch.zeros(2, 1, 9, 9))


# ---- by name ----


def test_they_are_made_by_name_of_plain_numbers():
    assert torch.equal(make_operator("box", 2, 28, 0, side=3.0).kernel, box_kernel(3))
    assert torch.equal(make_operator("motion", 2, 28, 0, length=9.0).kernel, motion_kernel(9, 30))
    assert make_operator("downsample", 2, 28, 0, factor=4.0) == Downsample(4)
    assert make_operator("grey", 2, 28, 0) == Grey()
    with pytest.raises(ValueError, match="unknown operator 'composed'; there are mask, .* and grey"):
        make_operator("composed", 2, 28, 0)


def test_no_two_operators_share_a_word_of_the_command_line():
    words = [word for kind in OPERATORS.values() for word in kind.parameters]
    assert len(words) == len(set(words))
    assert not RESERVED & set(words)
    assert len({*KINDS, FromPhysics.name}) == len(KINDS) + 1


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (["motion", "--length", "5", "--angle", "90"], {"operator": "motion", "length": 5.0, "angle": 90.0}),
        (["downsample", "--factor", "4"], {"operator": "downsample", "factor": 4.0}),
    ],
)
def test_the_command_line_knows_them(toy_preset, tmp_path, words, settings):
    assert main(["em", "--preset", "toy", "--noise-std", "0.1", "--out", "r.json", "--operator", *words]) == 0
    said = json.loads((tmp_path / "r.json").read_text())["settings"]
    assert {key: said[key] for key in settings} == settings


def test_the_command_line_says_why_not(toy_preset, capsys):
    for words, says in (
        (["box", "--side", "4"], "side must be an odd number"),
        (["downsample", "--factor", "5"], "does not divide pictures (1, 1, 28, 28)"),
        (["grey"], "take colour"),
    ):
        assert main(["em", "--preset", "toy", "--operator", *words]) == 2
        assert says in capsys.readouterr().err
