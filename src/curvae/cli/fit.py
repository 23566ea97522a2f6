"""``curvae fit``: strings to a system and data, then training."""

import functools
from collections.abc import Mapping, Sequence
from inspect import getdoc
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from curvae.cli import config_file, continue_training, dry_run, latent_range, refit, resolve, warm_start
from curvae.cli.errors import UsageError
from curvae.cli.fit_summary import interruptible, print_fit_summary, resume_command
from curvae.cli.flags import Source
from curvae.cli.parsing import dashed, errors_in_flags, given, parse, parser, to_front

if TYPE_CHECKING:
    from curvae.data import Data
    from curvae.systems import System
    from curvae.training.setup.settings import TrainingSettings

HELP = """usage: curvae fit SYSTEM DATA [flags]
       curvae fit --config RUN [flags]
       curvae fit --continue RUN [flags]
       curvae fit --from RUN DATA [flags]
       curvae fit --refit RUN [flags]

Train a system on data and leave a run folder; the same command again resumes it.

words:
  SYSTEM       vae, vlae, ...: curvae list shows them
  DATA         a known data set (digits, mnist, ...) or a file of your own (.npy, .npz, .csv)

Every argument of a system is a flag. They show when SYSTEM is named, and those of the data when DATA is:
  curvae fit vlae --help
  curvae fit vlae digits --help

examples:
  curvae fit vae digits --latent 8 --hidden 128 --out runs/digits-vae
  curvae fit vlae stars.csv --columns u,g,r,i,z --label class --out runs/stars
  curvae fit vae stars.csv --latent 1:8 --out runs/stars-latents   # one run each, and which is enough
  curvae fit --config runs/stars --seed 1 --out runs/stars-seed1
  curvae fit --continue runs/stars --epochs 60
  curvae fit --from runs/stars new-stars.csv --out runs/new-stars   # its weights, on new rows of its columns
  curvae fit --refit runs/stars --out runs/stars-all                # its recipe on all rows, none held out
  curvae fit vae stars.csv --restarts 5 --out runs/best             # five seeds, the best is kept
"""


OTHERS = {
    "--continue": lambda words: continue_training.fit(to_front("--continue", words)),
    "--from": warm_start.fit,
    "--refit": lambda words: refit.fit(to_front("--refit", words)),
}
"""Fits of what is there already."""
ALONE = ("--config", "--latent", "--restarts")
"""Flags of a fit from the beginning."""


class Request(NamedTuple):
    """Which system on which data, the flags that follow, and what a configuration file says."""

    system: str | None
    data: str | None
    flags: Sequence[str]
    config: config_file.ReplayedConfig


class Sources(NamedTuple):
    """The functions whose arguments a command line chooses."""

    system: Source
    data: Source
    training: Source
    command: Source


def fit(words: Sequence[str]) -> None:
    """Train a system on data and leave a run folder; the same command again resumes it."""
    flags = {word.split("=")[0] for word in words}
    if flag := next((flag for flag in OTHERS if flag in flags), None):
        if clash := sorted(flags & {*OTHERS, *ALONE} - {flag}):
            raise UsageError(f"{flag}: expected without {clash[0]}, for the run says what is trained; got both.")
        OTHERS[flag](words)
        return
    request = _request(dashed(words))
    if request.system is None:
        print(HELP, end="")
        return
    resolve.refuse_unlisted(request.system, request.config.system)
    sources = _sources(request.system, request.data)
    usage = f"{request.data or 'DATA'} [flags]"
    about, examples = _about(sources.system), _examples(request, sources.system)
    resolve.import_from_here()
    made = parser(f"fit {request.system}", usage, about, examples, _shown(request, sources))
    sizes = latent_range.asked(request.flags)
    chosen = parse(made, latent_range.first(request.flags, sizes), _defaults(request.config, sources))
    if request.data is None:
        raise UsageError(f"fit {request.system}: expected DATA, a known data set or a file, got none; e.g. digits.")
    with errors_in_flags(made):
        _train(request, sources, made, chosen, sizes)


def _request(words: Sequence[str]) -> Request:
    leading, flags = _apart(words)
    path = given("--config", flags)
    config = config_file.ReplayedConfig() if path is None else config_file.read_config(Path(path))
    resolve.refuse_own(Path(path or ""), config.system_arguments, (given("--trust", flags) or "").split(","))
    system, data = (*leading, None, None)[:2]
    request = Request(system or config.system, data or config.data, flags, config)
    asked = not words or bool({"-h", "--help"} & set(flags))
    if len(leading) > 2 or (request.system is None and not asked):
        got = " ".join(words[:3])
        raise UsageError(f"fit: expected SYSTEM DATA, then flags, got {got!r}; e.g. curvae fit vlae digits --latent 8.")
    return request


def _apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """SYSTEM and DATA, wherever they stand among the flags, and the flags with their values."""
    leading = list(takewhile(lambda word: not word.startswith("-"), words))
    flags = list(words[len(leading) :])
    if len(leading) >= 2 or not flags or {"-h", "--help"} & set(flags):
        return leading, flags
    switches, rest, waits = _switches(leading), [], False
    for word in flags:
        (rest if waits or word.startswith("-") else leading).append(word)
        waits = word.startswith("--") and "=" not in word and word not in switches
    return leading, rest


def _switches(leading: Sequence[str]) -> set[str]:
    """Flags that no value follows."""
    systems = [resolve.system_flags(leading[0])] if leading else []
    sources = [*systems, resolve.known_set(), resolve.own_file(), resolve.training_flags(), Source("", _command)]
    options = [flag.option for source in sources for flag in source.flags() if flag.type is bool]
    return {*options, *(option.replace("--", "--no-", 1) for option in options)}


def _sources(system: str, data: str | None) -> Sources:
    return Sources(
        resolve.system_flags(system),
        resolve.known_set() if data is None or resolve.known_set_of(data) else resolve.own_file(),
        resolve.training_flags(),
        Source("training", _command),
    )


def _shown(request: Request, sources: Sources) -> list[Source]:
    """Groups of flags: those of both kinds of data where none is named yet."""
    both = [resolve.own_file()] if request.data is None else []
    return [sources.system, sources.data, *both, sources.training, sources.command]


def _command(
    restarts: int = 1,
    config: Path | None = None,
    print_config: bool = False,
    dry_run: bool = False,
    trust: Sequence[str] | None = None,
) -> None:
    """Flags of the command itself.

    Args:
        restarts: fits that differ in their seed, --seed and those after it; the best is kept
        config: a run's config.yaml, or its folder, to start from; flags override it.
        print_config: print the whole configuration, as the run's config.yaml would say it, and stop.
        dry_run: read the data, time a few steps, say what the run would take, and write nothing.
        trust: modules of your own that the configuration has parts of; those that flags name need none.
    """


def _defaults(config: config_file.ReplayedConfig, sources: Sources) -> dict[str, Any]:
    pairs = (
        (sources.system, config.system_arguments),
        (sources.data, config.data_arguments),
        (sources.training, config.training_arguments),
    )
    return {name: value for source, arguments in pairs for name, value in source.renamed(arguments).items()}


def _train(request: Request, sources: Sources, made: Any, chosen: Any, sizes: Sequence[int]) -> None:
    import torch

    from curvae.training import fit, fit_restarts
    from curvae.training.setup.devices import is_first

    training = sources.training.arguments(chosen)
    settings = _settings(training)
    data = resolve.open_data(str(request.data), sources.data.arguments(chosen))

    def build(latent: int | None = None, seed: int = settings.seed) -> "System":
        torch.manual_seed(seed)
        if latent is not None:
            chosen["latent"] = latent
        return resolve.built(sources.system, made, chosen, data.spec)

    if chosen["print_config"]:
        print("---\n".join(_printed(build(latent), data, settings) for latent in sizes or (None,)), end="")
        return
    if chosen["dry_run"]:
        for latent in sizes or (None,):
            dry_run.tell(build(latent), data, settings)
        return
    restarts = chosen["restarts"]
    if sizes and restarts != 1:
        raise UsageError(f"--restarts: expected 1 with several numbers of latents, got {restarts}.")
    out = training["out"] = _folder(request, training, "-latents" if sizes else "")
    if sizes:
        latent_range.fit_each(sizes, build, data, training, _words(request))
        return
    system = build()
    alone = f"curvae fit --config {out} --out {out}{resolve.trust_of(system)}"
    command = alone if restarts == 1 else resume_command(_words(request), str(out))
    with interruptible(command):
        each = functools.partial(build, None)
        run = fit(system, data, **training) if restarts == 1 else fit_restarts(each, data, restarts, **training)
    if is_first():
        print_fit_summary(run)


def _words(request: Request) -> list[str]:
    """The command line again."""
    return [word for word in (request.system, request.data) if word is not None] + list(request.flags)


def _folder(request: Request, training: Mapping[str, Any], kind: str) -> Path | None:
    """The run's folder: chosen here where nothing is said, so that it can be named when the run is cut off."""
    from curvae.training.run.claim import next_name

    if training["out"] is not None or training["devices"] > 1:
        return training["out"]
    return next_name(f"{request.system}-{_stem(str(request.data))}{kind}")


def _settings(training: Mapping[str, Any]) -> "TrainingSettings":
    """Refused before data are opened and weights are drawn."""
    from curvae.training.setup.devices import resolve_device
    from curvae.training.setup.monitoring import check_logger
    from curvae.training.setup.settings import TrainingSettings

    others = ("out", "progress", "logger")
    settings = TrainingSettings(**{name: value for name, value in training.items() if name not in others})
    check_logger(training["logger"])
    resolve_device(settings.device, settings.devices)
    return settings


def _printed(system: "System", data: "Data", settings: "TrainingSettings") -> str:
    from curvae.training.fits.fit import configuration
    from curvae.training.run.files import as_yaml

    return as_yaml(configuration(system, data, settings))


def _about(source: Source) -> str:
    """First line of a system's docstring."""
    return (getdoc(source.function) or "").split("\n\n")[0]


def _examples(request: Request, source: Source) -> list[str]:
    """Command lines with flags that the system has; none where both words are there already."""
    system, known = request.system, {flag.dest for flag in source.flags()}
    if request.data is not None:
        return []
    sizes = "".join(f" --{name} {size}" for name, size in {"latent": 8, "hidden": 128}.items() if name in known)
    own = [f"curvae fit {system} digits --decoder my_module.Decoder --decoder.width 64"] if "decoder" in known else []
    return [f"curvae fit {system} digits{sizes} --minutes 2 --out runs/digits-{system}", *own]


def _stem(word: str) -> str:
    return Path(word).name.split(".")[0]
