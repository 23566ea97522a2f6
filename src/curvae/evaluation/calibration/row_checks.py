"""Given rows: is the posterior of each right, and do they look like data of the model?"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from curvae.evaluation.calibration.local_c2st import local_c2st
from curvae.evaluation.calibration.predictive import predictive_check
from curvae.evaluation.calibration.row_tests import RowTest
from curvae.systems import System

LEVEL = 0.05
"""p-values of rows at or below it are counted."""
PASSES = 0.01
"""p-value of all rows below which something is said to be seen."""


@dataclass(frozen=True)
class RowChecks:
    """What both tests of given rows say."""

    name: str
    """Of the rows."""
    local: RowTest
    """Is the posterior of a row right? See :func:`local_c2st`."""
    predictive: RowTest
    """Does a row look like data of the model? See :func:`predictive_check`."""

    def rows(self) -> Iterator[tuple[str, str]]:
        """Of the printed table."""
        for what, test in {"posteriors of": self.local, "likeness of": self.predictive}.items():
            count = len(test.p_values)
            told = f"{test.below(LEVEL)} rows at {LEVEL} or below, {LEVEL * count:.1f} expected by chance"
            yield f"{what} {count:,} rows of {self.name}", f"p = {test.p_value:.2g}; {told}"

    @property
    def verdict(self) -> str:
        """In words."""
        wrong, unlike = (test.p_value < PASSES for test in (self.local, self.predictive))
        said = "The posterior is not right near these rows" if wrong else "Nothing is seen against their posteriors"
        odd = "they do not look like data of the model" if unlike else "they look like data of the model"
        but = ": it is the posterior of a model that does not fit them" if unlike else ""
        return f"Rows of {self.name}: {odd}{but}. {said}."


def check_rows(
    system: System, x: Tensor, mask: Tensor | None = None, name: str = "x", count: int = 2000, seed: int = 0
) -> RowChecks:
    """Both tests of rows in the model's units.

    Args:
        system: with a model of continuous latents.
        x: the rows.
        mask: True where observed; all if None.
        name: of the rows, for what is printed.
        count: data drawn from the model, for each of the tests.
        seed: of everything drawn.

    Raises:
        ValueError: a system without a model (HasModel) of continuous latents, rows of another shape, a count below 1.

    Example:
        >>> import torch
        >>> from curvae.data import from_array
        >>> from curvae.systems import vae
        >>> data = from_array(torch.randn(40, 5))
        >>> found = check_rows(vae(data.spec, latent=2, hidden=8), data.test.x, name="test", count=200)
        >>> [name for name, told in found.rows()]
        ['posteriors of 6 rows of test', 'likeness of 6 rows of test']
    """
    local = local_c2st(system, x, mask, count, seed=seed)
    return RowChecks(name, local, predictive_check(system, x, mask, count, seed=seed))
