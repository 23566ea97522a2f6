"""The posterior families of the study of inference: how each is made for a frozen model, and which are left out, why.

Every encoder begins with the weights of the one that was trained with the decoder, as far as it has such weights: its
hidden layers, and what gives means and log-scales.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Literal, NamedTuple

import torch
from torch import nn

from curvae.curvature import ConjugateGradient, Gradient, LevenbergMarquardt, Majorized, Newton, PaperSchedule, Solver
from curvae.flows import Autoregressive, Flow, Planar, Radial, affine, spline
from curvae.inference import (
    Adam,
    AmortizedFlow,
    AmortizedFullGaussian,
    AmortizedGaussian,
    AmortizedHouseholder,
    AmortizedMean,
    AmortizedMixture,
    AmortizedRankOne,
    AnnealedHMC,
    ConstantGaussian,
    FisherGaussian,
    FreeTempering,
    HamiltonianFlow,
    Inference,
    Inferred,
    Laplace,
    MatrixFreeLaplace,
    MultimodalLaplace,
    PredictiveCoding,
    QuadraticTempering,
    Refiner,
    SemiAmortized,
    refiner_at_test_time,
)
from curvae.model import LatentVariableModel
from curvae.networks import MLP
from curvae.objectives import Objective, RecursiveElbo, elbo
from curvae.typing import Batch, DataSpec

Member = Literal["diagonal", "full", "own", "shared weights"] | None
"""Whose optimum, found for each example, stands for the best member of a family."""


@dataclass(frozen=True)
class Networks:
    """What encoders are made of: the sizes, and the encoder that was trained with the decoder."""

    spec: DataSpec
    latent: int
    hidden: int
    depth: int
    trained: MLP

    def encoder(self, outputs: int, jitter: float = 0.0) -> MLP:
        """A network that begins as the trained one, as far as that goes; ``jitter`` sets copies apart."""
        network = MLP(prod(self.spec.event), [self.hidden] * self.depth, outputs)
        with torch.no_grad():
            for ours, theirs in zip(network.parameters(), self.trained.parameters(), strict=True):
                ours.mul_(0.1)
                rows = min(len(ours), len(theirs))
                ours[:rows] = theirs[:rows] * (1 + jitter * torch.randn_like(theirs[:rows]))
        return network

    @property
    def diagonal(self) -> AmortizedGaussian:
        """The diagonal Gaussian that most methods start from."""
        return AmortizedGaussian(self.encoder(2 * self.latent))

    def flow(self, flow: Flow) -> Inference:
        """A flow of the diagonal Gaussian."""
        return AmortizedFlow(self.encoder(2 * self.latent + flow.context), flow)

    def mixture(self, components: int) -> Inference:
        """Several diagonal Gaussians that begin apart, with equal weights nearly."""
        parts = [AmortizedGaussian(self.encoder(2 * self.latent, 0.1 * (k > 0))) for k in range(components)]
        gate = MLP(prod(self.spec.event), [self.hidden], components)
        with torch.no_grad():
            gate[-1].weight.mul_(0.01)
        return AmortizedMixture(parts, gate)


class Refined(Inference):
    """Another method's posterior, refined for each example, as ``system.posterior(x, refine=20)`` does."""

    def __init__(self, inference: Inference, refiner: Refiner):
        super().__init__()
        self.inference = inference
        self.refiner = refiner

    def forward(self, model: LatentVariableModel, batch: Batch) -> Inferred:
        return self.refiner(model, self.inference(model, batch).posterior, batch)


class Family(NamedTuple):
    """A row of the study."""

    make: Callable[[Networks], Inference]
    member: Member
    kind: str = "one pass"
    """What the picture tells apart."""
    objective: Objective = elbo
    after: str | None = None
    """Trained as that family, whose weights it takes."""


def full(n: Networks) -> Inference:
    """All covariances from one pass."""
    return AmortizedFullGaussian(n.encoder(n.latent + n.latent * (n.latent + 1) // 2), n.latent)


def annealed(n: Networks, metropolis: bool) -> Inference:
    """Annealed HMC of five temperatures."""
    return AnnealedHMC(n.diagonal, n.latent, steps=5, step=0.03, metropolis=metropolis)


def hamiltonian(n: Networks, tempering: Callable[[], nn.Module] | None = None) -> Inference:
    """Three leapfrog steps."""
    return HamiltonianFlow(n.diagonal, n.latent, 3, tempering and tempering(), step=0.03)


def laplace(n: Networks, solver: Solver) -> Inference:
    """Laplace inference with another search."""
    return Laplace(n.diagonal, 4, solver)


ASCENT = Refiner(8, Adam(0.05))
"""Steps of the semi-amortized methods."""
CHAINS, PASS, FLOW, MIXTURE, CURVATURE, GRADIENT = "simulated", "one pass", "flow", "mixture", "curvature", "refined"

FAMILIES: dict[str, Family] = {
    "laplace": Family(lambda n: Laplace(n.diagonal, steps=4), "full", CURVATURE),
    "amortized": Family(lambda n: n.diagonal, "diagonal"),
    "amortized-refined": Family(
        lambda n: Refined(n.diagonal, refiner_at_test_time(20)), "diagonal", GRADIENT, after="amortized"
    ),
    "amortized-mean": Family(lambda n: AmortizedMean(n.encoder(n.latent)), None),
    "amortized-full": Family(full, "full"),
    "amortized-full-refined": Family(
        lambda n: Refined(full(n), refiner_at_test_time(20)), "full", GRADIENT, after="amortized-full"
    ),
    "householder": Family(lambda n: AmortizedHouseholder(n.encoder(3 * n.latent), n.latent, n.latent - 1), "full"),
    "amortized-rank-one": Family(lambda n: AmortizedRankOne(n.encoder(3 * n.latent), (n.latent,)), "own"),
    "planar": Family(lambda n: n.flow(Planar(n.latent, 8)), "own", FLOW),
    "radial": Family(lambda n: n.flow(Radial(n.latent, 8)), "own", FLOW),
    "inverse-autoregressive": Family(
        lambda n: n.flow(Autoregressive(n.latent, 16, 2, [n.hidden])), "shared weights", FLOW
    ),
    "coupling": Family(
        lambda n: n.flow(Autoregressive(n.latent, 16, 4, [n.hidden], affine(), passes=2)), "shared weights", FLOW
    ),
    "spline": Family(
        lambda n: n.flow(Autoregressive(n.latent, 16, 2, [n.hidden], spline(8), passes=2)), "shared weights", FLOW
    ),
    "mixture": Family(lambda n: n.mixture(4), "own", MIXTURE),
    "recursive-mixture": Family(lambda n: n.mixture(4), "own", MIXTURE, RecursiveElbo()),
    "fisher": Family(lambda n: FisherGaussian(n.encoder(n.latent)), "full", CURVATURE),
    "laplace-published": Family(
        lambda n: Laplace(n.diagonal, 4, Newton(PaperSchedule()), unroll=True), "full", CURVATURE
    ),
    "laplace-levenberg-marquardt": Family(partial(laplace, solver=LevenbergMarquardt()), "full", CURVATURE),
    "laplace-conjugate-gradient": Family(partial(laplace, solver=ConjugateGradient()), "full", CURVATURE),
    "laplace-gradient": Family(partial(laplace, solver=Gradient()), "full", CURVATURE),
    "laplace-majorized": Family(partial(laplace, solver=Majorized()), "full", CURVATURE),
    "laplace-matrix-free": Family(lambda n: MatrixFreeLaplace(n.diagonal), "full", CURVATURE),
    "multimodal-laplace": Family(
        lambda n: MultimodalLaplace(n.diagonal, 4, partial(Laplace, steps=6)), "own", CURVATURE
    ),
    "laplace-refined": Family(
        lambda n: Refined(Laplace(n.diagonal, 4), refiner_at_test_time(20)), "full", GRADIENT, after="laplace"
    ),
    "semi-amortized": Family(lambda n: SemiAmortized(n.diagonal, ASCENT), "diagonal", GRADIENT),
    "semi-amortized-full": Family(lambda n: SemiAmortized(full(n), ASCENT), "full", GRADIENT),
    "vae-svi-kl": Family(
        lambda n: SemiAmortized(n.diagonal, ASCENT, unroll=False, kl_weight=1.0), "diagonal", GRADIENT
    ),
    "svi": Family(lambda n: SemiAmortized(ConstantGaussian(n.latent), Refiner(40, Adam(0.2))), "diagonal", GRADIENT),
    "predictive-coding": Family(lambda n: PredictiveCoding(), None, GRADIENT),
    "hamiltonian": Family(hamiltonian, "own", CHAINS),
    "hamiltonian-fixed": Family(partial(hamiltonian, tempering=partial(QuadraticTempering, 1.5)), "own", CHAINS),
    "hamiltonian-free": Family(partial(hamiltonian, tempering=partial(FreeTempering, 3)), "own", CHAINS),
    "annealed": Family(partial(annealed, metropolis=False), "own", CHAINS),
    "annealed-metropolis": Family(partial(annealed, metropolis=True), None, CHAINS),
}
"""Named as in ``tests/methods.py`` where it has them."""

SOURCES = {"diagonal": "amortized", "full": "laplace"}
"""Where the search for the best member begins, for those that several families share."""

LEFT_OUT: dict[str, str] = {
    "categorical": "discrete latents: another model",
    "pairwise": "discrete latents: another model",
    "labels": "`mixture` with one encoder, whose components are labels of a prior that is a mixture",
    "langevin": "a posterior of a width set by hand: its ELBO says nothing of the chains",
    "langevin-plain": "a posterior of a width set by hand: its ELBO says nothing of the chains",
    "laplace-no-steps": "Laplace without a search: that is `fisher`, trained in another way",
    "multimodal-laplace-candidates": "`multimodal-laplace` with other starts, for the evaluator",
    "sees-mask": "`amortized` with another encoder: says the same where nothing is missing",
    "completions": "`amortized` of completed rows: says the same where nothing is missing",
    "amortized-modulated": "`amortized` with another encoder: has a study of its own, rivals",
    "pushforward": "has a study of its own, rivals",
    "continuous": "a flow with a density at any z, as `spline` is, at 1 + D passes: not run yet",
    "averaged": "has a study of its own, averaged-curvature",
    "averaged-quadrature": "has a study of its own, averaged-curvature",
    "laplace-implicit": "the posterior of `laplace-matrix-free` below 256 dimensions, with noise in its determinant",
    "fisher-detached": "the posterior of `fisher`, with a part of the gradient missing",
    "fisher-matrix-free": "the posterior of `fisher` below 256 dimensions, with noise in its determinant",
}
"""Methods of ``tests/methods.py`` that have no row, and why."""
