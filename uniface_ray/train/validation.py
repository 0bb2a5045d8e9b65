"""A look at held-out rows: their losses, and what the model says and draws of some."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn

from uniface_ray.core.records import seed_of
from uniface_ray.core.train_config import TrainConfig
from uniface_ray.model.decoding import greedy_text
from uniface_ray.model.drawing import DrawRequest, draw
from uniface_ray.model.modeling import UniFaceForConditionalGeneration
from uniface_ray.model.pixels import from_model_range
from uniface_ray.model.processing import UniFaceProcessor
from uniface_ray.model.prompts import CAPTION_QUESTION, understanding_ids
from uniface_ray.model.unmasking import DrawSettings
from uniface_ray.train.batches import Batch, Counts, collate
from uniface_ray.train.losses import LOSSES, features_from
from uniface_ray.train.parallel import World
from uniface_ray.train.samples import SampleMaker, values_of
from uniface_ray.train.shards import Shards
from uniface_ray.train.stream import held_out_rows, kinds_of

_ROWS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Example:
    """A held-out image, and what became of it.

    Attributes:
        row_id: of the data.
        asked: the question; `CAPTION_QUESTION` where the data has captions.
        wanted: the data's answer, or caption.
        said: the model's.
        image: JPEG of the image as its codes have it.
        drawn: JPEG of what the model draws from a caption; None where the data has questions only.
    """

    row_id: int
    asked: str
    wanted: str
    said: str
    image: bytes
    drawn: bytes | None


class Validation:
    """Held-out rows of the kinds that are trained, the same at every look.

    Args:
        config: of the run.
        shards: where they are.
        processor: of the model.
        world: shares the rows.
    """

    def __init__(self, config: TrainConfig, shards: Shards, processor: UniFaceProcessor, world: World) -> None:
        self._config, self._processor, self._world = config, processor, world
        kinds = kinds_of(config.stages.each())
        rows = {kind: held_out_rows(shards, kind, config.validation.rows) for kind in kinds}
        self._maker = maker = SampleMaker(processor, config.data, config.run.seed)
        self._batches: list[tuple[Batch, bool]] = []
        """Each with whether it counts."""
        for kind in kinds:
            samples = [maker.make(kind, number, row) for number, row in enumerate(rows[kind])]
            for numbers in dealt(len(samples), world.rank, world.size):
                share = [samples[number] for number in numbers] or samples[:1]
                self._batches.append((collate(processor.config, share, config.loss.schedule), len(numbers) > 0))
        captioned = rows.get("caption") or rows.get("draw") or []
        self._are_captioned = bool(captioned)
        self._samples = [values_of(row) for row in (captioned or rows.get("vqa", []))[: config.report.samples]]
        seen = [maker.seen(row) for row in self._samples]
        self._seen = {name: torch.stack([one[name] for one in seen]) for name in (seen[0] if seen else {})}

    @torch.no_grad()
    def losses(self, module: nn.Module) -> dict[str, float]:
        """Mean losses over the held-out rows by name, of all workers; none where there are no rows.

        Args:
            module: the trainee, wrapped or not.
        """
        mine = sum((batch.counts for batch, is_counted in self._batches if is_counted), Counts(parts=0))
        whole = self._world.sums([mine.text, mine.masked, mine.images, mine.parts])
        counts = Counts(*(int(number) for number in whole))
        if not counts.parts:
            return {}
        total = [0.0] * len(LOSSES)
        for batch, is_counted in self._batches:
            with self._world.autocast():
                found = module(batch.to(self._world.device), counts)
            if is_counted:
                total = [a + b for a, b in zip(total, found.tolist(), strict=True)]
        return {name: value for name, value in zip(LOSSES, self._world.sums(total), strict=True) if name != "balance"}

    @torch.no_grad()
    def examples(self, module: nn.Module) -> list[Example]:
        """What the model says and draws of some held-out images."""
        if not self._samples:
            return []
        with self._world.autocast():
            return [*module(None, call=self._examples)]

    def _examples(self, model: UniFaceForConditionalGeneration) -> list[Example]:
        config, settings = self._config.validation, self._processor.config
        codes = torch.tensor([row["codes"] for row in self._samples], device=model.device)
        if self._are_captioned:
            texts = [(CAPTION_QUESTION, row["captions"][0]) for row in self._samples]
        else:
            texts = [(row["questions"][0], row["answers"][0]) for row in self._samples]
        said = greedy_text(
            model,
            [
                understanding_ids(settings, self._maker.cut(self._processor.question_ids(question)), one)
                for (question, _), one in zip(texts, codes, strict=True)
            ],
            config.max_new_tokens,
            settings.eos_token_id,
            features_from(model, {name: tensor.to(model.device) for name, tensor in self._seen.items()}),
        )
        images = _jpegs(model, codes)
        drawn = self._drawn(model, [wanted for _, wanted in texts]) if self._are_captioned else [None] * len(images)
        return [
            Example(row["row_id"], *text, self._processor.answer_text(ids), image, picture)
            for row, text, ids, image, picture in zip(self._samples, texts, said, images, drawn, strict=True)
        ]

    def _drawn(self, model: UniFaceForConditionalGeneration, captions: Sequence[str]) -> list[bytes]:
        config = self._config.validation
        how = DrawSettings(steps=config.steps, guidance=config.guidance)
        seeds = [seed_of(self._config.run.seed, row["row_id"]) for row in self._samples]
        requests = [
            DrawRequest(self._processor.text_ids(caption), seed, how)
            for caption, seed in zip(captions, seeds, strict=True)
        ]
        return _jpegs(model, draw(model, requests))


def dealt(rows: int, rank: int, workers: int) -> list[range]:
    """Numbers of one worker's rows in each pass; each of the `rows` is somebody's.

    All workers have as many passes, as a sharded model needs all of them at a time; in the last one some have no row.
    """
    mine, most = range(rank, rows, workers), -(-rows // workers)
    return [mine[first : first + _ROWS_AT_ONCE] for first in range(0, most, _ROWS_AT_ONCE)]


def _jpegs(model: UniFaceForConditionalGeneration, codes: Tensor) -> list[bytes]:
    files = []
    with torch.autocast(model.device.type, enabled=False):
        pixels = from_model_range(model.decode_images(codes)).cpu().numpy()
    for picture in pixels:
        buffer = io.BytesIO()
        Image.fromarray(picture.transpose(1, 2, 0)).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files
