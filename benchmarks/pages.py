"""Tables that benchmarks write into pages of the documentation."""

from pathlib import Path


def between(text: str, begin: str, end: str, table: str) -> str:
    """The text with a table in the place of what stands between two marks."""
    before, rest = text.split(begin)
    return before + begin + table + end + rest.split(end)[1]


def written(page: Path, script: str, table: str) -> None:
    """Put a table into a page of the documentation, between the marks of a benchmark, ``fits/images`` say."""
    first, last = (f"<!-- benchmarks/{script}.py: table {end} -->\n" for end in ("begins", "ends"))
    page.write_text(between(page.read_text(), first, last, table))
