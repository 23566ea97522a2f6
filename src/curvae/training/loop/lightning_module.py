"""One stage of training as Lightning sees it: a step, a validation pass, the end of an epoch."""

import functools
from collections.abc import Callable

import torch
from lightning import LightningModule, seed_everything
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from curvae.data import Data
from curvae.objectives import Bound
from curvae.systems import Stage, System
from curvae.training.loop.checkpoint import Session
from curvae.training.loop.compiled_bound import Compiled
from curvae.training.loop.loader import VALIDATION_ROWS, Batches, Shard, sizes
from curvae.training.loop.nonfinite import SURROGATE, Skips, faulty_module, first_not_finite, runs_ahead
from curvae.training.loop.row_weights import mean_weight, weighted
from curvae.training.loop.running_means import EpochMeans, Means
from curvae.training.loop.state import several, write_state
from curvae.training.loop.trainer import adam
from curvae.training.loop.weight_averaging import Average, copied, put
from curvae.training.setup.length import Length
from curvae.training.setup.settings import CompleteSettings, derive
from curvae.typing import Batch

NOISE, VALIDATION, FINISH = 0, 3, 6
"""Streams of random numbers."""
VALIDATION_MEANS = ("value", "surrogate")
SAMPLE = 4
"""Batches of the validation data that are looked at where another, dearer bound is judged than is maximized."""
LOOK = 50
"""Steps between two looks at what the device skipped, where steps do not wait for it."""


class StageModule(LightningModule):
    """Trains what the stage names, round by round, and books each round with the session.

    A round is an epoch, or as many as give some 50 updates where length is not said in epochs. Randomness in a step
    comes from the global generator, seeded at the start of each round from the run's seed, the epoch and the process:
    several processes draw other noise than one would, while everything that is not noise agrees. Validation has the
    same draws every time and in every run, so that looks and runs compare, and several for each of few rows.

    Args:
        system: what is trained, its parameters frozen where the stage says so.
        stage: this stage.
        length: of the stage.
        part: of the cycle of learning rates: which share of it comes before, and which is the stage's.
        data: to train and validate on.
        settings: of the run.
        session: where the run stands.
    """

    def __init__(
        self,
        system: System,
        stage: Stage,
        length: Length,
        part: tuple[float, float],
        data: Data,
        settings: CompleteSettings,
        session: Session,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.system = system
        self.stage = stage
        self.length = length
        self.part = part
        self.data = data
        self.settings = settings
        self.session = session
        self.means = EpochMeans()
        self.skipped = 0
        self._validation = Means(VALIDATION_MEANS)
        self._culprit, self._ahead = "", False
        self._last: Bound | None = None
        self._own: list[Tensor] = []
        """The weights that training goes on from, while others are judged."""
        self._average = Average([], 1, 0.0)
        self._trained: list[nn.Parameter] = []
        self._keep = "last" if stage.keep == "best" and not data.held_out else stage.keep
        self._schedule = stage.schedule or settings.schedule_of_rate
        self._clip = settings.clip if stage.clip is None else stage.clip
        batches = len(sizes(len(data.train), settings.batch_size))
        self.passes = length.passes(batches)
        self.updates = batches * self.passes * stage.repeat
        """Updates of a whole round."""
        self._seconds = 0.0
        """Spent on this stage when the clock was last looked at; the same in all processes."""

    def train_dataloader(self) -> Batches:
        size, seed = self.settings.batch_size, self.settings.seed
        return Batches(self._here.train, size, seed, self._epoch, self._process, self.passes, self._is_over)

    @property
    def _process(self) -> tuple[int, int]:
        """The number of this one, and how many there are."""
        return self.global_rank, self.trainer.world_size

    @property
    def done(self) -> float:
        """Which share of the stage is done, in [0, 1]."""
        here = self.session.position
        epochs = here.stage_epoch + self._step_of_round / self.updates * self.passes
        return self.length.done(epochs, here.stage_step, self._seconds)

    @property
    def _step_of_round(self) -> int:
        return self.session.position.step - self.session.position.counted

    def _is_over(self, batches: int) -> bool:
        """Whether the stage is at its end with so many batches of a round: one of them has been drawn ahead."""
        if self.length.unit == "epochs" or not batches:
            return False
        if self.length.unit == "minutes":
            self._look_at_clock()
            return self.done >= 1
        here = self.session.position
        return here.stage_step - self._step_of_round + batches * self.stage.repeat >= self.length.amount

    def _look_at_clock(self) -> None:
        self._seconds = self.trainer.strategy.broadcast(self.session.stage_seconds)

    def val_dataloader(self) -> Batches:
        size = max(VALIDATION_ROWS, self.settings.batch_size)
        table = self._here.validation
        passes = max(1, VALIDATION_ROWS // len(table))  # a bound of few rows by one draw each is noise
        stop = (lambda count: count >= SAMPLE) if self.stage.judged else (lambda count: False)
        return Batches(table, size, process=self._process, passes=passes, stop=stop)

    @functools.cached_property
    def _here(self) -> Data:
        """The data on this device."""
        return self.data if self.data.train.raw.device == self.device else self.data.to(self.device)

    @functools.cached_property
    def _sample(self) -> Data:
        return self._here.sample

    def transfer_batch_to_device(self, batch: Shard, device: torch.device, dataloader_idx: int) -> Shard:
        return batch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        self._trained = [parameter for parameter in self.system.parameters() if parameter.requires_grad]
        make = self.stage.optimizer
        optimizer = make(self._trained) if make else adam(self._trained, self.settings, self.device)
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        if self.session.optimizer is not None:
            optimizer.load_state_dict(dict(self.session.optimizer))
        return optimizer

    def _epoch(self) -> int:
        return self.session.position.epoch

    def on_train_epoch_start(self) -> None:
        seed_everything(derive(self.settings.seed, NOISE, self._epoch(), self.global_rank), verbose=False)
        self.means, self.skipped = EpochMeans(), 0
        self._skips = Skips(self.session.position.in_a_row, self.device)
        self._ahead = runs_ahead(self.device, self.trainer.optimizers[0])
        self._average = Average(list(self.system.parameters()), self.updates, self.settings.average)

    def training_step(self, shard: Shard, batch_idx: int) -> None:
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        for _ in range(self.stage.repeat):
            self._set_rate(optimizer)
            self._step(shard, optimizer)
            if self.settings.average:
                self._average.add()

    def _set_rate(self, optimizer: LightningOptimizer) -> None:
        """The learning rate of this step, where it follows a schedule."""
        if self._schedule is None:
            return
        before, share = self.part
        factor = self._schedule(before + share * self.done)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def _step(self, shard: Shard, optimizer: LightningOptimizer) -> None:
        bound = self._bound(shard.batch)
        loss = -shard.share * weighted(bound.surrogate, shard.batch, self._mean_weight).mean()
        optimizer.zero_grad()
        self.manual_backward(loss)
        gradients = [each.grad for each in self._trained if each.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self._clip is not None:
            nn.utils.clip_grads_with_norm_(self._trained, self._clip, norm)
        self.session.position.step += 1
        self.session.position.stage_step += 1
        finite = (loss.detach() + norm).isfinite()
        if self._ahead:
            self._step_ahead(shard, optimizer, bound, norm, finite)
        elif self._agreed(bool(finite)):
            optimizer.step()
            if bound.state:
                write_state(self.system, bound.state, shard.batch.index, len(self.data.train))
            self.session.position.in_a_row = 0
            self.means.add(bound, norm, shard.share > 0)
        else:
            self._skip(bound)

    @functools.cached_property
    def _mean_weight(self) -> float | None:
        return mean_weight(self.data.train)

    def _step_ahead(
        self, shard: Shard, optimizer: LightningOptimizer, bound: Bound, norm: Tensor, finite: Tensor
    ) -> None:
        """The same without waiting for the device, which itself leaves out what is not finite."""
        optimizer.optimizer.found_inf = finite.logical_not().float()  # pyright: ignore[reportAttributeAccessIssue]
        optimizer.step()
        write_state(self.system, bound.state, shard.batch.index, len(self.data.train), finite)
        self.means.add(bound, norm, shard.share > 0, finite)
        self._skips.add(finite)
        self._last = bound
        if self.session.position.step % LOOK == 0:
            self._look()

    def _look(self) -> None:
        """Wait for the device, and see what it skipped."""
        self.skipped, most, self.session.position.in_a_row = self._skips.read()
        if most >= self.settings.max_skipped:
            assert self._last is not None
            self._give_up(most, first_not_finite(self.system, self._last))

    @functools.cached_property
    def _bound(self) -> Callable[[Batch], Bound]:
        bound = functools.partial(self.stage.bound_of, self.system)
        plain = self.data.train.context is not None or not self.settings.compile
        return bound if plain else Compiled(bound, self.settings.batch_size)

    def _agreed(self, finite: bool) -> bool:
        return self.trainer.strategy.reduce_boolean_decision(finite) if several() else finite

    def _skip(self, bound: Bound) -> None:
        position = self.session.position
        if position.in_a_row == 0 or not self._culprit:
            self._culprit = first_not_finite(self.system, bound)
        position.in_a_row += 1
        self.skipped += 1
        if position.in_a_row >= self.settings.max_skipped:
            self._give_up(position.in_a_row, self._culprit)

    def _give_up(self, count: int, culprit: str) -> None:
        part = faulty_module(self.system, self._here.train) if culprit == SURROGATE else ""
        raise self.session.diverged(self.stage.name, count, part or culprit)

    def on_validation_epoch_start(self) -> None:
        self._show()
        seed_everything(derive(0, VALIDATION, self.global_rank), verbose=False)
        self._validation = Means(VALIDATION_MEANS)

    def _show(self) -> None:
        """Give the system the weights that are judged and kept: the mean of the last ones, finished by the stage."""
        parameters = list(self.system.parameters())
        self._own = copied(parameters)
        if self._average.values:
            put(parameters, self._average.values)
        if self.stage.finish:
            seed_everything(derive(self.settings.seed, FINISH), verbose=False)
        for finish in self.stage.finish:
            finish(self.system, self._sample)

    def validation_step(self, shard: Shard, batch_idx: int) -> None:
        if shard.share:
            bound = self.stage.judge(self.system, shard.batch)
            weight = None if (known := shard.batch.context) is None else known.weight
            self._validation.add("value", bound.value, weight=weight)
            self._validation.add("surrogate", bound.surrogate, weight=weight)

    def on_validation_epoch_end(self) -> None:
        """Before the first update: where a stage starts is a candidate for the best."""
        if self.trainer.sanity_checking:
            self.session.judge(self._validation.read(self._total)[self.stage.monitor], self._keep)
            put(list(self.system.parameters()), self._own)

    def on_train_epoch_end(self) -> None:
        if self._ahead:
            self._look()
        validation = self._validation.read(self._total)
        passes = max(1, round(self._step_of_round / self.updates * self.passes))
        self.session.judge(validation[self.stage.monitor], self._keep, passes)
        put(list(self.system.parameters()), self._own)
        row = self.means.row(self.stage.name, self._total)._replace(
            validation_bound=validation["value"], validation_surrogate=validation["surrogate"], skipped=self.skipped
        )
        self._look_at_clock()
        here = self.session.position
        done = self.length.done(here.stage_epoch + passes, here.stage_step, self._seconds)
        patience = (self.settings.patience or 0) if self._keep == "best" else 0
        cells = self.session.finish_round(row, passes, done, patience).cells()
        if self.session.callbacks or self.trainer.loggers:
            self.log_dict({name: value for name, value in cells.items() if name != "stage"})
        self.trainer.should_stop |= self.session.position.done

    def finish_stage(self) -> None:
        """Keep the weights of a stage without an epoch, as they were validated."""
        self.session.judge(self._validation.read(self._total)[self.stage.monitor], "last")
        self.session.finish_stage()

    def _total(self, value: Tensor) -> Tensor:
        if not several():
            return value
        return self.trainer.strategy.reduce(value.to(self.device), reduce_op="sum")  # pyright: ignore[reportReturnType]
