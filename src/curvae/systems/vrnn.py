"""The variational recurrent neural network."""

from curvae import likelihoods
from curvae.networks import MLP
from curvae.sequences import LayeredNormal, RecurrentCell, VariationalRecurrent
from curvae.systems.base import register
from curvae.systems.parts import check_sizes
from curvae.systems.sequence_system import SequenceSystem, frame_network, frame_spec
from curvae.typing import DataSpec


@register("vrnn", "sequences", own_prior=True)
def vrnn(
    spec: DataSpec,
    latent: int = 16,
    recurrent: int = 64,
    hidden: int = 128,
    depth: int = 1,
    gates: int = 64,
    samples: int = 1,
) -> SequenceSystem:
    """Variational recurrent network of sequences: a latent for each frame, given all frames and latents before it.

    ``E log w``, of :class:`curvae.sequences.VariationalRecurrent`, bounds log p(x_1..T). Encoded is the latent of the
    last frame.

    Starts at random: a linear state-space model of the data is fitted beside it, not written into it.

    Reference: Chung, Kastner, Dinh, Goel, Courville and Bengio, *A Recurrent Latent Variable Model for Sequential
    Data*, NIPS 2015.

    Differences: gated networks of one hidden layer for prior and posterior; the divergence by the draws that the rest
    of the bound takes; the recurrence sees z itself, not a network of it.

    Args:
        latent: size of the latent of a frame.
        recurrent: units of the GRU.
        hidden: units of a layer of the networks that see frames and of the decoder.
        depth: layers of these.
        gates: units of the gated networks of prior and posterior.
        samples: draws of all latents in the bound, whose mean is taken.

    Raises:
        ValueError: data that are no sequences, event (T, ...), or frames of columns of several kinds.

    Example:
        >>> system = vrnn(DataSpec((6, 2)), latent=2, hidden=8)
        >>> system.kind, system.evidence, system.sample(3).shape
        ('lower', 'bound', torch.Size([3, 6, 2]))
    """
    check_sizes(min(latent, recurrent, gates), hidden, depth)
    frame = frame_spec("vrnn", spec)
    likelihood = likelihoods.default(frame)
    prior = LayeredNormal.standard(recurrent, [latent], gates)
    posterior = LayeredNormal.standard(hidden + recurrent, [latent], gates)
    decoder = MLP(latent + recurrent, [hidden] * depth, likelihood.outputs)
    cell = RecurrentCell(hidden, latent, recurrent)
    features = frame_network(frame, hidden, depth, hidden)
    model = VariationalRecurrent(features, cell, prior, posterior, decoder, likelihood, recurrent)
    return SequenceSystem(spec.event, model, samples=samples)
