"""A deep latent-variable model as an estimator of scikit-learn."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import OutlierMixin
from sklearn.utils import check_array
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from curvae.argument_checks import check_counts
from curvae.evaluation import row_evidence
from curvae.fitted.rows import TransformedRows, rows_of
from curvae.sklearn.trained import FLOATS, Trained, check_share, float_of, seed_of
from curvae.systems import HasModel, require

Array = NDArray[Any]
RANKED = 10_000
"""Training rows, at most, whose log p(x) says which of them is unusual."""


class LatentVariables(OutlierMixin, Trained):
    r"""Latents, log p(x), new rows and outliers of a table, by any system of curvae.

    ``fit`` is :func:`curvae.fit` in a folder that is gone afterwards; the trained system lives in the estimator, and a
    pickle of that needs nothing beside it. ``transform`` gives the posterior means ``E[z | x]``, in axes that do not
    depend on the seed, the strongest first, where the system's latents can be rotated.

    Arrays are numbers, NaN among them with ``missing="mask"``. A pandas frame may also have columns of words, which are
    then categories.

    Args:
        system: the name of a system (``curvae list``), or one of your own, which is copied.
        latent: number of latents; None where the system has no such argument, or has them already.
        missing: "mask" leaves NaN out, in fit and ever after; "error" refuses it.
        max_updates: length of training in updates of the weights; by default by the number of rows.
        validation: share of the rows of ``fit`` that choose the length of training, and teach nothing.
        contamination: share of the rows of ``fit`` that ``predict`` calls outliers, in (0, 0.5].
        draws: S of each of two proposals for log p(x), see :meth:`score_samples`.
        random_state: of weights, order and noise; an integer gives the same estimator again.
        options: further arguments of the system (``{"hidden": 64}``) and of :func:`curvae.fit` (``{"minutes": 2}``).
            ``{"errors": {"u": "u_err"}, "exposure": "size", "covariates": ["night"], "weights": "n"}`` name columns of
            X, of an array by their numbers, that are known of each row and are no features.

    Attributes:
        n_features_in_: number of columns that ``fit`` saw.
        feature_names_in_: their names, where they are words.
        offset_: what :meth:`score_samples` must reach to be no outlier, nats; of a system with evidence only.

    Raises:
        ValueError: by ``fit``, an argument out of its range, or rows that do not fit; by the others, rows that do not
            fit those of ``fit``, or a system that does not give what is asked for.

    Example:
        >>> x = np.random.default_rng(0).normal([1000, -50, 3], [10, 1, 2], size=(200, 3))
        >>> model = LatentVariables("vae", latent=2, max_updates=20, options={"hidden": 8}).fit(x)
        >>> model.transform(x).shape, model.inverse_transform(model.transform(x)).shape, model.sample(5).shape
        ((200, 2), (200, 3), (5, 3))
        >>> int((model.predict(x) == -1).sum()), bool(model.score(x) == model.score_samples(x).mean())
        (20, True)
    """

    def __init__(  # whatever it is given: fit looks at it
        self,
        system: Any = "vlae",
        latent: Any = 2,
        missing: Any = "error",
        max_updates: Any = None,
        validation: Any = 0.15,
        contamination: Any = 0.1,
        draws: Any = 200,
        random_state: Any = 0,
        options: Any = None,
    ):
        self.system = system
        self.latent = latent
        self.missing = missing
        self.max_updates = max_updates
        self.validation = validation
        self.contamination = contamination
        self.draws = draws
        self.random_state = random_state
        self.options = options

    def fit(self, X: Any, y: Any = None) -> "LatentVariables":
        """Train on rows.

        Args:
            X: (N, features).
            y: not looked at.
        """
        check_counts("LatentVariables", draws=self.draws)
        check_share("contamination", self.contamination, 0.5)
        x = self._train(X)
        if self._held.fitted.system.evidence != "none":
            rows = x[:: -(-len(x) // RANKED)]
            self.offset_ = float(np.percentile(self._log_prob(rows), 100 * self.contamination))
        return self

    def transform(self, X: Any) -> Array:
        """E[z | x] of each row, (N, D), strongest latent first; in float32 where X is."""
        x = self._rows(X)
        return self._held.fitted.encoded(self._read(x))["mean"].astype(float_of(x))

    def inverse_transform(self, X: Any) -> Any:
        """E[x | z] of latents as :meth:`transform` gives them, in the units of ``fit``; a frame where it had words.

        Args:
            X: (N, D).
        """
        check_is_fitted(self)
        z = check_array(X, dtype=FLOATS)
        return _as_float(self._held.fitted.decode(z), z.dtype)

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Log p(x) of each row, nats, (N,): a density in the units of ``fit``, of the values that are observed.

        The importance estimate of :func:`curvae.evaluation.row_evidence` from ``2 draws``
        draws, or the exact density where the system has one. All rows share the noise of the draws: a row's number does
        not depend on the other rows, nor on the call. :meth:`curvae.Fitted.score` also gives errors and flags.
        """
        return self._log_prob(self._rows(X))

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of :meth:`score_samples`, nats per row; the larger the better, so that searches can maximize it."""
        return float(self.score_samples(X).mean())

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Log p(x) above that of an outlier: ``score_samples(X) - offset_``, nats."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> NDArray[np.int64]:
        """-1 for rows less likely than the share ``contamination`` of those of ``fit``, else 1."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def sample(self, n_samples: int = 1, random_state: Any = 0) -> Any:
        """New rows of p(x), in the units and kinds of ``fit``; a frame where it had words.

        Args:
            n_samples: how many.
            random_state: of the draws.
        """
        check_is_fitted(self)
        return self._held.fitted.sample(n_samples, seed_of(random_state))

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """z0, z1, ...

        Args:
            input_features: names of the columns of ``fit``, or None.
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features, generate_names=False)
        return np.array([f"z{d}" for d in range(self._n_features_out)], dtype=object)

    @property
    def _n_features_out(self) -> int:
        return require(self._held.fitted.system, HasModel, "transform").parts().model.prior.size

    @property
    def _missing(self) -> str:
        return self.missing

    def _read(self, x: Any) -> TransformedRows:
        return rows_of(self._held.fitted.run, x)

    def _log_prob(self, x: Any) -> NDArray[np.float64]:
        return row_evidence(self._held.fitted.system, self._read(x).table, self.draws, self._seed)


def _as_float(x: Any, dtype: Any) -> Any:
    return x.astype(dtype) if isinstance(x, np.ndarray) else x
