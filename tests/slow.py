"""The tests that take longest: ``make test`` runs a sixteenth of them, by the commit, and ``make whole`` all.

    python -m pytest -n 2 --durations=1000 --durations-min=0.3 > times.txt; python tests/slow.py times.txt

writes slow.txt anew: those that took 85 % of the time of all above 0.3 s, a function once, whatever its parameters.
"""

import argparse
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from variations import head

LIST = Path(__file__).with_suffix(".txt")
SHARE = 0.85
Item = TypeVar("Item")


def written(log: str) -> str:
    """The list that follows from pytest's durations."""
    times = Counter[str]()
    for seconds, test in re.findall(r"^ *([\d.]+)s (?:call|setup|teardown) +(\S+)", log, re.M):
        times[test.partition("[")[0]] += float(seconds)
    chosen, left = [], SHARE * sum(times.values())
    for test, seconds in times.most_common():
        if left > 0:
            chosen.append(test)
            left -= seconds
    return "".join(f"{test}\n" for test in sorted(chosen))


def left_out(parts: int, revision: str | None = None) -> Iterator[str]:
    """Those of the list that a commit does not run, of so many parts that take turns."""
    number = int((revision or head())[:8], 16)
    return (test for place, test in enumerate(LIST.read_text().split()) if (place + number) % parts)


def deselected(names: Sequence[str], items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """Items whose test is not named, and those whose test is."""
    known = set(names)
    named = [getattr(item, "nodeid", str(item)).partition("[")[0] in known for item in items]
    apart: tuple[list[Item], list[Item]] = ([], [])
    for item, there in zip(items, named, strict=True):
        apart[there].append(item)
    return apart


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path, help="what pytest printed")
    LIST.write_text(written(parser.parse_args().log.read_text()))
