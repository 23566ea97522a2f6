"""The contract of a system: what is trained, saved and evaluated."""

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Literal, ParamSpec, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.inference import Inference, Inferred, Refine, prefixed, refiner_at_test_time
from curvae.model import LatentVariableModel
from curvae.objectives import Bound, Kind, NotMiwae, Objective, kind_of, log_weights
from curvae.posteriors import Posterior, representative_point
from curvae.priors import assignments, mixtures_of
from curvae.systems.arguments import full_docstring
from curvae.systems.capabilities import Parts, Weights
from curvae.systems.context import take_context
from curvae.systems.likelihoods import take_likelihood, with_likelihood_words
from curvae.systems.priors import take_prior, with_prior_option
from curvae.systems.stages import Stage, initialize_likelihood
from curvae.typing import Batch, Context, DataSpec

Evidence = Literal["exact", "bound", "none"]
"""How log p(x) is had: from the system's ``log_prob``, from its ``log_weights``, or not at all."""


@dataclass(frozen=True)
class Recipe:
    """How a registered system was made: enough to make it again."""

    name: str
    arguments: Mapping[str, Any]


class System(nn.Module, ABC):
    """Anything that can be trained, saved and evaluated; what else it does is a capability, as ``HasDensity``."""

    kind: Kind = "lower"
    """What training maximizes is to log p(x); ``evidence`` says what its weights are to it."""
    evidence: Evidence = "bound"
    recipe: Recipe | None = None
    """Set by the registered function that made it; None for a system of parts put together by hand."""
    trained: bool = False
    """Whether its weights come from training: then training goes on from them, and starts nowhere else."""
    _stages: tuple[Stage, ...] = (Stage("train"),)

    @abstractmethod
    def bound(self, batch: Batch) -> Bound:
        """The bound of each example."""

    def stages(self) -> tuple[Stage, ...]:
        """The phases of training, in order."""
        return self._stages

    def restage(self, *stages: Stage) -> None:
        """Be trained by these stages."""
        self._stages = stages

    def forward(self, method: str, *args: Any) -> Any:
        """``getattr(self, method)(*args)``: the door for functional_call, vmap over weights, and compile."""
        return getattr(self, method)(*args)


class LatentSystem(System):
    """model + inference + objective: nearly every system.

    Args:
        model: p(x, z).
        inference: x -> q(z | x).
        objective: the bound to be maximized.
        samples: draws that the objective asks for in training.
        stages: phases of training; by default a single one, before which the likelihood starts from the data.

    Raises:
        ValueError: samples below 1, or an objective that does not say whether it is a bound.

    Example:
        >>> import torch
        >>> from curvae.inference import AmortizedGaussian
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.objectives import elbo
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(3), torch.nn.Linear(3, 10), Gaussian(10))
        >>> system = LatentSystem(model, AmortizedGaussian(torch.nn.Linear(10, 6)), elbo)
        >>> system.posterior(torch.zeros(8, 10)).mean.shape
        torch.Size([8, 3])
    """

    def __init__(
        self,
        model: LatentVariableModel,
        inference: Inference,
        objective: Objective,
        samples: int = 1,
        stages: tuple[Stage, ...] = (),
    ):
        super().__init__()
        if samples < 1:
            raise ValueError(f"LatentSystem: samples must be 1 or more; got {samples}.")
        kind_of(objective)  # refuses one that does not say
        self.model = model
        self.inference = inference
        self.objective = objective
        self.samples = samples
        self._stages = stages or (Stage("train", start=initialize_likelihood),)

    @property
    def kind(self) -> Kind:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the objective declares itself to be."""
        return kind_of(self.objective)

    def bound(self, batch: Batch) -> Bound:
        return self.bound_by("inference", batch)

    def bound_by(self, path: str, batch: Batch, steps: int | None = None, objective: Objective | None = None) -> Bound:
        """The bound with the posterior of the inference method at ``path``, for a stage of training.

        Args:
            path: of the method among our modules: ``"inference"``, ``"inference.start"``.
            batch: the data.
            steps: of refinement, where the method takes another number than its own.
            objective: a function or frozen dataclass, in place of ours.
        """
        inference = self.get_submodule(path)
        model = self.model.given(batch.context)
        inferred: Inferred = inference(model, batch) if steps is None else inference(model, batch, steps)
        model = inferred.model if self.training and inferred.model is not None else model
        bound = (objective or self.objective)(model, inferred.posterior, batch, self.samples)
        surrogate = bound.surrogate
        if inferred.encoder_bound is not None:
            surrogate = surrogate + inferred.encoder_bound
        ours = prefixed("objective", bound.state) if isinstance(self.objective, nn.Module) else bound.state
        state = {**prefixed(path, inferred.state), **({} if objective else ours)}
        return Bound(bound.value, surrogate, {**inferred.info, **bound.info}, state)

    def log_weights(self, batch: Batch, n: int, generator: torch.Generator | None = None) -> Weights:
        """Proper weights of n draws of q(z | x).

        Raises:
            ValueError: ``evidence`` is "none".
        """
        if self.evidence == "none":
            raise ValueError(
                "log_weights: this system gives no evidence (evidence='none'), so it has no proper weights."
            )
        model = self.parts().model.given(batch.context)
        draws = self.inference(model, batch).posterior.draw(n, generator)
        return Weights(log_weights(model, batch, draws), draws.log_c)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw new data, (n, *event)."""
        return self.parts().model.sample(n, generator)[0]

    def parts(self) -> Parts:
        """The model that predictions are made with, its inference, and the law of what goes missing, if it has one."""
        missingness = self.objective.missingness if isinstance(self.objective, NotMiwae) else None
        return Parts(self.model, self.inference, missingness)

    @property
    def cluster_counts(self) -> dict[str, int]:
        """How many clusters there are of each block of z whose prior is a mixture, by what it is called."""
        prior = self.model.prior
        ends = [0, *accumulate(prior.blocks)]
        names = [f" of z{low}" + (f" to z{high - 1}" if high > low + 1 else "") for low, high in pairwise(ends)]
        names = names if len(names) > 1 else [""]
        return {f"clusters{names[block]}": len(mixture.logits) for block, mixture in mixtures_of(prior).items()}

    def cluster_probabilities(
        self, batch: Batch, posterior: Posterior, generator: torch.Generator | None = None
    ) -> Float[Tensor, "B K C"]:
        """``q(y | x)`` of a batch whose posterior is known: see :func:`curvae.priors.assignments`."""
        return assignments(self.model.prior, posterior, generator)

    @torch.no_grad()
    def clusters(
        self, x: Float[Tensor, "B *event"], mask: Tensor | None = None, context: Context | None = None
    ) -> Float[Tensor, "B K C"]:
        """``q(y | x)`` of each block of z whose prior is a mixture, in the order of :attr:`cluster_counts`.

        Raises:
            ValueError: no such block; otherwise as :meth:`posterior`.
        """
        seen = x if mask is None else torch.where(mask, x, torch.zeros_like(x))
        return self.cluster_probabilities(Batch.of(seen, mask, context), self.posterior(x, mask, context=context))

    @torch.no_grad()
    def reconstruct(
        self, x: Float[Tensor, "B *event"], mask: Tensor | None = None, context: Context | None = None
    ) -> Tensor:
        """``E[x | z]`` at the mean of q(z | x), (B, *event), missing elements included; see :meth:`posterior`.

        A model that draws element by element (``draws_in_order``) gives a draw of p(x | z) instead, as that mean has no
        closed form. The draws repeat.
        """
        z, model = representative_point(self.posterior(x, mask, context=context)), self.parts().model
        if model.draws_in_order:
            return model.sample_given(z, torch.Generator(z.device).manual_seed(0)).reshape(x.shape)
        seen = x if mask is None else torch.where(mask, x, torch.zeros_like(x))
        return model.given(context).mean(z, seen.reshape(len(x), *model.likelihood.event)).reshape(x.shape)

    @torch.no_grad()
    def posterior(
        self,
        x: Float[Tensor, "B *event"],
        mask: Tensor | None = None,
        refine: int | Refine = 0,
        context: Context | None = None,
    ) -> Posterior:
        """q(z | x) of data that need not be in the training table, in the model's own units.

        Args:
            x: the data.
            mask: True where observed; all if None.
            refine: steps of gradient ascent on each example's ELBO from there, whatever the system; or how to refine.
            context: what is known of each row, for a model that is given it.

        Raises:
            ValueError: x is not a batch of the model's events, or not finite where observed; negative steps; a needed
                context that is missing.
        """
        event = self.model.likelihood.event
        if x.shape[1:] != event and x.shape[1:].numel() == torch.Size(event).numel():
            x = x.reshape(len(x), *event)
        if x.shape[1:] != event:
            raise ValueError(
                f"posterior: x must be a batch of data of shape {tuple(event)}; got {tuple(x.shape)}. For one example "
                "pass x[None]."
            )
        seen = x if mask is None else torch.where(mask, x, torch.zeros_like(x))
        if not bool(seen.isfinite().all()):
            raise ValueError("posterior: x holds NaN or infinity; pass mask=x.isfinite() to leave them out.")
        batch, model = Batch.of(seen, mask, context), self.model.given(context)
        refiner = refiner_at_test_time(refine) if isinstance(refine, int) else refine
        return refiner(model, self.inference(model, batch).posterior, batch).posterior


SYSTEMS: dict[str, Callable[..., System]] = {}
"""Registered systems by name; ``registry.py`` is the one place that looks a name up."""
Purpose = Literal[
    "first",
    "posterior",
    "objective",
    "model",
    "levels",
    "density",
    "missing",
    "weights",
    "sequences",
    "discrete",
    "own",
]
"""What somebody wants who takes a system: the groups of ``curvae list``, in their order."""
PURPOSES: dict[str, Purpose] = {}
"""Of each registered system."""

Arguments = ParamSpec("Arguments")
Made = TypeVar("Made", bound=System)


def register(
    name: str, purpose: Purpose = "own", own_prior: bool = False
) -> Callable[[Callable[Arguments, Made]], Callable[Arguments, Made]]:
    """Enter a function that builds a system into the table; what it returns remembers how it was made.

    One that says that it returns a :class:`LatentSystem` takes one argument more, ``prior``: another one in the place
    of N(0, I), see :func:`take_prior`. Where it has an argument ``likelihood`` that may be a word, see
    :func:`curvae.likelihoods.likelihood_for`.

    Args:
        name: of the system.
        purpose: under which it is listed; by default that it is the user's own.
        own_prior: the prior is the system's point, or its latents are discrete: it takes no other. So it is where
            the function has an argument ``prior`` of its own.

    Raises:
        ValueError: the name is taken.
        TypeError: when the function is called, if what it returns is no system.
    """

    def enter(build: Callable[Arguments, Made]) -> Callable[Arguments, Made]:
        signature = inspect.signature(build)
        fixed = own_prior or "prior" in signature.parameters or not _is_latent(signature.return_annotation)
        signature = with_likelihood_words(signature if fixed else with_prior_option(signature))

        @functools.wraps(build)
        def built(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Made:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            chosen = dict(bound.arguments)
            take_likelihood(bound.arguments)
            prior = "normal" if fixed else bound.arguments.pop("prior")
            system = build(*bound.args, **bound.kwargs)
            if not isinstance(system, System):
                raise TypeError(f"{name}: expected a function that returns a System, got {type(system).__name__}.")
            if prior != "normal":
                take_prior(system, prior, chosen["spec"])
            spec = chosen.get("spec")
            if isinstance(spec, DataSpec) and spec.given.said:
                take_context(system, spec)
            system.recipe = Recipe(name, chosen)
            return system

        built.__signature__ = signature  # pyright: ignore[reportAttributeAccessIssue]
        built.__doc__ = full_docstring(built)
        if name in SYSTEMS:
            raise ValueError(f"register: a system named {name!r} exists already; choose another name.")
        SYSTEMS[name], PURPOSES[name] = built, purpose
        return built

    return enter


def _is_latent(returned: Any) -> bool:
    """Whether this annotation is that of a system with latents."""
    return returned == "LatentSystem" or (inspect.isclass(returned) and issubclass(returned, LatentSystem))
