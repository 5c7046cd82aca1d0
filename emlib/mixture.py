r"""A world where everything is known: Gaussian mixtures, noised, measured, conditioned and fitted in closed form.

A mixture of Gaussians stays one whatever this book does to it: add noise, look at it through an operator, ask what
it was given a measurement. So each approximation elsewhere can be compared with the exact answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.distributions import MultivariateNormal

from emlib.diffusion import Eps
from emlib.schedule import Schedule


@dataclass(frozen=True)
class GaussianMixture:
    r"""p(x) = sum_k w_k N(x; m_k, S_k); one mixture, or one for each of B measurements.

    Attributes:
        weights: w, [K] or [B, K], 0 or more, summing to 1 over the components.
        means: m, [K, d] or [B, K, d].
        covariances: S, [K, d, d] or [B, K, d, d], symmetric; float64 keeps closed forms exact.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor

    def __post_init__(self) -> None:
        w, m, S = self.weights, self.means, self.covariances
        if m.shape[:-1] != w.shape or S.shape != (*m.shape, m.shape[-1]):
            raise ValueError(
                f"weights [K], means [K, d] and covariances [K, d, d] do not fit: {tuple(w.shape)}, {tuple(m.shape)} "
                f"and {tuple(S.shape)}"
            )
        if (w < 0).any() or ((w.sum(-1) - 1).abs() > 1e-4).any():
            raise ValueError(f"weights must be 0 or more and sum to 1, got {w.reshape(-1)[:8].tolist()}")

    def components(self, x: Tensor) -> Tensor:
        """log w_k + log N(x; m_k, S_k) for points [..., d]: [..., K]."""
        normal = MultivariateNormal(self.means, self.covariances, validate_args=False)
        return self.weights.log() + normal.log_prob(x.unsqueeze(-2).to(self.means))

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, [...], for points [..., d]; of B mixtures, each at its own point of [B, d]."""
        return self.components(x).logsumexp(-1)

    def sample(self, n: int, generator: Generator) -> Tensor:
        """n draws of each mixture, [n, d] or [n, B, d]."""
        K, d = self.means.shape[-2:]
        which = torch.multinomial(self.weights.reshape(-1, K), n, replacement=True, generator=generator)
        flat = (torch.arange(len(which))[:, None] * K + which).T.reshape(n, *self.weights.shape[:-1])
        # x = m_k + S_k^(1/2) z; by eigenvectors, since S may be 0 where x is known
        variance, basis = torch.linalg.eigh(self.covariances.reshape(-1, d, d))
        root = basis * variance.clamp_min(0).sqrt().unsqueeze(-2)
        z = torch.randn((*flat.shape, d, 1), generator=generator, dtype=self.means.dtype)
        return self.means.reshape(-1, d)[flat] + (root[flat] @ z).squeeze(-1)

    def through(self, A: Tensor, noise_std: float) -> GaussianMixture:
        r"""The distribution of y = A x + n, n ~ N(0, noise_std^2 I): again a mixture.

        Args:
            A: [m, d], or [B, m, d] for one matrix a measurement. A row of zeros measures nothing: it adds the noise's
                own log density to log p(y), the same for every mixture.
            noise_std: standard deviation of n on the [-1, 1] scale, 0 or more; above 0 if A has not full row rank.

        Raises:
            ValueError: if A does not fit or the noise is negative.
        """
        if A.shape[-1] != self.means.shape[-1] or not noise_std >= 0:
            raise ValueError(
                f"A [m, {self.means.shape[-1]}] and noise_std >= 0 needed, got {tuple(A.shape)} and {noise_std}"
            )
        A = A.to(self.means).unsqueeze(-3)
        # weights w_k, means A m_k, covariances A S_k A^T + noise_std^2 I
        means = (A @ self.means.unsqueeze(-1)).squeeze(-1)
        S_y = A @ self.covariances @ A.mT + noise_std**2 * torch.eye(A.shape[-2]).to(A)
        return GaussianMixture(self.weights.expand(means.shape[:-1]), means, S_y)

    def noised(self, schedule: Schedule, t: int) -> GaussianMixture:
        """p_t, the distribution of x_t = alpha_t x_0 + sigma_t eps."""
        return self.through(schedule.alpha(t).item() * torch.eye(self.means.shape[-1]), schedule.sigma(t).item())

    def posterior(self, y: Tensor, A: Tensor, noise_std: float) -> GaussianMixture:
        r"""p(x | y) for y = A x + n, exactly: every component is conditioned, and weighed by how well it explains y.

        Args:
            y: [m] or [B, m]; 0 where a row of A is 0.
            A, noise_std: as for :meth:`through`.

        Returns:
            The mixture with weights [K] or [B, K], and means and covariances to match.
        """
        y_k = self.through(A, noise_std)
        y, A = y.to(self.means), A.to(self.means).unsqueeze(-3)
        # w_k(y) ~ w_k N(y; A m_k, A S_k A^T + noise_std^2 I)
        weights = y_k.components(y).softmax(-1)
        # G_k = S_k A^T (A S_k A^T + noise_std^2 I)^-1
        gain = torch.linalg.solve(y_k.covariances, A @ self.covariances).mT
        # m_k(y) = m_k + G_k (y - A m_k),   S_k(y) = S_k - G_k A S_k
        means = self.means + (gain @ (y.unsqueeze(-2) - y_k.means).unsqueeze(-1)).squeeze(-1)
        S = self.covariances - gain @ A @ self.covariances
        return GaussianMixture(weights, means, ((S + S.mT) / 2).expand(*means.shape, means.shape[-1]))

    def eps(self, schedule: Schedule) -> Eps:
        r"""The exact noise estimate E[eps | x_t], in the place of a network.

        Returns:
            eps(x_t, t), [B, C, H, W] with C H W = d and times [B]; differentiable, computed in the mixture's dtype.
        """
        variance, basis = torch.linalg.eigh(self.covariances)  # S_k = Q_k diag(v_k) Q_k^T

        def exact(x_t: Tensor, t: Tensor) -> Tensor:
            a, s = (level.to(self.means).view(-1, 1, 1) for level in (schedule.alpha(t), schedule.sigma(t)))
            # z_k = Q_k^T (x_t - alpha_t m_k),   u_k = alpha_t^2 v_k + sigma_t^2
            z = torch.einsum("bkd,kde->bke", x_t.flatten(1).unsqueeze(1).to(self.means) - a * self.means, basis)
            u = a.square() * variance + s.square()
            # r_k = p(k | x_t) ~ w_k exp(-sum(z_k^2 / u_k + log u_k) / 2)
            r = (self.weights.log() - (z.square() / u + u.log()).sum(-1) / 2).softmax(-1)
            # eps = -sigma_t grad log p_t = sigma_t sum_k r_k Q_k (z_k / u_k)
            return (s[:, 0] * torch.einsum("bk,bke,kde->bd", r, z / u, basis)).view_as(x_t).to(x_t)

        return exact


@dataclass(frozen=True)
class MixtureStep:
    """An EM iteration on a mixture, with the mean log p(y_i) of the measurements in nats."""

    mixture: GaussianMixture
    log_likelihood: float


def mixture_em(
    start: GaussianMixture, y: Tensor, A: Tensor, noise_std: float, iterations: int
) -> Iterator[MixtureStep]:
    r"""Fits a mixture to measurements by EM with the exact E-step (Dempster et al. 1977): log p(y) never falls.

    With A = I and noise_std = 0 the measurements are the points, and this is the textbook's fit of a mixture.

    Args:
        start: the first mixture; its number of components stays.
        y: N measurements, [N, m].
        A: [m, d] for all of them, or [N, m, d].
        noise_std: standard deviation of their noise, as for :meth:`GaussianMixture.through`.
        iterations: E- and M-steps, 0 or more.

    Yields:
        The start, and then the mixture after each iteration.
    """
    mixture = start
    for k in range(iterations + 1):
        if k > 0:
            mixture = mixture_m_step(mixture.posterior(y, A, noise_std))
        yield MixtureStep(mixture, mixture.through(A, noise_std).log_prob(y.to(mixture.means)).mean().item())


def mixture_m_step(given: GaussianMixture) -> GaussianMixture:
    r"""The mixture that maximises E[log p(x, k)] under the posteriors of N measurements.

    Args:
        given: p(x | y_i), weights [N, K], from :meth:`GaussianMixture.posterior`.
    """
    r = given.weights / given.weights.sum(0)
    # w_k = mean_i r_ik,   m_k = sum_i r_ik m_ik / sum_i r_ik
    means = (r.unsqueeze(-1) * given.means).sum(0)
    # S_k = sum_i r_ik (S_ik + (m_ik - m_k)(m_ik - m_k)^T) / sum_i r_ik
    off = given.means - means
    S = torch.einsum("nk,nkde->kde", r, given.covariances + off.unsqueeze(-1) * off.unsqueeze(-2))
    return GaussianMixture(given.weights.mean(0), means, S)
