r"""L-C2ST: is the posterior of *this* row right? A classifier of true latents against draws, near the row.

Data of the model come with the latents that made them. Near x, a classifier is trained to tell the true latent of a
simulated example from draws of its q, and given_rows about draws of q(z | x): if q is the posterior there, it can only
guess.

The classifier is least squares on functions of z, in closed form, so that its null costs no training. Of each example
the true latent and M draws form a pool ``z_0 .. z_M``, whitened by its own mean and covariance; ``phi`` are
standardized functions of it (z and log p(x, z), their products, random cosines), less their mean in the pool. With
weights ``k_n`` that fall from 1 at the row to 0 at the edge of its neighborhood in x,

    delta = sum_n k_n phi(z_n0) / sum_n k_n,   w = (G + lambda I)^-1 delta,   G = mean phi phi',
    t     = mean over draws of q(z | x) of (w' phi)^2 .

Under the null any member of a pool could be the true one: choosing it at random gives draws of t, and an exact p-value.

Reference: Linhart, Gramfort and Rodrigues, *L-C2ST: local diagnostics for posterior approximations in simulation-based
inference*, NeurIPS 2023 (arXiv:2306.03580), section 3. Differences: local weights and least squares in place of a
network of (x, z), the choice of one in M + 1 in place of one in two.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Generator, Tensor

from curvae.evaluation.calibration.row_tests import FLOOR, LEAST, RowTest, given_rows, pieces, simulated
from curvae.evaluation.draws import equally_weighted, in_parts
from curvae.systems import Parts, System
from curvae.typing import Batch

Array = NDArray[Any]
NEIGHBORS = 0.25
"""Share of the simulated data that a neighborhood holds."""
RIDGE = 1.0
"""lambda, where each function has variance 1: the shapes that vary most among draws count most."""
COSINES, HEIGHT = 32, 0.3
"""Random ones, and how much each weighs."""
CROSSED = 20
"""The most latents for which products of two are seen."""
POOLS = 10
"""Of draws for a row, each as large as those of simulated data."""


class Pools(NamedTuple):
    """Data, and for each a pool of latents with log p(x, z) as the last column."""

    x: Float[Array, "N P"]
    """Not finite where missing."""
    z: Float[Array, "N M E"]


def local_c2st(
    system: System,
    x: Tensor,
    mask: Tensor | None = None,
    count: int = 2000,
    draws: int = 19,
    permutations: int = 499,
    seed: int = 0,
    batch_size: int = 100,
) -> RowTest:
    """Local classifier two-sample test of a system's posterior at given rows.

    It sees what goes wrong in a quarter of the simulated data, those nearest to the row: a fault that is confined to
    less is diluted, and one nearby leaks. It speaks of the *model's* posterior: whether the model is right for the row
    is another question, that of :func:`predictive_check`.

    Args:
        system: with a model of continuous latents.
        x: the rows, in the model's units.
        mask: True where observed; all if None. Simulated data then lack what one of the rows lacks.
        count: data drawn from the model.
        draws: M from the posterior of each.
        permutations: draws of the null; the smallest p-value is 1 / (permutations + 1).
        seed: of everything drawn.
        batch_size: data at a time.

    Raises:
        ValueError: a system without a model (HasModel) of continuous latents, rows of another shape, counts below 1.

    Example:
        >>> import torch
        >>> from curvae.data import from_array
        >>> from curvae.systems import vae
        >>> data = from_array(torch.randn(40, 5))
        >>> found = local_c2st(vae(data.spec, latent=2, hidden=8), data.test.x, count=200, permutations=99)
        >>> len(found.p_values) == len(data.test), 0.01 <= found.p_value <= 1
        (True, True)
    """
    counts = {"count": count, "draws": draws, "permutations": permutations, "batch_size": batch_size}
    with given_rows("local_c2st", system, x, mask, seed, **counts) as (parts, given, generator):
        made = [_simulated(parts, n, draws, given, generator) for n in in_parts(count, batch_size)]
        here = [_drawn(parts, part, draws, generator) for part in pieces(given, batch_size)]
    p, together = local_p_values(_joined(made), _joined(here), permutations, np.random.default_rng(seed))
    return RowTest(tuple(p.tolist()), together, count)


def local_p_values(
    made: Pools, given: Pools, permutations: int, rng: np.random.Generator
) -> tuple[Float[Array, " R"], float]:
    """P-values of R rows, and one for all of them (Fisher's statistic, under the same choices).

    Args:
        made: simulated data; the first of each pool is the true latent.
        given: the rows, with draws of q alone: a multiple of the pool's size.
        permutations: draws of the null.
        rng: of features and choices.
    """
    size = made.z.shape[1]
    features = Features.drawn(made.z.shape[2], rng)
    phi = features(whitened(made.z))
    seen = features(whitened(given.z.reshape(-1, size, given.z.shape[2]))).reshape(*given.z.shape[:2], -1)
    gram = np.einsum("nmf,nmg->fg", phi, phi, optimize=True) / (phi.shape[0] * size)
    inverse, weights = np.linalg.inv(gram + RIDGE * np.eye(len(gram))), neighborhood(made.x, given.x)
    choices = rng.integers(0, size, (permutations, len(phi)))
    choices = np.concatenate([np.zeros_like(choices[:1]), choices])
    at = np.arange(len(phi))
    slopes = (weights @ phi[at, chosen] @ inverse for chosen in choices)
    found = np.stack([np.square(np.einsum("rvf,rf->rv", seen, slope)).mean(1) for slope in slopes], 1)
    p = tail(found)
    return p[:, 0], float(tail(-np.log(p).sum(0, keepdims=True))[0, 0])


def tail(values: Float[Array, "R H"]) -> Float[Array, "R H"]:
    """For each value the share of those in its row that are as large: exact p-values of exchangeable ones."""
    ordered = np.sort(values, axis=1)
    below = np.stack([np.searchsorted(a, b, side="left") for a, b in zip(ordered, values, strict=True)])
    return (values.shape[1] - below) / values.shape[1]


class Features(NamedTuple):
    """The functions of whitened latents, drawn once."""

    frequencies: Float[Array, "E C"]
    phases: Float[Array, " C"]

    @classmethod
    def drawn(cls, size: int, rng: np.random.Generator) -> "Features":
        """Frequencies of a unit Gaussian kernel, per square root of the size beyond 3."""
        scale = 1 / np.sqrt(max(1.0, size / 3))
        return cls(scale * rng.normal(size=(size, COSINES)), rng.uniform(0, 2 * np.pi, COSINES))

    def __call__(self, u: Float[Array, "N M E"]) -> Float[Array, "N M F"]:
        """Less their mean in each pool."""
        cosines = HEIGHT * np.sqrt(2) * np.cos(u @ self.frequencies + self.phases)
        found = np.concatenate([u, _products(u), cosines], -1)
        return found - found.mean(1, keepdims=True)


def _products(u: Float[Array, "N M E"]) -> Float[Array, "N M F"]:
    """Of two latents each, of unit variance for standard normal ones; squares alone where there are many."""
    size = u.shape[-1]
    one, two = np.triu_indices(size) if size <= CROSSED + 1 else (np.arange(size),) * 2
    return u[..., one] * u[..., two] / np.where(one == two, np.sqrt(2), 1.0)


def whitened(pools: Float[Array, "N M E"]) -> Float[Array, "N M E"]:
    """Each pool in units of its own mean and covariance, shrunk to the variances; the last column by itself.

    Nothing tells the true latent from the others: any order of a pool gives the same numbers.
    """
    offset = pools - pools.mean(1, keepdims=True)
    z, last = offset[..., :-1], offset[..., -1:]
    size = z.shape[-1]
    covariance = np.einsum("nmi,nmj->nij", z, z) / z.shape[1]
    keep = np.where(np.eye(size) > 0, 1.0, z.shape[1] / (z.shape[1] + size))
    scale = np.maximum(np.diagonal(covariance, axis1=1, axis2=2), LEAST)[:, None]
    root = np.linalg.cholesky(covariance * keep + LEAST * scale * np.eye(size))
    u = np.linalg.solve(root, z.swapaxes(1, 2)).swapaxes(1, 2)
    return np.concatenate([u, last / np.maximum(last.std(1, keepdims=True), LEAST)], -1)


def neighborhood(made: Float[Array, "N P"], rows: Float[Array, "R P"]) -> Float[Array, "R N"]:
    """Weights ``1 - (d / d_k)^2`` of the nearest quarter, of sum 1; distances in standardized columns."""
    seen = np.isfinite(made).any(0)
    center, spread = np.nanmean(made[:, seen], 0), np.nanstd(made[:, seen], 0)
    spread = np.maximum(spread, LEAST + FLOOR * np.sqrt(np.square(spread).mean()))
    a, b = (np.nan_to_num((part[:, seen] - center) / spread) for part in (made, rows))
    squares = np.maximum((b**2).sum(1)[:, None] - 2 * b @ a.T + (a**2).sum(1), 0)
    edge = np.partition(squares, (k := max(1, int(NEIGHBORS * len(made)))) - 1, axis=1)[:, k - 1 : k]
    weights = np.maximum(1 - squares / np.maximum(edge, LEAST) * (1 - 1e-6), 0)
    return weights / weights.sum(1, keepdims=True)


def _simulated(parts: Parts, n: int, draws: int, given: Batch, generator: Generator) -> Pools:
    batch, z = simulated(parts.model, n, given, generator)
    return _pooled(
        parts, batch, torch.cat([z.unsqueeze(0), equally_weighted(parts.infer(batch).posterior, draws, generator)])
    )


def _drawn(parts: Parts, batch: Batch, draws: int, generator: Generator) -> Pools:
    return _pooled(parts, batch, equally_weighted(parts.infer(batch).posterior, POOLS * (draws + 1), generator))


def _pooled(parts: Parts, batch: Batch, z: Float[Tensor, "M B D"]) -> Pools:
    joint = parts.model.log_joint(batch.x, z, batch.mask)
    x = batch.x.double() if batch.mask is None else batch.x.double().masked_fill(~batch.mask, float("nan"))
    columns = torch.cat([z.double(), joint.double().unsqueeze(-1)], -1).transpose(0, 1)
    return Pools(x.flatten(1).cpu().numpy(), columns.cpu().numpy())


def _joined(parts: list[Pools]) -> Pools:
    return Pools(*(np.concatenate(each) for each in zip(*parts, strict=True)))
