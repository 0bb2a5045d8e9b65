"""Images as the model sees them, with their texts, from a row to parquet."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from tests.model.toys import toy_config
from tests.tiny import tokenizer
from uniface_ray.batch.chunk import Chunk, pack_answers, pack_rows, unpack_answers, unpack_rows
from uniface_ray.core.config import SourceConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.records import Row, RowRef
from uniface_ray.core.task_config import TokenizeConfig
from uniface_ray.engine.uniface import UniFaceEngine
from uniface_ray.model import UniFaceForConditionalGeneration, UniFaceProcessor
from uniface_ray.model.pixels import to_model_range
from uniface_ray.tasks.answer import answer_rows
from uniface_ray.tasks.tokenize import Tokenize

SOURCE = SourceConfig(
    path="x", caption_column="c", question_column="q", answer_column="a", conversation_column="conversations"
)
PAIR = {"question": "Old?", "answer": "No."}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> UniFaceEngine:
    folder = tmp_path_factory.mktemp("experts")
    torch.manual_seed(0)
    model = UniFaceForConditionalGeneration(toy_config())
    model.save_pretrained(folder)
    UniFaceProcessor(tokenizer(300), model.config).save_pretrained(folder)
    return UniFaceEngine(Path(folder), threads=1)


def rows() -> list[Row]:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), np.uint8)
    fields = [
        {"captions": ["a", "b"], "questions": ["Man?"], "answers": ["Yes."], "conversation": [PAIR]},
        {"captions": ["a"], "questions": None, "answers": None, "conversation": None},
        {"captions": None, "questions": ["Man?"], "answers": None, "conversation": None},
        {"captions": None, "questions": None, "answers": None, "conversation": None},
    ]
    return [Row(RowRef(i, "a"), pixels=pixels[i], fields=fields[i]) for i in range(4)]


def test_a_row_holds_what_the_model_sees_and_all_texts(engine: UniFaceEngine) -> None:
    task, given = Tokenize(TokenizeConfig(), SOURCE), rows()
    sent = unpack_rows(pack_rows(Chunk(0, given), pa.schema([]), task.wanted.schema), 32)
    answers = answer_rows(task, engine, sent.rows, run_seed=0)
    out = unpack_answers(pack_answers(Chunk(0, sent.rows), answers, task, "toy", pa.schema([])), task)
    first, second = out.ok.to_pylist()
    assert (first["captions"], first["questions"], first["answers"]) == (["a", "b"], ["Man?", "Old?"], ["Yes.", "No."])
    assert (second["captions"], second["questions"], second["answers"]) == (["a"], [], [])
    assert [row["error_message"] for row in out.rejected.to_pylist()] == [
        "the row has 1 questions and 0 answers: each needs the other",
        "the row has no caption and no question",
    ]
    assert task.details(first) == "Man? Yes. · Old? No."

    pixels = to_model_range(torch.from_numpy(np.stack([row.pixels for row in given[:2]])))
    assert [first["codes"], second["codes"]] == engine.model.encode_images(pixels).tolist()
    features = engine.model.encoders.seen(pixels)
    for name, (_, width) in {"semantic": (16, 32), "identity": (64, 16)}.items():
        stored = torch.from_numpy(np.frombuffer(first[name], np.float16).reshape(-1, width).copy())
        torch.testing.assert_close(stored.float(), features[name][0], atol=2e-3, rtol=2e-3)
    whole, parts = engine.model.image_features(pixels), engine.model.encoders.resampled(features)
    torch.testing.assert_close(whole.semantic, parts.semantic)


@pytest.mark.parametrize("keep", ["pixels", "nothing"])
def test_features_are_kept_only_where_asked_for(engine: UniFaceEngine, keep: str) -> None:
    task, (row, *_) = Tokenize(TokenizeConfig(keep=keep), SOURCE), rows()
    ((values,),) = [answer.rows for answer in answer_rows(task, engine, [row], run_seed=0)]
    assert values.keys() == set(task.columns.names)
    if keep == "pixels":
        picture = np.asarray(Image.open(io.BytesIO(values["pixels"])))
        np.testing.assert_array_equal(picture.transpose(2, 0, 1), row.pixels)


def test_texts_come_from_somewhere_and_in_pairs() -> None:
    with pytest.raises(UserError, match=r"nothing says what the images show: give source.caption_column"):
        Tokenize(TokenizeConfig(), SourceConfig(path="x"))
    with pytest.raises(UserError, match=r"source.question_column is 'q' and source.answer_column is None: they go tog"):
        Tokenize(TokenizeConfig(), SourceConfig(path="x", caption_column="c", question_column="q"))
