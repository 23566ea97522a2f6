"""Missing values of a table filled in, as an estimator of scikit-learn."""

from typing import Any

import numpy as np
from sklearn.base import OneToOneFeatureMixin

from curvae.sklearn.trained import Trained


class Imputer(OneToOneFeatureMixin, Trained):
    """What is missing given what was observed, row by row, by any system of curvae with a model of its latents.

    The system is trained on what is observed alone (``missing="mask"``). ``transform`` fills each gap with its mean
    given the other values of the row, or with a draw; :meth:`curvae.Fitted.imputed` of ``fitted_`` also has intervals,
    and says where few draws count. What was observed stays to the last bit.

    Args:
        system: the name of a system (``curvae list``), or one of your own, which is copied.
        latent: number of latents; None where the system has no such argument, or has them already.
        max_updates: length of training in updates of the weights; by default by the number of rows.
        validation: share of the rows of ``fit`` that choose the length of training, and teach nothing.
        sample_posterior: fill in a draw of all that is missing in a row together, in place of means.
        by: where draws of latents come from: "modes", "encoder" or "chains", see :meth:`curvae.Fitted.impute`.
        random_state: of weights, order and noise; an integer gives the same estimator again.
        options: further arguments of the system (``{"hidden": 64}``) and of :func:`curvae.fit` (``{"minutes": 2}``),
            and which columns are known of each row, as in :class:`curvae.sklearn.LatentVariables`: these stay.

    Attributes:
        n_features_in_: number of columns that ``fit`` saw.
        feature_names_in_: their names, where they are words.

    Raises:
        ValueError: by ``fit``, an argument out of its range, or rows that do not fit; by ``transform``, rows that do
            not fit those of ``fit``, or a system without a model of its latents.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(100, 1)) * [1.0, 2.0, -1.0]
        >>> holes = np.where(np.random.default_rng(1).random(x.shape) < 0.2, np.nan, x)
        >>> filled = Imputer("vae", latent=1, max_updates=20, options={"hidden": 8}).fit_transform(holes)
        >>> bool(np.isfinite(filled).all()), bool((filled == x)[~np.isnan(holes)].all())
        (True, True)
    """

    def __init__(  # whatever it is given: fit looks at it
        self,
        system: Any = "vlae",
        latent: Any = 2,
        max_updates: Any = None,
        validation: Any = 0.15,
        sample_posterior: Any = False,
        by: Any = "modes",
        random_state: Any = 0,
        options: Any = None,
    ):
        self.system = system
        self.latent = latent
        self.max_updates = max_updates
        self.validation = validation
        self.sample_posterior = sample_posterior
        self.by = by
        self.random_state = random_state
        self.options = options

    @property
    def _missing(self) -> str:
        return "mask"

    def fit(self, X: Any, y: Any = None) -> "Imputer":
        """Train on what is observed.

        Args:
            X: (N, features), NaN where something is missing.
            y: not looked at.
        """
        self._train(X)
        return self

    def transform(self, X: Any) -> Any:
        """The same rows without gaps, in float32 where X is; a frame where it has words.

        Args:
            X: (N, features), NaN where something is missing.
        """
        x = self._rows(X)
        found = self._held.fitted.impute(x, draws=int(self.sample_posterior), seed=self._seed, by=self.by)
        filled = found[0] if self.sample_posterior else found
        if not isinstance(x, np.ndarray):
            return filled
        made, places = x.copy(), [column.place for column in self._held.fitted.schema.features]
        made[:, places] = np.where(np.isnan(x[:, places]), filled, x[:, places])
        return made
