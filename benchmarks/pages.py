"""Tables that benchmarks write into pages of the documentation."""


def between(text: str, begin: str, end: str, table: str) -> str:
    """The text with a table in the place of what stands between two marks."""
    before, rest = text.split(begin)
    return before + begin + table + end + rest.split(end)[1]
