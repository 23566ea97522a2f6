"""The generative model: p(x, z) = p(z) p(x | decoder(z))."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.conditioning import Conditioning
from curvae.likelihoods import Likelihood
from curvae.networks import run_network
from curvae.priors import Prior
from curvae.typing import Context


@runtime_checkable
class DrawsInOrder(Protocol):
    """An autoregressive decoder that knows the order of the elements."""

    def ancestral(self, z: Tensor, draw: Callable[[Tensor], Tensor]) -> Tensor:
        """Draw x given z, element by element; ``draw`` is that given eta, of all elements, each by itself."""
        ...


class LatentVariableModel(nn.Module):
    """``log p(x, z) = prior.log_prob(z) + likelihood.log_prob(x, decoder(z))``, deterministic given (x, z).

    Args:
        prior: p(z), over D dimensions.
        decoder: any module from (N, D) to (N, ...) whose rows do not depend on one another; its output, flattened,
            is eta, (N, P).
        likelihood: p(x | eta), which takes P = ``likelihood.size`` values.
        autoregressive: the decoder is called as ``decoder(z, x)``.
        conditioning: what is given of each row; then there is no p(x, z) but for ``model.given(batch.context)``. It
            enters eta alone: covariates are a second input, ``decoder(z, covariates)``, and
            :meth:`curvae.likelihoods.Likelihood.placed` puts exposures and known errors beside what comes out. So
            what is true of a likelihood p(x | eta) stays true. Under the prior z does not depend on any of it.

    Example:
        >>> import torch
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(3), torch.nn.Linear(3, 10), Gaussian(10, scale=0.3))
        >>> x, z = model.sample(4)
        >>> x.shape, model.log_joint(x, z.expand(5, 4, 3)).shape
        (torch.Size([4, 10]), torch.Size([5, 4]))
    """

    def __init__(
        self,
        prior: Prior,
        decoder: nn.Module,
        likelihood: Likelihood,
        autoregressive: bool = False,
        conditioning: Conditioning | None = None,
    ):
        super().__init__()
        self.prior = prior
        self.decoder = decoder
        self.likelihood = likelihood
        self.autoregressive = autoregressive
        self.conditioning = conditioning
        self._context: Context | None = None
        self._everywhere = False

    @property
    def by_latents_alone(self) -> bool:
        """Whether eta is a function of z alone, of no x and of nothing that is given of a row."""
        return not self.autoregressive and self.conditioning is None

    @property
    def outputs(self) -> int:
        """How many values the decoder must give of a row."""
        return self.likelihood.size if self.conditioning is None else self.likelihood.outputs

    def given(self, context: Context | None) -> "LatentVariableModel":
        """p(x, z | c) of the rows of one batch, with what is known of them; of a model that is given nothing itself.

        Raises:
            ValueError: something that the model is given is missing.
        """
        if self.conditioning is None or self._everywhere:
            return self
        return self._with(self.conditioning.of(context))

    def reference(self) -> "LatentVariableModel":
        """p(x, z | c) for any number of rows, given what is typical of training rows: for pictures of the decoder."""
        return self if self.conditioning is None else self._with(self.conditioning.typical(), everywhere=True)

    def of_first(self, count: int) -> "LatentVariableModel":
        """The same for the first row of a batch so many times over, where it is for one batch."""
        return self if self._context is None or self._everywhere else self._with(self._context[[0] * count])

    def decoding_by(self, decoder: nn.Module) -> "LatentVariableModel":
        """The same with another decoder."""
        return LatentVariableModel(self.prior, decoder, self.likelihood, self.autoregressive, self.conditioning)

    def _with(self, context: Context, everywhere: bool = False) -> "LatentVariableModel":
        made = self.decoding_by(self.decoder)
        made._context, made._everywhere = context, everywhere
        return made

    @property
    def draws_in_order(self) -> bool:
        """Whether it draws element by element: E[x | z] then has no closed form, and draws stand in its place."""
        return self.autoregressive and isinstance(self.decoder, DrawsInOrder)

    def decode(self, z: Float[Tensor, "*L D"], x: Tensor | None = None, precise: bool = False) -> Float[Tensor, "*L P"]:
        """Decoder output eta for any leading dimensions; the decoder itself only sees (N, D).

        A decoder in half precision is given z in its own, and eta is in that of z. ``precise`` computes it in that of z
        from its rounded weights, and uncompiled, as its derivatives need it.

        Raises:
            ValueError: the decoder does not give P values a row, it is autoregressive and x is missing, or a model that
                is given something of each row was asked without, or for other rows.
        """
        rows = z.reshape(-1, z.shape[-1])
        out = self._fitting(run_network(self.decoder, rows, *self._beside(z, x), precise=precise).flatten(1))
        eta = out.unflatten(0, z.shape[:-1])
        return eta if self._context is None else self.likelihood.placed(eta, self._context)

    def _beside(self, z: Float[Tensor, "*L D"], x: Tensor | None) -> tuple[Tensor, ...]:
        """What the decoder is given beside z, a row for each of z."""
        if self.autoregressive:
            if x is None:
                raise ValueError("decode: an autoregressive decoder needs x beside z; got x=None. Pass decode(z, x).")
            event = x.shape[x.ndim - len(self.likelihood.event) :]
            return (x.expand(*z.shape[:-1], *event).reshape(-1, *event),)
        if self.conditioning is None:
            return ()
        if (context := self._context) is None:
            raise ValueError(
                f"decode: this model is given {self.conditioning.conditions.said} of each row, and was asked without; "
                "take model.given(batch.context), or an evaluation that knows of it."
            )
        if not self._everywhere and z.shape[-2] != len(context):
            raise ValueError(f"decode: expected z of {len(context)} rows, as the context, got {z.shape[-2]}.")
        if context.covariates is None:
            return ()
        size = context.covariates.shape[-1]
        return (context.covariates.to(z).expand(*z.shape[:-1], size).reshape(-1, size),)

    def _fitting(self, out: Float[Tensor, "N Q"]) -> Float[Tensor, "N Q"]:
        """What the decoder gives, as many values as the likelihood takes from it."""
        if out.shape[-1] != self.outputs:
            raise ValueError(
                f"decode: {type(self.likelihood).__name__} expects {self.outputs} values an example from "
                f"the decoder; got {out.shape[-1]}. Change the decoder's last layer, or the likelihood's event."
            )
        return out

    def mean(self, z: Float[Tensor, "B D"], x: Tensor | None = None) -> Float[Tensor, "B *event"]:
        """``E[x | z]``; the most probable category where x is categorical. An autoregressive decoder also gets x."""
        mean = self.expectation(z, x)
        return mean.argmax(-1).to(z.dtype) if mean.ndim > 1 + len(self.likelihood.event) else mean

    def expectation(self, z: Float[Tensor, "B D"], x: Tensor | None = None) -> Float[Tensor, "B ..."]:
        """``E[x | z]``, of categories their probabilities."""
        return self.likelihood.mean(self.decode(z, x))

    def log_likelihood(
        self, x: Tensor, z: Float[Tensor, "*S B D"], mask: Tensor | None = None
    ) -> Float[Tensor, "*S B"]:
        """``log p(x | z)`` in nats, over the observed elements.

        Raises:
            ValueError: an autoregressive decoder and missing elements, which the later ones are not known without.
        """
        require_whole(self, mask, "log_likelihood")
        return self.likelihood.log_prob(x, self.decode(z, x), mask)

    def log_joint(self, x: Tensor, z: Float[Tensor, "*S B D"], mask: Tensor | None = None) -> Float[Tensor, "*S B"]:
        """``log p(x, z)`` in nats."""
        return self.prior.log_prob(z) + self.log_likelihood(x, z, mask)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """The decoder in evaluation mode meanwhile: dropout off, batch normalization by its running statistics.

        What inference differentiates has to be one function of z, and each row of it a function of its own z. The
        modes are as before afterwards, and no running statistic has moved.
        """
        training = [module for module in self.decoder.modules() if module.training]
        for module in training:
            module.training = False
        try:
            yield
        finally:
            for module in training:
                module.training = True

    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """``n`` draws (x, z) of the model: (n, *event), (n, D); see :meth:`sample_given`.

        Where something is given of each row, that is what was known of a training row, drawn with replacement.
        """
        z = self.prior.sample(n, generator)
        if self.conditioning is not None and self._context is None:
            return self.given(self.conditioning.drawn(n, generator)).sample_given(z, generator), z
        return self.sample_given(z, generator), z

    def sample_given(self, z: Float[Tensor, "B D"], generator: torch.Generator | None = None) -> Tensor:
        """A draw of x from each p(x | z), (B, *event); of an autoregressive decoder element by element.

        Raises:
            ValueError: an autoregressive decoder that does not know the order of the elements (DrawsInOrder).
        """
        draw = partial(self.likelihood.sample, generator=generator)
        if not self.autoregressive:
            return draw(self.decode(z))
        if not isinstance(self.decoder, DrawsInOrder):
            raise ValueError(
                f"sample: expects an autoregressive decoder with a method ancestral(z, draw); got "
                f"{type(self.decoder).__name__}."
            )
        return self.decoder.ancestral(z, draw)


class BatchModel(LatentVariableModel):
    """A model for one batch alone: the same log p(x, z) with a log-likelihood that costs less.

    Args:
        model: the model.
        log_likelihood: ``z -> log p(x | z)`` of that batch, (*S, B, D) to (*S, B).
    """

    def __init__(self, model: LatentVariableModel, log_likelihood: Callable[[Tensor], Tensor]):
        super().__init__(model.prior, model.decoder, model.likelihood, model.autoregressive)
        self._of_batch = log_likelihood

    def log_likelihood(
        self, x: Tensor, z: Float[Tensor, "*S B D"], mask: Tensor | None = None
    ) -> Float[Tensor, "*S B"]:
        return self._of_batch(z)


def require_continuous(model: LatentVariableModel, who: str) -> None:
    """The door of everything that goes by slope and curvature of log p(x, z).

    Raises:
        ValueError: discrete latents.
    """
    if not model.prior.continuous:
        raise ValueError(
            f"{who}: expects continuous latents; got discrete ones ({type(model.prior).__name__}). Use an inference "
            "for discrete latents, such as AmortizedCategorical."
        )


def require_unconditional(model: LatentVariableModel, who: str) -> None:
    """The door of what does not know of :mod:`curvae.conditioning` yet.

    Raises:
        ValueError: a model that is given something of each row.
    """
    if model.conditioning is not None:
        said = model.conditioning.conditions.said
        raise ValueError(
            f"{who}: expects a model of rows alone, and does not know of others yet; got one given {said}."
        )


def require_whole(model: LatentVariableModel, mask: Tensor | None, who: str) -> None:
    """The door of log p(x | z): an autoregressive decoder sees elements, and does not integrate over missing ones.

    Raises:
        ValueError: such a decoder, and a mask that is not True everywhere.
    """
    if model.autoregressive and mask is not None and not bool(mask.all()):
        raise ValueError(
            f"{who}: expects examples without missing elements, which an autoregressive decoder cannot leave out; got "
            "some with. Leave these examples out, or take a system with another decoder."
        )


def log_joint_by_target(
    model: LatentVariableModel, x: Tensor, z: Float[Tensor, "S B D"], mask: Tensor | None = None
) -> tuple[Float[Tensor, "S B"], Float[Tensor, "S B"]]:
    """``log p(x, z)`` twice, from one pass: the first reaches the model's parameters only, the second z only.

    For objectives that weight the two gradients differently (wake-sleep, DReG). The second is
    ``stop(log p) + stop(d log p / dz) (z - stop(z))``.

    Example:
        >>> import torch
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(2), torch.nn.Linear(2, 3), Gaussian(3))
        >>> z = torch.zeros(1, 4, 2, requires_grad=True)
        >>> down, up = log_joint_by_target(model, torch.ones(4, 3), z)
        >>> torch.autograd.grad(down.sum(), z, allow_unused=True, retain_graph=True)[0] is None
        True
        >>> torch.autograd.grad(up.sum(), model.decoder.weight, allow_unused=True)[0] is None
        True
    """
    here = z.detach()
    down, pull = torch.func.vjp(lambda point: model.log_joint(x, point, mask), here)[:2]
    (slope,) = pull(torch.ones_like(down))
    up = down.detach() + (slope.detach() * (z - here)).sum(-1)
    return down, up
