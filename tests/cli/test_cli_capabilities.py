"""The command line on systems without latents, and on the smallest runs: what works works, the rest is one line."""

import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from command_line import TINY, fails, says
from curvae.cli import main
from density import pull, registered, toy_density


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    with registered("toy-density", toy_density), registered("pull", pull):
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a density, a system that has nothing, and a VAE, all on one table; read, never written."""
    folder = tmp_path_factory.mktemp("capabilities")
    random = np.random.default_rng(0)
    rows = random.normal(size=(150, 3)) @ random.normal(size=(3, 3))
    np.savetxt(folder / "table.csv", rows, delimiter=",", header="u,g,r", comments="")
    short = ["--epochs", "2", "--no-progress"]
    for name, flags in {"toy-density": short, "pull": short, "vae": TINY}.items():
        assert main(["fit", name, str(folder / "table.csv"), *flags, "--out", str(folder / name)]) == 0
    return folder


@pytest.fixture
def copies(runs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs, tmp_path / "runs"))


class Text(HTMLParser):
    """What a page says."""

    def __init__(self, path: Path):
        super().__init__()
        self.said = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_data(self, data: str) -> None:
        self.said += data


def test_a_density_is_evaluated_compared_and_reported(copies: Path, capsys: pytest.CaptureFixture[str]):
    toy, other = "runs/toy-density", "runs/vae"
    out = says(capsys, "evaluate", toy)
    assert "log p(x), nats" in out
    assert out.splitlines()[0].strip() == f"{toy}: 22 test data"
    for absent in ("draws", "k-hat", "ELBO", "latent", "nan"):
        assert absent not in re.sub(r"PPCA, \d latents?", "", out)
    says(capsys, "evaluate", other, "--samples", "30")
    table = says(capsys, "compare", toy, other)
    assert "exact" in table
    assert "paired" in table
    says(capsys, "report", toy)
    page = Text(copies / "toy-density" / "report.html").said
    assert "It is exact, not an estimate." in page
    assert "The log-likelihood after each epoch" in page
    assert "draws of it" in page
    assert "Inference gap" not in page
    (line,) = [line for line in page.splitlines() if "this system has no latents." in line]
    for title in ("Reconstructions", "Latent space", "Posterior covariances", "Mode search", "What the latents carry"):
        assert title in line
    assert "curvae gaps" not in page


def test_a_density_is_sampled_and_listed(runs: Path, capsys: pytest.CaptureFixture[str]):
    assert "64 samples of shape (3,): s.csv" in says(capsys, "sample", str(runs / "toy-density"), "--to", "s.csv")
    assert np.loadtxt("s.csv", delimiter=",", skiprows=1).shape == (64, 3)
    assert "Full-covariance Gaussian density." in says(capsys, "list")
    shown = says(capsys, "fit", "toy-density", "table.csv", "--help")
    assert "--latent" not in shown
    assert "--decoder" not in shown


@pytest.mark.parametrize(
    ("words", "capability"),
    [
        (["encode", "RUN", "test"], "HasPosterior"),
        (["refine", "RUN"], "HasPosterior"),
        (["calibrate", "RUN"], "HasModel"),
        (["gaps", "RUN", "--no-progress"], "HasModel"),
        (["bracket", "RUN"], "HasModel"),
        (["evaluate", "RUN", "--ais", "5"], "HasModel"),
        (["sample", "RUN"], "CanSample"),
    ],
)
def test_what_a_system_cannot_do_is_one_line(
    words: list[str], capability: str, runs: Path, capsys: pytest.CaptureFixture[str]
):
    name, kind = ("pull", "Pull") if capability == "CanSample" else ("toy-density", "ToyDensity")
    line = [str(runs / name) if word == "RUN" else word for word in words]
    fails(capsys, line, 1, f"({capability}), got {kind}, which lacks the method")
    assert not list(Path().iterdir()), "and nothing is left behind"


def test_a_system_that_has_nothing_goes_through(copies: Path, capsys: pytest.CaptureFixture[str]):
    run = str(copies / "pull")
    assert "gives no evidence" in says(capsys, "evaluate", run, "--quality")
    says(capsys, "report", run)
    page = Text(copies / "pull" / "report.html").said
    assert "No log-likelihood" in page
    assert "This system gives no evidence" in page
    says(capsys, "evaluate", str(copies / "toy-density"))
    assert "pull: it has no log-likelihood" in says(capsys, "compare", str(copies / "toy-density"), run)


@pytest.mark.parametrize("columns", [1, 3])
def test_a_single_test_row_has_no_error_and_no_warning(
    columns: int, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    """Seven rows leave one to test; pytest makes every warning an error."""
    rows = np.random.default_rng(0).normal(size=(7, columns))
    np.savetxt("t.csv", rows, delimiter=",", header=",".join("ugr"[:columns]), comments="")
    for name in ("vlae", "vae") if columns == 3 else ("vlae",):
        words = ["fit", name, "t.csv", "--latent", str(columns), "--hidden", "4", "--epochs", "2", "--out", name]
        assert main([*words, "--no-progress"]) == 0
        evaluated = says(capsys, "evaluate", name, "--samples", "20")
        assert "log p(x), nats" in evaluated
        assert "±" not in evaluated.partition("least likely row")[0], "what a column is expected to be has one"
        assert "collapsed" not in evaluated, "one row says nothing of that"
    every = (
        ["encode", "vlae", "test", "--to", "e.csv"],
        ["refine", "vlae", "--steps", "2", "--to", "f.csv"],
        ["gaps", "vlae", "--steps", "4"],
        ["bracket", "vlae", "--data", "1", "--temperatures", "5"],
        ["calibrate", "vlae", "--draws", "19"],
        ["report", "vlae"],
    )
    more = (["compare", "vlae", "vae", "--figure", "c.png"], ["encode", "vlae", "test", "--to", "e.csv"], every[-1])
    for words in every if columns == 1 else more:
        said = says(capsys, *words).replace(str(tmp_path), "")
        assert "nan" not in said, words
        assert "inf" not in said.replace("inference", "").replace("information", ""), words
        assert words[0] in ("calibrate", "gaps") or "±" not in said, words  # these two also see other rows
    assert "nan" not in Text(Path("vlae") / "report.html").said
