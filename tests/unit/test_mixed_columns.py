"""Columns of different kinds: from a table to networks, and back to words."""

import numpy as np
import pandas as pd
import pytest
import torch

import curvae
from curvae.baselines import fit as baselines
from curvae.data import DataError, Schema, from_array
from curvae.likelihoods import Categorical, Mixed, NegativeBinomial, Ordinal
from curvae.networks import ColumnFront
from curvae.systems import vae
from curvae.typing import DataSpec


def table(count=400, seed=0):
    """Two numbers, a count, a flag and a word that one latent drives."""
    generator = np.random.default_rng(seed)
    z = generator.normal(size=count)
    words = np.array(["ash", "birch", "oak"])[np.digitize(z + 0.3 * generator.normal(size=count), [-0.5, 0.7])]
    return pd.DataFrame(
        {
            "height": 3 + 2 * z + 0.2 * generator.normal(size=count),
            "tree": words,
            "leaves": generator.poisson(np.exp(1 + 0.7 * z)),
            "ill": (z + generator.normal(size=count) > 0).astype(int),
            "width": 100 - 30 * z + generator.normal(size=count),
        }
    )


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("mixed") / "run"
    return curvae.fit(
        "vlae", table(), latent=1, hidden=32, epochs=30, out=out, kind={"leaves": "count"}, progress=False
    )


def test_words_are_categories_and_what_is_said_holds():
    """Zeros and ones are binary, a declared count a count, all else real; only real columns are standardized."""
    data = from_array(table(), kind={"leaves": "count"})
    assert data.spec.support == "mixed"
    assert data.spec.kinds == ("real", "category:3", "count", "binary", "real")
    x = data.train.x
    torch.testing.assert_close(x[:, [0, 4]].mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    assert set(x[:, 1].unique().tolist()) == {0.0, 1.0, 2.0}
    assert torch.equal(x[:, 2], data.train.raw[:, 2].float())
    assert data.schema.columns[1].vocabulary == ("ash", "birch", "oak")
    again = Schema.from_dict(data.schema.to_dict())
    assert again == data.schema


def test_numbers_alone_stay_as_they_were():
    """Without words or a declaration a table is real, binary columns or not."""
    assert from_array(table().drop(columns="tree")).spec.support == "real"
    assert from_array(table()[["leaves"]], kind={"leaves": "count"}).spec.support == "count"
    assert from_array(table()[["leaves", "height"]], kind={"leaves": "count"}).spec.support == "mixed"
    assert from_array(table()[["leaves", "ill"]], support="mixed").spec.kinds == ("real", "binary")


def test_words_that_hardly_come_again_are_no_categories():
    frame = table().assign(tree=[f"tree {i}" for i in range(400)])
    with pytest.raises(DataError, match="column 'tree': expected real numbers, got 'tree 0'"):
        from_array(frame)


def test_each_kind_has_its_likelihood():
    spec = DataSpec((5,), "mixed", kinds=("real", "category:3", "count", "ordinal:4", "real"))
    likelihood = vae(spec, latent=2, hidden=16).model.likelihood
    assert isinstance(likelihood, Mixed)
    kinds = {type(part): columns for part, columns in likelihood.parted()}
    assert (kinds[Categorical], kinds[NegativeBinomial], kinds[Ordinal]) == ([1], [2], [3])
    assert likelihood.size == 7


def test_what_an_encoder_sees():
    front = ColumnFront(DataSpec((3,), "mixed", kinds=("count", "category:3", "positive")).groups())
    found = front(torch.tensor([[1.0, 2.0, 1.0]]))
    torch.testing.assert_close(found, torch.tensor([[torch.log(torch.tensor(2.0)), 0.0, 0.0, 1.0, 0.0]]))
    assert front.size == 5


def test_the_start_is_better_than_one_at_random():
    """The ELBO of the training rows before the first step, by some nats; the independent columns are beaten there."""
    data = from_array(table(), kind={"leaves": "count"})
    values = {}
    for start in ("linear", "random"):
        torch.manual_seed(0)
        system = vae(data.spec, latent=1, hidden=32, start=start)
        (stage, *_) = system.stages()
        stage.start(system, data)
        values[start] = system.bound(data.train.batch(torch.arange(len(data.train)))).value.mean().item()
    (independent,) = baselines(data.train, system.model.likelihood)
    assert values["linear"] > values["random"] + 1
    assert values["linear"] > independent.log_prob(data.train.x).mean() + 0.5


def test_the_baseline_is_that_of_each_kind():
    data = from_array(table(), kind={"leaves": "count"})
    likelihood = vae(data.spec, latent=1, hidden=8).model.likelihood
    (found,) = baselines(data.train, likelihood)
    x, total = data.train.x.double(), torch.zeros(len(data.train), dtype=torch.float64)
    for part, columns in likelihood.parted():
        (alone,) = (each for each in baselines(ArrayOf(x[:, columns]), part) if each.name == "independent")
        total = total + alone.log_prob(x[:, columns])
    torch.testing.assert_close(found.log_prob(x), total)


class ArrayOf:
    def __init__(self, x):
        self.x, self.mask, self.label, self.context, self.total = x, None, None, None, len(x)

    def __len__(self):
        return len(self.x)


def test_words_come_back(fitted):
    """From samples, reconstructions and imputations; counts are whole, flags 0 or 1."""
    frame = table(50, seed=1)
    for found in (fitted.sample(30), fitted.reconstruct(frame)):
        assert set(found["tree"]) <= {"ash", "birch", "oak"}
        assert (found["leaves"] == found["leaves"].round()).all()
        assert found["ill"].isin([0, 1]).all()
    holes = frame.astype({"leaves": float})
    holes.loc[:9, "tree"], holes.loc[10:19, "leaves"] = None, np.nan
    every = fitted.impute(holes, draws=20)
    filled = every[0]
    assert set(filled["tree"]) <= {"ash", "birch", "oak"}
    pd.testing.assert_series_equal(filled["tree"][10:], frame["tree"][10:], check_dtype=False)
    more = table(1000, seed=1)
    found = fitted.impute(more.assign(tree=None))["tree"]
    assert (found == more["tree"]).mean() > 0.7  # the commonest alone: 0.43
    drawn = fitted.impute(more.assign(tree=None), draws=1)[0]["tree"]
    assert (drawn == more["tree"]).mean() > 0.5  # by chance 0.35


def test_a_wrong_cell_is_found_and_a_category_has_no_deviation(fitted):
    frame = table(50, seed=2)
    frame.loc[7, "width"] = 500.0
    found = fitted.column_scores(frame)
    assert found["tree"].isna().all()
    assert found["width"].abs().idxmax() == 7
    assert fitted.score(frame, samples=100)["log_likelihood"].idxmin() == 7


def test_new_rows_must_be_of_their_kinds(fitted):
    frame = table(5)
    with pytest.raises(DataError, match=r"expected one of ash, birch, oak, as in the run, got 'elm' in row 2"):
        fitted.encode(frame.assign(tree=["ash", "oak", "elm", "oak", "oak"]))
    with pytest.raises(DataError, match=r"expected integers from 0, as in the run, got 2.5 in row 0, column .*leaves"):
        fitted.encode(frame.assign(leaves=[2.5, 1, 1, 1, 1]))
