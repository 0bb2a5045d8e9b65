"""The engine of our own model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import transformers

from uniface_ray.core.errors import UniFaceError
from uniface_ray.core.records import Reject, RejectKind
from uniface_ray.engine.allocator import keep_freed_memory
from uniface_ray.engine.protocol import Request, Result
from uniface_ray.model import UniFaceForConditionalGeneration, UniFaceProcessor
from uniface_ray.model.decoding import greedy_text
from uniface_ray.model.pixels import to_model_range
from uniface_ray.model.prompts import understanding_ids


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

    @property
    def image_size(self) -> int:
        """Side of the square of pixels a request carries."""
        return self.model.config.magvit_config.image_size

    def run(self, requests: Sequence[Request]) -> list[Result | Reject]:
        """Answer requests in batches; the i-th outcome belongs to the i-th request.

        Raises:
            UniFaceError: no request of a batch can be answered: then the replica is broken, not its requests.
        """
        outcomes: list[Result | Reject] = []
        for start in range(0, len(requests), self.batch_size):
            batch = self._answer_or_split(requests[start : start + self.batch_size])
            if len(batch) > 1 and all(isinstance(one, Reject) for one in batch):
                raise UniFaceError(f"the model answers none of {len(batch)} requests: {batch[0]}")
            outcomes += batch
        return outcomes

    def _answer_or_split(self, requests: Sequence[Request]) -> list[Result | Reject]:
        try:
            return self._answer(requests)
        except torch.AcceleratorError as error:
            raise UniFaceError(f"the device of this replica failed: {error}") from error
        except Exception as error:
            if len(requests) == 1:
                out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
                kind = RejectKind.OUT_OF_MEMORY if out_of_memory else RejectKind.MODEL_ERROR
                return [Reject(kind, f"{type(error).__name__}: {error}", "engine", attempts=2)]
        # One request that fails, or a batch too large for memory: halves find it or fit, and nobody else loses a row.
        middle = len(requests) // 2
        return self._answer_or_split(requests[:middle]) + self._answer_or_split(requests[middle:])

    @torch.inference_mode()
    def _answer(self, requests: Sequence[Request]) -> list[Result | Reject]:
        config = self.model.config
        pixels = torch.from_numpy(np.stack([request.pixels for request in requests])).to(self.device)
        codes = self.model.encode_images(to_model_range(pixels))
        rows = [
            understanding_ids(config, self.processor.question_ids(request.question), code)
            for request, code in zip(requests, codes, strict=True)
        ]
        longest = max(request.max_new_tokens for request in requests)
        answers = greedy_text(self.model, rows, longest, stop_id=config.eos_token_id)
        cut = [answer[: request.max_new_tokens] for answer, request in zip(answers, requests, strict=True)]
        return [Result(self.processor.answer_text(answer), len(answer)) for answer in cut]
