"""The rotation of latents that a decoder determines, and what each latent then does to each column."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.linear import signs


@dataclass(frozen=True, eq=False)
class Axes:
    r"""Latents ``z' = R z`` by how much the decoder says through each, the strongest first, each with its sign.

    Under the prior N(0, I) the decoder ``z' -> f(R' z')`` is the same model for every rotation R, and training leaves R
    to chance. Here it is that of the eigenvectors of the mean information of x about z,

    ``G = E[J(z)' F(f(z)) J(z)] = R' diag(gains) R``, with J the Jacobian of the decoder and F the information of the
    likelihood (for a Gaussian the inverse of its noise), over the posterior means of training rows.

    For a linear Gaussian decoder G is ``W' Psi^-1 W`` of factor analysis, so these are the axes of
    :meth:`curvae.linear.LinearGaussian.rotated`, with the same signs: the mean slopes of each latent, in the model's
    units, have cubes of positive sum. So the largest is positive where one stands out.

    Args:
        rotation: R, (D, D).
        gains: eigenvalues of G, decreasing, (D,): signal over noise; ``1/2 log(1 + gain)`` nats for a linear decoder.
        rows: number of training rows N.
        loadings: mean of ``d E[x_p | z] / d z'_d`` over these z, in the column's units, (P, D); no rows where the
            decoder has no mean for each column.
        deviations: standard deviations of the columns over training rows, (P,); 0 where one never varies.
        explained: of each column's variance by each latent, in squared units, (P, D): the variance of E[x_p | z] when
            this latent alone is drawn from its prior, the mean over the other latents' values. For a linear decoder it
            is the square of the loading, and the sum over latents with the noise is the variance of the column.

    Example:
        >>> from curvae.latents import principal_rotation
        >>> weight = torch.tensor([[3.0, 0.0], [0.0, -1.0]])
        >>> rotation, gains = principal_rotation(weight.mT @ weight, weight)
        >>> axes = Axes(rotation, gains, 100, weight @ rotation.mT, torch.full((2,), 5.0), (weight @ rotation.mT) ** 2)
        >>> axes.loadings.tolist(), [round(share, 2) for share in axes.shares.tolist()]
        ([[3.0, 0.0], [0.0, 1.0]], [0.18, 0.02])
    """

    rotation: Float[Tensor, "D D"]
    gains: Float[Tensor, " D"]
    rows: int
    loadings: Float[Tensor, "P D"]
    deviations: Float[Tensor, " P"]
    explained: Float[Tensor, "P D"]

    @property
    def standardized(self) -> Float[Tensor, "P D"]:
        """Loadings per standard deviation of the column; 0 where it never varies."""
        return _over(self.loadings, self.deviations)

    @property
    def explained_shares(self) -> Float[Tensor, "P D"]:
        """Of each column's variance by each latent; 0 where it never varies."""
        return _over(self.explained, self.deviations.square())

    @property
    def shares(self) -> Float[Tensor, " D"]:
        """Of the variance of all standardized columns by each latent: the mean over the columns that vary."""
        return self.explained_shares.sum(0) / (self.deviations > 0).sum().clamp(min=1)

    @property
    def undetermined(self) -> tuple[tuple[int, ...], ...]:
        """Latents, numbered from 0, that so many rows do not tell apart: only the space that they span is determined.

        Neighbors are such where their ``1 + gain``, in a linear model eigenvalues of the covariance of x in units of
        the noise, are nearer than the error ``(1 + gain) sqrt(2 / N)``.

        Reference: North, Bell, Cahalan and Moeng, *Sampling Errors in the Estimation of Empirical OrthogonalFrames
        Functions*, Monthly Weather Review 1982.
        """
        level = 1 + self.gains
        near = (level[:-1] - level[1:] <= level[:-1] * math.sqrt(2 / self.rows)).tolist()
        groups = [[0]]
        for latent, joined in enumerate(near, start=1):
            groups[-1].append(latent) if joined else groups.append([latent])
        return tuple(tuple(group) for group in groups if len(group) > 1)

    @property
    def note(self) -> str:
        """What of the rotation is chance, in one line; "" where nothing is."""
        if not self.undetermined:
            return ""
        named = ", and ".join(_listed(group) for group in self.undetermined)
        return (
            f"{named} are equally strong within the error of {self.rows:,} rows: the space that they span is stable, "
            "their directions in it are not."
        )

    def to_dict(self) -> dict[str, Any]:
        """Only what JSON has; the inverse of :meth:`from_dict`."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value.tolist() if isinstance(value, Tensor) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Axes":
        """That of a run's file.

        Raises:
            ValueError: shapes that do not fit, or a matrix that is no rotation.
        """
        found = {name: torch.tensor(values[name], dtype=torch.float64) for name in _TENSORS}
        size, columns = len(found["gains"]), len(found["loadings"])
        shapes = {"rotation": (size, size), "gains": (size,), "loadings": (columns, size), "explained": (columns, size)}
        for name, shape in (shapes | {"deviations": (columns,)}).items():
            value = found[name] if found[name].numel() else found[name].reshape(shape)
            if value.shape != shape or not bool(value.isfinite().all()):
                raise ValueError(f"{name}: expected finite numbers of shape {shape}, got shape {tuple(value.shape)}")
            found[name] = value
        turn = found["rotation"]
        if not torch.allclose(turn @ turn.mT, torch.eye(size, dtype=turn.dtype), atol=1e-8):
            raise ValueError("rotation: expected an orthogonal matrix")
        return cls(rows=values["rows"], **found)


_TENSORS = tuple(each.name for each in fields(Axes) if each.name != "rows")


def principal_rotation(
    information: Float[Tensor, "D D"], slopes: Float[Tensor, "P D"]
) -> tuple[Float[Tensor, "D D"], Float[Tensor, " D"]]:
    """R and the gains of a mean information matrix G, with the signs that mean slopes of the decoder give.

    Args:
        information: G, symmetric.
        slopes: mean derivatives of outputs by the latents as they are.
    """
    gains, vectors = torch.linalg.eigh(information)
    rotation = vectors.flip(1).mT
    return signs(slopes @ rotation.mT).unsqueeze(1) * rotation, gains.flip(0).clamp(min=0)


def _over(values: Float[Tensor, "P D"], scale: Float[Tensor, " P"]) -> Float[Tensor, "P D"]:
    varies = (scale > 0).unsqueeze(1)
    return torch.where(varies, values / torch.where(varies, scale.unsqueeze(1), 1.0), 0.0)


def _listed(group: tuple[int, ...]) -> str:
    names = [f"z{latent}" for latent in group]
    return f"{names[0]} to {names[-1]}" if len(names) > 3 else f"{', '.join(names[:-1])} and {names[-1]}"
