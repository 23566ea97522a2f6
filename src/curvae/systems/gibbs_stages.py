"""Variational Gibbs inference: the phases of training of a system that learns from rows with holes by their
completions."""

from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple

import torch
from jaxtyping import Shaped
from torch import Tensor

from curvae.inference import GibbsChains
from curvae.likelihoods import Gaussian
from curvae.networks import ConditionalRegressions
from curvae.objectives import Bound
from curvae.systems.base import System
from curvae.systems.counted import counted
from curvae.systems.stages import Prepared, Stage
from curvae.systems.starts import likeliest_model
from curvae.typing import Batch, Context, DataSpec, Table, Tables

CHAINS = "inference.chains"
"""Where the chains of a system with latents are."""
RANKS = (1, 2, 4, 8, 16)
"""Of the linear models that conditionals may start at."""


@dataclass(frozen=True)
class VariationalGibbs:
    r"""``1/K sum_k E_{q_j}[bound(x_o, x_m^k with x_j)] + H[q_j(. | x_\j^k)]`` for one missing element j of each chain.

    The chains move first, and the bound is that of completed rows: any bound of log p(x), or log p(x) itself. Where the
    bound is exact and chains are at ``p(x_m | x_o)``, the gradient in the model is that of log p(x_o), and the best q_j
    is the exact conditional. Where the model moves the chains, there is no q_j: it is the bound of completed rows. It
    is no bound of log p(x_o), as the entropy of the chains is not known.

    Args:
        path: of the :class:`curvae.inference.GibbsChains`.
        updates: of each chain at a visit of its row.
        observed: whether the system has a bound of rows with holes; it is reported, else what is maximized.

    Reference: Simkus, Rhodes and Gutmann, *Variational Gibbs Inference for Statistical Model Estimation from Incomplete
    Data*, JMLR 2023, section 3.
    """

    path: str = CHAINS
    updates: int = 5
    observed: bool = True

    def __call__(self, system: Any, batch: Batch) -> Bound:
        chains = chains_at(system, self.path)
        kernel = None if chains.conditionals is not None else system.inference.kernel(system.model)
        states = batch.x[None] if batch.mask is None else chains.moved(batch, self.updates, kernel)
        x, mask = states.flatten(0, 1), _observed(batch).repeat(len(states), *[1] * (batch.x.ndim - 1))
        x, entropy = (x, 0.0) if chains.conditionals is None else chains.with_element(x, mask)
        surrogate = (system.bound(Batch.of(x)).surrogate + entropy).unflatten(0, (len(states), -1)).mean(0)
        with torch.no_grad():
            value = system.bound(batch).value if self.observed else surrogate.detach()
        remembered = len(chains.states) and batch.mask is not None
        return Bound(value, surrogate, state={f"{self.path}.states": states.transpose(0, 1)} if remembered else {})


@dataclass(frozen=True)
class RegressObserved:
    r"""``log q_j(x_j | x_\j)`` of one observed element j of each row, the holes filled as chains begin: regressions.

    Args:
        path: of the chains.
    """

    path: str = CHAINS

    def __call__(self, system: Any, batch: Batch) -> Bound:
        chains = chains_at(system, self.path)
        x = batch.x if batch.mask is None else chains.begun(batch)[0]
        surrogate = chains.log_prob_of_observed(x, _observed(batch))
        return Bound(torch.full_like(surrogate.detach(), torch.nan), surrogate)


@dataclass(frozen=True)
class StartChains:
    """What was observed of each element is known to the chains, conditionals start at those of a linear model.

    The linear model is probabilistic PCA of what was observed, with as many latents as are likeliest on validation
    rows. Then the system starts as it does by itself: at the data with their holes, or at completed ones.

    Args:
        networks: how the system starts by itself.
        path: of the chains.
        whole: whether the system starts at completed rows.
    """

    networks: Prepared | None
    path: str = CHAINS
    whole: bool = False

    def __call__(self, system: Any, data: Tables) -> None:
        chains, rows = chains_at(system, self.path), counted(data.train)
        mask = _observed(rows)
        chains.start_from(rows.x, mask)
        if chains.conditionals is not None:
            x, like = rows.x.flatten(1), Gaussian(prod(rows.x.shape[1:]), learn="element")
            ranks = [rank for rank in RANKS if rank < like.size]
            fits = [like.linear_fits(x, rank, mask.flatten(1))[0] for rank in ranks]
            held = Batch.of(data.validation.x.flatten(1), _observed(data.validation).flatten(1))
            fit = likeliest_model(tuple(fits), like, held)
            chains.conditionals.start_from(fit.mean, torch.linalg.inv(fit.covariance))
        if self.networks is not None:
            self.networks(system, completed_tables(data, chains) if self.whole else data)


@dataclass(frozen=True)
class RememberChains:
    """The chains of all training rows are kept from here on.

    Args:
        path: of the chains.
    """

    path: str = CHAINS

    def __call__(self, system: Any, data: Tables) -> None:
        chains_at(system, self.path).remember(data.train.total, None)


def observed_bound(system: System, batch: Batch) -> Bound:
    """The system's own bound, of what was observed."""
    return system.bound(batch)


def gibbs_chains(name: str, spec: DataSpec, copies: int, width: int, block: bool) -> GibbsChains:
    """Chains of data of this kind; without conditionals if ``block``.

    Raises:
        ValueError: conditionals of data that are not real numbers.
    """
    if spec.support != "real" and not block:
        raise ValueError(
            f"{name} expects data that are real numbers; got support {spec.support!r}. Take block=True, which fills in "
            "by the model."
        )
    conditionals = None if block else ConditionalRegressions(prod(spec.event), [width, width])
    return GibbsChains(spec.event, copies, conditionals)


def gibbs_stages(
    start: Prepared | None, updates: int, delay: float, block: bool, path: str = CHAINS, observed: bool = True
) -> tuple[Stage, ...]:
    """Conditionals are regressions first; then all learns while chains wait at their beginnings; then chains move.

    Raises:
        ValueError: a share outside [0, 0.9).
    """
    if not 0 <= delay < 0.9:
        raise ValueError(f"delay is a share of the time, in [0, 0.9); got {delay}.")
    judged = observed_bound if observed else None
    monitor = "value" if observed else "surrogate"
    own = {"judged": judged, "monitor": monitor, "prepare": (RememberChains(path),)}
    begin = StartChains(start, path, whole=not observed)
    first = () if block else (Stage("regressions", (path,), RegressObserved(path), monitor="surrogate", share=0.1),)
    waiting = (Stage("waiting", bound=VariationalGibbs(path, 0, observed), share=delay, **own),) if delay else ()
    gibbs = Stage("gibbs", bound=VariationalGibbs(path, updates, observed), **own, joined=bool(delay))
    stages = *first, *waiting, replace(gibbs, share=1 - delay - 0.1 * len(first))
    return replace(stages[0], start=begin), *stages[1:]


def learn_by_gibbs(
    system: System, spec: DataSpec, copies: int = 5, updates: int = 5, width: int = 64, delay: float = 0.1
) -> System:
    """The same system, an exact density of real numbers, made to learn from rows with holes: variational Gibbs.

    Such a density has no closed form for a part of a row, so what is reported is what is maximized, and rows with holes
    cannot be evaluated; they can be filled in.

    Args:
        system: as a registered function made it, not trained yet.
        spec: of its data.
        copies: K, imputations of each row.
        updates: of each imputation at a visit of its row.
        width: of the two hidden layers of the network that conditionals share.
        delay: share of the time that chains wait where they begin.

    Raises:
        ValueError: data that are not real numbers.

    Example:
        >>> from curvae.systems import nice
        >>> system = learn_by_gibbs(nice(DataSpec((4,)), hidden=16), DataSpec((4,)))
        >>> [stage.name for stage in system.stages()]
        ['regressions', 'waiting', 'gibbs']
    """
    system.chains = gibbs_chains("learn_by_gibbs", spec, copies, width, block=False)
    (stage,) = system.stages()
    system.restage(*gibbs_stages(stage.start, updates, delay, block=False, path="chains", observed=False))
    return system


def chains_at(system: Any, path: str) -> GibbsChains:
    """The chains at a path."""
    found = system.get_submodule(path)
    assert isinstance(found, GibbsChains)
    return found


class CompletedTable(NamedTuple):
    """A table whose holes are filled in."""

    x: Shaped[Tensor, "N *event"]
    mask: Tensor | None
    label: Tensor | None
    context: Context | None
    total: int


class CompletedTables(NamedTuple):
    """Training and validation rows whose holes are filled in."""

    train: CompletedTable
    validation: CompletedTable


def completed_tables(data: Tables, chains: GibbsChains) -> CompletedTables:
    """All rows with an imputation each, by new chains."""
    return CompletedTables(_completed(data.train, chains), _completed(data.validation, chains))


def _completed(table: Table, chains: GibbsChains) -> CompletedTable:
    whole = table.x if table.mask is None else chains.moved(Batch.of(table.x, table.mask), 0)[0]
    return CompletedTable(whole, None, table.label, table.context, table.total)


def _observed(rows: Table | Batch) -> Tensor:
    """Where something was observed."""
    return torch.ones_like(rows.x, dtype=torch.bool) if rows.mask is None else rows.mask
