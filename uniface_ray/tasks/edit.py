"""Edit: a region of each image drawn anew from a prompt; what lies outside it stays as it is."""

import pyarrow as pa

from uniface_ray.core.config import SourceConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.records import RejectError, RejectKind, Row
from uniface_ray.core.task_config import EditConfig
from uniface_ray.data.wanted import Field, FieldKind, Wanted
from uniface_ray.tasks.base import Conversation, Task, Values, pixels_of, seed_field, settled
from uniface_ray.tasks.drawing import draw, drawing_columns, drawn_values


class Edit(Task):
    """Draws the masked region of the image, at the model's size.

    Raises:
        UserError: no prompt or no region, or one of them from two places.
    """

    name = "edit"
    headline = "Edits of {} images"
    text_column = "prompt"
    image_column = "image"

    def __init__(self, config: EditConfig, source: SourceConfig, model: str) -> None:
        self.config = config
        self.model = model
        self.files = config.files
        self.columns = pa.schema(drawing_columns(config))
        prompt = settled(
            Field("prompt", FieldKind.TEXT, source.prompt_column, "source.prompt_column", config.prompt),
            "'task.prompt=a smiling woman'",
        )
        self.wanted = Wanted(fields=(prompt, _region(config, source), *seed_field(source)))

    def work(self, row: Row, seed: int) -> Conversation:
        if row.mask is None:
            raise RejectError(RejectKind.BAD_REQUEST, "the row has no mask")
        seed = row.fields.get("seed", seed)
        request = draw(self.config, row.fields["prompt"], seed, pixels_of(row), row.mask)
        (drawing,) = yield [request]
        return [drawn_values(self.config, self.model, request, drawing, row.ref.row_id, 0)]

    def details(self, values: Values) -> str:
        cut = f" · cut: …{values['prompt_cut']}" if values["prompt_cut"] else ""
        return f"seed {values['seed']}{cut}"


def _region(config: EditConfig, source: SourceConfig) -> Field:
    given = {
        "source.mask_column": source.mask_column,
        "source.box_column": source.box_column,
        "task.box": None if config.box is None else list(config.box),
    }
    named = [f"{name}={value}" for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise UserError(
            f"{' and '.join(named) or 'nothing'} says which region to draw: give one of source.mask_column, "
            "source.box_column, or a box for every image as in 'task.box=[0.2,0.5,0.8,1]'"
        )
    if source.mask_column is not None:
        return Field("mask", FieldKind.IMAGE, source.mask_column, "source.mask_column")
    return Field("box", FieldKind.NUMBERS, source.box_column, "source.box_column", given["task.box"])
