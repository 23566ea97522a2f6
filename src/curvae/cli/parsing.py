"""Words to values: one parser a command, and its complaints in the words of the command line."""

import argparse
import ast
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from inspect import getdoc
from itertools import zip_longest
from typing import Any

from curvae.cli.errors import UsageError, did_you_mean
from curvae.cli.flag_ranges import check_ranges
from curvae.cli.flags import Flag, Listed, Source, metavar

Command = Callable[[Sequence[str]], None]
WORDS = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false", "Path": "a path"}


class Help(argparse.RawDescriptionHelpFormatter):
    """Flags on the left, what they do and their default on the right."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=27, width=110)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if len(action.option_strings) > 1 and action.default is not False and action.dest != "help":
            return f"--[no-]{action.dest.replace('_', '-')}"
        value = "" if action.nargs == 0 or not action.metavar else str(action.metavar)
        return " ".join([*action.option_strings[:1], value]).strip()

    def add_argument(self, action: argparse.Action) -> None:
        if not any(option.endswith(".help") for option in action.option_strings):
            super().add_argument(action)


def parser(command: str, usage: str, about: str, examples: Sequence[str], sources: Sequence[Source]) -> Any:
    """The parser of one command, with a group of flags for each title; the first function that has a flag keeps it."""
    from jsonargparse import ArgumentParser

    made = ArgumentParser(
        prog=f"curvae {command}",
        usage=f"curvae {command} {usage}",
        description=about,
        epilog=_epilog(examples),
        formatter_class=Help,
        exit_on_error=False,
        add_help=False,
    )
    taken: set[str] = set()
    groups: dict[str, Any] = {}
    for source in sources:
        group = groups[source.title] = groups.get(source.title) or made.add_argument_group(source.title)
        for flag in source.flags():
            if flag.dest not in taken:
                _add(group, flag)
                taken.add(flag.dest)
    made.add_argument("-h", "--help", action="help", help=argparse.SUPPRESS)
    return made


def _epilog(examples: Sequence[str]) -> str | None:
    if not examples:
        return None
    return f"example: {examples[0]}" if len(examples) == 1 else "\n  ".join(["examples:", *examples])


def parse(made: Any, words: Sequence[str], defaults: Mapping[str, Any] | None = None) -> Any:
    """What the words choose, where they choose nothing the defaults of a configuration file.

    Raises:
        UsageError: an unknown flag, a missing or a surplus word, a value of the wrong type.
    """
    words = _joined(dashed(words))
    lists = [option for action in made._actions if isinstance(action.type, Listed) for option in action.option_strings]
    words = _once(words, lists)
    _check_known(made, words)
    _check_numbers(made, words)
    try:
        made.set_defaults(dict(defaults or {}))
        chosen = made.parse_args(words)
    except (argparse.ArgumentError, TypeError, ValueError, KeyError) as error:
        raise UsageError(_plain(str(error))) from error
    check_ranges(made.prog.split()[1], vars(chosen))
    return chosen


def dashed(words: Sequence[str]) -> list[str]:
    """Flags in their dashed spelling; what follows a dot belongs to an own module and stays.

    >>> dashed(["--kl_warmup=3", "--decoder.n_in", "my_file"])
    ['--kl-warmup=3', '--decoder.n_in', 'my_file']
    """
    return [re.sub(r"^--[\w-]+", lambda flag: flag[0].replace("_", "-"), word) for word in words]


def _joined(words: Sequence[str]) -> list[str]:
    """A value that begins with a minus and a digit, as ``-999,-99``, at its flag: else it looks like one itself."""
    joined: list[str] = []
    for word in words:
        if re.match(r"-[\d.]", word) and joined and joined[-1].startswith("--") and "=" not in joined[-1]:
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _once(words: Sequence[str], lists: Collection[str]) -> list[str]:
    """A flag that takes a list and comes again has the values of each time.

    >>> _once(["--given", "a=1", "--to=x.csv", "--given=b=2"], ["--given"])
    ['--to=x.csv', '--given=a=1,b=2']
    """
    kept, found, rest = [], defaultdict(list), iter(words)
    for word in rest:
        name, equal, value = word.partition("=")
        if name in lists and (equal or (value := next(rest, ""))):
            found[name].append(value)
        else:
            kept.append(word)
    return [*kept, *(f"{name}={','.join(values)}" for name, values in found.items())]


def given(flag: str, words: Sequence[str]) -> str | None:
    """The value of a flag, read before its parser can be made; None if it is not given.

    >>> given("--config", ["--seed", "1", "--config=runs/a"])
    'runs/a'
    """
    for word, following in zip_longest(words, words[1:]):
        name, _, value = word.partition("=")
        if name == flag:
            return value or following
    return None


def to_front(flag: str, words: Sequence[str]) -> list[str]:
    """The value of a flag as the first word, the flag itself left out.

    >>> to_front("--from", ["new.csv", "--from", "runs/a"]), to_front("--from", ["--from=runs/a", "new.csv"])
    (['runs/a', 'new.csv'], ['runs/a', 'new.csv'])
    """
    at = next(number for number, word in enumerate(words) if word.split("=")[0] == flag)
    value = words[at].split("=", 1)[1:] or words[at + 1 : at + 2]
    return [*value, *words[:at], *words[at + (1 if "=" in words[at] else 2) :]]


def command(usage: str, *examples: str, **parts: Source) -> Callable[[Callable[..., None]], Command]:
    """A function of paths, numbers and text as a command of words; its docstring is the help, up to the arguments.

    Args:
        usage: what follows the name.
        examples: for the help.
        parts: parameters that are no words or flags themselves, but what another function makes of its own flags.
    """

    def made_of(function: Callable[..., None]) -> Command:
        source, about = Source("words and flags", function, skip=frozenset(parts)), getdoc(function) or ""
        sources = [source, *parts.values()]

        @wraps(function)
        def run(words: Sequence[str]) -> None:
            made = parser(function.__name__.rstrip("_"), usage, about.partition("\n\nArgs:")[0], examples, sources)
            chosen = parse(made, words)
            with errors_in_flags(made):
                others = {name: part.function(**part.arguments(chosen)) for name, part in parts.items()}
                function(**source.arguments(chosen), **others)

        return run

    return made_of


@contextmanager
def errors_in_flags(made: Any) -> Iterator[None]:
    """Errors of the library in the words of the command line: arguments become the flags of this parser.

    ``missing='mask'`` becomes ``--missing mask``, and ``latent: expected ...`` becomes ``--latent: expected ...``.
    """
    try:
        yield
    except ValueError as error:
        names = {action.dest for action in made._actions if action.option_strings}
        error.args = (in_flags(str(error), names),)
        raise


def in_flags(line: str, names: Collection[str]) -> str:
    """A line with arguments in Python's words as flags of these names.

    >>> print(in_flags("say drop=['id', 'a, b'] or kind={'n': 'real'}", ["drop", "kind"]))
    say --drop 'id,"a, b"' or --kind n=real
    """

    def flag(match: re.Match[str]) -> str:
        name, value = match[1], match[2].strip("'\"")
        if name not in names:
            return match[0]
        option = "--" + name.replace("_", "-")
        written = _listed(match[2]) if match[2][0] in "[{" else value
        return {"True": option, "False": option.replace("--", "--no-", 1)}.get(value, f"{option} {written}")

    line = re.sub(r"\b([a-z_]+)=('[^']*'|\"[^\"]*\"|\[[^\]]*\]|\{[^}]*\}|[\w.]+)", flag, line)
    first = re.split(r"[: ]", line)[0]
    return f"--{first.replace('_', '-')}{line[len(first) :]}" if first in names else line


def _listed(value: str) -> str:
    """A list or mapping in Python as a flag has it."""
    try:
        found = ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return value
    if ... in found:
        return value
    words = (
        [f"{name}={kind}" for name, kind in found.items()] if isinstance(found, dict) else list(map(_plain_word, found))
    )
    joined = ",".join(f'"{word}"' if "," in word else word for word in words)
    return f"'{joined}'" if re.search(r"[^\w,.=+-]", joined) else joined or value


def _plain_word(value: Any) -> str:
    return f"{value:.17g}" if isinstance(value, float) else str(value)


def _add(group: Any, flag: Flag) -> None:
    from jsonargparse import ActionYesNo

    hidden = flag.default is None or flag.default is False or flag.default == ()
    shown = "" if hidden else f" [{_text(flag.default)}]"
    help_ = (flag.help + shown).replace("%", "%%")
    if flag.required:
        many = {"nargs": "+"} if isinstance(flag.type, Listed) else {}
        group.add_argument(flag.dest, type=str if many else flag.type, metavar=flag.dest.upper(), help=help_, **many)
    elif flag.type is bool:
        group.add_argument(
            flag.option, action=ActionYesNo(yes_prefix="", no_prefix="no-"), default=flag.default, help=help_
        )
    else:
        group.add_argument(flag.option, type=flag.type, metavar=metavar(flag.type), default=flag.default, help=help_)


def _text(value: Any) -> str:
    if value is True:
        return "on"
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _check_known(made: Any, words: Sequence[str]) -> None:
    known = [option for action in made._actions for option in action.option_strings]
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("--") and name not in known and name.partition(".")[0] not in known:
            raise UsageError(f"{name}: no such flag{did_you_mean(name, known) or '; --help lists them all.'}")


def _check_numbers(made: Any, words: Sequence[str]) -> None:
    """A range is no number, though YAML takes 1:8 for 1 * 60 + 8."""
    for action in made._actions:
        value = next((found for option in action.option_strings if (found := given(option, words))), "")
        if action.metavar in ("N", "X") and ":" in value:
            kind = WORDS["int" if action.metavar == "N" else "float"]
            raise UsageError(f"{action.option_strings[0]}: expected {kind}, got {value!r}.")


def _plain(message: str) -> str:
    """What jsonargparse says, in one line and in the words of the command line."""
    line = " ".join(message.split())
    line = re.sub(r'^(?:Validation failed: )?Parser key "([\w.]+)":', _named, line)
    line = re.sub(r"^argument (--[\w-]+):", r"\1:", line)
    line = re.sub(r"Expected an? (.+?)\. Got value: (.+)$", _expected, line)
    line = re.sub(r"Does not validate against .*?Subtypes: \[(.+?)\] Errors: .*Given value: (.+)$", _expected, line)
    line = re.sub(r"the following arguments are required: (.+)", lambda m: f"expected {m[1].upper()} too", line)
    line = line.replace("unrecognized arguments:", "expected no more words, got")
    return line if line.endswith((".", "?")) else line + "."


def _named(match: re.Match[str]) -> str:
    return "--" + match[1].replace("_", "-") + ":"


def _expected(match: re.Match[str]) -> str:
    names: list[str] = re.findall(r"<class '([\w.]+)'>", match[1])
    values: list[str] = re.findall(r"Literal\[(.+?)\]", match[1])
    either = [*values, *(WORDS.get(str(name).rpartition(".")[2], name) for name in names)]
    return f"expected {' or '.join(map(str, either)) or match[1]}, got {match[2]!r}"
