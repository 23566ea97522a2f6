"""Models that others have trained, as runs of ours.

Begin at ``adopt``, which finds the adapter for a source, has it compared and leaves the run folder. An adapter is one
file: ``pairs`` (any encoder and decoder, a decoder alone), ``pythae_models``, ``autoencoder_kl`` (diffusers), ``scvi``.
``faithful`` is the proof that nothing has changed on the way, ``conventions`` the suspects where something has.
``reading`` has the modules that read others' outputs, ``recipes`` tells files of networks, ``candidate`` is what an
adapter makes.
"""

from curvae.adopters.adopt import adopt
from curvae.adopters.faithful import AdoptionError

__all__ = ["AdoptionError", "adopt"]
