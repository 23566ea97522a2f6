"""How many draws each datum asks for, seen from draws that are then thrown away."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from curvae.evaluation.likelihood.proposal_selection import KHAT_BAD, best_of
from curvae.evaluation.likelihood.weighted_draws import Draw, Sampling


def factors(draw: Draw, count: int, sampling: Sampling, stderr: float) -> NDArray[np.int64]:
    """How many times S draws each datum is to get for the error that is wanted: 1, 2, 4 ... up to ``most``, ``(B,)``.

    ``S / 2`` draws say so, by the error of the best proposal from them; where its k-hat is above 0.7 the answer is
    ``most``. They are not averaged afterwards: stopping when the error of the averaged draws themselves looks small
    would be biased, low with narrow proposals, whose error looks small where a large weight was missed, and high with
    wide ones. As it is, the estimates are as unbiased as those of a fixed number of draws.
    """
    size = sampling.samples // 2
    _, best = best_of({name: weights.estimates() for name, weights in draw(torch.arange(count), size).items()})
    with np.errstate(all="ignore"):
        needed = np.square(best.stderr / stderr) * size / sampling.samples
    highest = int(math.log2(sampling.most))
    steps = np.ceil(np.log2(np.clip(np.nan_to_num(needed, nan=np.inf), 1, 2.0**highest))).astype(np.int64)
    return 2 ** np.where(best.khat > KHAT_BAD, highest, steps)
