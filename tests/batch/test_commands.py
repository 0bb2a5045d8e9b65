"""Each command on a few rows, from a source to parquet, with a random model: its stages here, and once on Ray."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.batch.conftest import rows_of
from tests.batch.plain_run import PlainRun
from tests.pictures import encoded
from uniface_ray.batch.driver import run
from uniface_ray.core.compose import compose
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.records import child_id_of, row_id_of
from uniface_ray.core.storage import Folder
from uniface_ray.engine.uniface import UniFaceEngine

Command = Callable[..., PlainRun]


@pytest.fixture
def sink(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "out"), StorageConfig())


@pytest.fixture(scope="module")
def engine(random_model: Path) -> UniFaceEngine:
    return UniFaceEngine(random_model, threads=1)


@pytest.fixture
def command(engine: UniFaceEngine, random_model: Path, sink: Folder) -> Command:
    """Run a command into `sink`, in chunks small enough to have several."""

    def call(name: str, source: Path | str, *words: str, into: Folder = sink) -> PlainRun:
        return PlainRun(Path(source), into, f"model.path={random_model}", *words, engine=engine, command=name).finish()

    return call


def pixels_of(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_questions_of_the_settings_and_of_each_row(
    command: Command, sink: Folder, tmp_path: Path, portraits: list[bytes], portraits_folder: Path
) -> None:
    asked = ["What's her mood, roughly?", "Is this a man?"]
    few = ["run.limit=3", "task.max_new_tokens=4"]
    done = command("vqa", portraits_folder, f"task.questions={json.dumps(asked)}", *few)
    assert done.tally.counts() == {"input": 3, "ok": 3, "rejected": 0, "pending": 0, "rows_out": 6}
    rows = rows_of(sink, "ok")
    parents = [row_id_of(f"{number:02d}.jpg", 0) for number in range(3) for _ in asked]
    assert [row["parent_id"] for row in rows] == parents
    assert [row["row_id"] for row in rows] == [child_id_of(one, n % 2) for n, one in enumerate(parents)]
    assert [row["question"] for row in rows] == asked * 3
    page = done.page()
    assert "Answers about 3 images" in page
    assert "What's her mood, roughly?" in page.replace("&#x27;", "'")

    table = {"image": portraits[:3], "q": [asked[:1], asked, []], "n": [1, 2, 3]}
    pq.write_table(pa.table(table), tmp_path / "faces.parquet")
    of_rows = Folder(str(tmp_path / "of-rows"), StorageConfig())
    words = ["source.question_column=q", "source.keep_columns=[n]"]
    assert command("vqa", tmp_path / "faces.parquet", *words, *few, into=of_rows).tally.rows_out == 3
    told = [(row["n"], row["question"]) for row in rows_of(of_rows, "ok")]
    assert told == [(1, asked[0]), (2, asked[0]), (2, asked[1])]
    assert rows_of(of_rows, "ok")[0]["answer"] == rows[0]["answer"]
    assert rows_of(of_rows, "ok")[0]["parent_id"] is None
    (reject,) = rows_of(of_rows, "rejected")
    assert (reject["n"], reject["error_kind"]) == (3, "bad_request")


def test_drawn_faces_and_their_scores_once_more(command: Command, sink: Folder, tmp_path: Path) -> None:
    prompts = [f"a woman, number {number}" for number in range(5)]
    lines = [*({"prompt": prompt, "n": n} for n, prompt in enumerate(prompts)), {"prompt": ""}]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    few = ["task.steps=3", "task.images_per_prompt=2", "task.best_of=2", "task.files=true", "source.keep_columns=[n]"]
    words = [tmp_path / "prompts.jsonl", *few]
    done = command("generate", *words)
    assert done.tally.counts() == {"input": 6, "ok": 5, "rejected": 1, "pending": 0, "rows_out": 10}
    rows = rows_of(sink, "ok")
    assert [(row["prompt"], row["index"], row["n"]) for row in rows] == [
        (prompt, index, str(n)) for n, prompt in enumerate(prompts) for index in range(2)
    ]
    assert len({row["row_id"] for row in rows}) == len({row["seed"] for row in rows}) == 10
    assert all(pixels_of(row["image"]).shape == (32, 32, 3) for row in rows)
    assert all(row["score"] == max(row["scores"]) and row["seed"] in row["seeds"] for row in rows)
    assert all(sink.read(row["file"]) == row["image"] for row in rows)
    assert ds.dataset(f"{sink.uri}/data", partitioning="hive").count_rows() == 11
    page = done.page()
    assert page.count("<img") == 10
    assert "needs text there" in page

    scored = Folder(str(tmp_path / "scored"), StorageConfig())
    columns = ["source.text_column=prompt", "source.keep_columns=[file]"]
    command("score", f"{sink.uri}/data/status=ok", *columns, into=scored)
    found = {row["file"]: row["score"] for row in rows_of(scored, "ok")}
    assert found == {row["file"]: pytest.approx(row["score"], abs=1e-5) for row in rows}

    without = Folder(str(tmp_path / "without"), StorageConfig())
    quiet = command("generate", *words, "report.images=false", "run.chunk_rows=1", into=without)
    assert "<img" not in quiet.page()
    assert [row["image"] for row in rows_of(without, "ok")] == [row["image"] for row in rows]


def test_edits_change_the_masked_region_only(
    command: Command, sink: Folder, tmp_path: Path, portraits: list[bytes]
) -> None:
    size = Image.open(io.BytesIO(portraits[0])).size
    mask = Image.new("L", size, 0)
    mask.paste(255, (0, 0, size[0], size[1] // 2))
    masks = [encoded(mask, "PNG"), encoded(mask.resize((9, 9)), "PNG"), encoded(Image.new("L", size), "PNG")]
    table = {"image": portraits[:1] * 3, "mask": masks, "prompt": ["a hat"] * 3}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    few = ["task.steps=3", "task.format=png"]
    columns = ["source.mask_column=mask", "source.prompt_column=prompt"]
    done = command("edit", tmp_path / "t.parquet", *columns, *few)
    assert (done.tally.ok, done.tally.rejected) == (1, 2)
    assert done.page().count("<img") == 4  # before and after, and two rejects
    (row,) = rows_of(sink, "ok")
    assert "mask is 9 x 9" in rows_of(sink, "rejected")[0]["error_message"]
    assert "nothing to draw" in rows_of(sink, "rejected")[1]["error_message"]

    boxed = Folder(str(tmp_path / "boxed"), StorageConfig())
    pq.write_table(pa.table(table).slice(0, 1), tmp_path / "one.parquet")
    command("edit", tmp_path / "one.parquet", "task.prompt=a hat", "task.box=[0,0,1,0.5]", *few, into=boxed)
    (same,) = rows_of(boxed, "ok")
    picture, again = pixels_of(row["image"]), pixels_of(same["image"])
    assert (picture[16:] == again[16:]).all()
    assert (picture[:16] != again[:16]).any()  # another file, so another row with a seed of its own

    assert "compositeWithTrainedAlgorithmicMedia" in str(row["image"])


@pytest.mark.slow
def test_the_same_faces_on_ray(
    command: Command, one_ray: None, sink: Folder, tmp_path: Path, random_model: Path
) -> None:
    lines = [json.dumps({"prompt": f"number {number}"}) for number in range(5)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    words = ["task.steps=2", "task.files=true", "run.chunk_rows=2"]
    command("generate", tmp_path / "prompts.jsonl", *words)
    on_ray = Folder(str(tmp_path / "on-ray"), StorageConfig())
    typed = [f"source.path={tmp_path / 'prompts.jsonl'}", f"sink.path={on_ray.uri}", f"model.path={random_model}"]
    summary = run(compose("generate", [*typed, *words]))
    assert (summary.state, summary.counts["ok"]) == ("done", 5)
    assert rows_of(on_ray, "ok") == rows_of(sink, "ok")
    assert all(on_ray.read(row["file"]) == row["image"] for row in rows_of(on_ray, "ok"))
    assert on_ray.read("report.html").decode().count("<img") == 5


@pytest.mark.parametrize("form", ["llava", "image-folder", "unif2aced-1m"])
def test_texts_and_images_of_any_form_become_tokens(
    command: Command, sink: Folder, tmp_path: Path, portraits: list[bytes], portraits_folder: Path, form: str
) -> None:
    turns = [{"from": "human", "value": "<image>\nOld?"}, {"from": "gpt", "value": "No."}]
    if form == "llava":
        source = portraits_folder / "chats.jsonl"
        lines = [{"image": f"{i:02d}.jpg", "conversations": turns} for i in range(2)]
    else:
        source = portraits_folder / "metadata.jsonl"
        lines = [{"file_name": f"{i:02d}.jpg", "text": "a face"} for i in range(2)]
    source.write_text("\n".join(map(json.dumps, lines)))
    if form == "unif2aced-1m":
        source = tmp_path / "faces.parquet"
        pq.write_table(
            pa.table({"image": portraits[:2], "caption": ["a face"] * 2, "conversations": [turns] * 2}), source
        )
    done = command("tokenize", source, f"source={form}")
    assert done.tally.counts()["ok"] == 2
    rows = rows_of(sink, "ok")
    captions, questions = [] if form == "llava" else ["a face"], [] if form == "image-folder" else ["Old?"]
    assert [(row["captions"], row["questions"], len(row["codes"])) for row in rows] == [(captions, questions, 64)] * 2
    assert ("a face" if captions else "Old? No.") in done.page()
