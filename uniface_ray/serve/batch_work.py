"""The process that works on one batch: `python -m uniface_ray.serve.batch_work FOLDER STORAGE OWNER BATCH ATTEMPT`.

It checks the lines, runs our own commands over them, and writes the output. Killed at any moment, it leaves what
another one goes on from: the tables of its source are written anew, and our pipeline's runs resume.
"""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import chain, count
from typing import Any

from uniface_ray.core.config import ModelConfig, StorageConfig
from uniface_ray.core.serve_config import ServeConfig
from uniface_ray.core.storage import Folder
from uniface_ray.serve.batch_command import command_line, secrets_of
from uniface_ray.serve.batch_folder import ENDED, MOST_ATTEMPTS, BatchFolder
from uniface_ray.serve.batch_lines import Endpoint, Line, MalformedError, Offer, Wrong, read_lines
from uniface_ray.serve.batch_output import error_lines, in_pieces, output_lines, undone_ids, undone_line, wrong_line
from uniface_ray.serve.batch_source import Prepared, prepare
from uniface_ray.serve.errors import ApiError
from uniface_ray.serve.pictures import pictures_of
from uniface_ray.serve.store import Store

_LOG = logging.getLogger(__name__)
BEAT_S = 5.0
# More than a run takes to finish what is under way when it is asked to end.
_END_S = 60.0
_LOG_BYTES = 2**20


class OvertakenError(Exception):
    """Another process works on this batch now."""


class Work:
    """Works on a batch.

    Args:
        batch: its folder.
        attempt: the number of this process.
        beat_s: seconds between signs of life.
    """

    def __init__(self, batch: BatchFolder, attempt: int, beat_s: float = BEAT_S) -> None:
        request = batch.request()
        self._batch = batch
        self._attempt = attempt
        self._beat_s = beat_s
        self._endpoint: Endpoint = request["endpoint"]
        self._expires_at: int = request["expires_at"]
        self._input: str = request["input_file_id"]
        self._config = ServeConfig.model_validate({**request["config"], "storage": batch.folder.storage})
        named = (one.partition("=") for one in self._config.serve.models)
        self._paths = {self._config.model.name: self._config.model.path, **{name: path for name, _, path in named}}
        self._offer = Offer(self._paths, request["image_sizes"], self._config.serve.max_tokens)
        files = self._config.files
        self._store = Store(batch.folder, batch.owner, files.owner_bytes, files.keep_days)
        self._state: dict[str, Any] = batch.state()
        self._lock = threading.Lock()
        self._prepared = Prepared()
        self._run: subprocess.Popen[bytes] | None = None
        self._end: str | None = None  # `expired` or `cancelled`
        self._done = threading.Event()

    def work(self) -> None:
        """All of it. The state tells how it ended."""
        if self._state["status"] in ENDED:
            return
        self._look()
        threading.Thread(target=self._watch, daemon=True).start()
        try:
            if self._state["status"] == "validating":  # not of one that had room, and is gone on with
                self._store.check_room("input_file_id")
            self._prepared = asyncio.run(self._prepare())
            self._tell("in_progress", request_counts=self._counts())
            if self._do_runs():  # else the next process goes on with them
                self._finish()
        except MalformedError as error:
            self._tell("failed", errors={"object": "list", "data": error.errors})
        except OvertakenError:
            _LOG.warning("another process works on %s now", self._batch.id)
        except ApiError as error:
            self._fail(error.message, error.code)
        except OSError:  # the storage: what is done stays done, and the next process goes on from it
            _LOG.exception("the storage of %s fails", self._batch.id)
        except Exception:
            _LOG.exception("%s failed", self._batch.id)
            self._fail("the server failed at this batch; its log says why", "internal_error")
        finally:
            self._done.set()
        if self._state["status"] in ENDED:
            self._batch.delete_runs()

    async def _prepare(self) -> Prepared:
        self._store.get(self._input)
        pictures = pictures_of(self._config)
        try:
            files, batch = self._config.files, self._batch
            return await prepare(self._lines(), batch.folder, batch.home, pictures, files.batch_settings)
        finally:
            await pictures.close()

    def _lines(self) -> Iterator[Line | Wrong]:
        most = self._config.guard.max_body_bytes
        lines = self._store.lines(self._input, most)
        yield from read_lines(lines, self._endpoint, self._offer, self._config.files.batch_lines, most)

    def words(self, home: str, model: str, typed: tuple[str, ...]) -> list[str]:
        """The command of one run."""
        base, path = self._config.model, self._paths[model]
        named = ModelConfig(name=model, path=path)
        if model != base.name:
            from uniface_ray.engine.adapters import is_adapter  # brings torch, which few batches need here

            if is_adapter(Folder(path, self._config.storage)):
                named = ModelConfig(name=model, path=base.path, adapter=path)
        return command_line(self._config, self._endpoint, self._batch.folder, home, named, typed)

    def _do_runs(self) -> bool:
        """All runs; whether what they gave is to be given out."""
        if self._attempt > MOST_ATTEMPTS:
            return True
        done = [self._run_pipeline(one.home, one.settings.model, one.settings.typed) for one in self._prepared.tables]
        return all(done) or self._end is not None

    def _run_pipeline(self, home: str, model: str, typed: tuple[str, ...]) -> bool:
        """One run, to its end or until the batch shall end; False where it ended before that."""
        words = self.words(home, model, typed)
        environment = {**os.environ, **secrets_of(self._config.storage)}
        with self._lock:
            if self._end:
                return True
            self._run = subprocess.Popen(words, env=environment, stdout=sys.stderr, start_new_session=True)
        code = self._run.wait()
        if code:
            _LOG.warning("%s: the run %s ended with exit code %d", self._batch.id, home.rpartition("/")[2], code)
        return code == 0

    def _finish(self) -> None:
        self._tell("finalizing", request_counts=self._counts())
        if self._batch.attempts() != self._attempt:
            raise OvertakenError
        self._drop_earlier()
        tables, folder = self._prepared.tables, self._batch.folder
        sinks = [(f"{table.home}/sink", table.settings.model) for table in tables]
        good = chain.from_iterable(output_lines(self._endpoint, folder, sink, model) for sink, model in sinks)
        bad = chain(
            map(wrong_line, self._prepared.wrong),
            chain.from_iterable(error_lines(folder, sink) for sink, _ in sinks),
            self._undone(),
        )
        (output, completed), (errors, failed) = self._keep(good, "output"), self._keep(bad, "error")
        counts = {"total": self._prepared.total, "completed": completed, "failed": failed}
        end = self._end or "completed"
        self._tell(end, request_counts=counts, output_file_id=output, error_file_id=errors)

    def _undone(self) -> Iterator[bytes]:
        ids = chain.from_iterable(undone_ids(self._batch.folder, table.home) for table in self._prepared.tables)
        yield from (undone_line(custom_id, self._end or "completed") for custom_id in ids)

    def _keep(self, lines: Iterator[bytes], what: str) -> tuple[str | None, int]:
        """A file of the lines, and how many they are; no file where there are none."""
        first = next(lines, None)
        if first is None:
            return None, 0
        numbers = count(1)
        counted = (line for line in chain([first], lines) if next(numbers))
        name = self._named(what)
        return self._store.put(in_pieces(counted), name, "batch_output").id, next(numbers) - 1

    def _drop_earlier(self) -> None:
        """Remove what a process gave out that ended before it could say so."""
        if self._attempt > 1:
            names = (self._named("output"), self._named("error"))
            for one in filter(None, map(self._store.find, self._store.ids())):
                if one.purpose == "batch_output" and one.filename in names:
                    self._store.delete(one.id)

    def _named(self, what: str) -> str:
        return f"{self._batch.id}_{what}.jsonl"

    def _fail(self, message: str, code: str | None) -> None:
        data = [{"code": code, "message": message, "line": None, "param": None}]
        self._tell("failed", errors={"object": "list", "data": data})

    def _tell(self, status: str, **facts: Any) -> None:
        with self._lock:
            self._state = {**self._state, **facts, "status": status, f"{status}_at": int(time.time())}
            self._batch.tell(self._state)

    def _counts(self) -> dict[str, int]:
        completed, failed = 0, len(self._prepared.wrong)
        for table in self._prepared.tables:
            try:
                counts = json.loads(self._batch.folder.read(f"{table.home}/sink/progress.json"))["counts"]
            except FileNotFoundError:
                continue
            completed += counts["ok"]
            failed += counts["rejected"]
        return {"total": self._prepared.total, "completed": completed, "failed": failed}

    def _watch(self) -> None:
        """Give signs of life, and look whether the batch shall end."""
        while not self._done.wait(self._beat_s):
            try:
                self._look()
            except OSError:
                _LOG.exception("the storage of %s fails", self._batch.id)

    def _look(self) -> None:
        self._batch.beat()
        with self._lock:
            if not self._end:
                self._end = "cancelled" if self._batch.cancelled_at else None
                self._end = "expired" if time.time() > self._expires_at else self._end
                if self._end and self._run:
                    self._run.send_signal(signal.SIGTERM)
                    threading.Timer(_END_S, self._run.kill).start()
            if self._state["status"] == "in_progress":
                self._state = {**self._state, "request_counts": self._counts()}
                self._batch.tell(self._state)


def main(words: list[str]) -> None:
    """The command line."""
    uri, storage, owner, number, attempt = words
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    folder = Folder(uri, StorageConfig.model_validate_json(storage))
    batch = BatchFolder(folder, owner, number)
    try:
        Work(batch, int(attempt)).work()
    finally:
        if not folder.is_local:
            batch.keep_log(_said())


def _said() -> bytes:
    """The end of what this process and its runs have written to a log that only they can read."""
    sys.stderr.flush()
    try:
        size = os.fstat(2).st_size
        return os.pread(2, _LOG_BYTES, max(0, size - _LOG_BYTES))
    except OSError as error:  # a job of a cluster, which has the log
        return f"see the log of the job ({error})\n".encode()


if __name__ == "__main__":
    main(sys.argv[1:])


__all__ = ["OvertakenError", "Work"]
