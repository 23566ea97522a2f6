"""One curve of benchmarks/budget.py: a system in training, its CPU time, and the points that it is measured at."""

import itertools
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from curvae.data import Data
from curvae.evaluation.importance import estimates, posterior_weights
from curvae.evaluation.proposal import common_proposal
from curvae.systems import LatentSystem, vae, vlae
from curvae.training.loop import inference_budget as budget
from curvae.training.loop.inference_budget import Standing
from curvae.training.loop.loader import Batches
from curvae.training.loop.state import write_state
from curvae.training.loop.weight_averaging import Average, copied, put
from curvae.typing import DataSpec

MARKS = (1.0, 2.0, 3.0, 5.0, 6.0, 7.0, 10.0)
"""CPU minutes."""
TURN = 5.0
"""CPU seconds."""
IMAGES, DRAWS = 1000, 100
CURVES: dict[str, Callable[[DataSpec], LatentSystem]] = {
    "vae": vae,
    "published": lambda spec: vlae(spec, steps=4, warmup=0, published=True),
    "budget": lambda spec: vlae(spec, budget=True),
    "late": lambda spec: vlae(spec, steps=1, warmup=0),
    "memory": lambda spec: vlae(spec, steps=1, warmup=0, memory=True),
    "finish": lambda spec: vlae(spec, steps=1, warmup=0),
}
AVERAGE = 0.25
"""Share of an epoch's steps whose mean weights are kept: by a run under the budget, and beside a plain VAE's last."""
LATE = 5.0
"""CPU minutes after which "late" and "memory" take over from the plain VAE, with one Newton step a datum."""
PLAIN = 0.9
"""Share of its time for which a run of "finish" is a plain VAE. Each of its points is the end of a run of its own."""


class Runner:
    """One curve: a system, its optimizer, and the CPU seconds that it has had."""

    def __init__(self, name: str, data: Data, seed: int, work: Path, begin: Path | None = None):
        torch.manual_seed(seed)
        self.name, self.data, self.seed = name, data, seed
        self.system = CURVES[name](data.spec)
        self.stage = self.system.stages()[0]
        self.optimizer = torch.optim.Adam(self.system.parameters(), lr=5e-4, fused=True)
        self.saved = work / f"{name}-{seed}.pt"
        self.seconds, self.epoch, self.batch, self.steps = 0.0, 0, 0, 0
        self.risen = self.saved.with_stem(f"{self.saved.stem}-risen")
        self.length: float = math.inf
        self.standing = Standing()
        self.points: list[dict[str, float]] = []
        self.reviews: list[dict[str, float]] = []
        self.averaged: list[dict[str, float]] = []
        """Points of a plain VAE's averaged weights, which cost it nothing here."""
        self.kept: list[torch.Tensor] = []
        """What the last epoch has left: averaged weights, finished by the stage."""
        self.free = 0.0
        for prepare in filter(None, (self.stage.start, *self.stage.prepare)):
            prepare(self.system, data)
        torch.manual_seed(seed)
        self.noise = torch.get_rng_state()
        work.mkdir(parents=True, exist_ok=True)
        if name in ("late", "memory"):
            begin = work / f"vae-{seed}-{LATE:g}.pt"
        if begin and not self.saved.exists():
            self.take_over(torch.load(begin, weights_only=True))
        if self.saved.exists():
            self.load()
        self.shards = self.rest_of_epoch()
        self.average = self.of_epoch()

    def of_epoch(self) -> Average:
        """The mean of the weights at the end of this epoch."""
        return Average(list(self.system.parameters()), -(-len(self.data.train) // 128), AVERAGE)

    def rest_of_epoch(self) -> Any:
        """The batches of this epoch that are still to come."""
        batches = Batches(self.data.train, 128, self.seed, lambda: self.epoch)
        return itertools.islice(batches, self.batch, None)

    def turn(self, seconds: float) -> None:
        """Train for so long."""
        torch.set_rng_state(self.noise)
        self.system.train()
        begin, self.free = time.process_time(), 0.0
        while time.process_time() - begin - self.free < seconds and self.epoch < self.length:
            shard = next(self.shards, None)
            if shard is None:
                self.keep_epoch()
                self.end_epoch(self.seconds + time.process_time() - begin - self.free)
            else:
                self.step(shard.batch)
        self.seconds += time.process_time() - begin - self.free
        self.noise = torch.get_rng_state()

    def step(self, batch: Any) -> None:
        """One optimizer step at the current level."""
        bound = self.stage.bound_at(self.standing.level, self.system, batch)
        self.optimizer.zero_grad()
        (-bound.surrogate.mean()).backward()
        self.optimizer.step()
        if bound.state:
            write_state(self.system, bound.state, batch.index, len(self.data.train))
        self.batch, self.steps = self.batch + 1, self.steps + 1
        begin = time.process_time()
        self.average.add()
        self.forgive(begin)

    def forgive(self, begin: float) -> None:
        """What has happened since then costs a plain VAE nothing."""
        if self.name == "vae":
            self.free += time.process_time() - begin

    def keep_epoch(self) -> None:
        """Averaged weights, finished by the stage: what a run under the budget keeps."""
        begin, parameters = time.process_time(), list(self.system.parameters())
        own = copied(parameters)
        if self.average.values:
            put(parameters, self.average.values)
        if self.stage.finish:
            self.system.eval()
            with torch.random.fork_rng():
                torch.manual_seed(self.seed)
                for finish in self.stage.finish:
                    finish(self.system, self.data)
            self.system.train()
        self.kept, self.average = copied(parameters), self.of_epoch()
        put(parameters, own)
        self.forgive(begin)

    def end_epoch(self, seconds: float) -> None:
        """Review the levels, begin the next epoch."""
        if levels := self.stage.levels:
            rows = budget.rows(len(self.data.train), len(self.data.validation))
            some = self.data.validation.batch(torch.arange(rows))
            bounds = []
            for level in levels:
                with torch.no_grad(), torch.random.fork_rng():
                    torch.manual_seed(self.seed)
                    bounds.append(float(level.bound(self.system, some).value.mean()))
            here = budget.learned(self.standing, bounds[self.standing.level])
            gap = bounds[-1] - bounds[here.level]
            self.reviews.append({"seconds": seconds, "level": here.level, "rate": here.rate, "gap": gap})
            left = self.length - self.epoch - 1
            self.standing = budget.moved(here, bounds, [level.cost for level in levels], left)
        self.epoch, self.batch = self.epoch + 1, 0
        if levels and self.standing.level == 1 and self.reviews[-1]["level"] == 0:
            self.noise, before, self.seconds = torch.get_rng_state(), self.seconds, seconds
            self.save(self.risen)
            self.seconds = before
        self.shards = self.rest_of_epoch()

    def measure(self) -> None:
        """A point of the curve: a plain VAE by its last weights and, beside them, by those kept; a budget by these."""
        own, parameters = copied(list(self.system.parameters())), list(self.system.parameters())
        if self.name == "vae":
            self.points.append(self.measured())
        if self.name in ("vae", "budget") and self.kept:
            put(parameters, self.kept)
        (self.averaged if self.name == "vae" else self.points).append(self.measured())
        put(parameters, own)

    @torch.no_grad()
    def measured(self) -> dict[str, float]:
        """The likelihood and the bound of test images with the weights that the system has now."""
        self.system.eval()
        likelihood, shape, bound = [], [], []
        generator = torch.Generator().manual_seed(0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for rows in torch.arange(IMAGES).split(100):
                batch = self.data.test.batch(rows)
                proposal = common_proposal(self.system)(self.system.model, batch).posterior
                found = estimates(
                    posterior_weights(self.system.model, proposal, batch, DRAWS, 2**25, generator=generator)
                )
                likelihood.append(torch.as_tensor(found.log_likelihood))
                shape.append(torch.as_tensor(found.khat))
                bound.append(self.system.bound(batch).value)
        values = torch.cat(likelihood)
        point = {
            "minutes": self.seconds / 60,
            "steps": self.steps,
            "epoch": self.epoch,
            "level": self.standing.level,
            "log_likelihood": float(values.mean()),
            "stderr": float(values.std() / IMAGES**0.5),
            "elbo": float(torch.cat(bound).mean()),
            "khat_above": float((torch.cat(shape) > 0.7).double().mean()),
        }
        print(f"{self.name:>10} {self.seed}", {name: round(value, 2) for name, value in point.items()}, flush=True)
        return point

    def save(self, path: Path | None = None) -> None:
        """Leave what a later process needs to go on."""
        names = ("seconds", "epoch", "batch", "steps", "points", "averaged", "reviews", "noise")
        state = {name: getattr(self, name) for name in names}
        state |= {"standing": asdict(self.standing), "model": self.system.state_dict()}
        state["optimizer"] = self.optimizer.state_dict()
        torch.save(state, path or self.saved)

    def keep(self, minutes: float) -> None:
        """Leave the state of a plain VAE for a run that finishes otherwise."""
        self.save(self.saved.with_stem(f"{self.saved.stem}-{minutes:g}"))

    def take_over(self, state: dict[str, Any]) -> None:
        """Start from where a plain VAE has come to, or a run under the budget's rule, and from its points."""
        own, model = self.system.state_dict(), {}
        for name, value in state.pop("model").items():
            bare = name.replace("inference.start.", "inference.")
            model[bare if bare in own else bare.replace("inference.", "inference.start.")] = value
        model = {name: value for name, value in model.items() if name in own}
        torch.save({**state, "model": {**own, **model}}, self.saved)

    def load(self) -> None:
        """Go on from there."""
        state = torch.load(self.saved, weights_only=True)
        self.system.load_state_dict(state.pop("model"))
        self.optimizer.load_state_dict(state.pop("optimizer"))
        self.standing = Standing(**state.pop("standing"))
        for name, value in state.items():
            setattr(self, name, value)

    def report(self, folder: Path) -> None:
        """The curve as a file."""
        content = {"curve": self.name, "seed": self.seed, "points": self.points}
        if self.stage.levels:
            content |= {"reviews": self.reviews}
        if self.averaged:
            content |= {"averaged": self.averaged}
        (folder / f"{self.name}-{self.seed}.json").write_text(json.dumps(content, indent=1) + "\n")
