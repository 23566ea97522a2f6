"""What systems of sequences know of frames to come: moving digits, 5, 10 and 15 frames after the first 5.

Every cell is a fit and, for each test sequence, log p(x_5+k | x_1..5) of the frames k = 5, 10, 15 ahead: of td-vae by
jumps of up to 4 frames and by single steps, of vrnn frame by frame, by 200 draws; of a linear state-space model in
closed form, its mean as a probability; and of the last frame seen, copied. A line of the file is one cell; what was cut
off goes on.

    python benchmarks/sequences.py [--seeds 0 1] [--updates 1000] [--target benchmarks/results/sequences.jsonl]
    python benchmarks/sequences.py --table      # writes the file's table into docs/studies/sequences.md, no training

6 cells, some 6 CPU minutes in all on one thread.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli

import curvae
from curvae import training
from curvae.data import Data
from curvae.linear import fit_state_space
from curvae.sequences import TemporalDifference
from curvae.systems import SequenceSystem, td_vae, vrnn
from curvae.typing import Batch
from fits.cells import Cells, over_seeds
from pages import between

Row = dict[str, Any]
HERE = Path(__file__).parent
SEEN, AHEAD, DRAWS = 5, (5, 10, 15), 200
BATCH, RATE = 64, 4e-3
SYSTEMS = {"td-vae": td_vae, "vrnn": vrnn}
LATENTS, ROUNDS = 32, 10
"""Of the linear state-space model, and of its EM."""
SHOWN = {
    "td-vae, jumps of 2 to 4": ("td-vae", "ahead"),
    "td-vae, single steps": ("td-vae", "single"),
    "vrnn, frame by frame": ("vrnn", "ahead"),
    "linear state space": ("linear", "ahead"),
    "last frame": ("copy", "ahead"),
}
"""Rows of the table: a method, and which of its values."""


def learned(data: Data, word: str, seed: int, updates: int) -> Row:
    """One fit, and what it says of the frames ahead, as means over the test sequences and one by one."""
    torch.manual_seed(seed)
    system = SYSTEMS[word](data.spec)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        training.fit(
            system, data, max_updates=updates, batch_size=BATCH, learning_rate=RATE, seed=seed, out=f"{folder}/run",
            device="cpu", progress=False,
        )  # fmt: skip
    return {"seconds": time.process_time() - began} | judged(system.eval(), data, seed)


@torch.no_grad()
def judged(system: SequenceSystem, data: Data, seed: int) -> Row:
    """Of the test sequences: the bound of log p(x), and log p of the frames ahead."""
    torch.manual_seed(seed)
    frames, model = system.frames(data.test.x), system.model
    bound = system.bound(Batch.of(data.test.x)).value
    found = {"bound": bound.mean().item(), "bound_error": spread(bound)}
    found |= {f"ahead{k}": rounded(model.predictive(frames, SEEN, k, DRAWS)) for k in AHEAD}
    if isinstance(model, TemporalDifference):
        found |= {f"single{k}": rounded(single_steps(model, frames, k)) for k in AHEAD}
    return found


def single_steps(model: TemporalDifference, frames: Any, gap: int) -> Tensor:
    """log p of a frame ahead by as many single steps."""
    eta = model.rolled(frames.first(SEEN), gap, DRAWS)[:, :, -1]
    return model.likelihood.log_prob(frames.x[:, SEEN + gap - 1], eta).logsumexp(0) - torch.tensor(float(DRAWS)).log()


def linear(data: Data) -> Row:
    """A linear-Gaussian state-space model of the pixels; its mean of a frame, between two numbers that train best."""
    began = time.process_time()
    x = {part: getattr(data, part).x.double().flatten(2) for part in ("train", "test")}
    model = fit_state_space(x["train"], LATENTS, shared=True, floor=1e-3, rounds=ROUNDS)
    found = {}
    for k in AHEAD:
        mean = {}
        for part, values in x.items():
            states = model.filter(values[:, :SEEN]).states
            mean[part] = model.ahead(states.mean[:, -1], states.covariance[:, -1], k)[0]
        truth = {part: values[:, SEEN + k - 1] for part, values in x.items()}
        margins = torch.linspace(0.005, 0.45, 90).double()
        scores = [scored(mean["train"], truth["train"], margin).mean() for margin in margins]
        found[f"ahead{k}"] = rounded(scored(mean["test"], truth["test"], margins[torch.stack(scores).argmax()]))
    return {"seconds": time.process_time() - began} | found


def scored(mean: Tensor, truth: Tensor, margin: Tensor) -> Tensor:
    """log p of pixels whose probabilities are means, kept as far as that from 0 and 1."""
    return Bernoulli(mean.clamp(margin, 1 - margin)).log_prob(truth).flatten(1).sum(1)


def copied(data: Data) -> Row:
    """The last frame seen: a pixel is on with one probability where it was, with another where it was not."""
    train, test = data.train.x, data.test.x
    found = {}
    for k in AHEAD:
        before, after = train[:, SEEN - 1].bool(), train[:, SEEN + k - 1]
        on, off = after[before].mean(), after[~before].mean()
        law = Bernoulli(torch.where(test[:, SEEN - 1].bool(), on, off))
        found[f"ahead{k}"] = rounded(law.log_prob(test[:, SEEN + k - 1]).flatten(1).sum(1))
    return {"seconds": 0.0} | found


def rounded(values: Tensor) -> list[float]:
    return [round(value, 3) for value in values.tolist()]


def spread(values: Tensor) -> float:
    """Standard error of the mean."""
    return (values.std() / len(values) ** 0.5).item()


def table(rows: list[Row]) -> str:
    """Means over test sequences and seeds, and what td-vae's jumps gain over each method, paired by sequence."""
    head = "".join(f" | {k} ahead" for k in AHEAD) + "".join(f" | jumps gain, {k} ahead" for k in AHEAD)
    lines = [f"| | seeds{head} | bound of log p(x) | CPU s a fit |", "|---" * (4 + 2 * len(AHEAD)) + "|"]
    ours = by_seed(rows, "td-vae", "ahead")
    for words, (name, kind) in SHOWN.items():
        some, chosen = by_seed(rows, name, kind), [row for row in rows if row["method"] == name]
        if not some:
            continue
        cells = [told([some[seed][k] for seed in some]) for k in AHEAD]
        for k in AHEAD:
            pairs = [(ours[seed][k], some.get(seed, some[min(some)])[k]) for seed in ours]
            gains = [[a - b for a, b in zip(*pair, strict=True)] for pair in pairs]
            cells.append("" if (name, kind) == ("td-vae", "ahead") else told(gains))
        bounds = [row["bound"] for row in chosen if "bound" in row]
        cells.append(f"{statistics.mean(bounds):.1f}" if bounds and kind == "ahead" else "")
        cells.append(f"{statistics.mean(row['seconds'] for row in chosen):.0f}" if kind == "ahead" else "")
        lines.append(f"| {words} | {len(some)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def by_seed(rows: list[Row], name: str, kind: str) -> dict[int, dict[int, list[float]]]:
    """Values of each test sequence, by seed and number of frames ahead."""
    return {
        row["seed"]: {k: row[f"{kind}{k}"] for k in AHEAD}
        for row in rows
        if row["method"] == name and f"{kind}{AHEAD[0]}" in row
    }


def told(values: list[list[float]]) -> str:
    """A mean over sequences and seeds, and its error."""
    means = [statistics.mean(each) for each in values]
    errors = [statistics.stdev(each) / len(each) ** 0.5 for each in values]
    mean, error = over_seeds(means, errors)
    return f"{mean:.2f} ± {error:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--target", type=Path, default=HERE / "results" / "sequences.jsonl")
    given = parser.parse_args()
    done = Cells(given.target, "method", "seed", "updates")
    if not given.table:
        logging.getLogger("lightning").setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        data = curvae.data.load("moving-digits", binarize="static")
        for name, make in {"copy": copied, "linear": linear}.items():
            if (name, 0, 0) not in done:
                done.add({"method": name, "seed": 0, "updates": 0, **make(data)})
        for seed in given.seeds:
            for name in SYSTEMS:
                if (name, seed, given.updates) not in done:
                    row = learned(data, name, seed, given.updates)
                    done.add({"method": name, "seed": seed, "updates": given.updates, **row})
    page = HERE.parent / "docs" / "studies" / "sequences.md"
    begin, end = (f"<!-- benchmarks/sequences.py: {word} -->\n" for word in ("begin", "end"))
    rows = [row for row in done.rows if row["updates"] in (0, given.updates)]
    page.write_text(between(page.read_text(), begin, end, table(rows)))


if __name__ == "__main__":
    main()
