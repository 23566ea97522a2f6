"""``curvae fit --from RUN DATA``: a new run that begins at the weights of another, on data read as its own were."""

from collections.abc import Sequence
from inspect import getdoc
from pathlib import Path
from typing import Any

from curvae.cli import resolve
from curvae.cli.fit_summary import interruptible, print_fit_summary, resume_command
from curvae.cli.flags import Source
from curvae.cli.parsing import errors_in_flags, parse, parser, to_front

EXAMPLES = ["curvae fit --from runs/stars new-stars.csv --minutes 2 --out runs/new-stars"]


def fit(words: Sequence[str]) -> None:
    """A new run that begins at the weights of another, on data of the same columns, in the same units."""

    front = to_front("--from", words)
    named = next((word for word in front[1:2] if not word.startswith("-")), None)
    data = _data(named)
    options = resolve.training_flags()
    sources = [Source("words", _from), data, options, Source("training", _trust)]
    made = parser("fit", f"--from RUN {named or 'DATA'} [flags]", getdoc(fit) or "", EXAMPLES, sources)
    chosen = parse(made, front)
    with errors_in_flags(made):
        _train(chosen, data.arguments(chosen), options.arguments(chosen), words)


def _data(word: str | None) -> Source:
    """The flags with which it is read."""
    from curvae.data import like_file, like_set

    skip, known = frozenset({"earlier", "path", "name"}), word is not None and resolve.known_set_of(word) is not None
    skip = skip if known else skip | {"data_dir"}
    return Source("data", like_set if known else like_file, skip=skip, rename=resolve.RENAME)


def _train(chosen: Any, reading: dict[str, Any], training: dict[str, Any], words: Sequence[str]) -> None:
    from curvae.data import like_file, like_set
    from curvae.training import fit_from
    from curvae.training.run.claim import next_name
    from curvae.training.setup.devices import is_first

    run, word = resolve.open_run(chosen["run"], chosen["trust"] or ()), chosen["data"]
    name, earlier = resolve.known_set_of(word), run.earlier()
    with resolve.noted():
        data = like_set(earlier, name, **reading) if name else like_file(earlier, word, **reading)
    if training["out"] is None and training["devices"] == 1:
        training["out"] = next_name(f"{run.config['system'].get('name', 'run')}-{data.spec.name}")
    with interruptible(resume_command(words, str(training["out"]))):
        found = fit_from(run, data, **training)
    if is_first():
        print_fit_summary(found)


def _from(run: Path, data: str) -> None:
    """Words of the command.

    Args:
        run: the folder of the run whose recipe and weights are taken
        data: a file, or a known data set, with the columns and units of that run's data
    """


def _trust(trust: Sequence[str] | None = None) -> None:
    """Flags of the command."""
