"""Numbers as a reader is told them: with their errors, rounded to what they say. Plain text: the page escapes it."""

import math

from curvae.evaluation.estimate import Estimate

NONE = "–"


def format_estimate(found: Estimate) -> str:
    """A mean over data with its standard error."""
    return format_number(found.value, found.stderr)


def format_number(value: float, stderr: float = math.nan, figures: int = 4) -> str:
    """A number rounded to two figures of its standard error, or to so many figures if it has none.

    >>> format_number(-83.21374, 0.1372), format_number(1234.5678, 12.3), format_number(0.0312345)
    ('−83.21 ± 0.14', '1,235 ± 12', '0.03123')
    """
    if not math.isfinite(value):
        return NONE
    if math.isfinite(stderr) and stderr > 0:
        places = min(6, max(0, 1 - math.floor(math.log10(stderr))))
        return _signed(f"{value:,.{places}f}") + f" ± {stderr:,.{places}f}"
    return _signed(f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.{figures}g}")


def _signed(text: str) -> str:
    return text.replace("-", "−")


def format_share(part: float, whole: float) -> str:
    """A percentage: one figure after the point below ten, and never 0 % of something.

    >>> format_share(1, 3), format_share(1, 100), format_share(1, 100_000), format_share(0, 5)
    ('33%', '1.0%', 'under 0.1%', '0%')
    """
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 0.1:
        return "under 0.1%"
    return f"{percent:.1f}%" if 0 < percent < 10 else f"{percent:.0f}%"


def format_p_value(p: float) -> str:
    """How it is told.

    >>> format_p_value(0.0423), format_p_value(1e-9)
    ('p = 0.042', 'p < 0.001')
    """
    return "p < 0.001" if p < 1e-3 else f"p = {p:.2g}"


def format_duration(seconds: float) -> str:
    """A time as one reads it off a clock.

    >>> format_duration(8.23), format_duration(192), format_duration(7260)
    ('8.2 s', '3 min 12 s', '2 h 1 min')
    """
    if not math.isfinite(seconds):
        return NONE
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    return f"{minutes} min {seconds % 60:.0f} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def format_count(count: float, one: str, many: str) -> str:
    """``1 datum``, ``12 data``."""
    return f"{count:,.0f} {one if count == 1 else many}"
