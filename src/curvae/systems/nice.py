"""Non-linear independent components."""

from math import prod
from typing import Literal

from curvae.flows import Additive, Composed, Whitening
from curvae.networks import MLP
from curvae.priors import StandardLogistic, StandardNormal
from curvae.systems.base import register
from curvae.systems.flow_density import FlowDensity, rank_for, real_event, start_white
from curvae.systems.stages import single
from curvae.typing import DataSpec


@register("nice", "density", own_prior=True)
def nice(
    spec: DataSpec,
    couplings: int = 4,
    hidden: int = 256,
    depth: int = 2,
    base: Literal["logistic", "normal"] = "logistic",
    start: str = "linear",
) -> FlowDensity:
    """NICE: additive couplings and a scale take data to independent noise; log p(x) is exact.

    Reference: Dinh, Krueger and Bengio, *NICE: Non-linear Independent Components Estimation*, arXiv:1410.8516, 2014.

    Differences: before the couplings stands a linear map, in closed form from the training data and held, whose
    determinant counts (``start="columns"``: mean and scale of each element alone); the last layer of a coupling starts
    at 0. The authors' program has four couplings of five layers of 1,000 units on MNIST, and a logistic base there.

    Args:
        couplings: K; three or more reach every element from every other.
        depth: number of hidden layers of each coupling.
        base: law of the noise; a logistic one has the heavier tails.
        start: "linear": whitened by principal components (or factors); "columns": each element by its own deviation.

    Example:
        >>> system = nice(DataSpec((64,)), hidden=32)
        >>> system.evidence, system.sample(3).shape
        ('exact', torch.Size([3, 64]))
    """
    size = prod(real_event("nice", spec))
    halves = (size + 1) // 2, size // 2
    networks = [MLP(halves[k % 2], [hidden] * depth, halves[1 - k % 2]) for k in range(couplings)]
    flow = Additive(size, networks)
    flow.start_at_identity(flow.log_scale, flow.log_scale)
    prior = StandardLogistic(size) if base == "logistic" else StandardNormal(size)
    first = start_white(start, "flow.flows.0", spec, getattr(prior, "DEVIATION", 1.0))
    return FlowDensity(spec.event, Composed([Whitening(size, rank_for(size)), flow]), prior, single(first))
