"""What ``fit`` and ``load`` return: data in their own units in, named results out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from curvae.argument_checks import check_counts
from curvae.data import Schema, Transform
from curvae.data.own_units import restore_dtypes
from curvae.fitted import outputs
from curvae.fitted.conditioning import GivenRows, draw_given
from curvae.fitted.denoising import Denoised, denoise_rows
from curvae.fitted.imputing import Imputed, impute_rows
from curvae.fitted.outputs import DRAWN, Array, Encoding, Score, moments_of
from curvae.fitted.rows import Reading, TransformedRows, evaluation_mode, map_batches, rows_of
from curvae.fitted.shortest import Geodesic, shortest_curve
from curvae.fitted.traversing import traversal, traversed_columns
from curvae.latents import Axes, latent_axes
from curvae.memory import require_bytes
from curvae.notebook import html_table
from curvae.posteriors import Posterior, rotated
from curvae.systems import CanReconstruct, CanSample, HasModel, HasPosterior, System, require
from curvae.systems.device import batch_to_system, device_and_dtype
from curvae.typing import Batch

if TYPE_CHECKING:
    from curvae.evaluation import Evaluation, RowChecks, UnknownInputs
    from curvae.training import RunFolder


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained system that knows its data: rows in their own units go in, results with their names come out.

    Rows are an array, a tensor, nested lists, a frame (pandas, polars, Arrow), a file, or "train", "validation", "test"
    for the run's own. Named columns are found by their names, whatever their order; a label may be absent. NaN is left
    out where the run was told so (``missing="mask"``). Where a frame came in, a frame with its index comes out, else
    arrays.

    Latents of a run on a table are reported in axes that do not depend on the seed, the strongest first, see
    :class:`curvae.latents.Axes`; of pictures and other arrays as they were trained. ``rotate=False`` and
    ``rotate=True`` ask for the one or the other. Neither changes log p(x), the ELBO or anything in units of the data.

    Args:
        run: the run folder.

    Raises:
        DataError: by every method that takes rows: a feature is missing, a value is not of its kind, a shape does not
            fit.

    Example:
        >>> import curvae, numpy as np, tempfile
        >>> x = np.random.default_rng(0).normal([1000, -50], [10, 1], size=(200, 2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     fitted = curvae.fit("vae", x, latent=1, hidden=8, epochs=2, out=f"{folder}/run", progress=False)
        ...     again = curvae.load(f"{folder}/run")
        ...     again.posterior(x[:5]).mean.shape, again.score(x[:5], samples=50).log_likelihood.shape
        ...     bool(900 < again.sample(100)[:, 0].mean() < 1100)
        (torch.Size([5, 1]), (5,))
        True
    """

    run: "RunFolder"

    def __post_init__(self):
        """Its folder is found from any other working directory."""
        object.__setattr__(self, "run", replace(self.run, path=self.run.path.absolute()))

    @property
    def path(self) -> Path:
        """The run folder's."""
        return self.run.path

    @cached_property
    def system(self) -> System:
        """The trained system, in the model's units, in eval mode, on the CPU."""
        return self.run.system()

    @cached_property
    def schema(self) -> Schema:
        """What is known of the data: names and kinds of columns, labels, units."""
        return self.run.schema

    @cached_property
    def axes(self) -> Axes | None:
        """Those in which latents are reported unless told otherwise; None where they are left as they were trained."""
        return self.run.axes

    def axes_for(self, rotate: bool | None = None) -> Axes | None:
        """Those in which latents are reported.

        Args:
            rotate: True = in the axes that the decoder determines, found now where the run has none; False = as they
                were trained; None = as the run has it.

        Raises:
            ValueError: these latents cannot be rotated.
            RunError: the run has no axes, and its data cannot be opened again.
        """
        return self.axes if rotate is None else self._found_axes if rotate else None

    @cached_property
    def _found_axes(self) -> Axes:
        return self.axes or latent_axes(self.system, self.run.data())

    @property
    def evaluation(self) -> "Evaluation | None":
        """What ``evaluate`` found of the run's test data; None before it was asked to."""
        return None if (found := self.run.evaluation) is None else found.result

    def __repr__(self) -> str:
        return f"Fitted({str(self.path)!r})"

    def _repr_html_(self) -> str:
        """What it is, of which data, in which folder, and what was found of it."""
        recorded, spec = self.run.config["system"], self.schema.spec
        found = self.evaluation
        rows = {
            "system": recorded.get("name") or recorded.get("custom", ""),
            **{name: value for name, value in recorded.get("arguments", {}).items() if value is not None},
            "data": f"{spec.name}, {spec.support}, {spec.event}",
            "columns": ", ".join(self.schema.names),
            "folder": self.path,
            "training": self.run.state,
            "log p(x)": "not evaluated" if found is None else f"{found.log_likelihood} nats, {found.split} data",
        }
        return html_table("Fitted", ((name, value) for name, value in rows.items() if value != ""))

    def metrics(self) -> dict[str, list[Any]]:
        """Columns of the run's metrics.csv by name, a value for each epoch."""
        return self.run.metrics()

    def transform(self) -> Transform:
        """From the data's own units to the model's, as it was fitted then."""
        return self.run.transform()

    def posterior(self, x: Any, mask: Any = None, refine: int = 0, rotate: bool | None = None) -> Posterior:
        """q(z | x) of rows in their own units.

        Args:
            x: the rows.
            mask: of their shape, True = observed.
            refine: steps of gradient ascent on each row's ELBO from there.
            rotate: whether in the axes that the decoder determines; None = as the run has it.
        """
        system, axes = require(self.system, HasPosterior, "posterior"), self.axes_for(rotate)
        table = rows_of(self.run, x, mask=mask).table
        batch = batch_to_system(self.system, table.batch(torch.arange(len(table))))
        with evaluation_mode(self.system, 0):
            q = system.posterior(batch.x, batch.mask, refine, **outputs.context_of(batch))
            return q if axes is None else rotated(q, axes.rotation)

    def encode(
        self, x: Any, labels: Any = None, mask: Any = None, level: float = 0.9, rotate: bool | None = None
    ) -> Any:
        """Mean and interval of every latent dimension, row by row.

        Args:
            x: the rows.
            labels: one a row, to be handed through; of a frame also the name of the column.
            mask: of the shape of x, True = observed.
            level: probability that an interval holds.
            rotate: whether in the axes that the decoder determines; None = as the run has it.

        Returns:
            Of a frame a frame with its index and the columns z0_mean, z0_lower, z0_upper, z1_mean, ..., where the
            prior is a mixture the most probable component as cluster and cluster_probability (cluster0, ... by block),
            and the labels in words; else an :class:`Encoding`.
        """
        rows = rows_of(self.run, x, labels, mask)
        arrays = self.encoded(rows, level, rotate)
        if rows.frame is None:
            return Encoding(**arrays, label=rows.labels)
        labels = {} if rows.labels is None else {outputs.label_of(self.schema): rows.labels}
        return outputs.like_frame(rows.frame, dict(outputs.latent_columns(arrays)) | labels)

    def encoded(self, rows: TransformedRows, level: float = 0.9, rotate: bool | None = None) -> dict[str, Array]:
        """``mean``, ``covariance``, ``lower`` and ``upper`` of rows that were read, and ``clusters`` where some are."""
        system, axes = require(self.system, HasPosterior, "encode"), self.axes_for(rotate)

        def described(batch: Batch) -> dict[str, Tensor]:
            q = system.posterior(batch.x, batch.mask, **outputs.context_of(batch))
            return moments_of(q, level, axes) | outputs.clusters_of(self.system, batch, q)

        with evaluation_mode(self.system, 0):
            return map_batches(self.system, rows.table, described)

    def decode(self, z: Any, rotate: bool | None = None) -> Any:
        """E[x | z] of latents as :meth:`encode` and :meth:`posterior` give them, in own units; see ``rotate`` there.

        Args:
            z: (N, D).
            rotate: whether z is in the axes that the decoder determines; None = as the run has it.

        Returns:
            A frame where the run was trained on a frame, else an array.

        Raises:
            ValueError: not rows of as many latents as there are; a system without a latent-variable model.
        """
        return outputs.as_trained(self.schema, self.decoded(z, rotate))

    def decoded(self, z: Any, rotate: bool | None = None) -> Array:
        """The same in an array, whatever the run was trained on."""
        model, axes = require(self.system, HasModel, "decode").parts().model, self.axes_for(rotate)
        found = torch.from_numpy(np.array(z, dtype=np.float64))
        if found.ndim != 2 or found.shape[1] != model.prior.size:
            raise ValueError(f"decode: z: expected shape (N, {model.prior.size}), got {tuple(found.shape)}.")
        if model.autoregressive:
            raise ValueError("decode: expected a decoder of latents alone, got one that also sees x; call reconstruct.")
        own = found if axes is None else found @ axes.rotation
        with evaluation_mode(self.system, 0):
            mean = model.reference().mean(own.to(*device_and_dtype(self.system)))
            return restore_dtypes(self.schema, self.transform().inverse(mean.reshape(-1, *self.schema.spec.event)))

    def traverse(
        self,
        latent: int | Sequence[int] | None = None,
        steps: int = 9,
        start: Any = None,
        rotate: bool | None = None,
    ) -> Any:
        """Decode one latent at a time, between the 2.5 % and the 97.5 % quantile of the posteriors of validation rows.

        Args:
            latent: the one to move, or several; None = each of them.
            steps: values of each.
            start: one row in own units, at whose posterior mean all other latents are; None = at their medians.
            rotate: whether in the axes that the decoder determines; None = as the run has it.

        Returns:
            Of a run on a frame a frame with the columns latent (z0, ...), value and those of the data; else a
            :class:`curvae.fitted.Traversal`.

        Raises:
            ValueError: discrete latents, a decoder that also sees x, a latent that is none.
        """
        rows = None if start is None else rows_of(self.run, start)
        found = traversal(self, latent, steps, rows, rotate)
        if self.schema.holder != "frame":
            return found
        return outputs.framed(self.schema.frame, traversed_columns(self.schema, found))

    def geodesic(self, start: Any, end: Any, segments: int = 32, rotate: bool | None = None) -> Geodesic:
        """The shortest curve between two codes, by how far the decoder moves (in mean over draws of its weights).

        Args:
            start: (D,), as :meth:`encode` gives codes.
            end: (D,).
            segments: 4, 8, 16, ... pieces of the curve.
            rotate: whether codes are in the axes that the decoder determines; None = as the run has it.

        Returns:
            ``z``, ``x``, ``length`` and ``straight_length``; see :func:`curvae.latents.geodesics`.

        Raises:
            ValueError: codes of another size, a system without a model of continuous latents, a decoder that also sees
                x, or another number of segments.
        """
        return shortest_curve(self, start, end, segments, rotate)

    def loadings(self, standardized: bool = False) -> Any:
        """What each latent does to each column: the mean of ``d E[column | z] / d z``, over training rows.

        It is that of the rotated latents z0, z1, ..., found now where the run reports its latents as trained; see
        :class:`curvae.latents.Axes` for more, the variance that each of them explains among it.

        Args:
            standardized: per standard deviation of the column, in place of its units.

        Returns:
            Of columns with names a frame, a row for each of them and a column for each latent; else an array (P, D).

        Raises:
            ValueError: latents that cannot be rotated, or a decoder that gives no mean for each column.
        """
        return outputs.loadings_frame(self._found_axes, self.schema, standardized)

    def score(self, x: Any, mask: Any = None, samples: int = 500, seed: int = 0, **options: Any) -> Any:
        """Log p(x) row by row, in nats, by the same estimator as ``evaluate``.

        Args:
            x: the rows.
            mask: of their shape, True = observed.
            samples: draws for each row and proposal.
            seed: of the draws.
            options: further ones of :func:`curvae.evaluation.score`, such as ``stderr``.

        Returns:
            Of a frame a frame with its index and the columns log_likelihood, stderr, flagged and log_det, and
            code_log_prob of a system with a density of codes; else a :class:`Score`, which says what each is.

        Raises:
            ValueError: the system gives no evidence.
        """
        rows = rows_of(self.run, x, mask=mask)
        scored = self.scored(rows, samples, seed, **options)
        named = {name: values for name, values in scored._asdict().items() if values is not None}
        return scored if rows.frame is None else outputs.like_frame(rows.frame, named)

    def scored(self, rows: TransformedRows, samples: int = 500, seed: int = 0, **options: Any) -> Score:
        """The same of rows that were read."""
        from curvae.evaluation import score
        from curvae.evaluation.likelihood.estimation import flagged

        if self.system.evidence == "none":
            raise ValueError("score: this system gives no evidence (evidence='none'), so it has no log p(x).")
        found = score(self.system, rows.table, samples=samples, seed=seed, **options)
        stderr = found.get("stderr_best", np.zeros_like(found["log_likelihood"]))
        bad, code = np.asarray(flagged(found), dtype=bool), found.get("code_log_prob")
        return Score(found["log_likelihood"], stderr, bad, found["log_det"], code)

    def column_scores(self, x: Any, mask: Any = None, draws: int = 200, seed: int = 0) -> Any:
        """Which columns of a row are unusual given its others: by how many standard deviations each is off.

        Args:
            x: the rows.
            mask: of their shape, True = observed.
            draws: for each row and column.
            seed: of the draws.

        Returns:
            Of a frame a frame with its index and columns, of the deviations; else an array of them, of the shape of x.
            NaN where nothing was observed, and for categories. :func:`curvae.evaluation.ood.column_scores` has more.
        """
        rows = rows_of(self.run, x, mask=mask)
        found = self.columns_scored(rows, draws, seed)["deviations"]
        if rows.frame is None:
            return found.reshape(rows.table.raw.shape)
        return outputs.as_given(rows.frame, self.schema, found.reshape(rows.table.raw.shape), exact=True)

    def columns_scored(self, rows: TransformedRows, draws: int = 200, seed: int = 0) -> dict[str, Array]:
        """``log_prob``, ``expected`` and ``deviations`` of rows that were read, (N, P) each, in the model's units."""
        from curvae.evaluation.ood import column_scores

        def see(batch: Batch) -> dict[str, Tensor]:
            return column_scores(self.system, batch.x, batch.mask, draws, seed, batch.given)._asdict()

        return map_batches(self.system, rows.table, see)

    def unknown(self, x: Any, against: Any = None, **options: Any) -> "UnknownInputs":
        """How unknown each row is, by every score that the run can have: the larger, the less known.

        Written into ``ood.json`` of the run, whose report then shows it.

        Args:
            x: the rows.
            against: rows that are known, "test" say, to see how well each score tells the two apart.
            options: those of :class:`curvae.evaluation.OodSettings` by name, as ``models=10``.

        Returns:
            Its ``values`` have each score of each row, by name, and ``values_against`` those of the others.

        Raises:
            ValueError: an option out of its range, or a run without validation rows.
        """
        from curvae.fitted.unknown import unknown_rows

        return unknown_rows(self.run, x, against, **options)

    def reconstruct(self, x: Any, mask: Any = None) -> Any:
        """E[x | z] at the mean of each row's posterior, in own units; names, kinds and precision are the data's.

        A draw given that mean where the model draws element by element (``lossy-vae``).
        """
        rows = rows_of(self.run, x, mask=mask)
        own = self.reconstructed(rows)
        return own if rows.frame is None else outputs.as_given(rows.frame, self.schema, own)

    def reconstructed(self, rows: TransformedRows) -> Array:
        """The same of rows that were read, in an array."""
        system = require(self.system, CanReconstruct, "reconstruct")
        with evaluation_mode(self.system, 0):
            found = map_batches(self.system, rows.table, lambda batch: {"x": outputs.rebuilt_rows(system, batch)})["x"]
        return restore_dtypes(
            self.schema, self.transform().inverse(torch.from_numpy(found).reshape(rows.table.raw.shape))
        )

    def denoise(
        self, x: Any, noise: Any = None, mask: Any = None, by: str = "draws", draws: int = 1000, seed: int = 0
    ) -> Any:
        """Rows that were observed with noise, cleaned: ``E[x | row]`` under the model, in own units.

        Args:
            x: the rows.
            noise: standard deviation of the noise, in own units: a number, one of each value (of the shape of x, or
                broadcast to it), or by column a number, one of each row, or the name of a column that has it; None =
                the known errors that the rows come with, where the run was told of them.
            mask: of their shape, True = observed.
            by: "draws", the mean over weighted draws of the latents; "mode", at the mode, with Laplace's uncertainty.
            draws: of the latents of each row.
            seed: of the draws.

        Returns:
            The cleaned rows as they came; :meth:`denoised` has how well each value is known.

        Raises:
            ValueError: a system that is neither a model of real numbers with a Gaussian likelihood nor a flow.
            DataError: noise that does not go with the rows, or data under a transform that is no scale.
        """
        return self.denoised(x, noise, mask, by, draws, seed).cleaned

    def denoised(
        self, x: Any, noise: Any = None, mask: Any = None, by: str = "draws", draws: int = 1000, seed: int = 0
    ) -> Denoised:
        """The same with standard deviations, see :class:`curvae.fitted.Denoised`; the equations are those of
        :func:`curvae.evaluation.denoise`."""
        return denoise_rows(self.system, self.schema, rows_of(self.run, x, mask=mask), noise, by, draws, seed)

    def sample(self, n: int, seed: int = 0, given: Mapping[Any, Any] | None = None) -> Any:
        """Draw n new rows in own units; names, kinds and precision are the data's.

        A column that never varied in training is drawn as that constant. Whole numbers are rounded draws.

        Args:
            n: number of rows.
            seed: of the draws.
            given: values of some columns, ``{"class": "STAR", "u": 18.5}``: the others are drawn from p(x | given).

        Returns:
            A frame where the run was trained on a frame, else an array.

        Raises:
            ValueError: fewer rows than 1, or more than fit into memory; given values that hardly go together in the
                model, which leave fewer than 10 effective draws of its latents.
        """
        drawn = self.drawn(n, seed) if given is None else self.drawn_given(n, given, seed).x
        return outputs.as_trained(self.schema, drawn)

    def drawn(self, n: int, seed: int = 0) -> Array:
        """The same in an array, whatever the run was trained on."""
        self._check_room(n)
        with evaluation_mode(self.system, seed):
            y = require(self.system, CanSample, "sample").sample(n, torch.Generator().manual_seed(seed))
        return restore_dtypes(self.schema, self.transform().inverse(y.reshape(n, *self.schema.spec.event)))

    def drawn_given(self, n: int, given: Mapping[Any, Any], seed: int = 0) -> GivenRows:
        """The same given some columns, with the effective number of draws of the latents."""
        self._check_room(n)
        return draw_given(self, given, n, seed)

    def _check_room(self, n: int) -> None:
        check_counts("sample", n=n)
        require_bytes(n * prod(self.schema.spec.event) * DRAWN, "sample", "rows", "draw fewer at a time")

    def check(self, x: Any, mask: Any = None, count: int = 2000, seed: int = 0) -> "RowChecks":
        """Whether the posterior of each row is right, and whether rows look like data of the model at all.

        Args:
            x: the rows.
            mask: of their shape, True = observed.
            count: data drawn from the model, for each of the two tests.
            seed: of everything drawn.
        """
        from curvae.evaluation import check_rows

        table = rows_of(self.run, x, mask=mask).table
        return check_rows(self.system, table.x, table.mask, x if isinstance(x, str) else "x", count, seed)

    def impute(
        self, x: Any, mask: Any = None, draws: int = 0, level: float = 0.9, seed: int = 0, by: str = "modes"
    ) -> Any:
        """Fill in what is missing: its mean given what was observed, or draws from p(missing | observed).

        Args:
            x: the rows, NaN (of words also None) where something is missing.
            mask: of their shape, True = observed.
            draws: M; 0 = the mean, of categories the most probable one.
            level: of the intervals that :meth:`imputed` has.
            seed: of all draws.
            by: where draws of latents come from. "modes": Laplace posteriors, weighted; "encoder": the system's own
                posterior, weighted; "chains": Metropolis within Gibbs, with R-hat.

        Returns:
            The filled rows, or a list of M tables: of a frame frames with all its columns, else arrays. What was
            observed stays as it is; words, whole numbers and constants come back as such.

        Raises:
            ValueError: a system without a latent-variable model, or whose decoder also sees x; no such word for ``by``.
        """
        found = self.imputed(x, mask, draws, level, seed, by)
        return found.draws if draws else found.filled

    def imputed(
        self, x: Any, mask: Any = None, draws: int = 0, level: float = 0.9, seed: int = 0, by: str = "modes"
    ) -> Imputed:
        """The same with means, intervals and the effective number of draws; see :class:`curvae.fitted.Imputed`.

        A system that was trained without a mask does it, too: draws of Laplace posteriors at the modes of
        ``p(z | observed)``, which do without an encoder, are weighted (:func:`curvae.evaluation.conditionals`).
        """
        rows = rows_of(self.run, x, mask=mask, reading=Reading(missing="mask"))
        return impute_rows(self.system, self.schema, rows, draws, level, seed, by)
