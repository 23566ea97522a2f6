"""``curvae adopt SOURCE DATA``: a model that was trained elsewhere becomes a run."""

from collections.abc import Sequence
from inspect import getdoc
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curvae.cli import resolve
from curvae.cli.flags import Source
from curvae.cli.parsing import errors_in_flags, parse, parser

if TYPE_CHECKING:
    from curvae.fitted import Fitted

READ = ("columns", "label", "test", "key", "missing", "support", "split", "event", "seed", "data_dir")
"""Arguments of what reads data that are flags; others are said in Python."""
EXAMPLES = [
    "curvae adopt my_model_folder/final_model images.npy --out runs/adopted",
    "curvae adopt kl-f8/vae pictures/ --out runs/kl",
]


def adopt(words: Sequence[str]) -> None:
    """A model that was trained elsewhere becomes a run, without retraining.

    Its own ELBO and ours are compared on the same rows and noise; where they differ nothing is written, and the line
    says which convention it suspects. Networks of your own are adopted in Python: curvae.adopt((encoder, decoder), x).
    """
    named = next((word for word in words[1:2] if not word.startswith("-")), None)
    known = named is not None and resolve.known_set_of(named) is not None
    data = _data(known)
    sources = [Source("words", _words), Source("run", _flags), data]
    about = (getdoc(adopt) or "").partition("\n\nArgs:")[0]
    made = parser("adopt", f"SOURCE {named or 'DATA'} [flags]", about, EXAMPLES, sources)
    chosen = parse(made, words)
    with errors_in_flags(made):
        _adopt(chosen, data.arguments(chosen))


def _data(known: bool) -> Source:
    """Flags of data, those that a trained model leaves open."""
    from curvae import data

    function = data.load if known else data.from_file
    names = {flag.parameter for flag in Source("data", function).flags()}
    return Source("data", function, skip=frozenset(names - {*READ, "path"} | {"name", "path"}), rename=resolve.RENAME)


def _adopt(chosen: Any, reading: dict[str, Any]) -> None:
    from curvae.adopters import adopt as take
    from curvae.training.run.claim import next_name

    label = reading.pop("label", None)
    said = {resolve.RENAME.get(name, name): value for name, value in reading.items()}
    said |= {} if chosen["noise"] is None else {"noise": chosen["noise"]}
    out = chosen["out"] or next_name(f"adopted-{Path(chosen['data']).name.partition('.')[0]}")
    with resolve.noted():
        fitted = take(Path(chosen["source"]), chosen["data"], out=out, label=label, **said)
    print(_told(fitted, out))


def _told(fitted: "Fitted", out: Path) -> str:
    adopted = fitted.run.config.get("adopted", {})
    bound = fitted.metrics()["validation_bound"][0]
    lines = [
        f"adopted: {adopted['source']}; {adopted['compared']}: equal to {adopted['difference']:.1g}",
        f"validation ELBO {bound:.3f} nats",
        f"run: {out}",
        f"next: curvae evaluate {out}",
    ]
    return "\n".join(lines)


def _words(source: str, data: str) -> None:
    """Words of the command.

    Args:
        source: the folder of a model of pythae, or of an AutoencoderKL of diffusers
        data: what it is evaluated on, a file or a known data set
    """


def _flags(out: Path | None = None, noise: float | None = None) -> None:
    """Flags of the command.

    Args:
        out: the run folder; by default runs/adopted-<data>-<number>
        noise: standard deviation of an AutoencoderKL's pixels; by default fitted to training rows
    """
