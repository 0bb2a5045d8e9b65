"""The engine of our own model."""

import time
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
import transformers

from uniface_ray.core.records import Reject, RejectError, RejectKind
from uniface_ray.engine.adapters import merge
from uniface_ray.engine.allocator import keep_freed_memory
from uniface_ray.engine.compiling import Kinds, compile_transformer, warm_up
from uniface_ray.engine.encoding import EncodeRunner, EncodeSequence
from uniface_ray.engine.image import ImageRunner, ImageSequence
from uniface_ray.engine.lane import Lane
from uniface_ray.engine.one_step import CodesSequence, DecodeRunner
from uniface_ray.engine.protocol import Draw, Drawing, Outcome, Request, Text, run_all
from uniface_ray.engine.requests import Translator
from uniface_ray.engine.score import ScoreRunner, ScoreSequence
from uniface_ray.engine.text import TextRunner, TextSequence
from uniface_ray.engine.turns import Turns
from uniface_ray.model import UniFaceForConditionalGeneration, UniFaceProcessor

# Positions of images and prompts that go through the model in one step: enough to keep it busy, few enough that the
# answers under way do not wait long, and memory holds what lies between two layers.
_POSITIONS = 4096
# Images that are decoded to pixels at once: at 256 px the decoder's widest layer takes 33 MB for each.
_DECODED = 8


class UniFaceEngine:
    """Answers, images and scores on one model, each kind in a lane of its own; a step moves all of them on."""

    def __init__(
        self,
        folder: Path,
        device: str = "cpu",
        dtype: str = "float32",
        batch_size: int = 64,
        threads: int | None = None,
        image_share: float | None = None,
        image_batch: int | None = None,
        adapter: Path | None = None,
        compiled: Kinds = (),
        recorded: bool = False,
    ) -> None:
        """Load the model of `folder`.

        Args:
            folder: config.json, safetensors and tokenizer files.
            device: torch device.
            dtype: `float32`, `bfloat16` or `float16`; the image tokenizer stays in float32, so codes do not change.
            batch_size: slots: answers that go through the model together, and images as far as memory allows.
            threads: torch threads of this process; None leaves them alone.
            image_share: of the time, that drawing takes while answers are under way; None lets both go on in each step.
            image_batch: images drawn at a time; None is as many as a step of moderate length allows.
            adapter: folder of a LoRA adapter to merge into the model.
            compiled: kinds of requests to compile the transformer for, which takes minutes; none leaves it as it is.
            recorded: answers by CUDA graphs.

        Raises:
            UserError: an adapter that does not fit the model.
            UniFaceError: a model that cannot be compiled here.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        self.device = torch.device(device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.batch_size = batch_size
        transformers.logging.disable_progress_bar()  # a replica has no terminal
        self.processor = UniFaceProcessor.from_pretrained(folder)
        model = UniFaceForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        if adapter:
            model = merge(model, adapter)
        if self.device.type == "cpu":
            model.magvit.to(memory_format=torch.channels_last)  # faster there, to the same bits
        for parameter in model.showo.parameters():  # and no buffers: rotary angles need their float32
            parameter.data = parameter.data.to(getattr(torch, dtype))
        model.to(self.device)  # last: there may be room for the smaller numbers only
        self.model = model
        self._translator = Translator(self.processor)
        self._next_id = 0
        self._draws: dict[int, Draw] = {}
        self._deadlines: dict[int, float] = {}
        self._refused: list[tuple[int, Outcome]] = []
        self._progress: list[tuple[int, Text | Drawing]] = []
        self._turns = Turns(image_share, self.device)
        prefix, image = model.config.num_image_tokens + 3, model.config.num_image_tokens + 2
        together = max(1, _POSITIONS // prefix)
        texts = TextRunner(model, batch_size, recorded)
        self._texts = Lane(texts, batch_size, lambda waiting: texts.most_entering(waiting, _POSITIONS))
        images = min(batch_size, image_batch or max(1, _POSITIONS // image))
        self._images = Lane(ImageRunner(model), images, images)
        self._codes = Lane(DecodeRunner(model), _DECODED, _DECODED)
        scored = min(batch_size, together)
        self._scores = Lane(ScoreRunner(model, scored, *self._translator.yes_no), scored, together)
        self._encoded = Lane(EncodeRunner(model), min(batch_size, together), together)
        if compiled:
            compile_transformer(model)
            warm_up(self, self.image_size, compiled)

    @property
    def image_size(self) -> int:
        """Side of the square of pixels a request carries."""
        return self.model.config.magvit_config.image_size

    def submit(self, request: Request) -> int:
        """Let a request wait for a slot; its id comes back with its outcome from `step`."""
        number = self._next_id
        self._next_id += 1
        try:
            work = self._translator.work(number, request)
        except RejectError as error:
            self._refused.append((number, error.at("engine")))
            return number
        if request.time_limit_s is not None:
            self._deadlines[number] = time.monotonic() + request.time_limit_s
        if isinstance(request, Draw):
            self._draws[number] = request
        match work:
            case ScoreSequence():  # a `TextSequence` too
                self._scores.scheduler.add(work)
            case TextSequence():
                self._texts.scheduler.add(work)
            case ImageSequence():
                self._images.scheduler.add(work)
            case EncodeSequence():
                self._encoded.scheduler.add(work)
        return number

    @torch.inference_mode()
    def step(self) -> list[tuple[int, Outcome]]:
        """Let waiting requests into free slots, and go one step on with all that run.

        Returns:
            Outcomes of those that ended, by id.

        Raises:
            UniFaceError: no request can be answered: then the replica is broken, not its requests.
        """
        ended, self._refused, self._progress = self._refused + self._late(), [], []
        with self._turns.answering():
            ended += [(one.id, reject or self._translator.answer(one)) for one, reject in self._texts.step()]
            ended += [(one.id, reject or self._translator.likelihood(one)) for one, reject in self._scores.step()]
            ended += [(one.id, reject or self._translator.encoded(one)) for one, reject in self._encoded.step()]
        answers = self._texts.scheduler.running
        self._progress += [(one.id, self._translator.answer(one)) for one in answers if one.watched and one.tokens]
        if self._turns.may_draw(len(self._texts) + len(self._scores)):
            with self._turns.drawing():
                ended += self._draw()
        for number, _ in ended:
            self._draws.pop(number, None)
            self._deadlines.pop(number, None)
        return ended

    def _draw(self) -> list[tuple[int, Outcome]]:
        """One step of all images under way; the outcomes of those that ended."""
        ended: list[tuple[int, Outcome]] = []
        failed: set[int] = set()
        for drawn, reject in self._images.step():
            if drawn.codes is not None:
                self._codes.scheduler.add(CodesSequence(drawn, drawn.codes))
            elif reject:
                failed.add(drawn.id)
                ended.append((drawn.id, reject))
        if failed:  # what they looked like on the way is of no more use
            self._codes.drop(lambda one: one.id in failed)
        for under_way in self._images.scheduler.running:
            if under_way.guess is not None:
                self._codes.scheduler.add(CodesSequence(under_way, under_way.guess, finished=False))
                under_way.guess = None
        for one, reject in self._codes.step():
            outcome = reject or self._translator.picture(one, self._draws[one.id])
            if one.finished:
                ended.append((one.id, outcome))
            elif isinstance(outcome, Drawing):
                self._progress.append((one.id, outcome))
        return ended

    def progress(self) -> list[tuple[int, Text | Drawing]]:
        """See `protocol.Engine`."""
        return self._progress

    @torch.inference_mode()
    def cancel(self, number: int) -> None:
        """Forget a request, whose slot is free at once; no outcome will come. Ids that have ended are no error."""
        self._refused = [one for one in self._refused if one[0] != number]
        self._drop({number})

    def run(self, requests: Sequence[Request]) -> list[Outcome]:
        """Answer requests; the i-th outcome belongs to the i-th request."""
        return run_all(self, requests)

    def _late(self) -> list[tuple[int, Outcome]]:
        """Let go of what has run out of time."""
        now = time.monotonic()
        late = {number for number, deadline in self._deadlines.items() if deadline < now}
        self._drop(late)
        return [
            (number, Reject(RejectKind.TIMEOUT, "the time limit of the request is over", "engine")) for number in late
        ]

    def _drop(self, numbers: Collection[int]) -> None:
        if numbers:
            for lane in (self._texts, self._scores, self._encoded, self._images, self._codes):
                lane.drop(lambda one: one.id in numbers)
        for number in numbers:
            self._draws.pop(number, None)
            self._deadlines.pop(number, None)
