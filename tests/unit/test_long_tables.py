"""Tables with a row for each step: sequences out of them, in training and afterwards, and what is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import curvae
from command_line import fails, says
from curvae.cli import main
from curvae.data import DataError, DataWarning, from_array, from_file, reopen

SIZES = (3, 5, 4)


def table(count: int = 30, seed: int = 0) -> pd.DataFrame:
    """Walks of two columns, of 3 to 5 steps, whose rows do not stand together; each has a class."""
    rng = np.random.default_rng(seed)
    walks = []
    for number in range(count):
        walk = rng.normal(size=(SIZES[number % 3], 2)).cumsum(0)
        walks.append(pd.DataFrame({"star": f"s{number}", "u": walk[:, 0], "g": walk[:, 1], "class": "ab"[number % 2]}))
        walks[-1]["step"] = range(len(walk))
    return pd.concat(walks).sort_values("step", kind="stable").drop(columns="step").reset_index(drop=True)


def test_rows_become_sequences(tmp_path: Path):
    """In their order, ragged ends masked; from a frame and from a file alike."""
    frame = table()
    frame.to_csv(tmp_path / "stars.csv", index=False)
    made = from_array(frame, "class", sequence="star", standardize=False)
    file = from_file(tmp_path / "stars.csv", label="class", sequence="star", standardize=False)
    for data in (made, file):
        assert data.spec.event == (5, 2)
        for part in (data.train, data.validation, data.test):
            for x, mask, row, label in zip(part.raw, part.mask, part.row.tolist(), part.label.tolist(), strict=True):
                own = frame[frame["star"] == f"s{row}"]
                assert mask[:, 0].tolist() == [step < SIZES[row % 3] for step in range(5)]
                np.testing.assert_allclose(x[: len(own)], own[["u", "g"]].to_numpy())
                assert data.schema.vocabulary[label] == own["class"].iloc[0]
    assert torch.equal(made.train.raw, file.train.raw)
    assert reopen(file.recipe, schema=file.schema, checksum=file.checksum).checksum == file.checksum
    assert curvae.data.Schema.from_dict(file.schema.to_dict()) == file.schema
    chosen = from_array(frame, sequence="star", columns=["g"])
    assert chosen.spec.event == (5, 1)
    assert chosen.schema.sequence.features == ("g",)


def test_a_test_part_of_its_own(tmp_path: Path):
    frame, other = table(), table(9, seed=1)
    made = from_array(frame, "class", test=other[other["star"] != "s1"], sequence="star")
    assert len(made.test) == 8
    assert made.test.raw.shape[1:] == (5, 2)
    with pytest.raises(DataError, match="at most 5 steps, as in the run, got 6 in 'long'"):
        from_array(
            frame, test=pd.DataFrame({"star": ["long"] * 6, "u": 1.0, "g": 2.0}), sequence="star", drop=["class"]
        )


BAD = [
    (lambda f: f, {"sequence": "nowhere"}, "nowhere"),
    (
        lambda f: f.assign(star=f["star"].where(f.index != 7)),
        {},
        "a sequence for each row in 'star', got none in row 7",
    ),
    (
        lambda f: f.assign(u=f["u"].where(f.index != 7)),
        {},
        "expected a value in each row, got none in row 7, column 'u'",
    ),
    (lambda f: f.assign(u="word"), {}, "u"),
    (lambda f: f, {"event": (5, 2)}, "event: expected none with a long table of sequences"),
    (lambda f: f, {"group": "class"}, "group: expected none with a long table of sequences"),
    (lambda f: f, {"weights": "u"}, "weights: expected none with a long table of sequences"),
    (lambda f: f[["u", "g"]].to_numpy(), {}, "expected a table with a column 'star', got ndarray"),
    (
        lambda f: f.assign(**{"class": np.arange(len(f))}),
        {"labels": "class"},
        "one label 'class' for all rows of a sequence",
    ),
    (lambda f: f[["star"]], {}, "at least one feature column"),
]


@pytest.mark.parametrize(("change", "options", "message"), BAD)
def test_what_is_refused(change, options, message):
    said = {"sequence": "star", "drop": None if "labels" in options else ["class"], **options}
    frame = change(table(6))
    if not (isinstance(frame, pd.DataFrame) and "class" in frame) or options.get("group"):
        said["drop"] = None
    with pytest.raises(DataError, match=message) as found:
        from_array(frame, **said)
    assert "\n" not in str(found.value)


def test_a_gap_within_is_left_out_where_that_is_said():
    frame = table(9)
    frame.loc[7, "u"] = np.nan
    data = from_array(frame, sequence="star", drop=["class"], missing="mask")
    assert sum(int(part.mask.sum()) for part in (data.train, data.validation, data.test)) == 2 * len(frame) - 1


def test_doors_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Fit, score, sample, evaluate and encode on files of steps; the same in Python, with names of sequences."""
    monkeypatch.chdir(tmp_path)
    table().to_csv("stars.csv", index=False)
    small = [
        "--hidden",
        "8",
        "--latent",
        "2",
        "--recurrent",
        "4",
        "--gates",
        "4",
        "--max-updates",
        "3",
        "--no-progress",
    ]
    words = ["fit", "vrnn", "stars.csv", "--sequence", "star", "--label", "class", *small, "--out", "run"]
    assert main(words) == 0
    other = table(6, seed=2).assign(note=1.0)
    other = other[["note", "g", "star", "u", "class"]]
    other.to_csv("new.csv", index=False)
    says(capsys, "score", "run", "new.csv", "--samples", "5", "--to", "scores.csv", noting="ignored 'note'")
    scores = pd.read_csv("scores.csv")
    assert scores["sequence"].tolist() == [f"s{number}" for number in dict.fromkeys(other["star"].str[1:].astype(int))]
    assert scores["class"].tolist() == ["a", "b"] * 3
    fitted = curvae.load("run")
    with pytest.warns(DataWarning, match="note"):
        again = fitted.score(other, samples=5)
    np.testing.assert_allclose(again.log_likelihood, scores["log_likelihood"], rtol=1e-5)
    swapped = fitted.score(other[["star", "u", "g"]], samples=5)
    np.testing.assert_array_equal(swapped.log_likelihood, again.log_likelihood)
    says(capsys, "sample", "run", "--n", "2", "--to", "drawn.npz")
    with np.load("drawn.npz") as arrays:
        assert arrays["x"].shape == (2, 5, 2)
    says(capsys, "encode", "run", "new.csv", "--to", "z.csv", noting="ignored 'note'")
    assert pd.read_csv("z.csv")["sequence"].tolist() == scores["sequence"].tolist()
    capsys.readouterr()
    assert main(["evaluate", "run", "--data", "new.csv", "--samples", "5", "--no-progress"]) == 0
    capsys.readouterr()
    pd.DataFrame({"star": ["x"] * 6, "u": 0.0, "g": 0.0}).to_csv("long.csv", index=False)
    fails(capsys, ["score", "run", "long.csv", "--force"], 1, "at most 5 steps, as in the run, got 6 in 'x'")
    pd.DataFrame({"star": ["x"] * 3, "u": 0.0}).to_csv("short.csv", index=False)
    fails(capsys, ["score", "run", "short.csv", "--force"], 1, "short.csv: expected the columns g, got star, u.")
