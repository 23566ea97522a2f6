"""What the estimators have in common: training in a folder that is gone afterwards, and rows as they are checked."""

import copy
from abc import ABC, abstractmethod
from numbers import Integral, Real
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from curvae.argument_checks import SEEDS
from curvae.fitted import fit
from curvae.io.reading import CONTEXT
from curvae.sklearn.held import Held

FLOATS: Any = (np.float64, np.float32)
OURS = (
    "data", "label", "latent", "max_updates", "missing", "out", "progress", "seed", "split", "system", "test",
)  # fmt: skip
"""Arguments of :func:`curvae.fit` that an estimator says itself."""


class Trained(TransformerMixin, BaseEstimator, ABC):
    """An estimator that trains a system; its parameters are those of :class:`curvae.sklearn.LatentVariables`."""

    system: Any
    latent: Any
    max_updates: Any
    validation: Any
    random_state: Any
    options: Any
    n_features_in_: int

    @property
    @abstractmethod
    def _missing(self) -> str:
        """What NaN is: "mask" or "error"."""

    @property
    def fitted_(self) -> Any:
        """The same as :func:`curvae.fit` gives it, with intervals, errors, reports; in float64."""
        check_is_fitted(self)
        return self._held.fitted

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_held")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._missing == "mask"
        assert tags.transformer_tags is not None
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _train(self, X: Any) -> Any:
        """The rows, after the system was trained on them."""
        check_share("validation", self.validation, 1.0)
        if said := sorted(set(self.options or {}) & set(OURS)):
            raise ValueError(f"options: expected none that the estimator has itself, got {said[0]!r}.")
        x = self._rows(X, reset=True)
        self._seed = seed_of(self.random_state)
        with TemporaryDirectory(prefix="curvae-") as folder:
            self._held = Held.of(fit(**self._arguments(x), out=f"{folder}/run", progress=False))
        return x

    def _arguments(self, x: Any) -> dict[str, Any]:
        """Those of :func:`curvae.fit`. Its test part, which nothing here looks at, is the first row."""
        share = max(self.validation, 1 / len(x))
        latent = {} if self.latent is None else {"latent": self.latent}
        names = {} if self._as_it_is(x) else {"columns": self._names()}
        return {
            **copy.deepcopy(dict(self.options or {})), **latent, **names,
            "system": copy.deepcopy(self.system), "data": x, "test": x[:1], "split": (1 - share, share, 0),
            "missing": self._missing, "max_updates": self.max_updates, "seed": self._seed,
        }  # fmt: skip

    def _as_it_is(self, X: Any) -> bool:
        """Whether its columns are found by their own names: where some are words, or known of rows and no features."""
        return has_words(X) or not set(CONTEXT).isdisjoint(self.options or {})

    def _names(self) -> list[str]:
        """Of columns: what is reported of them; their latents have the same axes under any names."""
        names = list(map(str, getattr(self, "feature_names_in_", ())))
        return names if len(set(names)) == self.n_features_in_ else [f"x{j}" for j in range(self.n_features_in_)]

    def _rows(self, X: Any, reset: bool = False) -> Any:
        """Rows as scikit-learn checks them; a frame that is taken as it is, by what it is read by."""
        if not reset:
            check_is_fitted(self)
        if hasattr(X, "columns") and self._as_it_is(X):
            validate_data(self, X, reset=reset, skip_check_array=True)
            return X
        finite, least = "allow-nan" if self._missing == "mask" else True, 2 if reset else 1
        return validate_data(self, X, reset=reset, dtype=FLOATS, ensure_all_finite=finite, ensure_min_samples=least)


def check_share(name: str, value: Any, most: float) -> None:
    """
    Raises:
        ValueError: not above 0, above the most, or all.
    """
    if not (isinstance(value, Real) and 0 < float(value) <= most and float(value) < 1):
        ends = "(0, 0.5]" if most < 1 else "(0, 1)"
        raise ValueError(f"{name}: expected a share of the rows in {ends}, got {value!r}.")


def seed_of(random_state: Any) -> int:
    """A seed of ours: an integer as it is, else drawn as scikit-learn does."""
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(SEEDS, dtype=np.uint32))


def has_words(X: Any) -> bool:
    """Whether it is a frame with a column that is no number."""
    return hasattr(X, "iloc") and any(dtype.kind not in "biuf" for dtype in getattr(X, "dtypes", ()))


def float_of(x: Any) -> np.dtype[Any]:
    """The type of floats that come out where ``x`` went in."""
    return x.dtype if isinstance(x, np.ndarray) else np.dtype(np.float64)
