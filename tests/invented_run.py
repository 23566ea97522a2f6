"""A run folder as ``fit``, ``evaluate``, ``gaps``, ``calibrate`` and ``ood`` leave it, made of invented numbers."""

import json
from pathlib import Path

import numpy as np
import yaml

from curvae.evaluation import (
    BaselineResult,
    Calibration,
    FamilyElbo,
    Gaps,
    Information,
    Likeness,
    Quality,
    UnknownInputs,
    io,
)
from curvae.evaluation.gaps.results import MEMBERS
from curvae.evaluation.ood import ScoreFound
from curvae.evaluation.results import Estimate, Evaluation, ProposalResult, Summary
from curvae.training.run import files


def curves(epochs: int = 12) -> str:
    rows = ["stage,epoch,step,seconds,train_bound,validation_bound,validation_surrogate,grad_norm,not_ok,skipped,kl"]
    for epoch in range(epochs):
        bound = -40 - 300 * np.exp(-epoch)
        stage, kl = ("vae", "") if epoch < epochs // 2 else ("laplace", f"{3 + epoch / 10}")
        rows.append(
            f"{stage},{epoch + 1},{10 * epoch},{1.5 * epoch},{bound},{bound - 2},{bound - 2},{5 / (epoch + 1)},,0,{kl}"
        )
    return "\n".join(rows) + "\n"


def proposal(value: float) -> ProposalResult:
    return ProposalResult(Estimate(value, 0.31, 0.02), Summary(210.0, 12.0, 0.0), Summary(0.31, 0.92, 0.03))


def evaluation(latent: int) -> Evaluation:
    activity = tuple(np.linspace(1.1, 0.001, latent).tolist())
    return Evaluation(
        log_likelihood=Estimate(-38.127, 0.31, 0.02),
        own=proposal(-38.4),
        laplace=proposal(-38.127),
        baselines=(
            BaselineResult("ppca", latent, Estimate(-45.31, 0.42), Estimate(7.18, 0.21), Estimate(7.02, 0.22)),
            BaselineResult("factor_analysis", note="left out: 3 elements never vary in training"),
        ),
        elbo=Estimate(-39.002, 0.33),
        unit="pixels in [0, 1]",
        bits_per_dim=Estimate(0.86, 0.007),
        kl=Estimate(9.1, 0.1),
        kl_per_dimension=tuple(np.linspace(2.5, 0.0, latent).tolist()),
        active_units=sum(variance > 0.01 for variance in activity),
        activity=activity,
        reconstruction_error=0.0712,
        count=300,
        samples=500,
        information=Information(Estimate(5.1, 0.1), Estimate(7.5, 0.2), Estimate(-0.2, 0.1), Estimate(2.3, 0.1), 0.01),
        quality=Quality({"samples": Likeness(0.81, 0.72, 1.1, 0.9, Estimate(0.0123, 0.0021))}, "whitened columns", 300),
        warnings=("1 of 6 latent dimensions are collapsed.",),
    )


def gaps() -> Gaps:
    members = {name: FamilyElbo(Estimate(-39.0, 0.3), Estimate(0.9, 0.05), Estimate(0.1, 0.02)) for name in MEMBERS}
    parts = [Estimate(value, 0.02) for value in (-38.1, 0.9, 0.2, 0.7, 0.5, 0.2)]
    return Gaps(*parts, members=members, khat_flagged=0.02, count=200, steps=200)


def calibration() -> Calibration:
    ranks = np.random.default_rng(0).integers(0, 20, (200, 3))
    return Calibration(ranks, ("z1", "z2", "log p(x, z)"), 19, (0.5, 0.2, 0.003), {0.9: Estimate(0.82, 0.01)})


def unknown() -> UnknownInputs:
    random = np.random.default_rng(2)
    sets = {"rows": random.normal(2, 1, 100), "known": random.normal(size=100), "against": random.normal(size=100)}
    scores = [ScoreFound.of(name, name, sets, 0.1) for name in ("log p(x)", "WAIC")]
    return UnknownInputs("letters", 100, 100, tuple(scores), "test", 100, 20, 100, noise_floor=0.2, above_noise=0.9)


def per_datum(n: int = 300) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    value = -38 - random.gamma(4, 1.5, n)
    shape = {"khat_own": random.normal(0.3, 0.2, n), "khat_laplace": random.normal(0.2, 0.1, n)}
    marks = {"finite": np.full(n, True), "flagged": np.full(n, False)}
    found = {"log_likelihood": value, "log_likelihood_laplace": value, "log_likelihood_own": value - 0.1}
    found |= {"elbo": value - random.gamma(2, 0.4, n), "baseline_ppca": value - 7, "index": np.arange(n)}
    return {**found, **shape, **marks}


def arrays(event: tuple[int, ...], latent: int, n: int = 300) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    labels = random.integers(0, 10, n)
    root = random.normal(size=(40, latent, latent)) * 0.2
    covariance = root @ root.swapaxes(1, 2) + 0.02 * np.eye(latent)
    steps = np.arange(5)[:, None]
    start = random.gamma(2, 20, 200)
    hidden = {} if len(event) == 1 else {"hidden": np.full((8, *event), np.nan), "completed": np.ones((16, *event))}
    return hidden | {
        "originals": random.random((24, *event)),
        "reconstructions": random.random((24, *event)),
        "samples": random.random((48, *event)),
        "latent_mean": random.normal(size=(n, latent)) + 2 * random.normal(size=(10, latent))[labels],
        "latent_covariance": covariance,
        "covariances": covariance[:8],
        "labels": labels,
        "trace_log_joint": -38 - start * 10.0 ** (-1.5 * steps),
        "trace_grad_norm": start * 10.0 ** (-steps),
    }


def make(folder: Path, event: tuple[int, ...] = (1, 8, 8), latent: int = 6, name: str = "vlae") -> Path:
    """A run folder as ``fit`` and ``evaluate`` leave it."""
    folder.mkdir()
    config = {
        "format": 1,
        "curvae": "0.1.0",
        "system": {"name": name, "arguments": {"latent": latent, "hidden": 128}},
        "data": {"name": "digits", "seed": 0},
        "training": {"epochs": 12, "batch_size": 128},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    environment = {"data_checksum": "feed", "device": "cpu", "seed": 0, "versions": {"torch": "2.6"}}
    (folder / "environment.json").write_text(json.dumps(environment))
    status = {"state": "finished", "stage": 0, "epoch": 12, "step": 120, "reason": None}
    (folder / "status.json").write_text(json.dumps(status))
    weights = b"as good as any"
    (folder / "model.safetensors").write_bytes(weights)
    facts = {"weights": files.digest(weights)}
    (folder / "metrics.csv").write_text(curves())
    io.write_evaluation(folder, evaluation(latent).to_dict() | facts, per_datum(), arrays(event, latent))
    io.write_findings(folder, "gaps.json", gaps().to_dict(), facts["weights"])
    io.write_findings(folder, "calibration.json", calibration().to_dict(), facts["weights"])
    io.write_findings(folder, "ood.json", unknown().to_dict(), facts["weights"])
    return folder
