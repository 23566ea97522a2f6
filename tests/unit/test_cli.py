"""The command line without a run: words to flags, help, and everything that can be wrong with a line."""

import logging
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from command_line import TINY, fails, says
from curvae.cli import main
from curvae.cli.errors import UsageError
from curvae.cli.flags import Source
from curvae.cli.parsing import parse, parser
from curvae.curvature import native


def sample(
    path: Path,
    kl_warmup: int = 0,
    share: float | None = None,
    kind: Literal["a", "b"] = "a",
    split: Sequence[float | int] = (0.5, 0.5),
    full: bool = False,
    wide: bool = True,
    callback: object = None,
) -> None:
    """Sample.

    Args:
        path: a ``file``, 100 % yours.
        kl_warmup: steps, see :func:`names`.
    """


def chosen(*words: str) -> dict:
    source = Source("flags", sample)
    return source.arguments(parse(parser("sample", "PATH", "Sample.", [], [source]), words))


def test_signature_gives_flags():
    found = chosen("a.npy", "--kl-warmup", "3", "--share=0.5", "--kind", "b", "--split", "1,0.5", "--full", "--no-wide")
    expected = {"path": Path("a.npy"), "kl_warmup": 3, "share": 0.5, "kind": "b", "split": [1, 0.5]}
    assert found == expected | {"full": True, "wide": False}


def test_defaults_are_those_of_the_signature():
    found = chosen("a.npy")
    assert found["kl_warmup"] == 0
    assert found["share"] is None
    assert tuple(found["split"]) == (0.5, 0.5)
    assert found["wide"]


def test_underscores_are_accepted():
    assert chosen("a_b.npy", "--kl_warmup", "3")["kl_warmup"] == 3
    assert chosen("a_b.npy")["path"] == Path("a_b.npy")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "--kl-warmup", "x"], "--kl-warmup: expected a whole number, got 'x'."),
        (["a", "--kl-warmup", "2.5"], "--kl-warmup: expected a whole number, got '2.5'."),
        (["a", "--share", "x"], "--share: expected a number, got 'x'."),
        (["a", "--kind", "c"], "--kind: expected 'a', 'b', got 'c'."),
        (["a", "--split", "1,x"], "--split: invalid"),
        (["a", "--kl-warmpu", "3"], "--kl-warmpu: no such flag; did you mean --kl-warmup?"),
        (["a", "--zzz"], "--zzz: no such flag; --help lists them all."),
        (["a", "--share"], "--share: expected one argument."),
        (["a", "b"], "expected no more words, got b."),
        ([], "expected PATH too."),
    ],
)
def test_wrong_words_are_named(words: list[str], message: str):
    with pytest.raises(UsageError) as found:
        chosen(*words)
    assert message in " ".join(str(found.value).split())


# --- help -----------------------------------------------------------------------------------------


def test_help_of_the_program(capsys: pytest.CaptureFixture[str]):
    out = says(capsys, "--help")
    assert out == says(capsys)
    assert out.startswith("usage: curvae COMMAND ...")
    assert "  fit          train a system on data\n" in out
    assert "examples:\n  curvae fit vlae digits" in out
    assert len(out.splitlines()) <= 34


def test_help_of_fit_says_where_flags_are(capsys: pytest.CaptureFixture[str]):
    out = says(capsys, "fit", "--help")
    assert out == says(capsys, "fit")
    assert "curvae fit vlae --help" in out


def test_help_of_fit_vlae(capsys: pytest.CaptureFixture[str]):
    lines = says(capsys, "fit", "vlae", "--help").splitlines()
    assert lines[0] == "usage: curvae fit vlae DATA [flags]"
    assert lines[2].startswith("Variational Laplace autoencoder")
    for line in (
        "vlae:",
        "  --latent N            number of latent dimensions D; for curvae fit also several, 1:8 or 1,2,4 [16]",
        "  --warmup X            share of the time, in [0, 1), trained as a plain VAE first [0.7]",
        "data (a known set):",
        "data (your own file):",
        "training:",
        "  --seed N              of first weights, order, noise and preparation [0]",
        "examples:",
    ):
        assert line in lines
    assert not any("spec" in line.split(" ")[:3] or "Subtypes" in line for line in lines)


def test_help_with_data_shows_its_flags_only(capsys: pytest.CaptureFixture[str]):
    known, own = says(capsys, "fit", "vae", "digits", "--help"), says(capsys, "fit", "vae", "a.csv", "--help")
    assert "--binarize" in known
    assert "--columns" not in known
    assert "--binarize" not in own
    assert "--columns" in own
    assert len(known.splitlines()) <= 50
    assert max(map(len, known.splitlines())) <= 110


@pytest.mark.parametrize(
    "command", ["evaluate", "report", "sample", "encode", "score", "refine", "compare", "data", "list", "doctor"]
)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]):
    out = says(capsys, command, "--help")
    assert out.startswith(f"usage: curvae {command}")
    assert f"examples:\n  curvae {command}" in out or f"example: curvae {command}" in out
    assert len(out.splitlines()) < 40


def test_version(capsys: pytest.CaptureFixture[str]):
    assert says(capsys, "--version").startswith("curvae 0.")


def test_list(capsys: pytest.CaptureFixture[str]):
    out = says(capsys, "list")
    for part in ("vlae", "Park, Kim and Kim", "digits", "binarized_mnist"):
        assert part in out


def test_doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "file").write_bytes(bytes(2_000_000))
    monkeypatch.setenv("CURVAE_CACHE", str(tmp_path))
    monkeypatch.setenv("CURVAE_KERNEL", "0")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    out = says(capsys, "doctor")
    assert re.search(r"curvature kernel +torch \(switched off by CURVAE_KERNEL=0\)", out)
    for part in ("torch", "device cpu", "OMP_WAIT_POLICY", "mnist", "2.0 MB", "GB free", "advice: OMP_NUM_THREADS=1"):
        assert part in out


@pytest.mark.skipif(not native.available(), reason="no C compiler here")
def test_doctor_says_which_kernel(capsys: pytest.CaptureFixture[str]):
    out, found = says(capsys, "doctor"), native.kernel_in_use()
    instructions, folder = str(found["instructions"]), str(Path(str(found["path"])).parent)
    assert re.search(
        rf"curvature kernel +{found['kernel']}, {instructions}, vectors of {found['vector_bytes']} bytes", out
    )
    assert folder[:40] in out
    assert re.search(rf"instructions of torch +{found['torch']}", out)


def test_compiling_is_said_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """And a compiler that fails; without a command line, logging decides who hears of it."""
    monkeypatch.setenv("CURVAE_CACHE", str(tmp_path))
    monkeypatch.setenv("CC", "true")
    monkeypatch.delenv("CURVAE_KERNEL", raising=False)  # switched off, none would be looked for
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"curvature kernel +torch \(true made no library\)", out)
    first, second = err.splitlines()
    assert first == "curvae: compiling the curvature kernel for float once, about 3 s"
    assert second.startswith("curvae: the curvature kernel cannot be had (true made no library); computing with torch")
    assert logging.getLogger("curvae").handlers == []


def test_doctor_finds_a_broken_torchvision(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    folder = tmp_path / "torchvision-0.99.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.99\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    out = says(capsys, "doctor")
    assert "torchvision 0.99 cannot be imported (RuntimeError: operator torchvision::nms does not exist)" in out
    assert "pip uninstall torchvision" in out


# --- lines that cannot be read --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["fitt"], ["fitt: no such command; did you mean fit?"]),
        (["fit", "vlea", "digits"], ["SYSTEM: expected one of ", "; got 'vlea'.", "'vlae'"]),
        (["fit", "vlae", "digts"], ["DATA: expected a known data set or a .npy", "got 'digts'; did you mean digits?"]),
        (["fit", "vlae", "zzz"], ["known are digits, mnist"]),
        (["fit", "vlae"], ["expected DATA"]),
        (["fit", "--latent", "3"], ["expected SYSTEM DATA, then flags", "e.g. curvae fit vlae digits"]),
        (["fit", "vlae", "digits", "more"], ["expected SYSTEM DATA, then flags"]),
        (["fit", "vlae", "--latent", "3", "digits", "more"], ["expected SYSTEM DATA, then flags"]),
        (["fit", "vlae", "--no-progress", "digts"], ["got 'digts'; did you mean digits?"]),
        (["fit", "--latent", "0", "--compile", "vae", "digits"], ["--latent: expected 1 or more, got 0."]),
        (["fit", "vlae", "--latent", "0", "digits"], ["--latent: expected 1 or more, got 0."]),
        (["fit", "vlae", "digits", "--latnt", "3"], ["--latnt: no such flag; did you mean --latent?"]),
        (["fit", "vlae", "digits", "--spec", "3"], ["--spec: no such flag"]),
        (["fit", "vlae", "digits", "--columns", "a"], ["--columns: no such flag"]),
        (["fit", "vlae", "digits", "--latent", "many"], ["--latent: expected a whole number, got 'many'."]),
        (["fit", "vlae", "digits", "--decoder", "nowhere.Net"], ["--decoder:", "No module named 'nowhere'"]),
        (
            ["fit", "--config", "nowhere.yaml"],
            ["--config: nowhere.yaml: expected a file, found none; expected the config.yaml of a run"],
        ),
        (["evaluate"], ["expected RUN too."]),
        (["evaluate", "a", "--split", "tset"], ["--split: expected 'train', 'validation', 'test', got 'tset'"]),
        (["encode", "a", "b", "--to", "a.txt"], ["--to: expected a file name that ends in .npz or .csv, got a.txt."]),
        (["sample", "a", "--n", "0"], ["--n: expected a whole number from 1 to 1,000,000,000, got 0."]),
        (["sample", "a", "--n", str(10**12)], ["--n: expected a whole number from 1 to", "got 1,000,000,000,000."]),
        (["refine", "a", "--steps", "0"], ["--steps: expected a whole number from 1 to 1,000,000,000, got 0."]),
        (["refine", "a", "--rounds", "0"], ["--rounds: expected a whole number from 1 to 1,000,000,000, got 0."]),
        (["refine", "a", "--rounds", "2", "--steps", "2"], ["--rounds and --steps: two ways to refine"]),
        (["refine", "a", "--rate", "0"], ["--rate: expected a positive number, got 0.0."]),
        (["sample", "a", "--seed", "-1"], ["--seed: expected an integer in [0, 2^32), got -1."]),
        (["evaluate", "a", "--seed", "4294967296"], ["--seed: expected an integer in [0, 2^32), got 4,294,967,296."]),
        (["fit", "vae", "digits", "--split-seed", "-1"], ["--split-seed: expected an integer in [0, 2^32), got -1."]),
        (["encode", "a", "b", "--level", "90"], ["--level: expected a probability in (0, 1), got 90.0."]),
    ],
)
def test_usage(words: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]):
    fails(capsys, words, 2, *parts)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--binarize", "odd"], "--binarize: expected 'static', 'dynamic' or None, got 'odd'."),
        (["--devices", "999", "--device", "cpu"], "--devices: expected at most "),
        (["--latent", "1000000000000"], "expected parameters that fit into memory, got "),
        (["--hidden", str(10**30)], "take fewer latents or narrower layers."),
        (["--device", "tpu"], "--device: expected one of auto, cpu, cuda, mps; got 'tpu'."),
        (["--validation", "5000"], "validation: expected a fraction in (0, 1) or a count"),
    ],
)
def test_values_out_of_range(words: list[str], part: str, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    fails(capsys, ["fit", "vae", "digits", *TINY, "--out", str(tmp_path / "run"), *words], 1, part)
    assert list(tmp_path.iterdir()) == []


# --- data that cannot be used ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("nan.csv", "a,b\n1,2\n3,\n5,6\n7,8\n", ["NaN", "column 'b'", "--missing mask"]),
        ("text.csv", "a,b\n1,2\n3,blue\n5,6\n", ["text.csv: expected numbers, got 'blue' in line 3, column 'b'"]),
        ("ragged.csv", "a,b\n1,2\n3\n5,6\n", ["ragged.csv: expected 2 cells a row", "line 3"]),
        ("empty.csv", "", ["empty.csv: expected a table, got an empty file."]),
        ("empty.npy", "", ["empty.npy: expected a .npy array"]),
        ("odd.xyz", "1", ["odd.xyz: expected .csv, .tsv, .txt", "got .xyz suffix"]),
    ],
)
def test_bad_files(name: str, content: str, parts: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path = tmp_path / name
    path.write_text(content)
    fails(capsys, ["fit", "vae", str(path), *TINY, "--out", str(tmp_path / "run")], 1, *parts)
    assert path.read_text() == content
    assert list(tmp_path.iterdir()) == [path]


def test_missing_file(capsys: pytest.CaptureFixture[str]):
    fails(capsys, ["fit", "vae", "nowhere.csv", *TINY], 1, "nowhere.csv: expected a file, got nothing there")


def test_labels_as_data(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    np.save(tmp_path / "labels.npy", np.arange(10))
    fails(capsys, ["fit", "vae", str(tmp_path / "labels.npy"), *TINY], 1, "got one dimension, (10,)", "labels")


def test_pickled_array(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    np.save(tmp_path / "x.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    fails(capsys, ["fit", "vae", str(tmp_path / "x.npy"), *TINY], 1, "x.npy: expected a .npy array of numbers")


# --- the program ----------------------------------------------------------------------------------


def test_the_program_runs_in_a_process(tmp_path: Path):
    words = [sys.executable, "-m", "curvae", "fit", "vlea", "digits"]
    found = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert found.returncode == 2
    assert found.stdout == ""
    assert found.stderr.startswith("curvae: error: SYSTEM: ")
    assert found.stderr.count("\n") == 1


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CURVAE_DEBUG", "1")
    with pytest.raises(UsageError):
        main(["fitt"])
