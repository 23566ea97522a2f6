"""Oracle models: small, in float64, with what is exactly true of them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from curvae.distributions import FixedNormal, LearnedNormal, OneHot, all_states
from curvae.likelihoods import (
    Bernoulli,
    Beta,
    Categorical,
    DiscretizedLogistic,
    Gamma,
    Gaussian,
    GaussianErrors,
    Likelihood,
    LogNormal,
    Mixed,
    NegativeBinomial,
    Ordinal,
    Poisson,
    StudentT,
    ZeroInflatedNegativeBinomial,
)
from curvae.model import LatentVariableModel
from curvae.networks import MLP
from curvae.posteriors import DiagonalGaussian, Mixture
from curvae.priors import Prior, StandardNormal, UniformCategorical
from curvae.typing import Batch

D, P = 3, 10


def batch_of(x: Tensor, mask: Tensor | None = None) -> Batch:
    return Batch(x, torch.arange(len(x)), mask)


class Normal(Prior):
    """A Gaussian around 0 of any precision."""

    quadratic = True
    matrix: Tensor

    def __init__(self, precision: Tensor):
        super().__init__()
        self.blocks = (len(precision),)
        self.register_buffer("matrix", precision)

    @classmethod
    def correlated(cls, size: int, spread: float = 1.0) -> "Normal":
        root = torch.randn(size, size, dtype=torch.float64)
        return cls(spread * (root @ root.mT + torch.eye(size, dtype=torch.float64)))

    @classmethod
    def independent(cls, *scales: float) -> "Normal":
        return cls(torch.tensor(scales, dtype=torch.float64).pow(-2).diag())

    def log_prob(self, z: Tensor) -> Tensor:
        level = 0.5 * (self.matrix.logdet() - len(self.matrix) * math.log(2 * math.pi))
        return level - 0.5 * torch.einsum("...i,ij,...j->...", z, self.matrix, z)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.randn(n, len(self.matrix), dtype=self.matrix.dtype, generator=generator)
        return torch.linalg.solve_triangular(torch.linalg.cholesky(self.matrix).mT, noise.mT, upper=True).mT

    def precision(self, z: Tensor) -> Tensor:
        return self.matrix.expand(*z.shape, z.shape[-1])


class LinearGaussian:
    """pPCA: p(x) = N(b, W W' + s^2 I), p(z | x) = N(Lam^-1 W'(x - b) / s^2, Lam^-1), Lam = W'W / s^2 + I.

    With ``lengths`` the columns of W are that long and at right angles: Lam is ``diag(lengths^2) / s^2 + I``, the
    hardness of the model, and with it what a method does on it, the same for every seed. ``spread`` below 1
    moves the examples toward the mean of all.
    """

    def __init__(
        self,
        size: int = D,
        outputs: int = P,
        scale: float = 0.3,
        count: int = 8,
        spread: float = 1.0,
        lengths: Sequence[float] | None = None,
    ):
        decoder = nn.Linear(size, outputs).double()
        if lengths is not None:
            decoder.weight.data = torch.linalg.qr(decoder.weight.data).Q * torch.tensor(lengths).double()
        self.model = LatentVariableModel(StandardNormal(size), decoder, Gaussian(outputs, scale=scale)).double()
        self.weight, self.bias, self.scale = decoder.weight.detach(), decoder.bias.detach(), scale
        self.x = self.bias + spread * (self.marginal().sample((count,)) - self.bias)
        self.batch = batch_of(self.x)

    def marginal(self) -> MultivariateNormal:
        noise = self.scale**2 * torch.eye(len(self.bias), dtype=torch.float64)
        return MultivariateNormal(self.bias, self.weight @ self.weight.mT + noise)

    def log_evidence(self) -> Tensor:
        return self.marginal().log_prob(self.x)

    def precision(self) -> Tensor:
        size = self.weight.shape[1]
        return self.weight.mT @ self.weight / self.scale**2 + torch.eye(size, dtype=torch.float64)

    def mean(self) -> Tensor:
        return torch.linalg.solve(self.precision(), self.weight.mT @ (self.x - self.bias).mT / self.scale**2).mT

    def whitened(self, z: Tensor) -> Tensor:
        """Standard normal in each dimension where z is drawn from the posterior, (..., B, D)."""
        return (z - self.mean()) @ torch.linalg.cholesky(self.precision())

    def narrow(self, z: Tensor, times: float = 3.0) -> Tensor:
        """Log of ``N(mean, Lam^-1 / times)`` over the posterior, (..., B): under that its exponential has mean 1.

        Importance weights times it are bounded where the proposal's tails are heavier than those of a narrow density.
        """
        square = self.whitened(z).square().sum(-1)
        return 0.5 * z.shape[-1] * math.log(times) - 0.5 * (times - 1) * square

    def covering(self, width: float = 1.2) -> DiagonalGaussian:
        """Around the posterior mean, wider than the posterior in every direction: bounded importance weights."""
        widest = torch.linalg.eigvalsh(torch.linalg.inv(self.precision()))[-1].sqrt()
        return DiagonalGaussian(self.mean(), (width * widest).log().expand(len(self.x), self.weight.shape[1]))


class Squares(nn.Module):
    """eta = z^2: every x > 0 has two modes."""

    def forward(self, z: Tensor) -> Tensor:
        return z.square()


class TwoModes:
    """x = z^2 + noise in one dimension: evidence and posterior by quadrature."""

    def __init__(self, scale: float = 0.4):
        self.model = LatentVariableModel(StandardNormal(1), Squares(), Gaussian(1, scale=scale)).double()
        self.x = torch.tensor([[0.1], [1.0], [2.5]], dtype=torch.float64)
        self.batch = batch_of(self.x)
        self.grid = torch.linspace(-8, 8, 20001, dtype=torch.float64)

    def log_evidence(self) -> Tensor:
        z = self.grid[:, None, None].expand(-1, len(self.x), 1)
        step = self.grid[1] - self.grid[0]
        return torch.logsumexp(self.model.log_joint(self.x, z), 0).detach() + step.log()

    def density(self) -> Tensor:
        """Posterior probability of each point of the grid, (grid, data)."""
        z = self.grid[:, None, None].expand(-1, len(self.x), 1)
        return self.model.log_joint(self.x, z).detach().softmax(0)


def two_normals(left: float, right: float, count: int = 1, scale: float = 0.0) -> Mixture:
    """Half a normal here, half there, in one dimension."""
    parts = (
        DiagonalGaussian(torch.full((count, 1), m).double(), torch.full((count, 1), scale).double())
        for m in (left, right)
    )
    return Mixture(tuple(parts), torch.zeros(count, 2, dtype=torch.float64))


class Categories:
    """A linear decoder of one-hot z with Gaussian noise: evidence by a sum over all values of z."""

    def __init__(self, variables: int = 2, categories: int = 3, outputs: int = P, scale: float = 2.0, count: int = 8):
        prior, decoder = UniformCategorical(variables, categories), nn.Linear(variables * categories, outputs)
        self.model = LatentVariableModel(prior, decoder, Gaussian(outputs, scale=scale)).double()
        self.states = all_states(variables, categories, torch.zeros((), dtype=torch.float64))
        self.x = self.model.sample(count)[0].detach()
        self.batch = batch_of(self.x)

    def log_evidence(self) -> Tensor:
        z = self.states.unsqueeze(1).expand(-1, len(self.x), -1)
        return torch.logsumexp(self.model.log_joint(self.x, z), 0).detach()


def points(size: int = D, count: int = 8) -> Tensor:
    """Points of the latent space, (count, size)."""
    return torch.randn(count, size, dtype=torch.float64)


LIKELIHOODS = {
    "gaussian": lambda event: Gaussian(event, scale=0.7),
    "gaussian-shared": lambda event: Gaussian(event, scale=0.7, learn="shared"),
    "gaussian-element": lambda event: Gaussian(event, scale=0.7, learn="element"),
    "bernoulli": lambda event: Bernoulli(event),
    "categorical": lambda event: Categorical(event, categories=3),
}
"""Those that every route, solver and inference is tried with."""
MORE_LIKELIHOODS = {
    "poisson": Poisson,
    "negative-binomial": lambda event: NegativeBinomial(event, dispersion=0.4),
    "negative-binomial-shared": lambda event: NegativeBinomial(event, dispersion=0.4, learn="shared"),
    "zero-inflated": lambda event: ZeroInflatedNegativeBinomial(event, dispersion=0.4),
    "gaussian-errors": lambda event: GaussianErrors(event, scale=0.7),
    "student-t": lambda event: StudentT(event, scale=0.7),
    "student-t-fixed": lambda event: StudentT(event, scale=0.7, df=4.0, learn=None),
    "log-normal": lambda event: LogNormal(event, scale=0.7),
    "gamma": lambda event: Gamma(event, shape=2.5),
    "beta": lambda event: Beta(event, concentration=20.0),
    "ordinal": lambda event: Ordinal(event, categories=4),
    "discretized-logistic": lambda event: DiscretizedLogistic(event, -2.0, 2.0, levels=9, scale=0.5),
    "mixed": lambda event: mixed(event),
}


def mixed(event: int) -> Mixed:
    """Counts, 0s and 1s, categories and real numbers, one column after the other."""
    kinds = [Poisson, Bernoulli, lambda size: Categorical(size, 3), lambda size: Gaussian(size, scale=0.7)]
    columns = [list(range(event))[k::4] for k in range(4)]
    return Mixed([(kind(len(some)), some) for kind, some in zip(kinds, columns, strict=True) if some])


FAMILIES = {
    "fixed": FixedNormal(3, scale=0.6),
    "learned": LearnedNormal(3),
    "one-hot": OneHot(2, 3),
}


def data_for(likelihood: Likelihood, count: int) -> Tensor:
    """Draws of the likelihood at random eta: valid data."""
    x = likelihood.sample(torch.randn(count, likelihood.size, dtype=torch.float64)).detach()
    return x.double() if x.is_floating_point() else x


def relu_model(
    name: str = "gaussian",
    size: int = D,
    hidden: tuple[int, ...] = (7, 6),
    event: int = P,
    prior: Prior | None = None,
):
    """A ReLU decoder with a likelihood of the list, and a batch of data."""
    likelihood, prior = (LIKELIHOODS | MORE_LIKELIHOODS)[name](event), prior or StandardNormal(size)
    decoder = MLP(prior.size, hidden, likelihood.size)
    for layer in decoder:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.bias, std=0.5)
    model = LatentVariableModel(prior, decoder, likelihood).double()
    return model, batch_of(data_for(likelihood, 8))


class Residual(nn.Module):
    """Not a chain: a skip connection and a normalization of each row."""

    def __init__(self, size: int, hidden: int, outputs: int, activation: type[nn.Module]):
        super().__init__()
        self.first, self.block = nn.Linear(size, hidden), nn.Linear(hidden, hidden)
        self.norm, self.last, self.activation = nn.LayerNorm(hidden), nn.Linear(hidden, outputs), activation()

    def forward(self, z: Tensor) -> Tensor:
        h = self.activation(self.first(z))
        return self.last(h + self.activation(self.block(self.norm(h))))


class SmoothImages(nn.Module):
    """Convolution, batch normalization, dropout and a residual: what evaluation mode makes independent by row."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 16)
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.SiLU(), nn.Dropout(0.5))
        self.last = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        image = self.first(z).unflatten(1, (1, 4, 4))
        return image + self.last(self.body(image))


def smooth_model(count: int = 8, size: int = D, event: int = P, scale: float = 1.0):
    """A decoder without kinks, a Gaussian likelihood, and a batch of data."""
    decoder = nn.Sequential(nn.Linear(size, 6), nn.Tanh(), nn.Linear(6, event))
    model = LatentVariableModel(StandardNormal(size), decoder, Gaussian(event, scale=scale)).double()
    with torch.no_grad():
        x, _ = model.sample(count)
    return model, batch_of(x)
