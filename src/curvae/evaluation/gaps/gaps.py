"""Where the ELBO's distance to log p(x) comes from, and what a better posterior would buy."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator

from curvae.argument_checks import check_counts
from curvae.data import ArrayTable
from curvae.evaluation import io
from curvae.evaluation.draws import seeded_evaluation
from curvae.evaluation.estimate import Scores
from curvae.evaluation.evaluate import about, device_for, on_device, run_of, split_table
from curvae.evaluation.gaps.results import MEMBERS, FamilyElbo, Gaps
from curvae.evaluation.gaps.variational_families import elbo_of, fit_families, own_family
from curvae.evaluation.likelihood.importance import estimates, posterior_weights
from curvae.evaluation.likelihood.proposal_selection import KHAT_BAD
from curvae.evaluation.likelihood.scores import Report, bar, mean_so_far
from curvae.evaluation.likelihood.weighted_draws import concatenate_scores
from curvae.evaluation.results import Estimate
from curvae.evaluation.settings import MEMORY, Split, with_options
from curvae.model import require_continuous
from curvae.posteriors import Posterior
from curvae.systems import HasModel, System, Weights, require
from curvae.systems.device import batch_to_system, device_and_dtype
from curvae.training.run import layout
from curvae.training.run.run_folder import RunFolder
from curvae.typing import Batch


@dataclass(frozen=True)
class GapSettings:
    """How the inference gap is measured.

    Args:
        data: number of data, the first ones of the split; as many of the training data are taken too.
        steps: of gradient ascent for each example and family, and a quarter more to see what is left.
        samples: draws for each ELBO, and of each of the three proposals for log p(x).
        split: "train", "validation" or "test".
        seed: of the draws.
        memory: bytes that the draws of a batch may take at a time.
        batch_size: data at a time.
        device: "auto" (a CUDA device where there is one), "cpu", "cuda", "cuda:1", "mps".
    """

    data: int = 200
    steps: int = 200
    samples: int = 500
    split: Split = "test"
    seed: int = 0
    memory: int = MEMORY
    batch_size: int = 100
    device: str = "auto"


def gaps(
    run: RunFolder | str | PathLike[str], settings: GapSettings | None = None, progress: bool = True, **options: Any
) -> Gaps:
    """The inference gap of a run, split into its parts, and the ELBO of other posterior families on its decoder.

    For each example the best member of the posterior's own family, the best diagonal and the best full-covariance
    Gaussian are sought by gradient ascent of the ELBO; the decoder stays as it is. Written into ``gaps.json``.

    Args:
        run: a run, or the path of its folder; its latents must be continuous.
        settings: how.
        progress: show how it goes on stderr: a bar, or a line every 30 s without a terminal.
        options: single settings by name, as ``data=50``.

    Raises:
        ValueError: a setting out of its range, or a system without a model (HasModel) of continuous latents.
        RunError: the folder cannot be read or written.
    """
    how, folder = with_options(settings, GapSettings, options, "gaps"), run_of(run)
    where, tables, (system, sha256) = device_for(how.device), folder.data(), folder.model()
    started, table = time.perf_counter(), split_table(tables, how.split)
    with on_device(system, where), bar(min(how.data, len(table)), progress) as report:
        found = measure_gap_terms(system, table, how, report)
        train = None if how.split == "train" else amortization(system, tables.train, how)
    facts = {name: getattr(how, name) for name in ("steps", "samples", "split", "seed")}
    result = summary(found, train, **facts, seconds=time.perf_counter() - started)
    io.write_findings(folder.path, layout.GAPS, result.to_dict() | about(folder, system, tables), sha256)
    return result


def summary(found: Scores, train: NDArray | None = None, **facts: Any) -> Gaps:
    """Means over the data whose values are all finite."""
    kept = np.logical_and.reduce([np.isfinite(values) for name, values in found.items() if name != "khat"])
    used = {name: values[kept] for name, values in found.items()}
    truth, own, best = used["log_likelihood"], used["elbo_own"], used["elbo_best"]
    amortized = _difference(used, "best", "own")
    trained = None if train is None else Estimate.of(train[np.isfinite(train)])
    return Gaps(
        Estimate.of(truth, used["stderr"]),
        Estimate.of(truth - own, np.hypot(used["stderr"], used["error_own"])),
        Estimate.of(truth - best, np.hypot(used["stderr"], used["error_best"])),
        amortized,
        trained,
        None if trained is None else _beyond(amortized, trained),
        _difference(used, "best", "first"),
        {name: _member(used, name) for name in MEMBERS},
        float((used["khat"] > KHAT_BAD).mean()) if kept.any() else float("nan"),
        len(kept),
        int((~kept).sum()),
        **facts,
    )


def measure_gap_terms(
    system: System,
    table: ArrayTable,
    settings: GapSettings | None = None,
    report: Report | None = None,
    **options: Any,
) -> Scores:
    """For the first data of a table: ``log_likelihood``, ``stderr``, ``khat``, and ``elbo_*``, ``error_*`` by family.

    Raises:
        ValueError: a setting below 1, or a system without a model (HasModel) of continuous latents.

    Example:
        >>> from curvae.data import from_array
        >>> from curvae.systems import vae
        >>> table = from_array(torch.randn(40, 5))
        >>> found = measure_gap_terms(vae(table.spec, latent=2, hidden=8), table.test, data=4, steps=20)
        >>> found["log_likelihood"].shape, bool((found["elbo_full"] > found["elbo_own"] - 0.1).all())
        ((4,), True)
    """
    how = with_options(settings, GapSettings, options, "gaps")
    latent, parts = _checked(system, how), []
    with seeded_evaluation(system, how.seed):
        for batch, generator in _batches(system, table, how):
            found = fit_families(latent, batch, how.steps)
            truth = estimates(_weights(latent, found.proposal, batch, how, generator))
            part = {"log_likelihood": truth.log_likelihood, "stderr": truth.stderr, "khat": truth.khat}
            for name, posterior in found.members.items():
                part |= _scored(name, _weights(latent, posterior, batch, how, generator.clone_state()))
            parts.append(part)
            if report is not None:
                report(sum(len(part["khat"]) for part in parts), mean_so_far(parts))
    return concatenate_scores(parts)


def amortization(system: System, table: ArrayTable, settings: GapSettings | None = None, **options: Any) -> NDArray:
    """``ELBO(q*) - ELBO(q)`` of the first data of a table, nats."""
    how = with_options(settings, GapSettings, options, "gaps")
    latent, gained = _checked(system, how), []
    with seeded_evaluation(system, how.seed):
        for batch, generator in _batches(system, table, how):
            found = own_family(latent, batch, how.steps)
            own = _scored("own", _weights(latent, found.own, batch, how, generator.clone_state()))
            best = _scored("best", _weights(latent, found.best, batch, how, generator))
            gained.append(best["elbo_best"] - own["elbo_own"])
    return np.concatenate(gained)


def _batches(system: System, table: ArrayTable, how: GapSettings) -> Iterator[tuple[Batch, Generator]]:
    """Data of which the system remembers nothing, for it is the encoder that is measured, and the noise of each batch,
    whose copies give every family the same."""
    for index in torch.arange(min(how.data, len(table))).split(how.batch_size):
        batch = batch_to_system(system, table.batch(index))
        generator = Generator(device_and_dtype(system)[0]).manual_seed(how.seed + int(index[0]))
        yield batch._replace(index=torch.full_like(batch.index, -1)), generator


def _weights(system: HasModel, q: Posterior, batch: Batch, how: GapSettings, generator: Generator) -> Weights:
    return posterior_weights(system.parts().model.given(batch.context), q, batch, how.samples, how.memory, generator)


def _scored(name: str, weights: Weights) -> Scores:
    value, error = elbo_of(weights.log_w, weights.log_c)
    return {f"elbo_{name}": value.numpy(), f"error_{name}": error.numpy()}


def _difference(used: Scores, one: str, other: str) -> Estimate:
    error = np.hypot(used[f"error_{one}"], used[f"error_{other}"])
    return Estimate.of(used[f"elbo_{one}"] - used[f"elbo_{other}"], error)


def _member(used: Scores, name: str) -> FamilyElbo:
    error = np.hypot(used["stderr"], used[f"error_{name}"])
    gap = Estimate.of(used["log_likelihood"] - used[f"elbo_{name}"], error)
    return FamilyElbo(Estimate.of(used[f"elbo_{name}"], used[f"error_{name}"]), gap, _difference(used, name, "own"))


def _beyond(one: Estimate, other: Estimate) -> Estimate:
    """The difference of two means over different data."""
    errors = (np.hypot(getattr(one, name), getattr(other, name)) for name in ("stderr", "monte_carlo"))
    return Estimate(one.value - other.value, *map(float, errors))


def _checked(system: System, how: GapSettings) -> HasModel:
    check_counts("gaps", data=how.data, steps=how.steps, samples=how.samples, batch_size=how.batch_size)
    latent = require(system, HasModel, "gaps")
    if system.evidence == "none":
        raise ValueError(f"gaps: expects a system with a posterior and evidence; got {type(system).__name__} without.")
    require_continuous(latent.parts().model, "gaps")
    return latent
