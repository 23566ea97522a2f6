"""What the listed methods are made of: networks, priors that have seen data, parameters of posteriors."""

import torch
from torch import nn

from curvae.flows import Flow
from curvae.inference import (
    AmortizedFlow,
    Inference,
)
from curvae.networks import MLP, FrontWithGaps, ModulatedMLP
from curvae.posteriors import (
    AnnealedPosterior,
    DiagonalGaussian,
    EnumeratedPosterior,
    HamiltonianPosterior,
    Posterior,
    StudentMixture,
    transformed,
)
from curvae.priors import AggregateNormal, Prior, UniformCategorical, VampPrior
from zoo import D, P, smooth_model


def aggregate() -> AggregateNormal:
    """One that has seen a batch."""
    prior, root = AggregateNormal(D), torch.randn(D, D)
    prior.load_state_dict(prior.toward(torch.randn(D), torch.eye(D) + root @ root.mT))
    return prior


def stirred(prior: Prior, by: float = 0.3) -> Prior:
    """A learned prior away from where it starts."""
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return prior


def vamp(components: int = 4) -> VampPrior:
    """With an encoder of its own."""
    prior, network = VampPrior(D, (P,), components), encoder(2 * D)
    prior.join(lambda u: DiagonalGaussian(*network(u).chunk(2, -1)))
    return prior


def matrices(count: int) -> torch.Tensor:
    return 0.4 * torch.randn(count, D, D, dtype=torch.float64)


def students(count: int, components: int) -> StudentMixture:
    loc, packed = torch.randn(count, components, D).double(), 0.4 * torch.randn(count, components, D, D).double()
    return StudentMixture(loc, packed.tril(), torch.randn(count, components).double(), freedom=7)


def orthogonal() -> torch.Tensor:
    return torch.linalg.qr(torch.randn(D, D, dtype=torch.float64)).Q


def diagonal(count: int) -> DiagonalGaussian:
    return DiagonalGaussian(*(0.5 * torch.randn(2, count, D, dtype=torch.float64)))


def log_steps(count: int, steps: int = 4) -> torch.Tensor:
    return -2 + 0.1 * torch.randn(count, steps, D, dtype=torch.float64)


def hamiltonian(count: int) -> HamiltonianPosterior:
    temperature = torch.linspace(1, 0.2, 4, dtype=torch.float64).expand(count, -1)
    start, (model, batch) = diagonal(count), smooth_model(count)
    return HamiltonianPosterior(start, model, batch.x, log_steps(count), temperature)


def annealed(count: int, metropolis: bool) -> AnnealedPosterior:
    betas = torch.linspace(0, 1, 5, dtype=torch.float64)
    start, (model, batch) = diagonal(count), smooth_model(count)
    return AnnealedPosterior(start, model, batch.x, log_steps(count), betas, 1, metropolis)


def pushed_by(flow: Flow, count: int) -> Posterior:
    context = 0.7 * torch.randn(count, flow.context, dtype=torch.float64)
    return transformed(diagonal(count), flow.double(), context)


def uniform_over(posterior: Posterior) -> UniformCategorical:
    """The prior that gives all values of a discrete posterior the same probability."""
    law = posterior.posterior if isinstance(posterior, EnumeratedPosterior) else posterior
    return UniformCategorical(law.variables, law.categories).double()


def encoder(outputs: int, front: FrontWithGaps | None = None) -> nn.Module:
    """Near the prior to begin with, so that importance weights of an untrained method are of use."""
    network = MLP(front.size if front else P, [16], outputs, front=front).double()
    _quiet(network)
    return network


def modulated_encoder(outputs: int) -> nn.Module:
    """The same, its hidden layer modulated for each example."""
    network = ModulatedMLP(P, [16], outputs, hyper=6).double()
    _quiet(network.shared)
    return network


@torch.no_grad()
def _quiet(network: nn.Sequential) -> None:
    for parameter in network[-1].parameters():
        parameter.mul_(0.1)


def amortized_flow(flow: Flow) -> Inference:
    """With half its random parameters, for the same reason: a random spline leaves regions without draws."""
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.mul_(0.5)
    return AmortizedFlow(encoder(2 * D + flow.context), flow.double())
