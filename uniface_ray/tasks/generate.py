"""Generate: one or several images of each prompt, and the best of several tries where that is asked for."""

import pyarrow as pa

from uniface_ray.core.config import SourceConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.records import Row, seed_of
from uniface_ray.core.task_config import GenerateConfig
from uniface_ray.data.wanted import Field, FieldKind, Wanted
from uniface_ray.engine.protocol import Score
from uniface_ray.tasks.base import Conversation, Task, Values, seed_field
from uniface_ray.tasks.drawing import draw, drawing_columns, drawn_values

_OF_TRIES = [("score", pa.float32()), ("scores", pa.list_(pa.float32())), ("seeds", pa.list_(pa.int64()))]


class Generate(Task):
    """Draws each prompt; of `best_of` tries for an image, the one that the model itself scores best is kept.

    Every try has a seed of its own, made of the row's seed and the try's number, so that it is the same in any run;
    `source.seed_column` gives the first one, and the others are made of that.

    Raises:
        UserError: no column of prompts.
    """

    name = "generate"
    headline = "Faces of {} prompts"
    text_column = "prompt"
    image_column = "image"

    def __init__(self, config: GenerateConfig, source: SourceConfig, model: str) -> None:
        if source.prompt_column is None:
            raise UserError("source.prompt_column is null, but prompts come from a column of a table: name it")
        self.config = config
        self.model = model
        self.images_out = config.images_per_prompt * config.best_of
        self.files = config.files
        prompt = Field("prompt", FieldKind.TEXT, source.prompt_column, "source.prompt_column")
        self.wanted = Wanted(image=False, fields=(prompt, *seed_field(source)))
        tries = _OF_TRIES if config.best_of > 1 else []
        self.columns = pa.schema([*drawing_columns(config), ("index", pa.int32()), *tries])

    def work(self, row: Row, seed: int) -> Conversation:
        config, prompt = self.config, row.fields["prompt"]
        tries = range(config.images_per_prompt * config.best_of)
        if (given := row.fields.get("seed")) is None:
            seeds = [seed_of(seed, number) for number in tries]
        else:  # the first image is drawn by the very number that was given
            seeds = [seed_of(given, number) if number else given for number in tries]
        requests = [draw(config, prompt, one) for one in seeds]
        drawings = yield [*requests]
        scores = [0.0] * len(seeds)
        if config.best_of > 1:
            seen = prompt.removesuffix(drawings[0].cut)
            scores = [found.score for found in (yield [Score(drawing.pixels, seen) for drawing in drawings])]
        images = []
        for index in range(config.images_per_prompt):
            tries = range(index * config.best_of, (index + 1) * config.best_of)
            best = max(tries, key=lambda number: scores[number])
            values = drawn_values(config, self.model, requests[best], drawings[best], row.ref.row_id, index)
            of_tries = {"scores": [scores[one] for one in tries], "seeds": [seeds[one] for one in tries]}
            images.append({**values, **of_tries, "index": index, "score": scores[best]})
        return images

    def details(self, values: Values) -> str:
        best = f" · best of {len(values['scores'])}: {values['score']:.2f}" if "scores" in values else ""
        cut = f" · cut: …{values['prompt_cut']}" if values["prompt_cut"] else ""
        return f"seed {values['seed']}{best}{cut}"
