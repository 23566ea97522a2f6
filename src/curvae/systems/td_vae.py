"""The temporal-difference variational autoencoder."""

from curvae import likelihoods
from curvae.networks import MLP
from curvae.sequences import LayeredNormal, RecurrentBelief, TemporalDifference
from curvae.systems.base import register
from curvae.systems.parts import check_sizes
from curvae.systems.sequence_system import SequenceSystem, frame_network, frame_spec, start_frames
from curvae.systems.stages import Stage
from curvae.typing import DataSpec


@register("td-vae", "sequences", own_prior=True)
def td_vae(
    spec: DataSpec,
    latent: int = 8,
    layers: int = 2,
    belief: int = 64,
    hidden: int = 128,
    depth: int = 1,
    gates: int = 64,
    jump: int = 4,
    samples: int = 1,
) -> SequenceSystem:
    """Temporal-difference autoencoder of sequences: beliefs, and jumps between states any number of frames apart.

    Trained by pairs of frames, ``L`` of :class:`curvae.sequences.TemporalDifference`, which is no bound of log p(x).
    What is reported is: the bound of ``prod_t p(x_t | x_<t)`` that single steps make, from the belief before the first
    frame on. Encoded is the state at the last frame.

    Starts at random: a linear state-space model of the data is fitted beside it, not written into it.

    Reference: Gregor, Papamakarios, Besse, Buesing and Weber, *Temporal Difference Variational Auto-Encoder*, ICLR
    2019.

    Differences: every frame is the later one of a pair in every update, with a gap of its own, where published updates
    take one pair a sequence; jumps are given the gap; a belief before the first frame is learned, so that p(x_1..T) is
    defined; ReLU decoder.

    Args:
        latent: size of each layer of a state.
        layers: of a state; the top one is drawn first, each other given those above it.
        belief: units of the LSTM.
        hidden: units of a layer of the networks before the LSTM and of the decoder.
        depth: layers of these.
        gates: units of the gated networks of states.
        jump: largest gap between the frames of a pair.
        samples: draws of each pair.

    Raises:
        ValueError: data that are no sequences, event (T, ...), or frames of columns of several kinds.

    Example:
        >>> system = td_vae(DataSpec((6, 2)), latent=2, hidden=8)
        >>> system.kind, system.evidence, system.sample(3).shape
        ('none', 'bound', torch.Size([3, 6, 2]))
    """
    check_sizes(min(latent, layers, belief, gates, jump), hidden, max(depth, layers))
    frame, sizes = frame_spec("td-vae", spec), [latent] * layers
    total, likelihood = latent * layers, likelihoods.default(frame)
    believed = RecurrentBelief(frame_network(frame, hidden, depth, hidden), hidden, belief)
    filtering = LayeredNormal.standard(belief, sizes, gates)
    transition = LayeredNormal.standard(total + jump, sizes, gates)
    smoothing = LayeredNormal.standard(total + 2 * belief + jump, sizes, gates)
    decoder = MLP(total, [hidden] * depth, likelihood.outputs)
    model = TemporalDifference(believed, filtering, transition, smoothing, decoder, likelihood, jump)
    stages = (Stage("train", start=start_frames, monitor="surrogate"),)
    return SequenceSystem(spec.event, model, "none", samples, stages)
