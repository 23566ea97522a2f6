"""The mode memory of Laplace inference: where it starts, what it writes, and that it is saved with the run."""

import torch
from torch import nn

import curvae
from curvae import training
from curvae.inference import AmortizedGaussian, Laplace
from curvae.priors import StandardNormal
from curvae.systems import vlae
from zoo import relu_model


def remembering(rows: int) -> Laplace:
    inference = Laplace(AmortizedGaussian(nn.Linear(10, 6).double()), steps=2)
    inference.remember(rows, StandardNormal(3))
    return inference


def test_the_next_visit_starts_where_the_last_one_ended():
    model, batch = relu_model("gaussian", hidden=(30, 30))
    inference = remembering(8)
    first = inference(model, batch)
    assert torch.isnan(inference.modes).all(), "forward is pure: the trainer writes the state"
    inference.modes.copy_(first.state["modes"])
    second = inference(model, batch)
    torch.testing.assert_close(second.info["log_joint"][0], first.info["log_joint"][-1], atol=1e-4, rtol=0)
    assert (second.info["log_joint"][-1] >= first.info["log_joint"][-1] - 1e-4).all()


def test_other_data_and_worse_modes_start_at_the_encoder():
    model, batch = relu_model("gaussian", hidden=(30, 30))
    plain = Laplace(AmortizedGaussian(nn.Linear(10, 6).double()), steps=2)
    inference = Laplace(plain.start, steps=2)
    inference.remember(8, model.prior)
    reference = plain(model, batch).posterior.mean
    new = batch._replace(index=torch.full((8,), -1))
    inference.modes.fill_(0.123)
    torch.testing.assert_close(inference(model, new).posterior.mean, reference)
    inference.modes.fill_(1e3)  # far worse than the encoder's mean
    torch.testing.assert_close(inference(model, batch).posterior.mean, reference)


def test_training_writes_the_modes_and_the_run_keeps_them(tmp_path):
    data = curvae.data.load("digits")
    system = vlae(data.spec, latent=2, hidden=16, warmup=0.5, memory=True)
    training.fit(system, data, epochs=4, out=tmp_path / "run", device="cpu")
    loaded = training.load(tmp_path / "run")
    modes = loaded.inference.modes
    assert modes.shape == (len(data.train), 2)
    assert modes.isfinite().all()
    assert loaded.posterior(data.test.x[:3]).mean.shape == (3, 2)
