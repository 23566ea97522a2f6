"""What is known of each row goes along through every door: filled cells, evidence, columns, draws, estimators."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import chance
import curvae
from curvae.conditioning import Conditioning
from curvae.data import ArrayTable, DataError, from_array
from curvae.evaluation import conditionals, row_evidence
from curvae.evaluation.ood import column_scores
from curvae.inference import AmortizedGaussian, Laplace
from curvae.likelihoods import GaussianErrors
from curvae.model import LatentVariableModel
from curvae.networks import ContextEncoder
from curvae.objectives import elbo
from curvae.priors import StandardNormal
from curvae.sklearn import Imputer, LatentVariables
from curvae.systems import LatentSystem
from curvae.typing import Conditions, Context

P, D, B = 5, 2, 40
OWN = 0.3
"""Scatter of each column beside its known errors."""


class Linear:
    """x = W z + b + noise of variance ``OWN^2 + e^2``: every law below is a Gaussian's."""

    def __init__(self):
        given = Conditions(errors=True)
        self.decoder = nn.Linear(D, P)
        nn.init.normal_(self.decoder.weight)
        likelihood = GaussianErrors(P, scale=OWN)
        model = LatentVariableModel(
            StandardNormal(D), self.decoder, likelihood, conditioning=Conditioning(given, (P,))
        ).double()
        encoder = ContextEncoder(nn.Linear(P, 2 * D), P, given).double()
        self.system = LatentSystem(model, Laplace(AmortizedGaussian(encoder), steps=2), elbo).eval()
        self.errors = 2 * torch.rand(B, P, dtype=torch.float64)
        self.context = Context(errors=self.errors)
        self.x = model.given(self.context).sample(B)[0].detach()

    def law(self, row: int, errors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and covariance of p(x) of a row with such errors."""
        weight, bias = self.decoder.weight.detach(), self.decoder.bias.detach()
        return bias, weight @ weight.mT + torch.diag(OWN**2 + errors[row].square())

    def conditional(self, row: int, seen: torch.Tensor, errors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and covariance of the elements that are not seen given those that are."""
        mean, covariance = self.law(row, errors)
        gain = torch.linalg.solve(covariance[seen][:, seen], covariance[seen][:, ~seen]).mT
        return (
            mean[~seen] + gain @ (self.x[row, seen] - mean[seen]),
            covariance[~seen][:, ~seen] - gain @ covariance[seen][:, ~seen],
        )


@pytest.mark.statistical
def test_missing_cells_given_known_errors(seed):
    """A cell that is filled in has no error of its own; those that are seen have theirs."""
    torch.manual_seed(seed)
    made, draws = Linear(), 400
    mask = torch.rand(B, P) < 0.6
    mask[:, 0], mask[:, 1] = True, False
    errors = made.errors * mask
    found = conditionals(made.system, made.x, mask, draws, seed=seed, context=Context(errors=errors))
    off, spread = [], []
    for row in range(B):
        seen = mask[row]
        mean, covariance = made.conditional(row, seen, errors)
        deviation = covariance.diagonal().sqrt()
        off.append((found.mean[row, ~seen] - mean) / deviation * found.effective[row].sqrt())
        spread.append((found.drawn[:, row, ~seen].mean(0) - mean) / deviation)
    chance.deviates("means", torch.cat(off).numpy())
    # draws with replacement out of n_eff weighted ones: variance 1/draws + 1/n_eff of that of the law, at the most
    least = float(found.effective[~mask.all(1)].min())
    chance.deviates("draws", torch.cat(spread).numpy() / np.sqrt(1 / draws + 1 / least))
    none = Context(errors=torch.zeros_like(errors))
    blind = conditionals(made.system, made.x, mask, draws, seed=seed, context=none)  # by the same noise: else 0 apart
    chance.beyond("without the errors", (blind.mean - found.mean)[~mask].abs().max().item(), 1e-3)


@pytest.mark.statistical
def test_evidence_of_rows_given_known_errors(seed):
    """Both proposals are nearly the exact posterior, so weights are nearly p(x): 0.004 off in the worst of 20 seeds."""
    torch.manual_seed(seed)
    made, draws = Linear(), 2000
    table = ArrayTable(made.x, context=made.context)
    found = row_evidence(made.system, table, draws, seed)
    laws = [torch.distributions.MultivariateNormal(*made.law(row, made.errors)) for row in range(B)]
    exact = torch.stack([law.log_prob(x) for law, x in zip(laws, made.x, strict=True)]).numpy()
    chance.within("log p(x)", np.abs(found - exact), 0.02)
    some = row_evidence(made.system, table.take(torch.tensor([7, 3])), draws, seed)
    np.testing.assert_allclose(some, found[[7, 3]], rtol=0, atol=1e-9)


@pytest.mark.statistical
def test_columns_given_known_errors(seed):
    """The density of a column is that of the value as it was measured, its own error included."""
    torch.manual_seed(seed)
    made, draws = Linear(), 2000
    found = column_scores(made.system, made.x, draws=draws, seed=seed, context=made.context)
    off = []
    for row in range(B):
        for j in range(P):
            seen = torch.arange(P) != j
            mean, variance = made.conditional(row, seen, made.errors)
            off.append((found.deviations[row, j] - (made.x[row, j] - mean) / variance.sqrt()).item())
    # mean and deviation of a Gaussian from 2,000 draws of which a third or more count: 0.04 and 3 % of the deviation
    chance.within("deviations", np.abs(off), 0.5)


def frame(count: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    night = np.resize([0, 1], count)
    x = rng.normal(size=(count, 1)) * [1.0, 2.0, -1.0] + 6.0 * night[:, None] + 0.3 * rng.normal(size=(count, 3))
    known = {"u_err": rng.random(count), "night": np.array(["mon", "tue"])[night], "n": rng.integers(1, 4, count)}
    return pd.DataFrame(x, columns=list("ugr")).assign(**known)


SAID = {"errors": {"u": "u_err"}, "covariates": ["night"], "weights": "n"}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> curvae.Fitted:
    """A run that is given errors, a category and weights; read, never written."""
    options = {"latent": 1, "hidden": 8, "max_updates": 20, "device": "cpu", "progress": False}
    return curvae.fit("vlae", frame(), **SAID, **options, out=tmp_path_factory.mktemp("doors") / "run")


def test_rows_of_a_table_keep_what_is_known_of_them():
    data = from_array(frame(), **SAID)
    rows = torch.tensor([5, 0])
    taken = data.train.take(rows)
    assert taken.context is not None
    torch.testing.assert_close(taken.context.errors, data.train.context.errors[rows])
    torch.testing.assert_close(taken.batch(torch.arange(2)).context.weight, data.train.context.weight[rows])


def test_a_gap_is_filled_by_the_night_that_it_was_in(fitted: curvae.Fitted):
    """Two rows that say the same of the others, 6 apart in what a night does: and errors that say less."""
    gaps = frame(4).assign(u=np.nan, u_err=np.nan, g=[0.0, 0.0, 6.0, 6.0], r=[0.0, 0.0, 6.0, 6.0])
    gaps["night"] = ["mon", "tue", "mon", "tue"]
    filled = fitted.impute(gaps)
    assert list(filled.columns) == list(gaps.columns)
    assert filled["u"][0] != pytest.approx(filled["u"][1], abs=0.5)
    with pytest.raises(DataError, match="expected the covariate column 'night' among"):
        fitted.impute(gaps.drop(columns="night"))
    without = fitted.impute(gaps.drop(columns="n"))  # p(x) does not depend on weights
    np.testing.assert_array_equal(without["u"], filled["u"])


def test_draws_given_columns_and_what_is_known(fitted: curvae.Fitted):
    """An error of 1,000 says nothing of u: the same law as given the night alone; a small one says what u is."""
    nothing = fitted.sample(4000, given={"night": "tue", "u": 0.0, "u_err": 1000.0})
    alone = fitted.sample(4000, given={"night": "tue"})
    sure = fitted.sample(4000, given={"night": "tue", "u": float(alone["u"].mean()), "u_err": 0.01})
    other = fitted.sample(4000, given={"night": "mon"})
    deviation = alone["g"].std()
    assert abs(nothing["g"].mean() - alone["g"].mean()) < 0.2 * deviation
    assert nothing["g"].std() == pytest.approx(deviation, rel=0.15)
    assert sure["g"].std() < 0.7 * deviation
    assert abs(other["g"].mean() - alone["g"].mean()) > deviation
    assert (sure["u"] == sure["u"][0]).all()


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"u": 1.0, "u_err": 0.1}, "expected the covariate 'night' of the row, too, got none"),
        ({"u": 1.0, "night": "mon"}, "expected 'u_err' beside 'u', a value with its known error"),
        ({"u_err": 1.0, "night": "mon"}, "expected 'u' beside 'u_err', a value with its known error"),
        ({"night": "sun"}, "expected one of mon, tue for column 'night', got 'sun'"),
        ({"night": "mon", "n": 2}, "expected columns out of u, g, r, u_err, night, got 'n'"),
        ({"night": "mon", "g": None}, "expected a number for column 'g', got None"),
        ({"night": "mon", "u": 1, "u_err": -1}, "expected errors of 0 or more where the value is observed, got -1"),
    ],
)
def test_what_is_known_and_not_given_is_one_line(fitted: curvae.Fitted, given: dict, line: str):
    with pytest.raises(DataError, match=line):
        fitted.sample(5, given=given)


def test_counts_given_the_total_of_their_row(tmp_path: Path):
    """That of a row with gaps is not known, but where a column says it."""
    rng = np.random.default_rng(0)
    size = rng.lognormal(3, 0.5, 80)
    x = rng.poisson(size[:, None] * [0.1, 0.3, 0.6]).astype(float) + np.array([0, 0, 1])
    counts = pd.DataFrame(x, columns=["a", "b", "c"])
    options = {"latent": 1, "hidden": 8, "max_updates": 5, "device": "cpu", "progress": False}
    fitted = curvae.fit("vae", counts, support="count", exposure="total", **options, out=tmp_path / "run")
    gaps = counts.astype(float)
    gaps.loc[2, "a"] = np.nan
    with pytest.raises(DataError, match=r"expected rows whose total is known, got a missing value in row 2; add a col"):
        fitted.impute(gaps)
    with pytest.raises(DataError, match="expected rows whose total is known"):
        from_array(gaps, support="count", exposure="total", missing="mask")
    one, two = (fitted.impute(gaps.assign(total=times * x.sum(1)))["a"][2] for times in (1, 100))
    assert two > 20 * max(one, 1)
    drawn = fitted.sample(500, given={"total": 1000, "a": 100})
    assert 500 < drawn[["b", "c"]].sum(axis=1).mean() < 1500
    with pytest.raises(DataError, match="expected the exposure 'total' of the row"):
        fitted.sample(5, given={"a": 3})


def test_estimators_of_scikit_learn_name_columns_of_x():
    """By name in frames, by number in arrays: the same estimator; what is known is no feature."""
    own = frame().drop(columns="night").assign(t=np.arange(60.0))
    options = {"errors": {"u": "u_err"}, "covariates": ["t"], "weights": "n", "hidden": 8}
    numbered = {**options, "errors": {"0": "3"}, "covariates": ["5"], "weights": "4"}
    small = {"latent": 1, "max_updates": 3}
    one = LatentVariables("vae", **small, options=options).fit(own)
    two = LatentVariables("vae", **small, options=numbered).fit(own.to_numpy())
    z = one.transform(own)
    np.testing.assert_allclose(z, two.transform(own.to_numpy()), atol=1e-9)
    assert one.inverse_transform(z).shape == (60, 3)
    assert one.n_features_in_ == two.n_features_in_ == 6
    worse = own.assign(u_err=5.0)
    assert not np.allclose(one.score_samples(worse), one.score_samples(own))
    with pytest.raises(ValueError, match="u_err"):
        one.transform(own.drop(columns="u_err"))
    holes = own.assign(u=np.where(own.index % 3, own["u"], np.nan))
    small |= {"max_updates": 1}
    by_name = Imputer("vae", **small, options=options).fit(holes).transform(holes)
    by_number = Imputer("vae", **small, options=numbered).fit(holes.to_numpy()).transform(holes.to_numpy())
    np.testing.assert_allclose(by_name.to_numpy(), by_number)
    np.testing.assert_array_equal(by_name.drop(columns="u"), holes.drop(columns="u"))
    assert np.isfinite(by_number).all()
