"""One stage of a run: its steps, and what is told, looked at and saved between them."""

import time
from dataclasses import replace
from math import isfinite

import torch

from uniface_ray.core.stages_config import Stage
from uniface_ray.core.train_config import TrainConfig
from uniface_ray.model.modeling import UniFaceForConditionalGeneration
from uniface_ray.train.batches import Counts
from uniface_ray.train.checkpoint import Checkpoints, State
from uniface_ray.train.ema import Average
from uniface_ray.train.hooks import Hooks, NotFiniteError
from uniface_ray.train.journal import Journal
from uniface_ray.train.losses import LOSSES, Trainee
from uniface_ray.train.meter import Meter, flops_per_token, memory_gb
from uniface_ray.train.mixture import Ahead, Mixture, Share
from uniface_ray.train.optimizer import build_optimizer, learning_rate, set_rate
from uniface_ray.train.parallel import World, norm_of
from uniface_ray.train.snapshot import Snapshot
from uniface_ray.train.stream import KINDS, Place
from uniface_ray.train.trained import freeze, learning, saved_names
from uniface_ray.train.validation import Validation


class StageRun:
    """A stage with a model of its own, filled from the state that it begins with.

    Args:
        config: of the run.
        stage: which.
        model: new, with adapters where there are some.
        state: of this stage, or the end of the one before.
        world: all workers.
        mixture: makes batches.
        validation: looks at held-out rows.
        checkpoints: of the run.
        journal: of the run, on the first worker.
        hooks: what surrounds the loop.
    """

    def __init__(
        self,
        config: TrainConfig,
        stage: Stage,
        model: UniFaceForConditionalGeneration,
        state: State,
        world: World,
        mixture: Mixture,
        validation: Validation,
        checkpoints: Checkpoints,
        journal: Journal | None,
        hooks: Hooks,
    ) -> None:
        self.config, self.stage, self.model, self.world = config, stage, model, world
        self.validation, self.checkpoints, self.journal, self.hooks = validation, checkpoints, journal, hooks
        names = saved_names(model, config.stages.each())
        freeze(model, stage)
        if config.parallel.gradient_checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        self.flops = flops_per_token(model)
        self.module = world.wrap(Trainee(model, config.loss))
        self.optimizer = build_optimizer(model, config.optimizer, stage)
        parameters = dict(model.named_parameters())
        self.average = Average({name: parameters[name] for name in names}, config.optimizer.ema)
        self.snapshot = Snapshot(world, model, self.optimizer, self.average, names)
        if state.step:
            self.snapshot.fill(state, moments=state.stage == stage.number)
        self.state = replace(state, stage=stage.number, tensors={})
        self.meter = Meter(state.facts)
        places = {kind: Place(**state.places[kind]) for kind in KINDS if kind in state.places}
        self.shares = Ahead(mixture.shares(stage, places))
        self.norm = 0.0
        learning(model)

    def run(self) -> State:
        """Go on to the end of the stage, or until somebody stops it; either way that state is saved.

        Returns:
            The state, with its tensors; those of earlier saves are let go, as they are as large as the model.

        Raises:
            NotFiniteError: a loss or the gradients are no numbers.
            StoppedError: a checkpoint could not be written.
            UserError: see `Mixture.shares`.
        """
        run, looks, saves = self.config.run, self.config.validation, self.config.checkpoint
        try:
            while True:
                stops, asks = self._heard()
                if stops:
                    return self._save()
                if asks and self.hooks.leaving():
                    self._save()
                self._step(next(self.shares))
                step, is_last = self.state.step, self.state.step == self.stage.end
                began_s = time.monotonic()
                if step % run.log_every_steps == 0 or is_last:
                    self._log()
                if step % looks.every_steps == 0 or is_last:
                    self._look()
                if is_last:
                    return self._save()
                if step % saves.every_steps == 0:
                    self._save()
                self.meter.pause(time.monotonic() - began_s)
        finally:
            self.shares.close()

    def _heard(self) -> tuple[bool, bool]:
        """Whether to stop, and to ask who is leaving; all workers hear of what one of them knows."""
        known = [self.hooks.stopping(), self.hooks.due(), self.checkpoints.error is not None]
        stops, asks, fails = self.world.sums(known)
        if fails:
            # The same error on all: the user sees that of whichever worker is heard first.
            raise self.world.told(self.checkpoints.failure())
        return stops > 0, asks > 0

    def _step(self, share: Share) -> None:
        world, step = self.world, self.state.step
        # Seeded anew each step (it decides dropout), a resumed run goes as an unbroken one would have.
        torch.manual_seed(((self.config.run.seed * 1_000_003 + step) * 4096 + world.rank) % 2**63)
        mine = sum((part.counts for part in share.parts), Counts(parts=0))
        pace = [sum(part.tokens for part in share.parts), sum(part.cut for part in share.parts)]
        *whole, tokens, cut = world.sums([mine.text, mine.masked, mine.images, mine.parts, *pace])
        counts = Counts(*map(int, whole))
        set_rate(self.optimizer, learning_rate(self.config.optimizer, self.stage, step))
        self.optimizer.zero_grad()
        sums = torch.zeros(len(LOSSES), device=world.device)
        for number, part in enumerate(share.parts, 1):
            with world.part(self.module, is_last=number == len(share.parts)):
                with world.autocast():
                    losses = self.module(part.to(world.device), counts)
                (losses[0] * world.size).backward()  # gradients are averaged over workers, and losses add up
            sums += losses.detach()
        learns = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.norm = norm_of(learns, self.config.optimizer.clip_norm)
        found = world.sums(sums.tolist())
        if not all(map(isfinite, [self.norm, *found])):
            raise self._not_finite(found, share, is_mine=not bool(sums.isfinite().all()))
        self.optimizer.step()
        self.average.update()
        self.meter.add(found, tokens, cut)
        places: dict[str, dict[str, int]] = {kind: place.to_dict() for kind, place in share.places.items()}
        self.state = replace(self.state, step=step + 1, places=places, score=None)

    def _not_finite(self, losses: list[float], share: Share, is_mine: bool) -> NotFiniteError:
        """The same on all workers; with the rows of those whose own losses are to blame (`is_mine`), else of all."""
        self.checkpoints.wait()
        mine = [str(row) for part in share.parts for row in part.row_ids]
        told = self.world.gathered((is_mine, mine, self.checkpoints.last))
        blamed = any(blame for blame, _, _ in told)
        rows = [row for blame, some, _ in told if blame or not blamed for row in some]
        step, saved = self.state.step, told[0][2]
        bad = [name for name, value in zip(LOSSES, losses, strict=True) if not isfinite(value)]
        what = f"the losses {', '.join(bad)} are" if bad else "the gradients are"
        return NotFiniteError(
            f"in step {step + 1} (stage {self.stage.number}, learning rate "
            f"{learning_rate(self.config.optimizer, self.stage, step):.2g}) {what} not finite; the rows were "
            f"{', '.join(rows[:8])}{', ...' if len(rows) > 8 else ''}. Nothing of this step is kept"
            + (f", and the checkpoint of step {saved} is good" if saved else "")
            + ": lower stages.learning_rate or optimizer.clip_norm, and the same command goes on from there"
        )

    def _log(self) -> None:
        line, config = self.meter.line(), self.config
        if not self.journal:
            return
        record = {
            "step": self.state.step,
            "stage": self.stage.number,
            **line,
            "learning_rate": learning_rate(config.optimizer, self.stage, self.state.step - 1),
            "gradient_norm": self.norm,
            "memory_gb": memory_gb(self.world.device),
        }
        if config.run.peak_tflops:
            peak = config.run.peak_tflops * 1e12 * self.world.size
            record["flops_utilisation"] = self.flops * line["tokens_per_s"] / peak
        self.journal.add(record)
        self.hooks.tell(record)

    def _look(self) -> None:
        """At held-out rows; their loss becomes the state's score, whenever that is saved."""
        self.model.eval()
        with self.average.in_place():
            losses = self.validation.losses(self.module)
            examples = self.validation.examples(self.module)
        self.world.let_go(self.module)
        learning(self.model)
        if self.journal:
            record = {"step": self.state.step, **{f"held_out/{name}": value for name, value in losses.items()}}
            self.journal.add(record)
            self.hooks.tell(record)
            self.journal.show(examples)
        total = losses.get("total")
        score = total if total is not None and isfinite(total) else None
        self.state = replace(self.state, score=score)

    def _save(self) -> State:
        self.checkpoints.wait()  # or two copies would be held
        state = replace(self.state, tensors=self.snapshot.take(), facts=self.meter.to_dict())
        if self.journal:
            self.journal.flush()
            self.checkpoints.save(state)
        return state
