import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torchmetrics.image.fid import _compute_fid

from emlib.metrics.frechet import Statistics, distance, merged, statistics

FULL, DEFICIENT = (400, 300, 64), (40, 30, 64)


def crowds(n, m, d):
    """Two crowds like Inception's features: positive, of unequal spread, far from 0, float32."""
    g = torch.Generator().manual_seed(n)
    a = (torch.randn(n, d, generator=g) @ torch.randn(d, d, generator=g) + 1).relu()
    b = (torch.randn(m, d, generator=g) @ torch.randn(d, d, generator=g)).relu()
    return a, b


@pytest.mark.parametrize("sizes", [FULL, DEFICIENT], ids=["full rank", "fewer pictures than features"])
def test_the_distance_is_that_of_torchmetrics_and_of_torch_fidelity_on_the_same_features(sizes):
    a, b = crowds(*sizes)
    ours = distance(statistics(a.split(7)), statistics(b.split(11)))
    (m_a, s_a), (m_b, s_b) = ((x.double().mean(0), torch.cov(x.double().T)) for x in (a, b))
    assert ours == pytest.approx(_compute_fid(m_a, s_a, m_b, s_b).item(), rel=1e-6)
    theirs = fid_statistics_to_metric(*(fid_features_to_statistics(x.double()) for x in (a, b)), verbose=False)
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)


@pytest.mark.parametrize("batch", [1, 7, 250])
def test_streaming_statistics_are_numpys_of_all_at_once(batch):
    x = torch.randn(250, 12, generator=torch.Generator().manual_seed(0)) + 300  # sums of squares would lose digits
    found = statistics(x.split(batch))
    assert found.n == 250
    assert found.mean.dtype == found.cov.dtype == torch.float64
    np.testing.assert_allclose(found.mean, x.double().numpy().mean(0), rtol=1e-14)
    np.testing.assert_allclose(found.cov, np.cov(x.double().numpy().T), rtol=0, atol=1e-12)


def test_statistics_of_two_parts_are_those_of_the_whole():
    a, b = crowds(50, 20, 6)
    both, whole = merged(statistics([a]), statistics([b])), statistics([torch.cat([a, b])])
    assert both.n == whole.n == 70
    torch.testing.assert_close(both.mean, whole.mean, rtol=1e-13, atol=0)
    torch.testing.assert_close(both.cov, whole.cov, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("batches", "says"),
    [
        ([], "at least two pictures, got 0"),
        ([torch.zeros(1, 3)], "at least two pictures, got 1"),
        ([torch.zeros(2, 3), torch.zeros(2, 4)], r"got \(2, 4\) after \[B, 3\]"),
        ([torch.zeros(2, 3, 1)], r"got \(2, 3, 1\)"),
        ([torch.zeros(0, 3)], r"got \(0, 3\)"),
    ],
)
def test_what_has_no_covariance_is_refused(batches, says):
    with pytest.raises(ValueError, match=says):
        statistics(batches)


def test_other_features_are_refused():
    a, b = (Statistics(9, torch.zeros(d), torch.eye(d)) for d in (3, 4))
    with pytest.raises(ValueError, match="got 3 and 4"):
        distance(a, b)
