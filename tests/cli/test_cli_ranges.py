"""Every numeric flag of every command and system: a value beyond its range is one line, and nothing is written."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from command_line import fails
from curvae import registry
from curvae.cli import COMMANDS, main, parsing
from curvae.cli import fit as fit_command
from curvae.cli.flag_ranges import range_of
from curvae.cli.flags import Listed, Source
from curvae.cli.resolve import system_flags

WORDS = {
    "fit": ["vae", "digits"],
    "compare": ["nowhere", "elsewhere"],
    "list": [],
    "doctor": [],
    "data": ["x.csv"],
    "adopt": ["nowhere", "x.csv"],
}
WORDS |= {command: ["nowhere", "test"] for command in ("encode", "score", "impute", "denoise", "reconstruct", "ood")}


def numeric(kind: Any) -> bool:
    """Whether its values are numbers, and no words among them."""
    kinds = kind.readers if isinstance(kind, Listed) else get_args(kind) or (kind,)
    return bool({int, float} & set(kinds)) and str not in kinds


def shown(command: list[str]) -> Iterator[Source]:
    """The sources of flags of a command, as its help shows them."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        seen: list[Source] = []
        made = parsing.parser

        def watched(*arguments: Any) -> Any:
            seen.extend(arguments[-1])
            return made(*arguments)

        for module in (parsing, fit_command):
            patch.setattr(module, "parser", watched)
        main([*command, "--help"])
    return iter(seen)


def flags() -> dict[tuple[str, ...], list[str]]:
    """The numeric flags: the words of a command that has it, and its name."""
    found: dict[tuple[str, str], list[str]] = {}
    for command in COMMANDS:
        words = [command, *WORDS.get(command, ["nowhere"])]
        for source in shown(["fit", "vae"] if command == "fit" else [command]):
            for flag in source.flags():
                file = source.title == "data (your own file)"
                if numeric(flag.type) and not flag.required:
                    found.setdefault((command, flag.dest), ["fit", "vae", "x.csv"] if file else words)
    for system in registry.systems():
        for flag in system_flags(system).flags():
            if numeric(flag.type):
                found.setdefault(("fit", flag.dest), ["fit", system, "digits"])
    return found


FLAGS = flags()


def test_there_are_many():
    assert len(FLAGS) > 90


@pytest.mark.parametrize(("command", "name"), FLAGS, ids=map("-".join, FLAGS))
def test_every_numeric_flag_has_its_range(
    command: str, name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    allowed, flag = range_of(command, name), f"--{name.replace('_', '-')}"
    assert allowed is not None, f"{flag} has no range"
    values = {"-1" if allowed.low > -1 else f"{int(2 * allowed.low)}"} if allowed.low > -1e300 else {"-1e999"}
    values |= {f"{int(allowed.high) + 1}"} if allowed.high < 1e300 else set()
    for value in values:
        fails(capsys, [*FLAGS[command, name], f"{flag}={value}"], 2, f"{flag}: expected {allowed.words}, got ")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_number_is_none(capsys: pytest.CaptureFixture[str]):
    fails(capsys, ["fit", "vae", "digits", "--clip", "nan"], 2, "--clip: expected a number, got 'nan'.")
    fails(capsys, ["fit", "vae", "digits", "--clip", "1e999"], 2, "--clip: expected a positive number, got inf.")
