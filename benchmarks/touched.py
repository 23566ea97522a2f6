"""A pytest plugin that records which functions of the package each test enters, and how long it takes.

    python -m pytest -p touched --touched map.json

The file maps each test to its seconds and to ``path:function`` of every function entered, and ``path:`` of every file.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = os.sep + os.path.join("src", "curvae") + os.sep


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--touched", type=Path, default=None, help="write there what each test touches")


def pytest_configure(config: pytest.Config) -> None:
    if path := config.getoption("--touched"):
        config.pluginmanager.register(Recorder(path))


class Recorder:
    """Looks at every call; a name is written down once a test."""

    def __init__(self, path: Path):
        self.path, self.map, self.now = path, {}, set()

    def trace(self, frame, event, argument) -> None:
        code = frame.f_code
        if SOURCES in code.co_filename:
            self.now.add((code.co_filename, code.co_name))

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.now, started = set(), time.perf_counter()
        sys.settrace(self.trace)
        threading.settrace(self.trace)
        yield
        sys.settrace(None)
        threading.settrace(None)
        names = {(file.rsplit(SOURCES, 1)[1].replace(os.sep, "/"), name) for file, name in self.now}
        touched = {f"src/curvae/{file}:{name}" for file, name in names} | {f"src/curvae/{file}:" for file, _ in names}
        self.map[item.nodeid] = [round(time.perf_counter() - started, 3), sorted(touched)]

    def pytest_sessionfinish(self) -> None:
        self.path.write_text(json.dumps(self.map))
