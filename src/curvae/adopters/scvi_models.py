"""``SCVI`` of scvi-tools: counts of genes by cells, library sizes observed, batches as covariates."""

import copy
import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from curvae.adopters.candidate import Candidate, system_of
from curvae.adopters.count_networks import CountDecoder, CountEncoder, state_of_layers
from curvae.adopters.faithful import AdoptionError, Elbo, SourceModel
from curvae.adopters.recipes import with_recipe
from curvae.data import Data
from curvae.data.schema import Column
from curvae.likelihoods import Likelihood, NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial
from curvae.systems import Recipe
from curvae.typing import Batch

LEAST = 1e-8
"""Dispersion."""
NEVER = 1e-300
"""In the place of what scvi-tools adds within logarithms: below any count or mean in float64."""


class Told(NamedTuple):
    """What an SCVI says of itself."""

    module: Any
    words: Mapping[str, Any]
    """Arguments of its module."""
    batch: str | None
    """The column of batches; None of a single one."""
    batches: Sequence[str]
    """Their names in its order."""
    layer: str | None


def is_scvi(source: Any) -> bool:
    """Whether it is an SCVI."""
    return type(source).__name__ == "SCVI" and type(source).__module__.startswith("scvi.")


def data_of(source: Any) -> Any:
    """The AnnData that it was trained on."""
    return source.adata


def reading_of(source: Any) -> dict[str, Any]:
    """How rows of AnnData are read for it: library sizes are sums of rows, batches are categories."""
    told = _told(source)
    found: dict[str, Any] = {"support": "count", "exposure": "total"}
    found |= {"key": told.layer} if told.layer else {}
    if told.batch is not None:
        found |= {"covariates": [told.batch], "kind": {told.batch: "category"}}
    return found


def adopt_scvi(source: Any, data: Data) -> Candidate:
    """An SCVI with observed library sizes, dispersions of genes, and no covariates but batches.

    ZINB, NB and Poisson are the likelihoods; the library size of a cell is its exposure, its batch a covariate.
    scvi-tools adds 1e-8 within the logarithms of its densities, which is left out on both sides of the comparison.

    Args:
        source: the model, loaded.
        data: cells by genes with exposure="total", and the batches as a covariate where there are several.

    Raises:
        AdoptionError: another kind of SCVI, or data that lack what the model is given.
    """
    told = _told(source)
    _check(told, data)
    order = _order(told, data)
    log_unit = math.log(_exposure(data).scale or 1.0)
    words = {name: told.words[name] for name in ("genes", "latent", "hidden", "depth", "everywhere")}
    likelihood = _likelihood(told)
    inflated, count = isinstance(likelihood, ZeroInflatedNegativeBinomial), len(order)
    encoder_sees = count if told.words["encode_covariates"] else 0
    encoder = CountEncoder(
        **words, covariates=encoder_sees, logarithm=told.words["logarithm"], **_norms(told.words, "encoder")
    )
    decoder = CountDecoder(
        **words, covariates=count, inflated=inflated, log_unit=log_unit, **_norms(told.words, "decoder")
    )
    state = {name: value.detach().cpu() for name, value in told.module.state_dict().items()}
    _fill_encoder(encoder, state, order)
    _fill_decoder(decoder, state, order)
    _describe(
        encoder,
        words | {"covariates": encoder_sees, "logarithm": told.words["logarithm"]} | _norms(told.words, "encoder"),
    )
    _describe(
        decoder,
        words | {"covariates": count, "inflated": inflated, "log_unit": log_unit} | _norms(told.words, "decoder"),
    )
    parts = {"decoder": decoder, "likelihood": likelihood, "encoder": encoder}
    system = system_of(data.spec, told.words["latent"], parts)
    return Candidate(system, SourceModel(elbo=_elbo(told, order)), "scvi-tools SCVI")


def _told(source: Any) -> Told:
    module, registry = source.module, source.adata_manager.registry
    setup = registry["setup_args"]
    state = registry["field_registries"]["batch"]["state_registry"]
    names = [str(each) for each in state["categorical_mapping"]]
    encoder = module.z_encoder.encoder
    words = {
        "genes": module.n_input,
        "latent": module.n_latent,
        "hidden": module.n_hidden,
        "depth": module.n_layers,
        "everywhere": bool(encoder.inject_covariates),
        "encode_covariates": bool(module.encode_covariates),
        "logarithm": bool(module.log_variational),
        **_norm_words(module),
    }
    return Told(module, words, setup["batch_key"] if len(names) > 1 else None, names, setup["layer"])


def _norm_words(module: Any) -> dict[str, bool]:
    found = {}
    for part, layers in (("encoder", module.z_encoder.encoder), ("decoder", module.decoder.px_decoder)):
        kinds = [type(each) for each in layers.modules()]
        found[f"{part}_batch_norm"] = nn.BatchNorm1d in kinds
        found[f"{part}_layer_norm"] = nn.LayerNorm in kinds
    return found


def _norms(words: Mapping[str, Any], part: str) -> dict[str, bool]:
    return {name: words[f"{part}_{name}"] for name in ("batch_norm", "layer_norm")}


def _check(told: Told, data: Data) -> None:
    """
    Raises:
        AdoptionError: what is not adopted, in one line.
    """
    module = told.module
    refused = {
        "use_observed_lib_size=True": module.use_observed_lib_size and not module.use_size_factor_key,
        "dispersion='gene'": module.dispersion == "gene",
        "latent_distribution='normal'": module.latent_distribution == "normal",
        "batch_representation='one-hot'": module.batch_representation == "one-hot",
        "gene_likelihood 'zinb', 'nb' or 'poisson'": module.gene_likelihood in ("zinb", "nb", "poisson"),
        "no covariates but batches": [*module.decoder.px_decoder.n_cat_list[1:]] == []
        and module.decoder.px_decoder.fc_layers[0][0].in_features
        == module.n_latent + sum(module.decoder.px_decoder.n_cat_list),
        "ReLU layers": all(isinstance(each, nn.ReLU) for each in _activations(module)),
        "var_activation=None": module.z_encoder.var_activation is torch.exp,
    }
    if wrong := [words for words, holds in refused.items() if not holds]:
        raise AdoptionError(f"SCVI: expected a model with {wrong[0]}, got another.")
    if data.spec.support != "count" or not data.spec.given.exposure:
        raise AdoptionError(
            "SCVI: expected counts with exposure='total', the library size of each cell; got data without."
        )
    if data.spec.event != (told.words["genes"],):
        raise AdoptionError(f"SCVI: expected {told.words['genes']} genes, got data of shape {data.spec.event}.")


def _activations(module: Any) -> list[nn.Module]:
    layers = [each for part in (module.z_encoder.encoder, module.decoder.px_decoder) for each in part.fc_layers]
    return [layer[3] for layer in layers]


def _exposure(data: Data) -> Column:
    return next(column for column in data.schema.columns if column.kind == "exposure")


def _order(told: Told, data: Data) -> list[int]:
    """Which of the model's batches each of our one-hot covariates is; empty of a single batch.

    Raises:
        AdoptionError: no such covariate, or other names of batches.
    """
    columns = [column for column in data.schema.columns if column.kind == "covariate"]
    if told.batch is None and not columns:
        return []
    words = list(columns[0].vocabulary or ()) if len(columns) == 1 else []
    if told.batch is None or sorted(words) != sorted(told.batches):
        wanted = (
            f"covariates=[{told.batch!r}], batches {', '.join(told.batches[:10])}" if told.batch else "no covariates"
        )
        raise AdoptionError(f"SCVI: expected {wanted}; got {', '.join(words[:10]) or 'others or none'}.")
    return [list(told.batches).index(word) for word in words]


def _likelihood(told: Told) -> Likelihood:
    """With the dispersions of genes, ``a = 1 / theta``."""
    genes = told.words["genes"]
    if told.module.gene_likelihood == "poisson":
        return with_recipe(Poisson(genes))
    kind = ZeroInflatedNegativeBinomial if told.module.gene_likelihood == "zinb" else NegativeBinomial
    made = kind(genes, learn="element", floor=LEAST)
    counts = made.counts if isinstance(made, ZeroInflatedNegativeBinomial) else made
    counts.dispersion.put((-told.module.px_r.detach().cpu()).double().exp())
    arguments = {"event": genes, "learn": "element", "floor": LEAST}
    object.__setattr__(made, "recipe", Recipe(f"curvae.likelihoods.{kind.__name__}", arguments))
    return made


def _fill_encoder(encoder: CountEncoder, state: dict[str, Tensor], order: Sequence[int]) -> None:
    beside = len(order) if encoder.covariates else 0
    layers = state_of_layers(state, "z_encoder.encoder.fc_layers.", order, beside)
    encoder.layers.load_state_dict(layers)
    for ours, theirs in (("mean", "z_encoder.mean_encoder"), ("variance", "z_encoder.var_encoder")):
        _fill(getattr(encoder, ours), state, theirs)


def _fill_decoder(decoder: CountDecoder, state: dict[str, Tensor], order: Sequence[int]) -> None:
    decoder.layers.load_state_dict(state_of_layers(state, "decoder.px_decoder.fc_layers.", order, len(order)))
    _fill(decoder.share, state, "decoder.px_scale_decoder.0")
    _fill(decoder.zero, state, "decoder.px_dropout_decoder")


def _fill(layer: nn.Linear, state: Mapping[str, Tensor], name: str) -> None:
    layer.load_state_dict({each: state[f"{name}.{each}"] for each in ("weight", "bias")})


def _describe(network: nn.Module, arguments: Mapping[str, Any]) -> None:
    path = f"curvae.adopters.count_networks.{type(network).__name__}"
    object.__setattr__(network, "recipe", Recipe(path, dict(arguments)))


def _elbo(told: Told, order: Sequence[int]) -> Elbo:
    """By the model's own inference, generative and densities, with next to nothing added within their logarithms."""
    twin = copy.deepcopy(told.module).double().cpu().eval()

    def elbo(batch: Batch, noise: Tensor) -> Tensor:
        codes = torch.zeros(len(batch.x), 1, dtype=torch.long)
        if order and batch.context is not None and batch.context.covariates is not None:
            codes = torch.tensor(list(order))[batch.context.covariates.argmax(1)].unsqueeze(1)
        found = twin.inference(batch.x, codes)
        q = found["qz"]
        px = twin.generative(q.loc + q.scale * noise, found["library"], codes)["px"]
        divergence = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1)
        return _log_prob(twin.gene_likelihood, px, batch.x).sum(1) - divergence

    return elbo


def _log_prob(kind: str, px: Any, x: Tensor) -> Tensor:
    """Of each count."""
    densities: Any = importlib.import_module("scvi.distributions._negative_binomial")
    if kind == "poisson":
        return px.log_prob(x)
    if kind == "nb":
        return densities.log_nb_positive(x, px.mu, px.theta, eps=NEVER)
    return densities.log_zinb_positive(x, px.mu, px.theta, px.zi_logits, eps=NEVER)
