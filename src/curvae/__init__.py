"""Deep latent-variable models with an honest posterior."""

from curvae.typing import Batch, DataSpec

__all__ = ["Batch", "DataSpec"]
