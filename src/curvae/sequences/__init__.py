"""Models of sequences, frame by frame.

Begin at ``model``, the contract; ``temporal_difference`` and ``variational_recurrent`` are models, of ``states`` in
layers. ``frames`` says what of a batch is a frame, and where a sequence ends.
"""

from curvae.sequences.frames import Frames, frame_shape, frames_of
from curvae.sequences.model import SequenceBound, SequenceModel
from curvae.sequences.states import GatedMap, LayeredNormal
from curvae.sequences.temporal_difference import RecurrentBelief, TemporalDifference
from curvae.sequences.variational_recurrent import RecurrentCell, VariationalRecurrent

__all__ = [
    "Frames",
    "GatedMap",
    "LayeredNormal",
    "RecurrentBelief",
    "RecurrentCell",
    "SequenceBound",
    "SequenceModel",
    "TemporalDifference",
    "VariationalRecurrent",
    "frame_shape",
    "frames_of",
]
