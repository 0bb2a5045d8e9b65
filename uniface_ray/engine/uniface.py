"""The engine of our own model."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers

from uniface_ray.core.records import Reject, RejectError, RejectKind
from uniface_ray.engine.allocator import keep_freed_memory
from uniface_ray.engine.lane import Lane
from uniface_ray.engine.protocol import Ask, Request, Result, Text, run_all
from uniface_ray.engine.text import TextRunner, TextSequence
from uniface_ray.model import UniFaceForConditionalGeneration, UniFaceProcessor

# Positions of image prefixes that go through the model in one step: enough to keep it busy, few enough that the
# answers under way do not wait long.
_PREFILL = 4096


class UniFaceEngine:
    """Image codes once a batch, then greedy text for all rows of the batch together."""

    def __init__(
        self,
        folder: Path,
        device: str = "cpu",
        dtype: str = "float32",
        batch_size: int = 64,
        threads: int | None = None,
    ) -> None:
        """Load the model of `folder`.

        Args:
            folder: config.json, safetensors and tokenizer files.
            device: torch device.
            dtype: `float32`, `bfloat16` or `float16`; the image tokenizer stays in float32, so codes do not change.
            batch_size: requests that go through the model together.
            threads: torch threads of this process; None leaves them alone.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        self.device = torch.device(device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.batch_size = batch_size
        transformers.logging.disable_progress_bar()  # a replica has no terminal
        self.processor = UniFaceProcessor.from_pretrained(folder)
        model = UniFaceForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval().to(self.device)
        for parameter in model.showo.parameters():  # and no buffers: rotary angles need their float32
            parameter.data = parameter.data.to(getattr(torch, dtype))
        self.model = model
        self._next_id = 0
        self._refused: list[tuple[int, Result | Reject]] = []
        runner = TextRunner(model, batch_size)
        self._texts = Lane(runner, batch_size, most_entering=max(1, _PREFILL // runner.prefix))

    @property
    def image_size(self) -> int:
        """Side of the square of pixels a request carries."""
        return self.model.config.magvit_config.image_size

    def submit(self, request: Request) -> int:
        """Let a request wait for a slot; its id comes back with its outcome from `step`."""
        number = self._next_id
        self._next_id += 1
        try:
            self._texts.scheduler.add(self._text(number, request))
        except RejectError as error:
            self._refused.append((number, error.at("engine")))
        return number

    def step(self) -> list[tuple[int, Result | Reject]]:
        """Let waiting requests into free slots, and go one step on with all that run.

        Returns:
            Outcomes of those that ended, by id.

        Raises:
            UniFaceError: no request can be answered: then the replica is broken, not its requests.
        """
        refused, self._refused = self._refused, []
        with torch.inference_mode():
            return refused + [(one.id, reject or self._answer(one)) for one, reject in self._texts.step()]

    def cancel(self, number: int) -> None:
        """Forget a request, whose slot is free at once; no outcome will come. Ids that have ended are no error."""
        self._refused = [(refused, reject) for refused, reject in self._refused if refused != number]
        with torch.inference_mode():
            self._texts.drop(lambda one: one.id == number)

    def run(self, requests: Sequence[Request]) -> list[Result | Reject]:
        """Answer requests; the i-th outcome belongs to the i-th request."""
        return run_all(self, requests)

    def _text(self, number: int, request: Request) -> TextSequence:
        if not isinstance(request, Ask):
            raise RejectError(RejectKind.BAD_REQUEST, f"this engine does not know how to {type(request).__name__}")
        config = self.model.config
        size = self.image_size
        if request.pixels.shape != (3, size, size):
            what = f"the image is {request.pixels.shape}, but this model takes (3, {size}, {size})"
            raise RejectError(RejectKind.BAD_REQUEST, what)
        prompt = [config.bos_token_id, *self.processor.question_ids(request.question)]
        positions = (config.num_image_tokens + 3) + len(prompt) + request.max_new_tokens
        if positions > config.backbone_config.max_position_embeddings:
            what = (
                f"the image, a question of {len(prompt)} tokens and an answer of up to {request.max_new_tokens} take "
                f"{positions} positions, but this model has {config.backbone_config.max_position_embeddings}"
            )
            raise RejectError(RejectKind.BAD_REQUEST, what)
        return TextSequence(
            id=number,
            image=hashlib.blake2b(request.pixels.tobytes(), digest_size=16).digest(),
            picture=request.pixels,
            prompt=prompt,
            max_new_tokens=request.max_new_tokens,
            stop_ids=frozenset([config.eos_token_id]),
            seed=request.seed,
        )

    def _answer(self, one: TextSequence) -> Text:
        return Text(self.processor.answer_text(one.tokens), len(one.tokens))
