"""What the report draws: data, reconstructions, prior samples, latents and the trace of the mode search, as arrays."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from curvae.data import ArrayTable
from curvae.evaluation.block_pictures import block_pictures
from curvae.evaluation.draws import seeded_evaluation
from curvae.evaluation.estimate import Scores
from curvae.evaluation.geodesic_pictures import geodesic_pictures
from curvae.evaluation.information.posterior_summary import reconstruct_observed
from curvae.evaluation.samples.imputation import impute
from curvae.latents import Axes
from curvae.posteriors import DensityPosterior, rotated
from curvae.systems import CanImpute, CanReconstruct, CanRollOut, CanSample, HasModel, Parts, System
from curvae.systems.device import batch_to_system
from curvae.typing import Batch

SHOWN = 24
HIDDEN = 8
DRAWN = 48
SCATTERED = 2000
COVARIANCES = 200
BYTES = 2**25
"""The most that the covariances may take."""


def pictures(
    system: System, table: ArrayTable, scores: Scores, seed: int = 0, axes: Axes | None = None
) -> dict[str, NDArray]:
    """Arrays for pictures, float32 in data units where they are data; names that do not apply are missing.

    ``originals``, ``reconstructions`` (24, *event), or ``redrawn`` where these are draws; ``samples`` (48, *event):
    means of the prior's draws, or where there are no such means ``draws`` of the system; of pictures ``hidden``
    (8, *event), NaN in their lower halves, and ``completed`` (16, *event), two draws of these for each, one after the
    other; of sequences ``rolled`` (8, *event), which go on from their first ``frames_seen``; ``latent_mean`` (up to
    2000, D), ``labels``; ``latent_covariance`` (up to 200, D, D) of the first of these, and ``covariances``, 8 of them,
    all in ``axes`` as the scores are; ``trace_log_joint``, ``trace_grad_norm`` (T+1, up to 200); and what
    ``geodesic_pictures`` has of a latent plane and ``block_pictures`` of levels and clusters.

    Example:
        >>> from curvae.data import from_array
        >>> from curvae.evaluation import score
        >>> from curvae.systems import vlae
        >>> data = from_array(torch.randn(300, 5))
        >>> system = vlae(data.spec, latent=2, hidden=8, steps=1)
        >>> shown = pictures(system, data.test, score(system, data.test, samples=5))
        >>> shown["reconstructions"].shape, shown["covariances"].shape, shown["trace_grad_norm"].shape
        ((24, 5), (8, 2, 2), (2, 45))
    """
    with seeded_evaluation(system, seed) as generator:
        found = _made(system, table, generator)
        first = table.batch(torch.arange(min(SHOWN, len(scores["index"]))))
        found["originals"] = _array(table.transform.inverse(first.x))
        if isinstance(system, CanReconstruct):
            found[_rebuilt(system)] = _in_data_units(
                reconstruct_observed(system, batch_to_system(system, first)), table
            )
        found |= _completed(system, table, batch_to_system(system, first), seed)
        found |= _rolled_out(system, table, batch_to_system(system, first), generator)
        if isinstance(system, HasModel):
            found |= _latents(system, system.parts(), table, scores, axes)
            found |= geodesic_pictures(system.parts(), found["latent_mean"], axes)
            found |= block_pictures(system, system.parts(), table, scores, generator)
    if "label" in scores:
        found["labels"] = scores["label"][:SCATTERED]
    return found


def _made(system: System, table: ArrayTable, generator: Generator) -> dict[str, NDArray]:
    """What the system makes up, if it can."""
    if isinstance(system, HasModel) and not (model := system.parts().model).autoregressive:
        return {"samples": _in_data_units(model.reference().mean(model.prior.sample(DRAWN, generator)), table)}
    if isinstance(system, CanSample):
        return {"draws": _in_data_units(system.sample(DRAWN, generator), table)}
    return {}


def _rebuilt(system: System) -> str:
    """What its reconstructions are: means, or draws of a model that draws element by element."""
    return "redrawn" if isinstance(system, HasModel) and system.parts().model.draws_in_order else "reconstructions"


def _completed(system: System, table: ArrayTable, batch: Batch, seed: int) -> dict[str, NDArray]:
    """Pictures whose lower half is hidden, and draws of it."""
    x = batch.x[:HIDDEN]
    if batch.mask is not None or x.ndim != 4 or x.shape[2] < 2 or not _completes(system, batch):
        return {}
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[:, :, x.shape[2] // 2 :] = False
    drawn = impute(system, x, mask, chains=2, seed=seed).x.flatten(0, 1)
    whole = table.transform.inverse(x.cpu().float())
    shown = torch.where(mask.cpu(), whole, torch.nan).reshape(-1, *table.raw.shape[1:])
    return {"hidden": _array(shown), "completed": _in_data_units(drawn, table)}


def _rolled_out(system: System, table: ArrayTable, batch: Batch, generator: Generator) -> dict[str, NDArray]:
    """Sequences that go on from the first quarter of their frames."""
    if not isinstance(system, CanRollOut):
        return {}
    mask = None if batch.mask is None else batch.mask[:HIDDEN]
    seen = max(1, batch.x.shape[1] // 4)
    rolled = system.roll_out(batch.x[:HIDDEN], seen, mask, generator)
    return {"rolled": _in_data_units(rolled, table), "frames_seen": np.array([seen])}


def _completes(system: System, batch: Batch) -> bool:
    """Whether it can draw what is missing."""
    if isinstance(system, CanImpute):
        return True
    if not isinstance(system, HasModel) or (parts := system.parts()).model.autoregressive:
        return False
    return isinstance(parts.infer(Batch.of(batch.x[:1])).posterior, DensityPosterior)


def _latents(system: System, parts: Parts, table: ArrayTable, scores: Scores, axes: Axes | None) -> dict[str, NDArray]:
    mean = scores["mean"][:SCATTERED].astype(np.float32)
    count = max(8, min(COVARIANCES, BYTES // (4 * mean.shape[1] ** 2)))
    inferred = parts.infer(batch_to_system(system, table.batch(torch.arange(min(count, len(scores["index"]))))))
    q = inferred.posterior if axes is None else rotated(inferred.posterior, axes.rotation)
    covariance = _array(q.covariance)
    traces = {name: inferred.info[name] for name in ("log_joint", "grad_norm") if name in inferred.info}
    return {
        "latent_mean": mean,
        "latent_covariance": covariance,
        "covariances": covariance[:8],
        **{f"trace_{name}": _array(trace) for name, trace in traces.items()},
    }


def _in_data_units(x: Tensor, table: ArrayTable) -> NDArray:
    return _array(table.transform.inverse(x.cpu().float().reshape(-1, *table.raw.shape[1:])))


def _array(value: Tensor) -> NDArray:
    return value.detach().cpu().float().numpy()
