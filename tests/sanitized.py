"""The tests of the C code, where what is skipped fails: without the library that was asked for, they would all be.

    python tests/sanitized.py tests/unit/test_kernel.py ...

``make sanitize`` sets the environment in which the library is compiled with the sanitizers.
"""

import sys

import pytest


class Skipped:
    """A plugin that keeps the names of the tests that were skipped."""

    def __init__(self):
        self.tests: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped:
            self.tests.append(report.nodeid)


def main(tests: list[str]) -> int:
    found = Skipped()
    code = pytest.main(["-q", "-s", "-p", "no:cacheprovider", *tests], plugins=[found])
    if found.tests:
        raise SystemExit(f"{len(found.tests)} tests were skipped, {found.tests[0]} first: was the library compiled?")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
