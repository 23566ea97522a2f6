"""``curvae gaps``: where the ELBO's distance to log p(x) comes from, and what a better posterior would buy."""

from collections.abc import Iterator, Sequence
from inspect import getdoc
from pathlib import Path
from typing import TYPE_CHECKING

from curvae.cli.flags import Source
from curvae.cli.opening import open_run
from curvae.cli.parsing import parse, parser, spoken
from curvae.cli.tables import show

if TYPE_CHECKING:
    from curvae.evaluation import Gaps


def gaps(words: Sequence[str]) -> None:
    """Split log p(x) - ELBO of a run into what its posterior's family costs and what one encoder for all data costs.

    Also says what other families would reach on the same decoder, at their best for each datum. The decoder stays as it
    is; gaps.json is written into the run's folder.
    """
    from curvae import evaluation

    examples = ["curvae gaps runs/digits-vae", "curvae gaps runs/digits-vae --data 500 --steps 400"]
    flags = Source("flags", evaluation.gaps, skip=frozenset({"run"}))
    made = parser("gaps", "RUN [flags]", getdoc(gaps) or "", examples, [Source("words and flags", _on), flags])
    chosen = parse(made, words)
    run = chosen["run"]
    with spoken(made):
        found = evaluation.gaps(open_run(run, chosen["trust"] or ()), **flags.arguments(chosen))
    title = f"{run}: {found.count:,} {found.split} data, {found.steps} steps each; nats per datum ± standard error"
    show(title, ["", ""], parts(found))
    show("Posteriors on this decoder", ["", "ELBO", "below log p(x)", "gain"], members(found), numbers=True)
    print("\n".join(f"warning: {line}" for line in found.warnings) or "No warnings.")


def parts(found: "Gaps") -> Iterator[tuple[str, str]]:
    """The gap and its parts in rows of a table."""
    yield "inference gap, log p(x) - ELBO", str(found.inference)
    yield "  approximation gap: the family", str(found.approximation)
    yield "  amortization gap: one encoder for all data", str(found.amortization)
    if found.amortization_train is not None and found.generalization is not None:
        yield "amortization gap of training data", str(found.amortization_train)
        yield "generalization gap of the encoder", str(found.generalization)


def members(found: "Gaps") -> Iterator[tuple[str, str, str, str]]:
    """What each family reaches, in rows of a table."""
    from curvae.evaluation.gaps.results import MEMBERS

    for name, words in MEMBERS.items():
        member = found.members[name]
        gain = "" if name == "own" else f"{member.gain:+.2f}"
        yield words, str(member.elbo), str(member.gap), gain
    yield "the posterior itself: log p(x)", str(found.log_likelihood), "", f"{found.inference:+.2f}"


def _on(run: Path, trust: Sequence[str] | None = None) -> None:
    """What is measured.

    Args:
        run: folder of a run, as --out named it.
        trust: modules of your own that the run has parts of.
    """
