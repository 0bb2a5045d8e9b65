"""From requests to work for the lanes, with all that can be wrong with one said at once; and from work to results."""

import hashlib

import numpy as np
import torch

from uniface_ray.core.errors import UserError
from uniface_ray.core.records import Pixels, RejectError, RejectKind
from uniface_ray.engine.encoding import EncodeSequence
from uniface_ray.engine.guided import Forms
from uniface_ray.engine.image import ImageSequence
from uniface_ray.engine.one_step import CodesSequence
from uniface_ray.engine.protocol import Ask, Draw, Drawing, Encode, Encoded, Likelihood, Request, Score, Text
from uniface_ray.engine.sampling import Sampling
from uniface_ray.engine.score import ScoreSequence
from uniface_ray.engine.text import TextSequence
from uniface_ray.model import UniFaceProcessor
from uniface_ray.model.drawing import DrawRequest, DrawSettings
from uniface_ray.model.inpainting import masked_tokens, paste
from uniface_ray.model.prompts import tokens_cut
from uniface_ray.model.scoring import MATCH_QUESTION

Work = TextSequence | ImageSequence | ScoreSequence | EncodeSequence

# What begins an answer; each is tried with and without a space before it.
_YES_NO = (("yes", "Yes"), ("no", "No"))


class Translator:
    """Knows a model's words and sizes."""

    def __init__(self, processor: UniFaceProcessor) -> None:
        self.processor = processor
        self.config = processor.config
        self._forms = Forms(processor.tokenizer, self.config.text_vocab_size, [self.config.eos_token_id])
        self.yes_no = [[processor.text_ids(space + word) for space in ("", " ") for word in words] for words in _YES_NO]
        """Token ids of each spelling of yes, and of no."""

    def work(self, number: int, request: Request) -> Work:
        """What there is to do for a request.

        Raises:
            RejectError: the model cannot do it; the message says why.
        """
        try:
            match request:
                case Ask():
                    return self._text(number, request)
                case Draw():
                    return self._image(number, request)
                case Score():
                    return self._score(number, request)
                case Encode():
                    self._check_picture(request.pixels)
                    return EncodeSequence(number, request.pixels, request.features)
                case _:
                    raise UserError("this engine has a model, and neither a judge nor a vision model to look with")
        except UserError as error:
            raise RejectError(RejectKind.BAD_REQUEST, str(error)) from error

    def answer(self, one: TextSequence) -> Text:
        """The result of an `Ask`, as far as it is known."""
        prompt = self.config.num_image_tokens + 3 + len(one.prompt)
        return Text(self.processor.answer_text(one.tokens), len(one.tokens), prompt)

    def likelihood(self, one: ScoreSequence) -> Likelihood:
        """The result of a `Score`."""
        return Likelihood(one.score, one.log_yes, one.log_no)

    def encoded(self, one: EncodeSequence) -> Encoded:
        """The result of an `Encode`."""
        assert one.codes is not None
        return Encoded(one.codes, one.seen)

    def picture(self, one: CodesSequence, request: Draw) -> Drawing:
        """The result of a `Draw`: of an edit, what lies outside its mask is as it was."""
        assert one.pixels is not None
        pixels = one.pixels
        if request.pixels is not None and request.mask is not None:
            pixels = paste(torch.from_numpy(request.pixels), pixels, torch.from_numpy(request.mask) > 0)
        ids = self.processor.text_ids(request.prompt)
        cut = tokens_cut(self.config, ids)
        told = self.processor.answer_text(ids[len(ids) - cut :]) if cut else ""
        return Drawing(pixels.numpy(), told, len(one.codes), len(ids) - cut)

    def _text(self, number: int, request: Ask) -> TextSequence:
        prompt = [self.config.bos_token_id, *self.processor.question_ids(request.question)]
        self._check_length(len(prompt), request.max_new_tokens)
        return TextSequence(
            id=number,
            image=self._check_picture(request.pixels),
            picture=request.pixels,
            prompt=prompt,
            max_new_tokens=request.max_new_tokens,
            stop_ids=frozenset([self.config.eos_token_id]),
            sampling=Sampling(request.temperature, request.top_p),
            seed=request.seed,
            watched=request.watched,
            guide=self._forms.guide(request),
        )

    def _image(self, number: int, request: Draw) -> ImageSequence:
        unknown = None
        if request.pixels is not None:
            self._check_picture(request.pixels)
            side = self.config.magvit_config.image_size
            if request.mask is None or request.mask.shape != (side, side):
                given = "missing" if request.mask is None else f"{request.mask.shape}"
                raise RejectError(RejectKind.BAD_REQUEST, f"the mask is {given}, but this model takes ({side}, {side})")
            # Every token that the region touches: what of it lies outside the region is pasted back.
            side_tokens = self.config.magvit_config.grid_size
            unknown = masked_tokens(torch.from_numpy(request.mask) > 0, side_tokens, threshold=1e-3)
        settings = DrawSettings(
            steps=request.steps,
            guidance=request.guidance,
            guidance_interval=request.guidance_interval,
            temperature=request.temperature,
            top_k=request.top_k or 0,
            top_p=1.0 if request.top_p is None else request.top_p,
            schedule=request.schedule,
        )
        draw = DrawRequest(self.processor.text_ids(request.prompt), request.seed, settings, unknown=unknown)
        return ImageSequence(number, draw, request.pixels, request.partials)

    def _score(self, number: int, request: Score) -> ScoreSequence:
        question = self.processor.question_ids(MATCH_QUESTION.format(text=request.statement))
        longest = max(len(one) for spellings in self.yes_no for one in spellings)
        self._check_length(len(question) + 1, longest)
        return ScoreSequence(
            id=number,
            image=self._check_picture(request.pixels),
            picture=request.pixels,
            prompt=[self.config.bos_token_id, *question],
            max_new_tokens=longest,
            stop_ids=frozenset(),
        )

    def _check_picture(self, pixels: Pixels) -> bytes:
        """The name under which sequences share the work on a picture."""
        shape = (3, self.config.magvit_config.image_size, self.config.magvit_config.image_size)
        if pixels.shape != shape or pixels.dtype != np.uint8:
            what = f"the image is {pixels.dtype} {pixels.shape}, but this model takes uint8 {shape}"
            raise RejectError(RejectKind.BAD_REQUEST, what)
        return hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()

    def _check_length(self, prompt: int, answer: int) -> None:
        positions = self.config.num_image_tokens + 3 + prompt + answer
        most = self.config.backbone_config.max_position_embeddings
        if positions > most:
            what = (
                f"the image, a text of {prompt} tokens and an answer of up to {answer} take {positions} positions, "
                f"but this model has {most}"
            )
            raise RejectError(RejectKind.BAD_REQUEST, what)
