"""The engine of any image-text model of transformers: questions in batches, through the model's own `generate`."""

import time
from collections import deque
from collections.abc import Hashable, Sequence
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForImageTextToText, AutoProcessor

from uniface_ray.core.errors import UniFaceError
from uniface_ray.core.records import Reject, RejectError, RejectKind
from uniface_ray.engine.allocator import keep_freed_memory
from uniface_ray.engine.chat_batch import ChatBatch, ChatModel
from uniface_ray.engine.failures import broken_process, is_out_of_memory
from uniface_ray.engine.guided import Forms
from uniface_ray.engine.protocol import Ask, Drawing, Outcome, Request, Text, run_all
from uniface_ray.engine.sampling import Sampling
from uniface_ray.engine.text import TextSequence

_FAILURES = 8  # as in `lane`


class TransformersEngine:
    """See `protocol.Engine`. It answers `Ask` only.

    A batch is answered a token at a time and ends with its longest answer; its other slots are free only then, which
    `generate` leaves no way around. Results of those who end earlier come at once.
    """

    def __init__(
        self,
        path: str | Path,
        image_size: int,
        device: str = "cpu",
        dtype: str = "float32",
        batch_size: int = 64,
        threads: int | None = None,
    ) -> None:
        """Load the model.

        Args:
            path: folder of `save_pretrained` of a model and its processor, or a name on the hub.
            image_size: side of the pictures that requests bring; the processor fits them to the model.
            device: torch device.
            dtype: `float32`, `bfloat16` or `float16`.
            batch_size: questions that go through the model together.
            threads: torch threads of this process; None leaves them alone.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        if device == "cpu":
            keep_freed_memory()
        transformers.logging.disable_progress_bar()  # a replica has no terminal
        self.image_size = image_size
        self.batch_size = batch_size
        processor = AutoProcessor.from_pretrained(path)
        model = AutoModelForImageTextToText.from_pretrained(path, dtype=getattr(torch, dtype)).eval().to(device)
        self.chat = ChatModel(model, processor)
        self._forms = Forms(processor.tokenizer, model.config.get_text_config().vocab_size, self.chat.ends)
        self._next_id = 0
        self._requests: dict[int, Ask] = {}
        self._deadlines: dict[int, float] = {}
        self._waiting: deque[int] = deque()
        self._parts: deque[list[int]] = deque()  # of batches that failed
        self._most: int | None = None  # what fitted into memory, once more did not
        self._halves: list[int] = []  # sizes that may be that, while parts are left
        self._failing: set[Hashable] = set()
        self._batch: ChatBatch | None = None
        self._ended: list[tuple[int, Outcome]] = []
        self._progress: list[tuple[int, Text | Drawing]] = []

    def submit(self, request: Request) -> int:
        """Let a request wait for the next batch; its id comes back with its outcome from `step`."""
        self._next_id += 1
        number = self._next_id
        if not isinstance(request, Ask):
            what = f"an image-text model answers questions, and cannot {type(request).__name__.lower()}"
            self._ended.append((number, Reject(RejectKind.BAD_REQUEST, what, "engine")))
            return number
        self._requests[number] = request
        self._waiting.append(number)
        if request.time_limit_s is not None:
            self._deadlines[number] = time.monotonic() + request.time_limit_s
        return number

    @torch.inference_mode()
    @broken_process()
    def step(self) -> list[tuple[int, Outcome]]:
        """One more token of all answers under way, or the first ones of the next batch.

        Raises:
            UniFaceError: requests about several pictures have failed, and none went on in between: the model is broken.
            BrokenProcessError: this process can do nothing more.
        """
        self._give_up_late()
        self._progress = []
        if self._batch is None and (numbers := self._next_batch()):
            self._batch = self._begun(numbers)
        if self._batch:
            try:
                self._batch.step()
            except torch.AcceleratorError:
                raise
            except Exception as error:
                self._split(self._batch, error)
            else:
                self._failing.clear()
                self._tell(self._batch)
        ended, self._ended = self._ended, []
        return ended

    def progress(self) -> list[tuple[int, Text | Drawing]]:
        """See `protocol.Engine`."""
        return self._progress

    def cancel(self, number: int) -> None:
        """Forget a request: no outcome will come. An id that has ended already is no error."""
        self._forget(number)
        self._ended = [one for one in self._ended if one[0] != number]

    def run(self, requests: Sequence[Request]) -> list[Outcome]:
        """Answer requests; the i-th outcome belongs to the i-th request."""
        return run_all(self, requests)

    def _next_batch(self) -> list[int]:
        if self._parts:
            return [number for number in self._parts.popleft() if number in self._requests]
        if self._halves:
            self._most, self._halves = min([*self._halves, self._most or self.batch_size]), []
        count = min(len(self._waiting), self._most or self.batch_size)
        return [self._waiting.popleft() for _ in range(count)]

    def _begun(self, numbers: Sequence[int]) -> ChatBatch | None:
        rows = []
        for number in numbers:
            try:
                rows.append(self._row(number, self._requests[number]))
            except RejectError as error:
                self._end(number, error.at("engine"))
        return ChatBatch(self.chat, rows, [self._requests[one.id].question for one in rows]) if rows else None

    def _row(self, number: int, request: Ask) -> TextSequence:
        return TextSequence(
            id=number,
            image=b"%d" % id(request.pixels),
            picture=request.pixels,
            prompt=[],
            max_new_tokens=request.max_new_tokens,
            stop_ids=frozenset(self.chat.ends),
            sampling=Sampling(request.temperature, request.top_p),
            seed=request.seed,
            watched=request.watched,
            guide=self._forms.guide(request),
        )

    def _tell(self, batch: ChatBatch) -> None:
        for one in batch.rows:
            if one.id in self._requests and (one.done or one.watched):
                text = Text(self.chat.text(one.tokens), len(one.tokens), batch.prompt_tokens(one))
                if one.done:
                    self._end(one.id, text)
                else:
                    self._progress.append((one.id, text))
        if batch.done:
            self._batch = None

    def _split(self, batch: ChatBatch, error: Exception) -> None:
        """Halves of a batch that failed go on alone, and a single request that did is rejected."""
        self._batch = None
        left = [one for one in batch.rows if one.id in self._requests]
        out_of_memory = is_out_of_memory(error)
        if len(left) > 1:
            middle = len(left) // 2
            self._halves += [middle] if out_of_memory else []
            self._parts.extendleft([[one.id for one in half] for half in (left[middle:], left[:middle])])
            return
        if out_of_memory:  # where one request alone was too large, the batches that it was in were not at fault
            self._halves.clear()
        for one in left:
            kind = RejectKind.OUT_OF_MEMORY if out_of_memory else RejectKind.MODEL_ERROR
            self._end(one.id, Reject(kind, f"{type(error).__name__}: {error}", "engine", attempts=2))
            self._failing.add(one.origin)
        if len(self._failing) >= _FAILURES:
            raise UniFaceError(f"the model answers none of {_FAILURES} requests one after the other: {error}")

    def _give_up_late(self) -> None:
        now = time.monotonic()
        for number in [number for number, deadline in self._deadlines.items() if deadline < now]:
            self._end(number, Reject(RejectKind.TIMEOUT, "the time limit of the request is over", "engine"))

    def _end(self, number: int, outcome: Outcome) -> None:
        self._forget(number)
        self._ended.append((number, outcome))

    def _forget(self, number: int) -> None:
        self._requests.pop(number, None)
        self._deadlines.pop(number, None)
        if number in self._waiting:
            self._waiting.remove(number)
        if self._batch:
            self._batch.drop(number)


__all__ = ["TransformersEngine"]
