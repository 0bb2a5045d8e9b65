"""Batches of mixed kinds, the same whatever number of workers shares them."""

import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from uniface_ray.core.errors import UserError
from uniface_ray.core.stages_config import Stage
from uniface_ray.core.train_config import TrainConfig
from uniface_ray.model.processing import UniFaceProcessor
from uniface_ray.train.batches import Batch, collate
from uniface_ray.train.samples import SampleMaker
from uniface_ray.train.shards import Shards
from uniface_ray.train.stream import KINDS, Kind, Place, Stream

_AHEAD = 2


@dataclass(frozen=True, slots=True)
class Share:
    """One worker's share of one step's batch.

    Attributes:
        parts: to go through the model one after another.
        places: where the streams are after this step.
    """

    parts: list[Batch]
    places: dict[Kind, Place]


def rows_of_each(batch_size: int, shares: Mapping[str, float]) -> dict[Kind, int]:
    """How many rows of each kind a batch has: by the largest remainder, so that they add up."""
    total = sum(shares.values())
    exact = {kind: batch_size * shares[kind] / total for kind in KINDS}
    counts = {kind: int(exact[kind]) for kind in KINDS}
    by_remainder = sorted(KINDS, key=lambda kind: counts[kind] - exact[kind])
    for kind in by_remainder[: batch_size - sum(counts.values())]:
        counts[kind] += 1
    return counts


def check_batch(config: TrainConfig, workers: int) -> None:
    """Every part of every worker must have rows of each kind of work, or workers would wait for one another.

    Raises:
        UserError: the batch is too small for so many parts.
    """
    parts = max(1, workers) * config.parallel.accumulation
    for stage in config.stages.each():
        counts = rows_of_each(config.data.batch_size, stage.shares)
        reads = counts["caption"] + counts["vqa"]
        least = min(count for count in (reads, counts["draw"]) if count)
        lost = [kind for kind in KINDS if stage.shares[kind] and not counts[kind]]
        if least < parts or lost:
            raise UserError(
                f"data.batch_size is {config.data.batch_size}, which stage {stage.number} divides into "
                f"{counts['draw']} rows that draw, {counts['caption']} to caption and {counts['vqa']} with a question, "
                f"but {max(1, workers)} workers with parallel.accumulation={config.parallel.accumulation} need at "
                f"least {parts} that draw and as many that read: raise it, or lower these"
            )


class Mixture:
    """The batches of one stage, one worker's share of each.

    A step takes its rows from the streams in order and deals them out, so what is in a batch depends on the seed and
    the step alone.

    Args:
        config: of the run.
        shards: what to read.
        processor: of the model.
        rank: of this worker.
        workers: that share a batch.
    """

    def __init__(
        self, config: TrainConfig, shards: Shards, processor: UniFaceProcessor, rank: int, workers: int
    ) -> None:
        self._config, self._shards, self._processor = config, shards, processor
        self._rank, self._workers = rank, workers
        self._maker = SampleMaker(processor, config.data, config.run.seed)

    def shares(self, stage: Stage, places: Mapping[Kind, Place]) -> Iterator[Share]:
        """This worker's shares of one step after another, for ever, from `places` on.

        Raises:
            UserError: wrong files; a kind of which there is no row.
        """
        streams = {
            kind: Stream(
                self._shards, kind, self._config.run.seed, self._config.data.shuffle_files, places.get(kind, Place())
            )
            for kind in KINDS
        }
        counts = rows_of_each(self._config.data.batch_size, stage.shares)
        while True:
            parts: list[list[Any]] = [[] for _ in range(self._config.parallel.accumulation)]
            of_draw, of_reads = 0, 0
            for kind in KINDS:
                for number, row in streams[kind].take(counts[kind]):
                    dealt = of_draw if kind == "draw" else of_reads
                    of_draw, of_reads = of_draw + (kind == "draw"), of_reads + (kind != "draw")
                    part, rank = divmod(dealt % (len(parts) * self._workers), self._workers)
                    if rank == self._rank:
                        parts[part].append(self._maker.make(kind, number, row))
            batches = [collate(self._processor.config, part, self._config.loss.schedule) for part in parts]
            yield Share(batches, {kind: stream.place for kind, stream in streams.items()})


class Ahead:
    """Makes shares in a thread while the model works on those before; close it when done."""

    def __init__(self, shares: Iterator[Share]) -> None:
        self._ready: queue.Queue[Share | BaseException] = queue.Queue(_AHEAD)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._make, args=(shares,), name="data", daemon=True)
        self._thread.start()

    def __iter__(self) -> "Ahead":
        return self

    def __next__(self) -> Share:
        made = self._ready.get()
        if isinstance(made, BaseException):
            raise made
        return made

    def close(self) -> None:
        """Make no more."""
        self._closed.set()
        with suppress(queue.Empty):
            while True:
                self._ready.get_nowait()
        self._thread.join()

    def _make(self, shares: Iterator[Share]) -> None:
        try:
            for share in shares:
                if not self._put(share):
                    return
        except BaseException as error:
            self._put(error)

    def _put(self, made: Share | BaseException) -> bool:
        while not self._closed.is_set():
            with suppress(queue.Full):
                self._ready.put(made, timeout=0.1)
                return True
        return False
