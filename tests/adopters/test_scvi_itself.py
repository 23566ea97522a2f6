"""``SCVI`` of scvi-tools, trained by it for an epoch. Runs where it is installed (make adopters)."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import curvae
from adopted import use
from curvae.adopters import AdoptionError

pytest.importorskip("scvi", reason="make adopters has it")
pytestmark = pytest.mark.filterwarnings("ignore")
GENES, CELLS = 12, 90


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def cells(batches: int = 2) -> Any:
    import anndata
    import pandas

    random = np.random.default_rng(0)
    rate = (
        random.gamma(2.0, 2.0, size=(CELLS, 1))
        * random.gamma(1.0, 1.0, size=(1, GENES))
        * np.exp(random.normal(size=(CELLS, 2)) @ random.normal(size=(2, GENES)) * 0.5)
    )
    counts = random.poisson(rate + 0.1).astype(np.float32)
    counts[counts.sum(1) == 0, 0] = 1
    obs = pandas.DataFrame(
        {"night": [f"n{2 - k % batches}" for k in range(CELLS)]}, index=[f"c{k}" for k in range(CELLS)]
    )
    return anndata.AnnData(counts, obs=obs, var=pandas.DataFrame(index=[f"g{k}" for k in range(GENES)]))


def trained(adata: Any, batch: str | None = "night", **words: Any) -> Any:
    import scvi

    scvi.settings.seed = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scvi.model.SCVI.setup_anndata(adata, batch_key=batch)
        model = scvi.model.SCVI(adata, n_latent=2, n_hidden=8, **words)
        model.train(max_epochs=2, accelerator="cpu", enable_progress_bar=False, logger=False)
    model.module.eval()
    return model


@pytest.mark.parametrize("likelihood", ["zinb", "nb", "poisson"])
@pytest.mark.parametrize(
    "words",
    [
        {},
        {"n_layers": 2, "encode_covariates": True},
        {"n_layers": 2, "deeply_inject_covariates": False, "use_layer_norm": "both", "use_batch_norm": "none"},
        {"log_variational": False},
    ],
    ids=["default", "encoder too", "first layer", "no logarithm"],
)
def test_its_elbo_is_ours(words, likelihood):
    model = trained(cells(), gene_likelihood=likelihood, **words)
    fitted = curvae.adopt(model, out="run")
    assert fitted.run.config["adopted"]["difference"] < 1e-6
    assert fitted.run.config["replayable"] is True
    z = model.get_latent_representation()
    ours = fitted.encode(model.adata, rotate=False).mean
    np.testing.assert_allclose(ours, z, rtol=1e-3, atol=1e-4)


def test_one_batch_is_no_covariate():
    model = trained(cells(), None)
    fitted = curvae.adopt(model, out="run")
    assert fitted.schema.spec.given.covariates == 0
    assert fitted.schema.spec.given.exposure


def test_every_command_works_on_it(tmp_path, capsys):
    import anndata

    adata = cells()
    anndata.settings.allow_write_nullable_strings = True
    adata.write_h5ad("cells.h5ad")
    model = trained(adata)
    fitted = curvae.adopt(model, "cells.h5ad", out="run")
    again = curvae.load("run")
    torch.testing.assert_close(again.posterior("test").mean, fitted.posterior("test").mean, rtol=0, atol=0)
    use(tmp_path / "run", capsys, without=("calibrate",))


def test_what_is_not_adopted_is_one_line():
    with pytest.raises(AdoptionError, match="expected a model with dispersion='gene', got another"):
        curvae.adopt(trained(cells(), dispersion="gene-batch"), out="run")
    with pytest.raises(AdoptionError, match="expected a model with latent_distribution='normal'"):
        curvae.adopt(trained(cells(), latent_distribution="ln"), out="run")
    with pytest.raises(AdoptionError, match="use_observed_lib_size=True"):
        curvae.adopt(trained(cells(), use_observed_lib_size=False), out="run")


def test_data_that_lack_what_it_is_given_are_one_line():
    model = trained(cells())
    counts = torch.from_numpy(model.adata.X)
    plain = curvae.data.from_array(counts, support="count")
    with pytest.raises(AdoptionError, match="expected counts with exposure='total'"):
        curvae.adopt(model, plain, out="run")
    alone = curvae.data.from_array(model.adata, support="count", exposure="total")
    with pytest.raises(AdoptionError, match=r"expected covariates=\['night'\], batches n1, n2; got others or none"):
        curvae.adopt(model, alone, out="run")
    other = cells()
    other.obs["night"] = [name.replace("n1", "n3") for name in other.obs["night"]]
    with pytest.raises(AdoptionError, match=r"batches n1, n2; got n2, n3"):
        curvae.adopt(model, other, out="run")
