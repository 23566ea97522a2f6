"""Everything measured for each datum of a table, in one pass: inference is done once a batch and reused throughout."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Generator, Tensor

from curvae.data import ArrayTable
from curvae.evaluation.diagnostics import Estimates
from curvae.evaluation.importance import (
    MEMORY,
    estimates,
    exact,
    posterior_weights,
    rows_within,
    system_weights,
)
from curvae.evaluation.latent import describe
from curvae.evaluation.proposal import common_proposal
from curvae.systems import LatentSystem, System
from curvae.typing import Batch

Scores = dict[str, NDArray]
"""Arrays by name, one row a datum; see :func:`score`."""

Report = Callable[[int, float], None]
"""Called after each batch with the number of data done and the running log-likelihood, in nats."""

CACHED = 2**25
"""The most of its budget that a CPU takes at a time: larger draws fall out of its caches and are a fifth slower."""


class Sampling(NamedTuple):
    """How the weights are drawn."""

    samples: int = 500
    memory: int = MEMORY
    generator: Generator | None = None


def score(
    system: System,
    table: ArrayTable,
    samples: int = 500,
    seed: int = 0,
    memory: int = MEMORY,
    batch_size: int = 100,
    limit: int | None = None,
    report: Report | None = None,
) -> Scores:
    """Measure the first ``limit`` data of a table (all if None); the system and torch's own generator stay as they are.

    For each proposal (``own``: the system's posterior; ``laplace``: the common one, for a ``LatentSystem`` with
    continuous latents): ``log_likelihood_*``, ``stderr_*`` (nats), ``ess_*`` (draws), ``khat_*``. Beside them ``index``
    (row of the table), ``log_likelihood`` (the headline: exact where ``system.evidence`` is "exact", else of the common
    proposal where there is one, else own), ``elbo``, ``log_det`` (nats), ``size`` (observed elements), ``label`` if
    any; and what :func:`curvae.evaluation.latent.describe` finds. A system whose evidence is "none" gets no
    log-likelihood.

    Raises:
        ValueError: fewer than 1 samples, byte, datum a batch, or datum in all; a system that calls the value of an
            objective exact which is no lower bound.

    Example:
        >>> import torch
        >>> from curvae.data import from_array
        >>> from curvae.systems import vae
        >>> data = from_array(torch.randn(40, 5))
        >>> found = score(vae(data.spec, latent=2, hidden=8), data.test, samples=50)
        >>> found["log_likelihood_laplace"].shape == (len(data.test),)
        True
    """
    _check(samples=samples, memory=memory, batch_size=batch_size, limit=limit)
    if system.evidence == "exact" and system.kind != "lower":
        raise ValueError(
            f"evaluate: the system says evidence='exact', but its objective is of kind {system.kind!r}, whose value is "
            "not log p(x). Set evidence='bound', or declare the objective 'lower'."
        )
    count = len(table) if limit is None else min(limit, len(table))
    if count == 0:
        raise ValueError("evaluate: the table holds no data; expected 1 or more.")
    parts: list[Scores] = []
    if place(system)[0].type == "cpu":
        memory = min(memory, CACHED)
    with untouched(system, seed):
        size = min(batch_size, rows_within(system, like(system, table.batch(torch.arange(1))), memory))
        sampling = Sampling(samples, memory, Generator(place(system)[0]).manual_seed(seed))
        for index in torch.arange(count).split(size):
            parts.append(_measure(system, table, index, sampling))
            if report is not None:
                report(int(index[-1]) + 1, running(parts))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def running(parts: list[Scores]) -> float:
    """Mean of the headline over the data done so far, nats; NaN where there is none."""
    values = np.concatenate([part.get("log_likelihood", np.array([np.nan])) for part in parts])
    return float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else float("nan")


def _measure(system: System, table: ArrayTable, index: Int[Tensor, " B"], sampling: Sampling) -> Scores:
    raw = table.batch(index)
    batch = like(system, raw)
    observed = torch.ones_like(raw.x, dtype=torch.bool) if raw.mask is None else raw.mask
    found = {"index": index.numpy(), "size": observed.flatten(1).sum(1).cpu().numpy()}
    found["log_det"] = exact(table.transform.log_det(raw.x, raw.mask)).numpy()
    if raw.label is not None:
        found["label"] = raw.label.cpu().numpy()
    measured = _latent(system, table, batch, sampling) if isinstance(system, LatentSystem) else {}
    return found | measured | _evidence(system, batch, sampling, measured)


def _latent(system: LatentSystem, table: ArrayTable, batch: Batch, sampling: Sampling) -> Scores:
    """What a LatentSystem has beside its evidence, and importance weights from one inference a proposal."""
    inferred = system.inference(system.model, batch)
    found = describe(system.model, inferred, batch, table.transform)
    if system.evidence != "bound":
        return found
    own = estimates(posterior_weights(system.model, inferred.posterior, batch, *sampling))
    found |= {"elbo": own.elbo, **named("own", own)}
    if not system.model.prior.continuous:
        return found | {"log_likelihood": own.log_likelihood}
    common = common_proposal(system)(system.model, batch)
    laplace = estimates(posterior_weights(system.model, common.posterior, batch, *sampling))
    found |= {"status_laplace": common.info["status"].cpu().numpy(), "log_likelihood": laplace.log_likelihood}
    return found | named("laplace", laplace)


def _evidence(system: System, batch: Batch, sampling: Sampling, measured: Scores) -> Scores:
    """The headline where weights from a posterior have not given it."""
    if system.evidence == "none" or "log_likelihood" in measured:
        return {}
    if system.evidence == "exact":
        value = exact(system.bound(batch).value).numpy()
        return {"log_likelihood": value, "elbo": value}
    own = estimates(system_weights(system, batch, *sampling))
    return {"log_likelihood": own.log_likelihood, "elbo": own.elbo, **named("own", own)}


def named(proposal: str, found: Estimates) -> Scores:
    """The estimates from one proposal, by their names in a table of scores."""
    return {f"{name}_{proposal}": getattr(found, name) for name in ("log_likelihood", "stderr", "ess", "khat")}


@contextmanager
def untouched(system: System, seed: int) -> Iterator[None]:
    """Evaluation mode, no gradients, a fixed seed; afterwards modes and torch's generators are as they were."""
    modes = [(module, module.training) for module in system.modules()]
    device = place(system)[0]
    cards = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(cards), torch.no_grad():
            torch.manual_seed(seed)
            system.eval()
            yield
    finally:
        for module, training in modes:
            module.training = training


def place(system: System) -> tuple[torch.device, torch.dtype]:
    """Device and floating type of a system, by its first parameter or buffer."""
    for tensor in (*system.parameters(), *system.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device("cpu"), torch.float32


def like(system: System, batch: Batch) -> Batch:
    """A batch where the system is, in its floating type."""
    device, dtype = place(system)
    x = batch.x.to(device, dtype) if batch.x.is_floating_point() else batch.x.to(device)
    mask, label = (None if part is None else part.to(device) for part in (batch.mask, batch.label))
    return Batch(x, batch.index.to(device), mask, label)


def _check(**values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < 1:
            raise ValueError(f"evaluate: {name} must be 1 or more; got {value}.")
