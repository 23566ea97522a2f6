"""Photometry with known errors: are loadings and scatter recovered, and what if the errors are left out?

    python benchmarks/known_errors.py              # 10 seeds, one after another; goes on if cut off

Each seed is 4,000 stars of 5 bands, two latents, and an error for every value: ``x = W z + mean + noise`` of variance
``s^2 + e^2``, with e from nothing to ten times the scatter s of a band. A line of
``results/known_errors.jsonl`` is one.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.linear import heteroscedastic_ppca, ppca
from fits.cells import Cells
from pages import written

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "known_errors.jsonl"
PAGE = HERE.parent / "docs" / "studies" / "known-errors.md"
STARS, BANDS, LATENTS = 4000, 5, 2
OWN = torch.tensor([0.2, 0.3, 0.2, 0.4, 0.3], dtype=torch.float64)
"""s, scatter of each band."""
SIGMAS = 3.0


def stars(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Values and their errors, (N, P) each, and W."""
    rng = torch.Generator().manual_seed(seed)
    weight = torch.randn(BANDS, LATENTS, generator=rng, dtype=torch.float64)
    errors = 3 * torch.rand(STARS, BANDS, generator=rng, dtype=torch.float64).square()
    z = torch.randn(STARS, LATENTS, generator=rng, dtype=torch.float64)
    noise = torch.randn(STARS, BANDS, generator=rng, dtype=torch.float64)
    return z @ weight.mT + 1 + (OWN.square() + errors.square()).sqrt() * noise, errors, weight


def told(weight: Tensor, own: Tensor) -> Float[Tensor, " K"]:
    """What does not depend on the axes of the latents: ``W W'``, each entry once, and ``s^2``."""
    rows, columns = torch.triu_indices(BANDS, BANDS)
    return torch.cat([(weight @ weight.mT)[rows, columns], own])


def standard_errors(x: Tensor, errors: Tensor, weight: Tensor, own: Tensor, mean: Tensor) -> Float[Tensor, " K"]:
    """Of these numbers, by the mean square of the score of each star and the delta method."""
    sizes = [weight.numel(), BANDS, BANDS]

    def level(flat: Tensor, star: Tensor, error: Tensor) -> Tensor:
        w, s, m = flat.split(sizes)
        w = w.reshape(weight.shape)
        covariance = w @ w.mT + torch.diag_embed(s + error.square())
        return torch.distributions.MultivariateNormal(m, covariance, validate_args=False).log_prob(star)

    flat = torch.cat([weight.flatten(), own, mean])
    scores = torch.func.vmap(torch.func.grad(level), (None, 0, 0))(flat, x, errors)
    inverse = torch.linalg.pinv(scores.mT @ scores, rtol=1e-9)
    slopes = torch.func.jacrev(lambda flat: told(flat[: sizes[0]].reshape(weight.shape), flat.split(sizes)[1]))(flat)
    return (slopes @ inverse @ slopes.mT).diagonal().sqrt()


def off_by(seed: int) -> dict[str, Any]:
    """How far the fits of a seed are from the truth, in standard errors of the fit that knows the errors."""
    x, errors, weight = stars(seed)
    truth, found, blind = told(weight, OWN.square()), heteroscedastic_ppca(x, errors, LATENTS), ppca(x, LATENTS)
    model = found.model
    error = standard_errors(x, errors, model.weight, found.own, model.mean)
    known = (told(model.weight, found.own) - truth) / error
    without = (told(blind.weight, blind.noise.expand(BANDS)) - truth) / error
    parts = {"known": known, "left out": without}
    return {
        "seed": seed,
        **{f"{name}, largest": float(each.abs().max()) for name, each in parts.items()},
        **{f"{name}, within 3": float((each.abs() < SIGMAS).double().mean()) for name, each in parts.items()},
        "scatter, known": found.own.sqrt().tolist(),
        "scatter, left out": float(blind.noise.mean().sqrt()),
    }


def page(lines: list[dict[str, Any]]) -> None:
    """The table of the page."""
    head = ("seed", "largest, errors known", "within 3", "largest, left out", "within 3", "scatter, known", "left out")
    rows = [head, tuple("--:" for _ in head)]
    for line in lines:
        known = ", ".join(f"{each:.3f}" for each in line["scatter, known"])
        cells = [f"{line['known, largest']:.1f}", f"{line['known, within 3']:.0%}"]
        cells += [f"{line['left out, largest']:.0f}", f"{line['left out, within 3']:.0%}", known]
        rows.append((str(line["seed"]), *cells, f"{line['scatter, left out']:.2f}"))
    written(PAGE, "known_errors", "".join(f"| {' | '.join(row)} |\n" for row in rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    done = Cells(RESULTS, "seed")
    for seed in range(options.seeds):
        if (seed,) not in done:
            done.add(off_by(seed))
    page(done.rows)


if __name__ == "__main__":
    main()
