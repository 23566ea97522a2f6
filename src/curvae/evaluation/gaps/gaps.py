"""Where the ELBO's distance to log p(x) comes from, and what a better posterior would buy."""

import time
from os import PathLike
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Generator, Tensor

from curvae.data import ArrayTable
from curvae.evaluation import io
from curvae.evaluation.evaluate import about, choose, device_for, moved, opened
from curvae.evaluation.gaps.results import KHAT_BAD, MEMBERS, Gaps, Member
from curvae.evaluation.gaps.variational_families import elbo_of, families, own_family
from curvae.evaluation.likelihood.importance import MEMORY, estimates, posterior_weights
from curvae.evaluation.likelihood.scores import Report, running, untouched
from curvae.evaluation.progress import bar
from curvae.evaluation.results import Estimate
from curvae.evaluation.settings import Split
from curvae.limits import check_counts
from curvae.model import LatentVariableModel, require_continuous
from curvae.posteriors import Posterior
from curvae.systems import HasModel, System, require
from curvae.systems.place import like, place
from curvae.training.run import layout
from curvae.training.run.run_folder import RunFolder
from curvae.typing import Batch

Arrays = dict[str, NDArray]


def gaps(
    run: RunFolder | str | PathLike[str],
    data: int = 200,
    steps: int = 200,
    samples: int = 500,
    split: Split = "test",
    seed: int = 0,
    memory: int = MEMORY,
    batch_size: int = 100,
    device: str = "auto",
    progress: bool = True,
) -> Gaps:
    """The inference gap of a run, split into its parts, and the ELBO of other posterior families on its decoder.

    For each datum the best member of the posterior's own family, the best diagonal and the best full-covariance
    Gaussian are sought by gradient ascent of the ELBO; the decoder stays as it is. Written into ``gaps.json``.

    Args:
        run: a run, or the path of its folder; its latents must be continuous.
        data: number of data, the first ones of the split; as many of the training data are taken too.
        steps: of gradient ascent for each datum and family, and a quarter more to see what is left.
        samples: draws for each ELBO, and of each of the three proposals for log p(x).
        split: "train", "validation" or "test".
        seed: of the draws.
        memory: bytes that the draws of a batch may take at a time.
        batch_size: data at a time.
        device: "auto" (a CUDA device where there is one), "cpu", "cuda", "cuda:1", "mps".
        progress: show how it goes on stderr: a bar, or a line every 30 s without a terminal.

    Raises:
        ValueError: an argument out of its range, or a system without a model (HasModel) of continuous latents.
        RunError: the folder cannot be read or written.
    """
    folder = opened(run)
    where, tables, (system, sha256) = device_for(device), folder.data(), folder.model()
    started = time.perf_counter()
    with moved(system, where), bar(min(data, len(choose(tables, split))), progress) as report:
        table = choose(tables, split)
        found = measure(system, table, data, steps, samples, seed, memory, batch_size, report)
        train = None if split == "train" else amortization(system, tables.train, data, steps, samples, seed, batch_size)
    seconds = time.perf_counter() - started
    facts = {"steps": steps, "samples": samples, "split": split, "seed": seed, "seconds": seconds}
    result = summary(found, train, **facts)
    io.write_findings(folder.path, layout.GAPS, result.to_dict() | about(folder, system, tables), sha256)
    return result


def summary(found: Arrays, train: NDArray | None = None, **facts: Any) -> Gaps:
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


def measure(
    system: System,
    table: ArrayTable,
    data: int = 200,
    steps: int = 200,
    samples: int = 500,
    seed: int = 0,
    memory: int = MEMORY,
    batch_size: int = 100,
    report: Report | None = None,
) -> Arrays:
    """For the first data of a table: ``log_likelihood``, ``stderr``, ``khat``, and ``elbo_*``, ``error_*`` by family.

    Raises:
        ValueError: an argument below 1, or a system without a model (HasModel) of continuous latents.

    Example:
        >>> from curvae.data import from_array
        >>> from curvae.systems import vae
        >>> table = from_array(torch.randn(40, 5))
        >>> found = measure(vae(table.spec, latent=2, hidden=8), table.test, data=4, steps=20)
        >>> found["log_likelihood"].shape, bool((found["elbo_full"] > found["elbo_own"] - 0.1).all())
        ((4,), True)
    """
    latent = _checked(system, data=data, steps=steps, samples=samples, batch_size=batch_size)
    model, measured = latent.parts().model, []
    with untouched(system, seed):
        for index in torch.arange(min(data, len(table))).split(batch_size):
            batch, generator = _unseen(system, table.batch(index)), _noise(system, seed, index)
            found = families(latent, batch, steps)
            weights = posterior_weights(model, found.proposal, batch, samples, memory, generator)
            truth = estimates(weights)
            part = {"log_likelihood": truth.log_likelihood, "stderr": truth.stderr, "khat": truth.khat}
            for name, posterior in found.members.items():
                part |= _scored(model, name, posterior, batch, samples, memory, generator.clone_state())
            measured.append(part)
            if report is not None:
                report(sum(len(part["khat"]) for part in measured), running(measured))
    return {name: np.concatenate([part[name] for part in measured]) for name in measured[0]}


def amortization(
    system: System, table: ArrayTable, data: int, steps: int, samples: int, seed: int = 0, batch_size: int = 100
) -> NDArray:
    """``ELBO(q*) - ELBO(q)`` of the first data of a table, nats."""
    latent = _checked(system, data=data)
    model, gained = latent.parts().model, []
    with untouched(system, seed):
        for index in torch.arange(min(data, len(table))).split(batch_size):
            batch, generator = _unseen(system, table.batch(index)), _noise(system, seed, index)
            found = own_family(latent, batch, steps)
            own = _scored(model, "own", found.own, batch, samples, MEMORY, generator.clone_state())
            best = _scored(model, "best", found.best, batch, samples, MEMORY, generator)
            gained.append(best["elbo_best"] - own["elbo_own"])
    return np.concatenate(gained)


def _scored(
    model: LatentVariableModel, name: str, q: Posterior, batch: Batch, samples: int, memory: int, generator: Generator
) -> Arrays:
    weights = posterior_weights(model, q, batch, samples, memory, generator)
    value, error = elbo_of(weights.log_w, weights.log_c)
    return {f"elbo_{name}": value.numpy(), f"error_{name}": error.numpy()}


def _noise(system: System, seed: int, index: Int[Tensor, " B"]) -> Generator:
    """Of a batch; copies of it give every family the same."""
    return Generator(place(system)[0]).manual_seed(seed + int(index[0]))


def _unseen(system: System, raw: Batch) -> Batch:
    """Data of which the system remembers nothing: it is the encoder that is measured."""
    batch = like(system, raw)
    return batch._replace(index=torch.full_like(batch.index, -1))


def _difference(used: Arrays, one: str, other: str) -> Estimate:
    error = np.hypot(used[f"error_{one}"], used[f"error_{other}"])
    return Estimate.of(used[f"elbo_{one}"] - used[f"elbo_{other}"], error)


def _member(used: Arrays, name: str) -> Member:
    error = np.hypot(used["stderr"], used[f"error_{name}"])
    gap = Estimate.of(used["log_likelihood"] - used[f"elbo_{name}"], error)
    return Member(Estimate.of(used[f"elbo_{name}"], used[f"error_{name}"]), gap, _difference(used, name, "own"))


def _beyond(one: Estimate, other: Estimate) -> Estimate:
    """The difference of two means over different data."""
    errors = (np.hypot(getattr(one, name), getattr(other, name)) for name in ("stderr", "monte_carlo"))
    return Estimate(one.value - other.value, *map(float, errors))


def _checked(system: System, **values: int) -> HasModel:
    check_counts("gaps", **values)
    latent = require(system, HasModel, "gaps")
    if system.evidence == "none":
        raise ValueError(f"gaps: expects a system with a posterior and evidence; got {type(system).__name__} without.")
    require_continuous(latent.parts().model, "gaps")
    return latent
