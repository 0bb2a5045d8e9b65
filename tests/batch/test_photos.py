"""Photos in a run: a row for each face, with the photo as the unit that is counted, rejected and done again."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.batch.conftest import Caption, rows_of
from tests.batch.plain_run import Instant, PlainRun
from tests.pictures import encoded, group_photo, picture
from uniface_ray.batch.manifest import identity_of
from uniface_ray.batch.preflight import check
from uniface_ray.batch.verify import verify
from uniface_ray.core.compose import compose
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.metrics import METRICS
from uniface_ray.core.records import Reject, RejectKind, child_id_of, row_id_of
from uniface_ray.core.sink_config import VerifyConfig
from uniface_ray.core.storage import Folder
from uniface_ray.engine.protocol import Request, Text

ON = "faces.enabled=true"


@pytest.fixture
def photos(tmp_path: Path, portraits: Sequence[bytes]) -> Path:
    """Of two, nobody, one and three people, and a file that is no photo."""
    people = portraits[3::4]
    folder = tmp_path / "photos"
    folder.mkdir()
    places = {
        "a": [(200, 200, 260, 0.0), (500, 220, 180, 10.0)],
        "b": [],
        "c": [(300, 250, 300, 0.0)],
        "d": [(130, 150, 220, 0.0), (400, 150, 200, 0.0), (640, 300, 180, -15.0)],
    }
    for name, group in places.items():
        (folder / f"{name}.jpg").write_bytes(encoded(group_photo(people, group, (800, 500)), quality=90))
    (folder / "e.jpg").write_bytes(b"no photo")
    return folder


@pytest.fixture
def sink(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "out"), StorageConfig())


def counts(run: PlainRun) -> tuple[int | None, ...]:
    return tuple(run.tally.counts().values())


def whole(sink: Folder) -> dict[str, int]:
    return verify(compose("verify", [f"sink.path={sink.uri}"], VerifyConfig)).kinds


def test_each_face_is_a_row_and_each_photo_is_counted(photos: Path, sink: Folder) -> None:
    run = PlainRun(photos, sink, ON).finish()
    assert counts(run) == (5, 4, 1, 0, 6)  # input, ok, rejected, pending, rows out
    assert run.tally.amounts["images"] == 6
    assert run.tally.amounts["faceless"] == 1
    assert {f"uniface_{name}_total" for name in run.tally.amounts} <= {metric.name for metric in METRICS}
    rows = rows_of(sink, "ok")
    assert Counter(Path(row["uri"]).stem for row in rows) == {"a": 2, "c": 1, "d": 3}
    for row in rows:
        photo = row_id_of(Path(row["uri"]).name, 0)
        assert row["parent_id"] == photo
        assert row["row_id"] == child_id_of(photo, row["face_index"])
        x0, y0, x1, y1 = row["face_box"]
        points = list(zip(row["face_points"][::2], row["face_points"][1::2], strict=True))
        assert all(x0 < x < x1 and y0 < y < y1 for x, y in points[:4])  # eyes, nose and mouth
        assert row["face_score"] >= 0.6
    assert len({row["row_id"] for row in rows}) == 6
    (reject,) = rows_of(sink, "rejected")
    assert (reject["row_id"], reject["parent_id"]) == (row_id_of("e.jpg", 0), None)
    assert whole(sink) == {}


def test_a_face_that_fails_costs_its_photo_and_is_done_again(photos: Path, sink: Folder) -> None:
    seen: list[Request] = []

    def answer(request: Request) -> Text | Reject:
        seen.append(request)
        return Reject(RejectKind.MODEL_ERROR, "no", "engine") if len(seen) == 2 else Text("yes", 1)

    run = PlainRun(photos, sink, ON, engine=Instant(answer)).finish()
    assert counts(run) == (5, 3, 2, 0, 4)
    reject = next(row for row in rows_of(sink, "rejected") if row["error_kind"] == "model_error")
    assert reject["row_id"] == row_id_of("a.jpg", 0)
    assert reject["error_message"] == "face 2 of 2: no"
    assert reject["face_box"] is None
    (photos / "e.jpg").write_bytes(encoded(picture(1, (600, 400))))  # a photo now, of nobody
    again = run.again(ON).replay()
    again.finish(chunks=again.tally.reopened)
    assert counts(again) == (5, 5, 0, 0, 6)
    assert again.tally.amounts["faceless"] == 2
    assert rows_of(sink, "rejected") == []
    assert whole(sink) == {}


def test_photos_of_a_table_keep_its_columns(photos: Path, sink: Folder, tmp_path: Path) -> None:
    files = sorted(photos.iterdir())
    table = pa.table({"image": [file.read_bytes() for file in files], "name": [file.name for file in files]})
    pq.write_table(table, tmp_path / "t.parquet")
    PlainRun(tmp_path / "t.parquet", sink, ON, "source.keep_columns=[name]").finish()
    names = Counter(row["name"] for row in rows_of(sink, "ok"))
    assert names == {"a.jpg": 2, "c.jpg": 1, "d.jpg": 3}
    assert [row["name"] for row in rows_of(sink, "rejected")] == ["e.jpg"]


def test_the_faces_of_a_run_are_part_of_what_it_is(photos: Path, sink: Folder) -> None:
    run = PlainRun(photos, sink, ON).finish()
    with pytest.raises(UserError, match="faces"):
        run.again("faces.enabled=true", "faces.min_size=100")
    assert "faces" not in identity_of(compose("caption", [f"source.path={photos}", "sink.path=x"]), "", "float32")


def test_columns_of_faces_cannot_be_kept_columns(photos: Path, tmp_path: Path) -> None:
    given = [f"source.path={photos}", f"sink.path={tmp_path / 'out'}", "source.keep_columns=[face_box]"]
    with pytest.raises(UserError, match=r"source.keep_columns has face_box, but the output has columns of that name"):
        check(compose("caption", [*given, ON]))


def test_a_run_over_photos(caption: Caption, photos: Path, sink: Folder) -> None:
    summary = caption(f"source.path={photos}", f"sink.path={sink.uri}", ON, "faces.max_faces=2")
    assert summary.counts == {"input": 5, "ok": 4, "rejected": 1, "pending": 0, "rows_out": 5}
    assert len(rows_of(sink, "ok")) == 5
    report = sink.read("report.html").decode()
    assert report.count("data:image/jpeg") == 5  # the faces; the rejected file has none to show
    assert whole(sink) == {}
