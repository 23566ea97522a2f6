"""Tables on the terminal."""

from collections.abc import Iterable, Sequence


def show(title: str, header: Sequence[str], rows: Iterable[Sequence[str]], numbers: bool = False) -> None:
    """Print a table to stdout, as wide as the terminal or 110 characters where there is none.

    Args:
        title: above it; none if empty.
        header: names of the columns; no header line where all are empty.
        rows: cells in text.
        numbers: align all columns but the first to the right.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=110)
    table = Table(
        box=box.SIMPLE_HEAD, title=title or None, title_justify="left", show_header=any(header), pad_edge=False
    )
    for i, name in enumerate(header):
        table.add_column(name, justify="right" if numbers and i else "left", no_wrap=i == 0)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
