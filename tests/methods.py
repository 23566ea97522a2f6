"""THE list: every likelihood, prior, posterior, inference, objective and system, once. The contracts run over it."""

from collections.abc import Callable
from functools import partial

import torch
import zuko
from torch import nn

from curvae import objectives, systems
from curvae.curvature import ConjugateGradient, Gradient, LevenbergMarquardt, Majorized, Newton, PaperSchedule
from curvae.distributions import FixedNormal, LearnedNormal
from curvae.distributions.gaussian import unpack
from curvae.flows import Autoregressive, Continuous, Planar, Radial, ZukoFlow, affine, spline
from curvae.inference import (
    AmortizedCategorical,
    AmortizedFullGaussian,
    AmortizedGaussian,
    AmortizedHouseholder,
    AmortizedLabels,
    AmortizedLangevin,
    AmortizedMean,
    AmortizedMixture,
    AmortizedPairwise,
    AmortizedRankOne,
    AnnealedHMC,
    AveragedCurvature,
    AveragedLaplace,
    ConstantGaussian,
    FisherGaussian,
    FreeTempering,
    GaussHermite,
    GibbsChains,
    HamiltonianFlow,
    HeavyBall,
    Inference,
    Laplace,
    MatrixFreeLaplace,
    MixtureOfCompletions,
    MultimodalLaplace,
    PredictiveCoding,
    PushforwardGaussian,
    QuadraticTempering,
    Refiner,
    SeesMask,
    SemiAmortized,
)
from curvae.likelihoods import SelfMasking
from curvae.networks import FrontWithGaps
from curvae.posteriors import (
    Chains,
    EnumeratedPosterior,
    FullGaussian,
    HouseholderGaussian,
    IndependentCategorical,
    Mixture,
    PairwiseBinary,
    Posterior,
    PrecisionGaussian,
    ProductPosterior,
    RankOneGaussian,
    rotated,
)
from curvae.priors import (
    FlowPrior,
    Layered,
    MixturePrior,
    ProductPrior,
    StandardLogistic,
    StandardNormal,
    TiltedNormal,
    UniformCategorical,
    autoregressive_prior,
    coupling_prior,
)
from curvae.systems import LatentSystem
from curvae.typing import DataSpec
from ingredients import (
    aggregate,
    amortized_flow,
    annealed,
    diagonal,
    encoder,
    hamiltonian,
    matrices,
    modulated_encoder,
    orthogonal,
    pushed_by,
    stirred,
    students,
    vamp,
)
from zoo import LIKELIHOODS, MORE_LIKELIHOODS, D, P

LIKELIHOODS = LIKELIHOODS | MORE_LIKELIHOODS
"""event -> likelihood."""

PRIORS = {
    "standard-normal": lambda: StandardNormal(D),
    "standard-logistic": lambda: StandardLogistic(D),
    "standard-normal-blocks": lambda: StandardNormal(D, blocks=(1, 2)),
    "aggregate-normal": aggregate,
    "tilted-normal": lambda: TiltedNormal(D, tilt=2.0),
    "uniform-categorical": lambda: UniformCategorical(1, D),
    "layered": lambda: Layered([FixedNormal(1), FixedNormal(2, scale=0.7)], [nn.Linear(1, 2)]),
    "flow": lambda: stirred(coupling_prior(D, steps=2, hidden=[8])),
    "flow-autoregressive": lambda: stirred(autoregressive_prior(D, steps=2, hidden=[8, 8])),
    "flow-spline": lambda: stirred(FlowPrior(Autoregressive(D, 0, 2, [8], spline(4)))),
    "flow-radial": lambda: stirred(FlowPrior(Radial(D, steps=3))),
    "flow-zuko": lambda: stirred(FlowPrior(ZukoFlow(zuko.flows.NSF(D, transforms=2, hidden_features=(8,)), D))),
    "mixture": lambda: stirred(MixturePrior(D, components=3)),
    "mixture-of-one": lambda: stirred(MixturePrior(D, components=1)),
    "vamp": vamp,
    "product": lambda: ProductPrior([StandardNormal(1), stirred(MixturePrior(2, components=3))]),
}

GAUSS_NEWTON = {"flow", "flow-autoregressive", "flow-spline", "flow-radial", "flow-zuko"}
"""Priors whose precision is ``J'J``, J the Jacobian of what takes z to standard normal noise."""

MEAN_OF_COMPONENTS = {"mixture", "vamp", "product"}
"""Priors whose precision is never below the Hessian of ``-log p(z)``."""


POSTERIORS: dict[str, object] = {
    "diagonal": diagonal,
    "student-mixture": lambda count: students(count, 3),
    "full": lambda count: FullGaussian(torch.randn(count, D, dtype=torch.float64), matrices(count).tril()),
    "precision": lambda count: PrecisionGaussian(torch.randn(count, D, dtype=torch.float64), unpack(matrices(count))),
    "householder": lambda count: HouseholderGaussian(
        *(0.5 * torch.randn(2, count, D, dtype=torch.float64)), torch.randn(count, 2, D, dtype=torch.float64)
    ),
    "rank-one": lambda count: RankOneGaussian(*(0.5 * torch.randn(3, count, D, dtype=torch.float64)), blocks=(1, 2)),
    "planar": lambda count: pushed_by(Planar(D, steps=4), count),
    "radial": lambda count: pushed_by(Radial(D, steps=4), count),
    "inverse-autoregressive": lambda count: pushed_by(Autoregressive(D, 4, 2, [8]), count),
    "coupling": lambda count: pushed_by(Autoregressive(D, 4, 3, [8], affine(), passes=2), count),
    "spline": lambda count: pushed_by(Autoregressive(D, 4, 2, [8], spline(4)), count),
    "continuous": lambda count: pushed_by(Continuous(D, 4, 2, [8]), count),
    "factored": lambda count: ProductPosterior(
        (FixedNormal(1, scale=0.6), LearnedNormal(2)), 0.5 * torch.randn(count, 5, dtype=torch.float64)
    ),
    "mixture": lambda count: Mixture(
        tuple(POSTERIORS[name](count) for name in ("diagonal", "full", "precision")),
        torch.randn(count, 3, dtype=torch.float64),
    ),
    "rotated-householder": lambda count: rotated(POSTERIORS["householder"](count), orthogonal()),
    "rotated-mixture": lambda count: rotated(POSTERIORS["mixture"](count), orthogonal()),
    "rotated-coupling": lambda count: rotated(POSTERIORS["coupling"](count), orthogonal()),
    "rotated-planar": lambda count: rotated(POSTERIORS["planar"](count), orthogonal()),
    "hamiltonian": hamiltonian,
    "annealed": lambda count: annealed(count, metropolis=False),
    "annealed-metropolis": lambda count: annealed(count, metropolis=True),
    "chains": lambda count: Chains(torch.randn(count, 2, 300, D, dtype=torch.float64)),
    "categorical": lambda count: IndependentCategorical(torch.randn(count, 2, 3, dtype=torch.float64)),
    "pairwise": lambda count: PairwiseBinary(*torch.randn(2, count, 3, dtype=torch.float64)),
    "enumerated": lambda count: EnumeratedPosterior(POSTERIORS["categorical"](count)),
}
"""number of data -> posterior."""


INFERENCES: dict[str, object] = {
    "amortized": lambda: AmortizedGaussian(encoder(2 * D)),
    "sees-mask": lambda: SeesMask(AmortizedGaussian(encoder(2 * D, FrontWithGaps(P)))),
    "completions": lambda: MixtureOfCompletions(AmortizedGaussian(encoder(2 * D)), GibbsChains((P,), 3)),
    "amortized-modulated": lambda: AmortizedGaussian(modulated_encoder(2 * D)),
    "pushforward": lambda: PushforwardGaussian(encoder(2 * D), inputs=P).double(),
    "amortized-mean": lambda: AmortizedMean(encoder(D)),
    "amortized-full": lambda: AmortizedFullGaussian(encoder(D + D * (D + 1) // 2), D),
    "householder": lambda: AmortizedHouseholder(encoder(3 * D), D, reflections=3).double(),
    "amortized-rank-one": lambda: AmortizedRankOne(encoder(3 * D), blocks=(1, 2)),
    "planar": lambda: amortized_flow(Planar(D, steps=3)),
    "radial": lambda: amortized_flow(Radial(D, steps=3)),
    "inverse-autoregressive": lambda: amortized_flow(Autoregressive(D, 4, 2, [8])),
    "coupling": lambda: amortized_flow(Autoregressive(D, 4, 2, [8], affine(), passes=2)),
    "spline": lambda: amortized_flow(Autoregressive(D, 4, 2, [8], spline(4), passes=2)),
    "continuous": lambda: amortized_flow(Continuous(D, 4, 2, [8])),
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
    "averaged": lambda: AveragedLaplace(Laplace(AmortizedGaussian(encoder(2 * D)), steps=4)),
    "averaged-quadrature": lambda: AveragedLaplace(
        AmortizedGaussian(encoder(2 * D)), AveragedCurvature(rounds=3, nodes=GaussHermite(3))
    ),
    "semi-amortized": lambda: SemiAmortized(AmortizedGaussian(encoder(2 * D)), Refiner(4, HeavyBall(0.005))),
    "semi-amortized-full": lambda: SemiAmortized(
        AmortizedFullGaussian(encoder(D + D * (D + 1) // 2), D), Refiner(4, HeavyBall(0.005))
    ),
    "vae-svi-kl": lambda: SemiAmortized(
        AmortizedGaussian(encoder(2 * D)), Refiner(4, HeavyBall(0.005)), unroll=False, kl_weight=1.0
    ),
    "hamiltonian": lambda: HamiltonianFlow(AmortizedGaussian(encoder(2 * D)), D, steps=3).double(),
    "hamiltonian-fixed": lambda: HamiltonianFlow(
        AmortizedGaussian(encoder(2 * D)), D, 3, QuadraticTempering(1.5), per_step=True
    ).double(),
    "hamiltonian-free": lambda: HamiltonianFlow(AmortizedGaussian(encoder(2 * D)), D, 3, FreeTempering(3)).double(),
    "langevin": lambda: AmortizedLangevin(encoder(16), D, 16, scale=0.9).double(),
    "langevin-plain": lambda: AmortizedLangevin(encoder(16), D, 16, metropolis=False, scale=0.9).double(),
    "annealed": lambda: AnnealedHMC(AmortizedGaussian(encoder(2 * D)), D, steps=3).double(),
    "annealed-metropolis": lambda: AnnealedHMC(
        AmortizedGaussian(encoder(2 * D)), D, steps=3, leapfrogs=2, step=0.4, metropolis=True
    ).double(),
    "svi": lambda: SemiAmortized(ConstantGaussian(D), Refiner(4, HeavyBall(0.005))),
    "fisher": lambda: FisherGaussian(encoder(D)),
    "fisher-detached": lambda: FisherGaussian(encoder(D), through=False),
    "fisher-matrix-free": lambda: FisherGaussian(encoder(D), dense=0),
    "labels": lambda: AmortizedLabels(AmortizedGaussian(encoder(2 * D)), encoder(2 * (1 + 2 * 2)), labels=2, size=2),
    "mixture": lambda: AmortizedMixture([AmortizedGaussian(encoder(2 * D)) for _ in range(2)], encoder(2)),
    "categorical": lambda: AmortizedCategorical(encoder(6)),
    "pairwise": lambda: AmortizedPairwise(encoder(6)),
    "multimodal-laplace": lambda: MultimodalLaplace(
        AmortizedGaussian(encoder(2 * D)), components=3, search=partial(Laplace, steps=12)
    ),
    "multimodal-laplace-candidates": lambda: MultimodalLaplace(
        AmortizedGaussian(encoder(2 * D)), components=3, search=partial(Laplace, steps=12), candidates=20
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
    "averaged",
    "averaged-quadrature",
    "multimodal-laplace",
    "multimodal-laplace-candidates",
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
    "soft-free-bits": lambda: objectives.SoftFreeBits(1.0),
    "annealed-elbo": lambda: objectives.AnnealedElbo(warmup=10),
    "predictive-energy": lambda: objectives.PredictiveEnergy(),
    "iwae": lambda: objectives.iwae,
    "recursive-elbo": lambda: objectives.RecursiveElbo(),
    "iwae-stl": lambda: objectives.Iwae(estimator=STL),
    "iwae-dreg": lambda: objectives.Iwae(estimator=DREG),
    "miwae": lambda: objectives.Miwae(2),
    "miwae-dreg": lambda: objectives.Miwae(2, estimator=DREG),
    "not-miwae": lambda: objectives.NotMiwae(SelfMasking(P).double()),
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
    "augmented-density": lambda: objectives.AugmentedDensity(),
    "point-joint": lambda: objectives.PointJoint(),
    "score-climbing": lambda: objectives.ScoreClimbing(leapfrogs=2),
    "wake-doubly": lambda: objectives.WakePhi(doubly=True),
    "skew-jensen-shannon": lambda: objectives.SkewJensenShannon(),
    "mutual-divergence": lambda: objectives.MutualDivergence(),
    "spherical-penalty": lambda: objectives.SphericalPenalty(1.5),
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
TEXTS = {"pc-transformer"}
"""Systems of categories alone, which the contracts on real data leave to tests of their own."""
PICTURES = {"lossy-vae", "lossy-vae-soft", "lossy-vae-diverse"}
"""Systems for pictures alone, which are of P pixels here."""


def event(name: str) -> tuple[int, ...]:
    """Shape of the data of a system in the contracts."""
    return (1, 2, P // 2) if name in PICTURES else (P // 2, 2) if name in SEQUENCES else (P,)


def pictured(make: Callable[..., LatentSystem], **options: object) -> Callable[..., LatentSystem]:
    sizes = {"latent": D, "hidden": 16, "channels": 6, "layers": 2, "flows": 2, "width": 8}
    return lambda spec=None: make(spec or DataSpec((1, 2, P // 2)), **{**sizes, **options})


def small(make: Callable[..., LatentSystem], **options: object) -> Callable[..., LatentSystem]:
    return lambda spec=SPEC: make(spec, **{"latent": D, "hidden": 16, **options})


WEIGHTS = {
    "ensemble": "vae",
    "swag": "iwae",
    "sgld": "vae",
    "sghmc": "vae",
    "bayes-by-backprop": "iwae",
    "last-layer": "vlae",
    "diagonal": "vae",
    "subnetwork": "iwae",
}
"""Posteriors over weights, each with a base here; tests/unit/test_bayesian.py has every pair."""

SYSTEMS: dict[str, object] = {
    "vae": small(systems.vae),
    "iwae": small(systems.iwae),
    "dlgm": small(systems.dlgm, layers=1),
    "dlgm-diagonal": small(systems.dlgm, latent=1, layers=D, rank_one=False),
    "flat-ladder": small(systems.flat_ladder, latent=1, layers=D),
    "ladder-clustering": small(systems.ladder_clustering, latent=1, layers=D, components=3),
    "ladder-clustering-deepest": small(
        systems.ladder_clustering, latent=1, layers=D, components=3, clustered="deepest"
    ),
    "cascade-vae": small(systems.cascade_vae, cluster_latent=1, components=2, cluster_hidden=8),
    "cascade-vae-joint": small(systems.cascade_vae, cluster_latent=1, components=2, cluster_hidden=8, fitting="joint"),
    "predictive-coding": small(systems.predictive_coding, latent=1, layers=D),
    "incremental-predictive-coding": small(
        systems.predictive_coding, latent=1, layers=D, family="learned", incremental=True
    ),
    "predictive-coding-categorical": small(systems.predictive_coding, layers=1, family="categorical", categories=3),
    "sa-vae": small(systems.sa_vae, steps=3),
    "vae-svi": small(systems.sa_vae, steps=3, unroll=False),
    "svi": small(systems.sa_vae, steps=3, amortized=False),
    "flow-ae-linear": small(systems.flow_ae, flows=2, core="linear"),
    "householder-vae": small(systems.householder_vae, reflections=2),
    "iwae-dreg": small(systems.iwae, gradient="dreg"),
    "miwae": small(systems.miwae, groups=2, samples=3),
    "missing-iwae": small(systems.missing_iwae, samples=3),
    "missing-iwae-learned": small(systems.missing_iwae, samples=3, fill="learned", sees_mask=False),
    "not-miwae": small(systems.not_miwae, samples=3),
    **{
        f"not-miwae-{word}": small(systems.not_miwae, samples=3, missingness=word)
        for word in ("self-larger", "self-smaller", "linear", "network", "constant")
    },
    "gibbs-vae": small(systems.gibbs_vae, copies=3, width=8),
    "gibbs-vae-block": small(systems.gibbs_vae, copies=3, block=True, delay=0.0),
    "piwae": small(systems.piwae, groups=2, samples=3),
    "ciwae": small(systems.ciwae),
    "renyi-vae": small(systems.renyi_vae),
    "chi-vae": small(systems.chi_vae),
    "wake-wake": small(systems.wake_wake),
    "skew-vae": small(systems.skew_vae),
    "bilbo": small(systems.bilbo),
    "baggins": small(systems.baggins),
    "planar-vae": small(systems.planar_vae, flows=2),
    "radial-vae": small(systems.radial_vae, flows=2),
    "hvae": small(systems.hvae, steps=3),
    "hvae-free": small(systems.hvae, steps=3, tempering="free", per_step=True),
    "ais-vae": small(systems.ais_vae, steps=3, samples=2),
    "ais-vae-metropolis": small(systems.ais_vae, steps=3, metropolis=True, samples=2),
    "ia-vae": small(systems.ia_vae, hyper=8),
    "fif-vae": small(systems.fif_vae),
    "iaf-vae": small(systems.iaf_vae, width=8, context=4),
    "iaf-vae-free-bits": small(systems.iaf_vae, width=8, context=4, gated_update=False, free_bits=0.5),
    "coupling-vae": small(systems.coupling_vae, flows=2, width=8, context=4),
    "spline-vae": small(systems.spline_vae, width=8, context=4, bins=4),
    "ffjord-vae": small(systems.ffjord_vae, steps=2, width=8, context=4),
    "langevin-ae": small(systems.langevin_ae),
    "identifiable-vae": small(systems.identifiable_vae, depth=1),
    "identifiable-vae-mixture": small(systems.identifiable_vae, components=2),
    "tilted-vae": small(systems.tilted_vae, tilt=3.0),
    "tilted-vae-penalty": small(systems.tilted_vae, tilt=3.0, penalty=True, unit_variance=False),
    "lossy-vae": pictured(systems.lossy_vae),
    "lossy-vae-soft": pictured(systems.lossy_vae, window=None, flows=0, free_bits=0.5),
    "lossy-vae-diverse": pictured(systems.lossy_vae, diversity=1.0, smoothness=0.1),
    "tsc": small(systems.tsc),
    "tsc-flow": small(systems.tsc, flows=2, width=8, context=4, warmup=0),
    "vlae": small(systems.vlae),
    "vlae-published": small(systems.vlae, warmup=0, published=True),
    "vlae-averaged": small(systems.vlae, rounds=2),
    **{
        f"direct-vae-{word}": lambda spec=SPEC, word=word: systems.direct_vae(spec, 1, D, hidden=16, gradient=word)
        for word in ("direct", "gumbel-softmax", "straight-through", "leave-one-out", "exact")
    },
    "direct-vae-pairwise": lambda spec=SPEC: systems.direct_vae(spec, 3, 2, hidden=16, pairwise=True),
    **{
        f"bayesian-vae-{word}": small(systems.bayesian_vae, weights=word, base=base, draws=2)
        for word, base in WEIGHTS.items()
    },
    "flow-prior-vae": small(systems.flow_prior_vae, flows=2, width=8),
    "flow-prior-vae-after": small(systems.flow_prior_vae, flows=2, width=8, fitting="after"),
    "flow-prior-vae-alternating": small(systems.flow_prior_vae, flows=2, width=8, fitting="alternating", rounds=2),
    "fishernet": small(systems.fishernet),
    "fishernet-newton": small(systems.fishernet, steps=1),
    "fishernet-matrix-free": small(systems.fishernet, dense=0),
    "mixture-vae": small(systems.mixture_vae, components=2),
    "laplacian-ae": small(systems.laplacian_ae, draws=2),
    "laplacian-ae-exact": small(systems.laplacian_ae, draws=2, curvature="exact", temperature=1.0),
    "probabilistic-ae": small(systems.probabilistic_ae, flows=2),
    "probabilistic-ae-normal": small(systems.probabilistic_ae, flows=0),
    "recursive-mixture": small(systems.recursive_mixture, components=3),
    "multimodal-vlae": small(systems.multimodal_vlae, components=3, steps=2),
}

DENSITIES: dict[str, object] = {
    "nice": lambda spec=SPEC: systems.nice(spec, hidden=16),
    "nice-normal": lambda spec=SPEC: systems.nice(spec, hidden=16, base="normal", start="columns"),
    "flow-ae": lambda spec=SPEC: systems.flow_ae(spec, hidden=16, flows=2),
    "flow-ae-corners": lambda spec=SPEC: systems.flow_ae(spec, hidden=16, flows=0, core="corners"),
}
"""Systems without latents, whose log p(x) is exact."""

MOVING = DataSpec((P // 2, 2), "real")
SEQUENCES: dict[str, object] = {
    "td-vae": lambda spec=MOVING: systems.td_vae(spec, latent=2, hidden=16, belief=8, gates=8),
    "td-vae-flat": lambda spec=MOVING: systems.td_vae(spec, D, layers=1, hidden=16, jump=2, samples=2),
    "vrnn": lambda spec=MOVING: systems.vrnn(spec, latent=D, hidden=16, recurrent=8, gates=8),
}
"""Systems of sequences, whose examples are P / 2 frames of 2 elements here."""

LATENT = tuple(SYSTEMS)
"""Systems with a latent-variable model."""

SYSTEMS |= DENSITIES | SEQUENCES

REAL_ONLY = {
    "baggins",
    "flow-ae-linear",
    "gibbs-vae",
    *(name for name in SYSTEMS if name.startswith("not-miwae")),
    *DENSITIES,
}
"""Systems that refuse data that are not real numbers."""

BEST_OF_THEIR_FAMILY = {"predictive-coding"}
"""Systems whose posterior of an untrained model is where its ELBO is highest: refinement has nothing to gain."""


def inference(name: str) -> Inference:
    return INFERENCES[name]()


def posterior(name: str, count: int = 8) -> Posterior:
    return POSTERIORS[name](count)
