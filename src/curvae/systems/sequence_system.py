"""Systems of sequences: a model of frames, and what it can do beside training."""

from math import log

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from curvae.inference import Refine
from curvae.likelihoods import HasNoise
from curvae.networks import MLP
from curvae.objectives import Bound, Kind
from curvae.posteriors import Chains, Posterior
from curvae.sequences import Frames, SequenceModel, frame_shape, frames_of
from curvae.systems.base import System
from curvae.systems.capabilities import Weights
from curvae.systems.counted import counted
from curvae.systems.parts import encoder_front
from curvae.systems.stages import Stage
from curvae.typing import Batch, DataSpec, Tables

DRAWS = 200
"""Of the state at the end of a sequence, by which it is described."""


def frame_spec(name: str, spec: DataSpec) -> DataSpec:
    """What is to be known of one frame of sequences of this spec.

    Raises:
        ValueError: examples that are no sequences, columns of different kinds, or something that is given of each row.
    """
    if spec.support == "mixed":
        raise ValueError(f"{name} expects frames of values of one kind; got columns of several. Leave some out.")
    if spec.given.said:
        raise ValueError(f"{name} expects sequences alone, and does not know of others yet; got {spec.given.said}.")
    return spec._replace(event=frame_shape(spec.event))


def frame_network(frame: DataSpec, hidden: int, depth: int, outputs: int) -> MLP:
    """From one frame to so many numbers."""
    return MLP(torch.Size(frame.event).numel(), [hidden] * depth, outputs, front=encoder_front(frame))


def start_frames(system: "SequenceSystem", data: Tables) -> None:
    """The likelihood's own parameters start from the frames of the training data."""
    if isinstance(likelihood := system.model.likelihood, HasNoise):
        frames = frames_of(counted(data.train), likelihood.event)
        rows = frames.there.flatten()
        mask = None if frames.mask is None else frames.mask.flatten(0, 1)[rows]
        likelihood.initialize(frames.x.flatten(0, 1)[rows], mask)


class SequenceSystem(System):
    """A model of sequences, trained on them.

    Args:
        event: shape of one example, (T, ...).
        model: of its frames.
        kind: what is trained is to log p(x).
        samples: draws in training.
        stages: phases of training.

    Raises:
        ValueError: samples below 1; by what takes data, where they are of another shape or not finite.

    Example:
        >>> from curvae.systems import vrnn
        >>> system = vrnn(DataSpec((6, 2)), latent=2, hidden=8)
        >>> system.roll_out(torch.zeros(3, 6, 2), seen=4).shape, system.posterior(torch.zeros(3, 6, 2)).mean.shape
        (torch.Size([3, 6, 2]), torch.Size([3, 2]))
    """

    def __init__(
        self,
        event: tuple[int, ...],
        model: SequenceModel,
        kind: Kind = "lower",
        samples: int = 1,
        stages: tuple[Stage, ...] = (Stage("train", start=start_frames),),
    ):
        super().__init__()
        if samples < 1:
            raise ValueError(f"SequenceSystem: samples must be 1 or more; got {samples}.")
        self.event, self.model, self.samples = event, model, samples
        self.kind = kind
        self._stages = stages

    def frames(self, x: Float[Tensor, "B *event"], mask: Tensor | None = None) -> Frames:
        """The frames of a batch, and where each sequence ends."""
        if x.shape[1:] != self.event:
            raise ValueError(
                f"sequences: x must be a batch of data of shape {tuple(self.event)}; got {tuple(x.shape)}. For one "
                "example pass x[None]."
            )
        found = frames_of(Batch.of(x, mask), self.model.likelihood.event)
        if not bool(found.x.isfinite().all()):
            raise ValueError("sequences: x holds NaN or infinity; pass mask=x.isfinite() to leave them out.")
        return found

    def bound(self, batch: Batch) -> Bound:
        found = self.model.trained_bound(frames_of(batch, self.model.likelihood.event), self.samples)
        return Bound(found.value, found.surrogate)

    @torch.no_grad()
    def log_weights(self, batch: Batch, n: int, generator: Generator | None = None) -> Weights:
        """Proper weights of n draws of all states."""
        log_w = self.model.log_weights(frames_of(batch, self.model.likelihood.event), n, generator)
        return Weights(log_w, torch.full_like(log_w, -log(len(log_w))))

    @torch.no_grad()
    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw sequences of T frames from p(x_1..T), (n, *event)."""
        return self.model.sample(n, self.event[0], generator).reshape(n, *self.event)

    @torch.no_grad()
    def reconstruct(self, x: Float[Tensor, "B *event"], mask: Tensor | None = None) -> Tensor:
        """``E[x_t | z_t]`` at the center of each state, given its frame and those before it."""
        return self.model.mean(self.model.filtered(self.frames(x, mask))).reshape(x.shape)

    @torch.no_grad()
    def posterior(
        self, x: Float[Tensor, "B *event"], mask: Tensor | None = None, refine: int | Refine = 0
    ) -> Posterior:
        """The state at the last observed frame, by draws; the same ones every time.

        Raises:
            ValueError: refinement, which this posterior, of draws, does not have.
        """
        if refine != 0:
            raise ValueError("refine: expected a posterior with parameters; got draws of a state. Leave it out.")
        generator = Generator(x.device).manual_seed(0)
        drawn = self.model.states(self.frames(x, mask), DRAWS, generator)
        return Chains(drawn.transpose(0, 1).unsqueeze(1))

    @torch.no_grad()
    def roll_out(
        self,
        x: Float[Tensor, "B *event"],
        seen: int,
        mask: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """The first frames as they are, then the mean of each along one draw of what follows, (B, *event).

        Raises:
            ValueError: fewer than 1 frame seen, or all of them.
        """
        if not 1 <= seen < self.event[0]:
            raise ValueError(f"roll_out: seen must be from 1 to {self.event[0] - 1}; got {seen}.")
        frames = self.frames(x, mask)
        eta = self.model.rolled(frames.first(seen), self.event[0] - seen, 1, generator)[0]
        return torch.cat([frames.x[:, :seen], self.model.mean(eta).to(x)], 1).reshape(x.shape)
