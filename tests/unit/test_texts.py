"""Rows of characters: where they come from, that nothing of the test part is in training, and how they are shown."""

import re
from importlib import import_module

import numpy as np
import pytest
import torch

import curvae
from curvae.cli import main
from curvae.data import DataError
from curvae.data.datasets import topics
from curvae.data.datasets.fetch import Files
from curvae.data.own_units import lines_of
from curvae.report import write_report
from curvae.systems import pc_transformer
from curvae.training import fit


@pytest.fixture(scope="module")
def data():
    return curvae.data.load("python-topics")


def test_rows_are_the_text_again(data):
    characters = data.schema.characters
    assert (data.spec.support, data.spec.event, data.spec.categories) == ("category", (64,), len(characters))
    first = data.train.label == data.train.label.min()
    lines = lines_of(characters, data.train.raw[first].numpy())
    texts = topics.own_paragraphs(import_module("pydoc_data.topics").topics)
    whole = texts[sorted(texts)[int(data.train.label.min())]]
    assert len(lines) > 3
    assert all(line in whole for line in lines)


def test_no_paragraph_is_in_training_and_in_testing(data):
    """By rows, of which a phrase of some 64 characters may come twice; and no topic is in both."""
    trained = " ".join(lines_of(data.schema.characters, torch.cat([data.train.raw, data.validation.raw]).numpy()))
    trained = trained.replace(" ", "")
    tested = [line.replace(" ", "") for line in lines_of(data.schema.characters, data.test.raw.numpy())]
    assert np.mean([line in trained for line in tested]) < 0.01
    assert not {*data.train.label.tolist(), *data.validation.label.tolist()} & {*data.test.label.tolist()}
    texts = topics.own_paragraphs({"a": "One one.\n\nTwo two.", "b": "Two two."})
    assert texts == {"a": "One one.", "b": "Two two."}


def test_a_python_without_topics(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(topics, "import_module", missing)
    with pytest.raises(DataError, match=r"python-topics: expected a Python with pydoc_data\.topics, got one without"):
        curvae.data.load("python-topics")
    with pytest.raises(DataError, match="python-topics: expected a Python"):
        topics.python_topics(Files())


@pytest.mark.parametrize("switch", [{"binarize": "static"}, {"standardize": True}])
def test_text_has_no_switches_of_pictures(switch):
    (name,) = switch
    with pytest.raises(DataError, match=f"{name}: expected none for text, got one; leave it out"):
        curvae.data.load("python-topics", **switch)


def test_draws_and_reports_are_texts(data, tmp_path, capsys):
    system = pc_transformer(data.spec, width=8, hidden=8, blocks=1, learning="backpropagation")
    run = fit(system, data, max_updates=2, batch_size=8, out=tmp_path / "run", progress=False)
    assert main(["evaluate", str(run.path), "--limit", "20", "--no-progress"]) == 0
    assert "weighted draws" not in capsys.readouterr().out
    assert main(["sample", str(run.path), "--n", "3", "--to", str(tmp_path / "x.txt")]) == 0
    lines = (tmp_path / "x.txt").read_text().splitlines()
    assert [len(line) for line in lines] == [64] * 3
    assert set("".join(lines)) <= set(data.schema.characters)
    page = write_report(run.path).read_text()
    assert re.search(r"<th[^>]*>Drawn</th>", page)
    assert main(["sample", str(run.path), "--n", "2", "--to", str(tmp_path / "x.csv")]) == 0


def test_other_rows_are_no_text(tmp_path, capsys):
    data = curvae.data.from_array(torch.randn(60, 3))
    run = fit(curvae.systems.vae(data.spec, latent=1, hidden=4), data, epochs=1, out=tmp_path / "run", progress=False)
    assert run.schema.characters is None
    assert main(["sample", str(run.path), "--to", str(tmp_path / "x.txt")]) == 2
    assert "expected .npz or .csv for rows that are no text" in capsys.readouterr().err
