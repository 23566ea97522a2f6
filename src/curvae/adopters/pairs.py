"""Any encoder with any decoder."""

import copy
import logging
from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.adopters.candidate import Candidate, fit_noise, likelihood_of, rows_for, system_of
from curvae.adopters.conventions import Change, Convention, Networks, changes_of, data_changes, suspects_of
from curvae.adopters.faithful import AdoptionError, SourceModel
from curvae.adopters.reading import FlatDecoder, GaussianEncoder, gaussian_pair, output_of, without_sigmoid
from curvae.data import Data
from curvae.likelihoods import Bernoulli, Likelihood
from curvae.typing import Batch

log = logging.getLogger("curvae")

OUTPUTS = ("natural", "probabilities")
"""What a decoder gives: the parameters of the likelihood (logits, say), or probabilities of ones."""
PairElbo = Callable[[nn.Module, nn.Module, Tensor, Tensor], Tensor]
"""(encoder, decoder, x, noise) -> the source's own ELBO of each row."""
TRIED = 256
"""Rows by which it is seen whether they are such as the networks know."""
BETTER = 0.2
"""Share of the variance that another convention must explain more to be suspected."""


def adopt_pair(
    pair: tuple[nn.Module, nn.Module],
    data: Data,
    *,
    likelihood: str | Likelihood | None = None,
    spread: str = "log-variance",
    outputs: str | None = None,
    noise: float | None = None,
    elbo: PairElbo | None = None,
) -> Candidate:
    """An encoder and a decoder of one's own.

    Args:
        pair: the encoder, from rows to a Gaussian (a pair, or a tensor of means and spreads), and the decoder, from
            latents as the encoder gives them to the likelihood's parameters.
        data: rows in the units of the networks.
        likelihood: "gaussian", "bernoulli", another word of those of a system, or an object; None = by the data.
        spread: what the encoder gives beside means.
        outputs: what the decoder gives under a Bernoulli likelihood; None = probabilities where all lie in [0, 1].
        noise: standard deviation of a Gaussian; None = fitted to training rows in closed form, with ``elbo`` 1.
        elbo: the source's own, as a function of copies of both networks in float64, rows (B, *event) and the noise of
            their posteriors (B, D), in nats, (B,). Without it nothing is compared but what the networks give.

    Raises:
        AdoptionError: networks that do not go together, or other conventions than were said.
        ValueError: an option that is none.
    """
    encoder, decoder = (copy.deepcopy(each).eval() for each in pair)
    if elbo is not None and noise is None and likelihood in (None, "gaussian"):
        noise = 1.0 if data.spec.support == "real" else None
    rows = rows_for(data, TRIED)
    event = _event(encoder, rows.x)
    with torch.no_grad():
        mean, _ = gaussian_pair(encoder(rows.x if event is None else rows.x.reshape(len(rows.x), *event)))
        latents = None if mean.ndim == 2 else tuple(mean.shape[1:])
        out = decoded(decoder, mean)
    law = likelihood_of(likelihood, data.spec, noise)
    if out.flatten(1).shape[1] != law.outputs:
        raise AdoptionError(
            f"decoder: expected {law.outputs} values a row for {type(law).__name__}, got {out.flatten(1).shape[1]}."
        )
    reading = Convention(spread, probabilities=are_probabilities(out, law, outputs))
    networks = Networks.of(encoder, decoder, law, event=event, latents=latents)
    check_convention(networks, reading, rows.x, data.spec.event)
    system = system_of(
        data.spec,
        mean.flatten(1).shape[1],
        {
            "decoder": flat_decoder(decoder, latents, reading.probabilities, mean[:1].new_zeros(4, *mean.shape[1:])),
            "likelihood": law,
            "encoder": GaussianEncoder(encoder, spread, event),
        },
    )
    if elbo is None:
        fit_noise(system, data)
        _note_other_spreads(networks, reading, rows.x)
        return Candidate(system, _outputs_of(networks, reading), "an encoder and a decoder")
    double = copy.deepcopy(pair[0]).double(), copy.deepcopy(pair[1]).double()  # in the mode that they are in

    def theirs(batch: Batch, noise: Tensor) -> Tensor:
        one, other = copy.deepcopy(double)
        return elbo(one, other, batch.x, noise)

    source = SourceModel(elbo=theirs)
    return Candidate(system, source, "an encoder and a decoder", suspects_of(networks, reading, data.spec.event))


def _event(encoder: nn.Module, x: Float[Tensor, "B *event"]) -> tuple[int, ...] | None:
    """The shape in which an encoder takes rows: as they come, or flat.

    Raises:
        AdoptionError: neither.
    """
    flat = (x[0].numel(),)
    for event in (None, flat):
        try:
            with torch.no_grad():
                encoder(x[:2] if event is None else x[:2].reshape(2, *event))
            return event
        except (RuntimeError, IndexError) as error:
            told = error
    reason = " ".join(str(told).split())[:200].rstrip(".")
    raise AdoptionError(
        f"encoder: expected a network that takes (N, {', '.join(map(str, x.shape[1:]))}), got {reason}."
    )


def decoded(decoder: nn.Module, z: Float[Tensor, "N ..."]) -> Tensor:
    try:
        return output_of(decoder(z))
    except RuntimeError as error:
        shape, reason = ", ".join(map(str, z.shape[1:])), " ".join(str(error).split())[:200].rstrip(".")
        raise AdoptionError(f"decoder: expected a network that takes latents (N, {shape}), got {reason}.") from None


def are_probabilities(out: Tensor, law: Likelihood, outputs: str | None) -> bool:
    """Whether a decoder gives probabilities of ones.

    Raises:
        AdoptionError: it cannot give what is said.
        ValueError: no such word, or probabilities under another likelihood.
    """
    if outputs not in (None, *OUTPUTS):
        raise ValueError(f"outputs: expected {' or '.join(OUTPUTS)}; got {outputs!r}.")
    if not isinstance(law, Bernoulli):
        if outputs == "probabilities":
            raise ValueError(f"outputs: expected natural under {type(law).__name__}; got 'probabilities'.")
        return False
    within = bool(((out >= 0) & (out <= 1)).all())
    if outputs == "natural" and within:
        raise AdoptionError(
            "decoder: expected logits, got values that all lie in [0, 1]: a sigmoid's outputs. Pass "
            "outputs='probabilities'."
        )
    if outputs == "probabilities" and not within:
        raise AdoptionError(
            f"decoder: expected probabilities, got values from {float(out.min()):.3g} to {float(out.max()):.3g}: "
            "logits. Pass outputs='natural'."
        )
    return within


def flat_decoder(
    decoder: nn.Module, latents: tuple[int, ...] | None, probabilities: bool, z: Float[Tensor, "N ..."]
) -> nn.Module:
    """The decoder as a model takes it: of flat latents, to the likelihood's parameters."""
    if probabilities and (peeled := without_sigmoid(decoder, z)) is not None:
        decoder, probabilities = peeled, False
    elif probabilities:
        log.info("adopt: the decoder's sigmoid cannot be left out; its logits are rounded where it saturates.")
    with torch.no_grad():
        plain = latents is None and isinstance(decoder(z), Tensor)
    return decoder if plain and not probabilities else FlatDecoder(decoder, latents, probabilities)


def _outputs_of(networks: Networks, reading: Convention) -> SourceModel:
    """What both networks give, of a source without an ELBO."""

    def code(x: Tensor) -> Tensor:
        seen = x if networks.event is None else x.reshape(len(x), *networks.event)
        return gaussian_pair(networks.encoder(seen))[0].flatten(1)

    def mean(z: Tensor) -> Tensor:
        at = z if networks.latents is None else z.reshape(len(z), *networks.latents)
        out = output_of(networks.decoder(at)).flatten(1)
        return out if reading.probabilities else networks.likelihood.mean(out).flatten(1)

    return SourceModel(code=code, mean=mean)


@torch.no_grad()
def check_convention(networks: Networks, reading: Convention, x: Tensor, event: tuple[int, ...]) -> None:
    """Whether rows are such as the networks know: whether they are explained far better in another convention.

    Raises:
        AdoptionError: they are.
    """
    x = x.double()
    stated = _explained(networks, reading, x)
    others = [*data_changes(event), *_outputs(networks.likelihood, reading, event)]
    found = {change.words: _explained(networks, replace(reading, **change.to), x) for change in others}
    words = max(found, key=lambda each: found[each])
    if found[words] > max(stated, 0.0) + BETTER:
        raise AdoptionError(
            f"adopt: expected rows such as the networks were trained on, got some of whose variance reconstructions "
            f"explain {stated:.0%}; they explain {found[words]:.0%} if {words}."
        )


def _outputs(likelihood: Likelihood, reading: Convention, event: tuple[int, ...]) -> list[Change]:
    return [change for change in changes_of(likelihood, reading, event) if "probabilities" in change.to]


def _explained(networks: Networks, reading: Convention, x: Float[Tensor, "B *event"]) -> float:
    """Share of the variance of rows, as the networks see them, that reconstructions explain."""
    seen = networks.seen(reading, x).flatten(1)
    try:
        left = (seen - networks.mean(reading, x)).square().sum()
    except (RuntimeError, ValueError):
        return -torch.inf
    return float((1 - left / (seen - seen.mean(0)).square().sum()).nan_to_num(-torch.inf))


@torch.no_grad()
def _note_other_spreads(networks: Networks, reading: Convention, x: Tensor) -> None:
    """A line of the log where posteriors read otherwise have a far higher ELBO: it need not be a mistake."""
    x = x.double()
    noise = torch.randn(len(x), networks_size(networks, x), generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    stated = networks.elbo(reading, x, noise)
    for change in changes_of(networks.likelihood, reading, tuple(x.shape[1:])):
        if "spread" in change.to:
            gain = networks.elbo(replace(reading, **change.to), x, noise) - stated
            if float(gain.mean()) > max(5 * float(gain.std()) / len(gain) ** 0.5, 1.0):
                log.info(
                    "adopt: the ELBO would be %.3g nats higher if %s; it was not compared with the source's own, as "
                    "elbo= is not given.",
                    float(gain.mean()),
                    change.words,
                )


def networks_size(networks: Networks, x: Tensor) -> int:
    """Number of latents D."""
    seen = x[:1] if networks.event is None else x[:1].reshape(1, *networks.event)
    return gaussian_pair(networks.encoder(seen))[0].numel()


def is_pair(source: object) -> bool:
    """Whether it is an encoder and a decoder."""
    return isinstance(source, tuple | list) and len(source) == 2 and all(isinstance(each, nn.Module) for each in source)
