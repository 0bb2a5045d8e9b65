"""A batch of questions in `generate` of a transformers model, which is held after each token."""

import queue
import threading
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from uniface_ray.core.records import Pixels
from uniface_ray.engine.text import TextRunner, TextSequence


class ChatModel:
    """A model and its processor."""

    def __init__(self, model: Any, processor: Any) -> None:
        """Look at what ends an answer.

        Args:
            model: of `AutoModelForImageTextToText`, in eval mode.
            processor: of it, with a chat template.
        """
        self.model, self.processor = model, processor
        processor.tokenizer.padding_side = "left"  # answers begin at the same place
        ends = model.generation_config.eos_token_id
        ends = processor.tokenizer.eos_token_id if ends is None else ends
        self.ends: list[int] = list(ends) if isinstance(ends, list | tuple) else [ends]
        pad = processor.tokenizer.pad_token_id
        self.pad: int = self.ends[0] if pad is None else pad
        if pad is None:
            processor.tokenizer.pad_token_id = self.pad

    def prompts(self, pictures: Sequence[Pixels], questions: Sequence[str]) -> Any:
        """What the model reads, by its own chat template, padded at the left."""
        chats = [
            [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": question}]}]
            for picture, question in zip(map(_image, pictures), questions, strict=True)
        ]
        inputs = self.processor.apply_chat_template(
            chats,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        )
        return inputs.to(self.model.device, self.model.dtype)

    def text(self, tokens: Sequence[int]) -> str:
        """Of an answer."""
        return str(self.processor.tokenizer.decode(tokens, skip_special_tokens=True)).strip()


class ChatBatch:
    """Requests that are answered together.

    `generate` runs in a thread of its own and waits after each token until `step` lets it go on: so its answers can be
    seen, cancelled and timed on the way, and no more than one of the two threads ever works.
    """

    def __init__(self, chat: ChatModel, rows: Sequence[TextSequence], questions: Sequence[str]) -> None:
        """Prepare a batch; the first `step` begins it.

        Args:
            chat: the model.
            rows: their pictures are uint8 (3, S, S); their prompts are not used.
            questions: of the rows.
        """
        self.rows = rows
        self.done = False
        self._chat, self._questions = chat, questions
        self._prompt_tokens: list[int] = []
        self._tokens: queue.SimpleQueue[list[int] | BaseException | None] = queue.SimpleQueue()
        self._may_go_on = threading.Semaphore(0)
        self._thread: threading.Thread | None = None

    def step(self) -> None:
        """One more token of each answer.

        Raises:
            Exception: of the model; the batch is of no more use.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="generate", daemon=True)
            self._thread.start()
        else:
            self._may_go_on.release()
        found = self._tokens.get()
        if isinstance(found, BaseException):
            raise found
        if found is None:
            self.done = True
            return
        for one, token in zip(self.rows, found, strict=True):
            if not one.done:
                one.take(token)
        if all(one.done for one in self.rows):
            self._may_go_on.release()  # nothing comes any more: `generate` ends by itself
            self._thread.join()
            self.done = True

    def drop(self, number: int) -> None:
        """An answer that nobody waits for: it goes no further."""
        for one in self.rows:
            one.done |= one.id == number

    def prompt_tokens(self, one: TextSequence) -> int:
        """Of the picture and the question."""
        return self._prompt_tokens[self.rows.index(one)]

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                self._generate()
            self._tokens.put(None)
        except BaseException as error:
            self._tokens.put(error)

    def _generate(self) -> None:
        chat = self._chat
        inputs = chat.prompts(
            [one.picture for one in self.rows if not isinstance(one.picture, Tensor)], self._questions
        )
        self._prompt_tokens = inputs["attention_mask"].sum(1).tolist()
        chat.model.generate(
            **inputs,
            generation_config=GenerationConfig(
                max_new_tokens=max(one.max_new_tokens for one in self.rows),
                do_sample=False,  # `_Choice` has done it already
                eos_token_id=chat.ends,
                pad_token_id=chat.pad,
                bos_token_id=chat.model.generation_config.bos_token_id,
            ),
            logits_processor=LogitsProcessorList([_Choice(self.rows)]),
            stopping_criteria=StoppingCriteriaList([_Hold(self)]),
        )

    def hold(self, tokens: list[int]) -> list[bool]:
        """In the thread of `generate`: show a token of each row, wait, and hear which rows are done."""
        self._tokens.put(tokens)
        self._may_go_on.acquire()
        return [one.done for one in self.rows]


class _Choice(LogitsProcessor):
    """Leaves one token of each row: chosen by the row's own sampling, seed and form."""

    def __init__(self, rows: Sequence[TextSequence]) -> None:
        self.rows = rows

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        chosen = scores.argmax(-1)
        going = [row for row, one in enumerate(self.rows) if not one.done]
        if going:
            index = torch.tensor(going, device=scores.device)
            chosen[index] = TextRunner.choose([self.rows[row] for row in going], scores[index].float())
        return torch.full_like(scores, -torch.inf).scatter(1, chosen[:, None], 0.0)


class _Hold(StoppingCriteria):
    """Stops `generate` after each token, until it may go on."""

    def __init__(self, batch: ChatBatch) -> None:
        self.batch = batch

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        done = self.batch.hold(input_ids[:, -1].tolist())
        return torch.tensor(done, device=input_ids.device)


def _image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels.transpose(1, 2, 0))


__all__ = ["ChatBatch", "ChatModel"]
