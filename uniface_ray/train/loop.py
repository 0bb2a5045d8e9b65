"""A training from its newest checkpoint to its end, as one worker runs it. It knows nothing of Ray."""

from contextlib import suppress
from dataclasses import replace

from uniface_ray.core.errors import UniFaceError, UserError
from uniface_ray.core.storage import Folder
from uniface_ray.core.train_config import TrainConfig
from uniface_ray.train.base import Base
from uniface_ray.train.checkpoint import Checkpoints, State
from uniface_ray.train.export import export
from uniface_ray.train.hooks import Hooks, Outcome
from uniface_ray.train.journal import Journal
from uniface_ray.train.lora import adapt
from uniface_ray.train.mixture import Mixture
from uniface_ray.train.parallel import World
from uniface_ray.train.shards import Shards
from uniface_ray.train.stage import StageRun
from uniface_ray.train.validation import Validation


def train(config: TrainConfig, base: Base, world: World, sink: Folder, hooks: Hooks | None = None) -> Outcome:
    """Train, and write the model; called by every worker.

    Args:
        config: of the run.
        base: the model that it begins with.
        world: all workers.
        sink: of the run; read and written by the first worker only.
        hooks: what surrounds the loop.

    Raises:
        UserError: data or settings that do not fit the model.
        NotFiniteError: a loss is no number.
        StoppedError: the storage failed; the same call goes on from the last checkpoint.
    """
    hooks = hooks or Hooks()
    shards = _shards(config, base, world)
    checkpoints = Checkpoints(sink, config.checkpoint.keep, config.checkpoint.best)
    state = _shared(world, checkpoints.load() if world.is_first else None) or State(0, 0, {})
    if state.data not in ("", shards.fingerprint):
        raise UserError(
            f"data.path is {config.data.path!r}, whose files have changed since step {state.step:,} (other names or "
            "sizes), so that its place in them is lost: bring back those that were there, or use another sink.path to "
            "begin anew"
        )
    state = replace(state, data=shards.fingerprint)
    if checkpoints.damaged:
        names = ", ".join(sorted(checkpoints.damaged))
        hooks.tell({"step": state.step, "note": f"going on from step {state.step:,}: {names} cannot be read any more"})
    journal = Journal(sink, config, state.step) if world.is_first else None
    validation = Validation(config, shards, base.processor, world)
    mixture = Mixture(config, shards, base.processor, world.rank, world.size)
    try:
        for stage in config.stages.each():
            if state.step >= stage.end:
                continue
            model = base.model()
            adapt(model, config.lora, config.run.seed)
            run = StageRun(config, stage, model, state, world, mixture, validation, checkpoints, journal, hooks)
            state = run.state  # without the tensors, which are in the model now
            state = run.run()
            del run, model  # before those of the next stage are made
            if state.step < stage.end:
                checkpoints.check()
                return Outcome("interrupted", state.step)
        checkpoints.check()
        if journal:
            journal.flush()
            chosen = (checkpoints.best() if config.checkpoint.export == "best" else None) or state
            if chosen.step < state.step:
                hooks.tell(
                    {"step": state.step, "note": f"the model is that of step {chosen.step:,}, which is the best"}
                )
            export(base, config, chosen.tensors["weights"] | chosen.tensors.get("ema", {}), sink)
        return Outcome("done", state.step)
    finally:
        checkpoints.wait()
        if journal:
            with suppress(OSError, UniFaceError):
                journal.flush()


def _shards(config: TrainConfig, base: Base, world: World) -> Shards:
    """Of the files that the first worker sees: all must have the same order of rows, even while files still come."""
    mine = Shards(config.data.path, config.storage, base.config, config.data.held_out, config.data.held_out_by)
    shards = replace(mine, listed=world.told(mine.files if world.is_first else None))
    shards.check()
    return shards


def _shared(world: World, state: State | None) -> State | None:
    """What the first worker has read, without its tensors on the others."""
    light = world.told(state and replace(state, tensors={}))
    return state if world.is_first else light
