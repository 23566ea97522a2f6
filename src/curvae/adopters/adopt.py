"""``adopt``: a model that was trained elsewhere becomes a run, without retraining."""

import copy
import inspect
import logging
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from curvae import registry
from curvae.adopters.autoencoder_kl import adopt_autoencoder_kl, is_autoencoder_kl
from curvae.adopters.candidate import Candidate, as_pixels, as_signed_pixels, rows_for, under
from curvae.adopters.decoders import adopt_decoder
from curvae.adopters.faithful import ROWS, difference, prove
from curvae.adopters.pairs import adopt_pair, is_pair
from curvae.adopters.pythae_files import is_pythae
from curvae.adopters.pythae_models import adopt_pythae
from curvae.adopters.scvi_models import adopt_scvi, data_of, is_scvi, reading_of
from curvae.data import Data
from curvae.data.transforms import Transform
from curvae.fitted import Fitted
from curvae.fitted.fit_and_load import RENAMED, as_data, options_of_data
from curvae.noise import keep_random_states
from curvae.systems import LatentSystem, System
from curvae.systems.device import evaluating

log = logging.getLogger("curvae")
CHOSEN_UNITS = ("transform", "standardize", "binarize", "dequantize", "logit")
"""Options of data that say in which units a model sees them."""
SAME = 1e-4
"""Relative difference of outputs in float32, of a system and of itself made again from its files."""


class Adapter(NamedTuple):
    """How models of one kind are adopted."""

    kind: str
    takes: Callable[[Any], bool]
    make: Callable[..., Candidate]
    units: Callable[[Data], Transform] = as_pixels
    """The units that such models were trained in, where nothing else is said."""
    own_data: Callable[[Any], Any] | None = None
    """The data that a model holds itself."""
    reading: Callable[[Any], Mapping[str, Any]] | None = None
    """Options by which data are read for it, where nothing else is said."""

    @property
    def options(self) -> set[str]:
        """What may be said of such a model."""
        kinds = inspect.signature(self.make).parameters.values()
        return {each.name for each in kinds if each.kind is inspect.Parameter.KEYWORD_ONLY}


def _is_decoder(source: Any) -> bool:
    return isinstance(source, nn.Module) and not isinstance(source, System)


ADAPTERS = (
    Adapter("a pair (encoder, decoder)", is_pair, adopt_pair),
    Adapter("a model of pythae or its folder", is_pythae, adopt_pythae),
    Adapter("an AutoencoderKL of diffusers or its folder", is_autoencoder_kl, adopt_autoencoder_kl, as_signed_pixels),
    Adapter("an SCVI of scvi-tools", is_scvi, adopt_scvi, own_data=data_of, reading=reading_of),
    Adapter("a decoder", _is_decoder, adopt_decoder),
)
"""The first one that takes a source adopts it."""


def adopt(
    source: Any,
    data: Any = None,
    *,
    out: str | PathLike[str] | None = None,
    label: Any = None,
    **options: Any,
) -> Fitted:
    """Take a model that was trained elsewhere, and leave a run folder of it: nothing is retrained.

    Its networks are copied, and its conventions are checked in float64: the source's own ELBO must equal ours on the
    same rows and noise, by a relative 1e-6; where a source has none, what its networks give must be equal. Otherwise
    nothing is written, and the line says which convention it suspects. All that is done with a run can be done with
    this one: ``evaluate``, ``refine``, ``gaps``, ``calibrate``, ``score``, ``ood``, ``report``, ``compare``.

    Data are seen as the source saw them: real tables are not standardized, grey levels become pixels in [0, 1] (in
    [-1, 1] for AutoencoderKL). Say ``transform`` or ``standardize`` for other units.

    Called again with the same weights and the same ``out``, it opens the run.

    Args:
        source: a pair of an encoder and a decoder (any modules of torch), a decoder alone, the folder of a pythae model
            or that model, an ``AutoencoderKL`` of diffusers or its folder, an ``SCVI`` of scvi-tools.
        data: what it is evaluated on: as :func:`curvae.fit` takes them. Of an ``SCVI`` by default its own.
        out: the run folder; by default ``runs/adopted-<data>-<number>``.
        label: as :func:`curvae.fit`.
        options: of the kind of source (docs, Adopt a trained model), and of the data, as those of :func:`curvae.fit`.

    Raises:
        AdoptionError: other conventions than were said.
        ValueError: a source of no known kind, or an option that neither it nor the data take.
        DataError: data that cannot be used as given.
        RunError: ``out`` holds something else.

    Example:
        >>> import curvae, tempfile
        >>> encoder, decoder = nn.Linear(5, 2 * 2), nn.Linear(2, 5)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     fitted = curvae.adopt((encoder, decoder), torch.randn(100, 5), noise=1.0, out=f"{folder}/run")
        ...     fitted.posterior("test").mean.shape
        torch.Size([15, 2])
    """
    adapter = adapter_for(source)
    if data is None and adapter.own_data is not None:
        data = adapter.own_data(source)
    if data is None:
        raise ValueError(
            f"data: expected rows to evaluate {adapter.kind} on, got None; pass an array, a file or a set."
        )
    if adapter.reading is not None and not isinstance(data, Data):
        options = {**adapter.reading(source), **options}
    fitting = options.get("encoder") == "fit"
    ours, theirs, training = _split(adapter, data, options, fitting)
    with keep_random_states():
        table = as_data(data, label, theirs)
        if not isinstance(data, Data) and not any(theirs.get(name) for name in CHOSEN_UNITS):
            table = under(table, adapter.units(table))
        torch.manual_seed(training.get("seed", 0))
        candidate = adapter.make(source, table, **ours)
        return _kept(candidate, table, out, adapter, fitting, training)


def adapter_for(source: Any) -> Adapter:
    """How this source is adopted.

    Raises:
        ValueError: it is of no known kind.
    """
    for adapter in ADAPTERS:
        if adapter.takes(source):
            return adapter
    got = f"the path {source}" if isinstance(source, str | PathLike) else f"a {type(source).__name__}"
    kinds = "; ".join(adapter.kind for adapter in ADAPTERS)
    raise ValueError(f"source: expected one of these: {kinds}; got {got}.")


def _split(
    adapter: Adapter, data: Any, options: Mapping[str, Any], fitting: bool
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Options of the source, of the data, and of the training of an encoder.

    Raises:
        ValueError: one that none of them takes.
    """
    from curvae.training.setup.settings import TrainingSettings

    known = {"progress", *inspect.signature(TrainingSettings).parameters} if fitting else set()
    ours = {name: value for name, value in options.items() if name in adapter.options}
    training = {name: value for name, value in options.items() if name in known}
    rest = {name: value for name, value in options.items() if name not in {*ours, *training}}
    allowed = options_of_data(data)
    for name in rest:
        if name not in allowed:
            near = get_close_matches(name, [*adapter.options, *allowed], n=1)
            mend = f"did you mean {near[0]}?" if near else f"it takes {', '.join(sorted(adapter.options | allowed))}."
            got = f"got {name!r}; {mend}"
            raise ValueError(f"adopt: expected an option of {adapter.kind} or of the data, {got}")
    theirs = {RENAMED.get(name, name): value for name, value in rest.items()}
    return ours, theirs, training


def _kept(
    candidate: Candidate,
    data: Data,
    out: str | PathLike[str] | None,
    adapter: Adapter,
    fitting: bool,
    training: dict[str, Any],
) -> Fitted:
    """The run folder of a candidate that is what it was."""
    from curvae.training import RunFolder, keep_trained
    from curvae.training.errors import FinishedError
    from curvae.training.fits.fit import start_run
    from curvae.training.setup.monitoring import Monitoring

    system, path = candidate.system, None if out is None else Path(out)
    if system.model.conditioning is not None and data.train.context is not None:
        system.model.conditioning.remember(data.train.context)
    proof = prove(system, candidate.source, rows_for(data, ROWS), candidate.suspects, candidate.as_source)
    told = {"source": candidate.told, "compared": proof.compared, "difference": proof.difference}
    log.info("adopt: %s; compared: %s, equal to %.1g.", candidate.told, proof.compared or "nothing", proof.difference)
    if not _replays(system, data):
        _forget_recipes(system)
    if fitting:
        progress = Monitoring(training.pop("progress", True))
        return Fitted(start_run(system, data, training, path, progress, adopted=told))
    try:
        return Fitted(keep_trained(system, data, path, adopted=told))
    except FinishedError:
        assert path is not None
        run = RunFolder(path, data, system)
        if _same_weights(run, system):
            return Fitted(run)
        raise


def _replays(system: LatentSystem, data: Data) -> bool:
    """Whether its files make a system again that gives the same."""
    from curvae.training.run.serialization import custom_parts, record

    recorded = record(system)
    if custom_parts(recorded):
        return False
    try:
        again: Any = registry.build(recorded["name"], recorded["arguments"], data.spec)
    except ValueError:  # a class of the user's, by a recipe that they gave it: nothing is imported to try it
        return True
    again.load_state_dict(system.state_dict())
    batch = rows_for(data, ROWS)
    with evaluating(again), evaluating(system):
        one, other = (_outputs(each, batch) for each in (system, again))
    return difference(one, other) < SAME


def _outputs(system: LatentSystem, batch: Any) -> torch.Tensor:
    model = system.model.given(batch.context)
    return model.decode(system.inference(model, batch).posterior.center)


def _forget_recipes(system: LatentSystem) -> None:
    """Of networks that a file tells wrongly of."""
    for module in system.modules():
        vars(module).pop("recipe", None) if module is not system else None


def _same_weights(run: Any, system: LatentSystem) -> bool:
    """Whether a run that is there already has these weights."""
    from curvae.training.run import weights

    digest = weights.files.digest(weights.to_safetensors(weights.snapshot(copy.deepcopy(system))))
    return run.digest() == digest
