"""THE list: every likelihood, prior, posterior, inference, objective and system, once. The contracts run over it."""

from functools import partial

import torch
from torch import nn

from curvae import objectives, systems
from curvae.curvature import ConjugateGradient, Gradient, LevenbergMarquardt, Majorized, Newton, PaperSchedule
from curvae.flows import Autoregressive, Flow, Planar, Radial, affine, spline
from curvae.inference import (
    AmortizedCategorical,
    AmortizedFlow,
    AmortizedFullGaussian,
    AmortizedGaussian,
    AmortizedHouseholder,
    AmortizedLangevin,
    AmortizedMean,
    AmortizedMixture,
    AmortizedPairwise,
    AmortizedRankOne,
    AnnealedHMC,
    FisherGaussian,
    FreeTempering,
    HamiltonianFlow,
    HeavyBall,
    Inference,
    Laplace,
    MatrixFreeLaplace,
    MultimodalLaplace,
    PredictiveCoding,
    QuadraticTempering,
    Refiner,
    SemiAmortized,
    Uninformed,
)
from curvae.networks import MLP
from curvae.posteriors import (
    AnnealedPosterior,
    Chains,
    DiagonalGaussian,
    Enumerated,
    Factored,
    FullGaussian,
    HamiltonianPosterior,
    HouseholderGaussian,
    IndependentCategorical,
    Mixture,
    PairwiseBinary,
    Posterior,
    PrecisionGaussian,
    RankOneGaussian,
    pushed,
)
from curvae.posteriors.gaussian import unpack
from curvae.priors import AggregateNormal, FixedNormal, Layered, LearnedNormal, StandardNormal, UniformCategorical
from curvae.typing import DataSpec
from zoo import LIKELIHOODS, D, P, smooth_model

LIKELIHOODS = LIKELIHOODS
"""event -> likelihood."""

PRIORS = {
    "standard-normal": lambda: StandardNormal(D),
    "standard-normal-blocks": lambda: StandardNormal(D, blocks=(1, 2)),
    "aggregate-normal": lambda: _aggregate(),
    "uniform-categorical": lambda: UniformCategorical(1, D),
    "layered": lambda: Layered([FixedNormal(1), FixedNormal(2, scale=0.7)], [nn.Linear(1, 2)]),
}


def _aggregate() -> AggregateNormal:
    """One that has seen a batch."""
    prior, root = AggregateNormal(D), torch.randn(D, D)
    prior.load_state_dict(prior.toward(torch.randn(D), torch.eye(D) + root @ root.mT))
    return prior


def _matrices(count: int) -> torch.Tensor:
    return 0.4 * torch.randn(count, D, D, dtype=torch.float64)


def _pushed(flow: Flow, count: int) -> Posterior:
    context = 0.7 * torch.randn(count, flow.context, dtype=torch.float64)
    return pushed(POSTERIORS["diagonal"](count), flow.double(), context)


def _diagonal(count: int) -> DiagonalGaussian:
    return DiagonalGaussian(*(0.5 * torch.randn(2, count, D, dtype=torch.float64)))


def _steps(count: int, steps: int = 4) -> torch.Tensor:
    return -2 + 0.1 * torch.randn(count, steps, D, dtype=torch.float64)


def _hamiltonian(count: int) -> HamiltonianPosterior:
    temperature = torch.linspace(1, 0.2, 4, dtype=torch.float64).expand(count, -1)
    return HamiltonianPosterior(_diagonal(count), *smooth_model(count), _steps(count), temperature)


def _annealed(count: int, metropolis: bool) -> AnnealedPosterior:
    betas = torch.linspace(0, 1, 5, dtype=torch.float64)
    return AnnealedPosterior(_diagonal(count), *smooth_model(count), _steps(count), betas, 1, metropolis)


def uniform_over(posterior: Posterior) -> UniformCategorical:
    """The prior that gives all values of a discrete posterior the same probability."""
    law = posterior.posterior if isinstance(posterior, Enumerated) else posterior
    return UniformCategorical(law.variables, law.categories).double()


POSTERIORS: dict[str, object] = {
    "diagonal": lambda count: DiagonalGaussian(*(0.5 * torch.randn(2, count, D, dtype=torch.float64))),
    "full": lambda count: FullGaussian(torch.randn(count, D, dtype=torch.float64), _matrices(count).tril()),
    "precision": lambda count: PrecisionGaussian(torch.randn(count, D, dtype=torch.float64), unpack(_matrices(count))),
    "householder": lambda count: HouseholderGaussian(
        *(0.5 * torch.randn(2, count, D, dtype=torch.float64)), torch.randn(count, 2, D, dtype=torch.float64)
    ),
    "rank-one": lambda count: RankOneGaussian(*(0.5 * torch.randn(3, count, D, dtype=torch.float64)), blocks=(1, 2)),
    "planar": lambda count: _pushed(Planar(D, steps=4), count),
    "radial": lambda count: _pushed(Radial(D, steps=4), count),
    "inverse-autoregressive": lambda count: _pushed(Autoregressive(D, 4, 2, [8]), count),
    "coupling": lambda count: _pushed(Autoregressive(D, 4, 3, [8], affine(), passes=2), count),
    "spline": lambda count: _pushed(Autoregressive(D, 4, 2, [8], spline(4)), count),
    "factored": lambda count: Factored(
        (FixedNormal(1, scale=0.6), LearnedNormal(2)), 0.5 * torch.randn(count, 5, dtype=torch.float64)
    ),
    "mixture": lambda count: Mixture(
        tuple(POSTERIORS[name](count) for name in ("diagonal", "full", "precision")),
        torch.randn(count, 3, dtype=torch.float64),
    ),
    "hamiltonian": _hamiltonian,
    "annealed": lambda count: _annealed(count, metropolis=False),
    "annealed-metropolis": lambda count: _annealed(count, metropolis=True),
    "chains": lambda count: Chains(torch.randn(count, 2, 300, D, dtype=torch.float64)),
    "categorical": lambda count: IndependentCategorical(torch.randn(count, 2, 3, dtype=torch.float64)),
    "pairwise": lambda count: PairwiseBinary(*torch.randn(2, count, 3, dtype=torch.float64)),
    "enumerated": lambda count: Enumerated(POSTERIORS["categorical"](count)),
}
"""number of data -> posterior."""


def encoder(outputs: int) -> nn.Module:
    """Near the prior to begin with, so that importance weights of an untrained method are of use."""
    network = MLP(P, [16], outputs).double()
    with torch.no_grad():
        for parameter in network[-1].parameters():
            parameter.mul_(0.1)
    return network


def amortized_flow(flow: Flow) -> Inference:
    return AmortizedFlow(encoder(2 * D + flow.context), flow.double())


INFERENCES: dict[str, object] = {
    "amortized": lambda: AmortizedGaussian(encoder(2 * D)),
    "amortized-mean": lambda: AmortizedMean(encoder(D)),
    "amortized-full": lambda: AmortizedFullGaussian(encoder(D + D * (D + 1) // 2), D),
    "householder": lambda: AmortizedHouseholder(encoder(3 * D), D, reflections=3).double(),
    "amortized-rank-one": lambda: AmortizedRankOne(encoder(3 * D), blocks=(1, 2)),
    "planar": lambda: amortized_flow(Planar(D, steps=3)),
    "radial": lambda: amortized_flow(Radial(D, steps=3)),
    "inverse-autoregressive": lambda: amortized_flow(Autoregressive(D, 4, 2, [8])),
    "coupling": lambda: amortized_flow(Autoregressive(D, 4, 2, [8], affine(), passes=2)),
    "spline": lambda: amortized_flow(Autoregressive(D, 4, 2, [8], spline(4), passes=2)),
    "predictive-coding": lambda: PredictiveCoding(steps=10),
    "laplace": lambda: Laplace(AmortizedGaussian(encoder(2 * D)), steps=4),
    "laplace-published": lambda: Laplace(AmortizedGaussian(encoder(2 * D)), 4, Newton(PaperSchedule()), unroll=True),
    "laplace-levenberg-marquardt": lambda: Laplace(AmortizedGaussian(encoder(2 * D)), 4, LevenbergMarquardt()),
    "laplace-conjugate-gradient": lambda: Laplace(AmortizedGaussian(encoder(2 * D)), 4, ConjugateGradient()),
    "laplace-gradient": lambda: Laplace(AmortizedGaussian(encoder(2 * D)), 4, Gradient()),
    "laplace-majorized": lambda: Laplace(AmortizedGaussian(encoder(2 * D)), 4, Majorized()),
    "laplace-no-steps": lambda: Laplace(AmortizedGaussian(encoder(2 * D)), steps=0),
    "laplace-matrix-free": lambda: MatrixFreeLaplace(
        AmortizedGaussian(encoder(2 * D)), solver=ConjugateGradient(forcing=1e-14), tolerance=1e-20
    ),
    "laplace-implicit": lambda: MatrixFreeLaplace(
        AmortizedGaussian(encoder(2 * D)), solver=ConjugateGradient(forcing=1e-14), tolerance=1e-20, dense=0
    ),
    "semi-amortized": lambda: SemiAmortized(AmortizedGaussian(encoder(2 * D)), Refiner(4, HeavyBall(0.005))),
    "semi-amortized-full": lambda: SemiAmortized(
        AmortizedFullGaussian(encoder(D + D * (D + 1) // 2), D), Refiner(4, HeavyBall(0.005))
    ),
    "vae-svi-kl": lambda: SemiAmortized(
        AmortizedGaussian(encoder(2 * D)), Refiner(4, HeavyBall(0.005)), through=False, imitate=1.0
    ),
    "hamiltonian": lambda: HamiltonianFlow(AmortizedGaussian(encoder(2 * D)), D, steps=3).double(),
    "hamiltonian-fixed": lambda: HamiltonianFlow(
        AmortizedGaussian(encoder(2 * D)), D, 3, QuadraticTempering(1.5), varied=True
    ).double(),
    "hamiltonian-free": lambda: HamiltonianFlow(AmortizedGaussian(encoder(2 * D)), D, 3, FreeTempering(3)).double(),
    "langevin": lambda: AmortizedLangevin(encoder(16), D, 16, scale=0.9).double(),
    "langevin-plain": lambda: AmortizedLangevin(encoder(16), D, 16, metropolis=False, scale=0.9).double(),
    "annealed": lambda: AnnealedHMC(AmortizedGaussian(encoder(2 * D)), D, steps=3).double(),
    "annealed-metropolis": lambda: AnnealedHMC(
        AmortizedGaussian(encoder(2 * D)), D, steps=3, leapfrogs=2, step=0.4, metropolis=True
    ).double(),
    "svi": lambda: SemiAmortized(Uninformed(D), Refiner(4, HeavyBall(0.005))),
    "fisher": lambda: FisherGaussian(encoder(D)),
    "fisher-detached": lambda: FisherGaussian(encoder(D), through=False),
    "fisher-matrix-free": lambda: FisherGaussian(encoder(D), dense=0),
    "mixture": lambda: AmortizedMixture([AmortizedGaussian(encoder(2 * D)) for _ in range(2)], encoder(2)),
    "categorical": lambda: AmortizedCategorical(encoder(6)),
    "pairwise": lambda: AmortizedPairwise(encoder(6)),
    "multimodal-laplace": lambda: MultimodalLaplace(
        AmortizedGaussian(encoder(2 * D)), components=3, search=partial(Laplace, steps=12)
    ),
}

CATEGORIES = {"categorical": (2, 3), "pairwise": (3, 2)}
"""Inference methods for discrete latents: variables and categories of the prior."""

EXACT_ON_LINEAR_GAUSSIAN = {
    "laplace",
    "laplace-levenberg-marquardt",
    "laplace-conjugate-gradient",
    "laplace-gradient",
    "laplace-majorized",
    "laplace-matrix-free",
    "laplace-implicit",
    "multimodal-laplace",
}
"""Inference methods whose posterior is the exact one there."""

STL, DREG = objectives.StickingTheLanding(), objectives.DoublyReparameterized()

DISCRETE_GRADIENTS: dict[str, object] = {
    "direct": objectives.DirectArgmax,
    "direct-absolute": lambda: objectives.DirectArgmax(0.1, relative=False),
    "gumbel-softmax": objectives.GumbelSoftmax,
    "straight-through": objectives.StraightThrough,
    "leave-one-out": objectives.LeaveOneOut,
    "enumeration": objectives.Enumeration,
}
"""Estimators of DiscreteElbo, whose contract has a file of its own: latents of another kind."""

OBJECTIVES: dict[str, object] = {
    "elbo": lambda: objectives.elbo,
    "monte-carlo-elbo": lambda: objectives.monte_carlo_elbo,
    "free-bits": lambda: objectives.FreeBits(1.0),
    "annealed-elbo": lambda: objectives.AnnealedElbo(warmup=10),
    "predictive-energy": lambda: objectives.PredictiveEnergy(),
    "iwae": lambda: objectives.iwae,
    "recursive-elbo": lambda: objectives.RecursiveElbo(),
    "iwae-stl": lambda: objectives.Iwae(estimator=STL),
    "iwae-dreg": lambda: objectives.Iwae(estimator=DREG),
    "miwae": lambda: objectives.Miwae(2),
    "miwae-dreg": lambda: objectives.Miwae(2, estimator=DREG),
    "piwae": lambda: objectives.Piwae(2),
    "piwae-dreg": lambda: objectives.Piwae(2, estimator=DREG),
    "ciwae": lambda: objectives.Ciwae(0.3),
    "ciwae-dreg": lambda: objectives.Ciwae(0.3, estimator=DREG),
    "elbo-stl": lambda: objectives.MonteCarloElbo(estimator=STL),
    "renyi": lambda: objectives.Renyi(0.5),
    "renyi-dreg": lambda: objectives.Renyi(0.5, estimator=DREG),
    "renyi-above-1": lambda: objectives.Renyi(2.0),
    "renyi-below-0": lambda: objectives.Renyi(-1.0),
    "f-divergence": lambda: objectives.FDivergence(),
    "f-divergence-dreg": lambda: objectives.FDivergence(estimator=DREG),
    "cubo": lambda: objectives.Cubo(),
    "cubo-dreg": lambda: objectives.Cubo(estimator=DREG),
    "wake": lambda: objectives.WakePhi(),
    "point-joint": lambda: objectives.PointJoint(),
    "score-climbing": lambda: objectives.ScoreClimbing(leapfrogs=2),
    "wake-doubly": lambda: objectives.WakePhi(doubly=True),
    "skew-jensen-shannon": lambda: objectives.SkewJensenShannon(),
    "mutual-divergence": lambda: objectives.MutualDivergence(),
    "batch-information": lambda: objectives.BatchInformation(),
    "batch-likelihood": lambda: objectives.BatchLikelihood(),
}

BATCH_COUPLED = {"mutual-divergence", "batch-information", "batch-likelihood", "free-bits", "score-climbing"}
"""Objectives whose surrogate depends on the batch as a whole, or on noise of their own."""

DIAGONAL_ONLY = {"skew-jensen-shannon", "mutual-divergence"}
"""Objectives for diagonal Gaussian posteriors alone."""

CENTER_ONLY = {"point-joint"}
"""Objectives that do not look at how wide the posterior is."""

SPEC = DataSpec((P,), "real")

SYSTEMS: dict[str, object] = {
    "vae": lambda spec=SPEC: systems.vae(spec, latent=D, hidden=16),
    "iwae": lambda spec=SPEC: systems.iwae(spec, latent=D, hidden=16),
    "dlgm": lambda spec=SPEC: systems.dlgm(spec, latent=D, layers=1, hidden=16),
    "dlgm-diagonal": lambda spec=SPEC: systems.dlgm(spec, latent=1, layers=D, hidden=16, rank_one=False),
    "predictive-coding": lambda spec=SPEC: systems.predictive_coding(spec, latent=1, layers=D, hidden=16),
    "incremental-predictive-coding": lambda spec=SPEC: systems.predictive_coding(
        spec, latent=1, layers=D, hidden=16, family="learned", incremental=True
    ),
    "predictive-coding-categorical": lambda spec=SPEC: systems.predictive_coding(
        spec, latent=D, layers=1, hidden=16, family="categorical", categories=3
    ),
    "sa-vae": lambda spec=SPEC: systems.sa_vae(spec, latent=D, hidden=16, steps=3),
    "vae-svi": lambda spec=SPEC: systems.sa_vae(spec, latent=D, hidden=16, steps=3, through=False),
    "svi": lambda spec=SPEC: systems.sa_vae(spec, latent=D, hidden=16, steps=3, amortized=False),
    "householder-vae": lambda spec=SPEC: systems.householder_vae(spec, latent=D, hidden=16, reflections=2),
    "iwae-dreg": lambda spec=SPEC: systems.iwae(spec, latent=D, hidden=16, gradient="dreg"),
    "miwae": lambda spec=SPEC: systems.miwae(spec, latent=D, hidden=16, groups=2, samples=3),
    "piwae": lambda spec=SPEC: systems.piwae(spec, latent=D, hidden=16, groups=2, samples=3),
    "ciwae": lambda spec=SPEC: systems.ciwae(spec, latent=D, hidden=16),
    "renyi-vae": lambda spec=SPEC: systems.renyi_vae(spec, latent=D, hidden=16),
    "chi-vae": lambda spec=SPEC: systems.chi_vae(spec, latent=D, hidden=16),
    "wake-wake": lambda spec=SPEC: systems.wake_wake(spec, latent=D, hidden=16),
    "skew-vae": lambda spec=SPEC: systems.skew_vae(spec, latent=D, hidden=16),
    "bilbo": lambda spec=SPEC: systems.bilbo(spec, latent=D, hidden=16),
    "baggins": lambda spec=SPEC: systems.baggins(spec, latent=D, hidden=16),
    "planar-vae": lambda spec=SPEC: systems.planar_vae(spec, latent=D, hidden=16, flows=2),
    "radial-vae": lambda spec=SPEC: systems.radial_vae(spec, latent=D, hidden=16, flows=2),
    "hvae": lambda spec=SPEC: systems.hvae(spec, latent=D, hidden=16, steps=3),
    "hvae-free": lambda spec=SPEC: systems.hvae(spec, latent=D, hidden=16, steps=3, tempering="free", varied=True),
    "ais-vae": lambda spec=SPEC: systems.ais_vae(spec, latent=D, hidden=16, steps=3, samples=2),
    "ais-vae-metropolis": lambda spec=SPEC: systems.ais_vae(
        spec, latent=D, hidden=16, steps=3, metropolis=True, samples=2
    ),
    "iaf-vae": lambda spec=SPEC: systems.iaf_vae(spec, latent=D, hidden=16, width=8, context=4),
    "iaf-vae-free-bits": lambda spec=SPEC: systems.iaf_vae(
        spec, latent=D, hidden=16, width=8, context=4, gated_update=False, free_bits=0.5
    ),
    "coupling-vae": lambda spec=SPEC: systems.coupling_vae(spec, latent=D, hidden=16, flows=2, width=8, context=4),
    "spline-vae": lambda spec=SPEC: systems.spline_vae(spec, latent=D, hidden=16, width=8, context=4, bins=4),
    "langevin-ae": lambda spec=SPEC: systems.langevin_ae(spec, latent=D, hidden=16),
    "tsc": lambda spec=SPEC: systems.tsc(spec, latent=D, hidden=16),
    "tsc-flow": lambda spec=SPEC: systems.tsc(spec, latent=D, hidden=16, flows=2, width=8, context=4, warmup=0),
    "vlae": lambda spec=SPEC: systems.vlae(spec, latent=D, hidden=16),
    "vlae-published": lambda spec=SPEC: systems.vlae(spec, latent=D, hidden=16, warmup=0, published=True),
    **{
        f"direct-vae-{word}": lambda spec=SPEC, word=word: systems.direct_vae(spec, 1, D, hidden=16, gradient=word)
        for word in ("direct", "gumbel-softmax", "straight-through", "leave-one-out", "exact")
    },
    "direct-vae-pairwise": lambda spec=SPEC: systems.direct_vae(spec, 3, 2, hidden=16, pairwise=True),
    "fishernet": lambda spec=SPEC: systems.fishernet(spec, latent=D, hidden=16),
    "fishernet-newton": lambda spec=SPEC: systems.fishernet(spec, latent=D, hidden=16, steps=1),
    "fishernet-matrix-free": lambda spec=SPEC: systems.fishernet(spec, latent=D, hidden=16, dense=0),
    "mixture-vae": lambda spec=SPEC: systems.mixture_vae(spec, latent=D, hidden=16, components=2),
    "recursive-mixture": lambda spec=SPEC: systems.recursive_mixture(spec, latent=D, hidden=16, components=3),
    "multimodal-vlae": lambda spec=SPEC: systems.multimodal_vlae(spec, latent=D, hidden=16, components=3, steps=2),
}

REAL_ONLY = {"baggins"}
"""Systems that refuse data that are not real numbers."""

BEST_OF_THEIR_FAMILY = {"predictive-coding"}
"""Systems whose posterior of an untrained model is where its ELBO is highest: refinement has nothing to gain."""


def inference(name: str) -> Inference:
    return INFERENCES[name]()


def posterior(name: str, count: int = 8) -> Posterior:
    return POSTERIORS[name](count)
