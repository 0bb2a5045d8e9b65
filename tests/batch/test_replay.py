"""Rejected rows done again: what works moves, the rest stays, and a death at any moment loses and doubles nothing."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.batch.conftest import Caption, rows_of
from tests.batch.plain_run import Instant, PlainRun, faces
from uniface_ray import cli
from uniface_ray.batch.layout import marker_name
from uniface_ray.batch.replaying import compose_again
from uniface_ray.batch.stages import commit_chunk, read_chunk
from uniface_ray.batch.verify import verify
from uniface_ray.core.compose import compose
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import StoppedError, UserError
from uniface_ray.core.fenced import Fenced
from uniface_ray.core.records import Reject, RejectKind
from uniface_ray.core.sink_config import VerifyConfig
from uniface_ray.core.storage import Folder
from uniface_ray.data import fetching
from uniface_ray.data.fetching import fetch
from uniface_ray.engine.protocol import Ask, Text

BAD = (3, 7, 8, 11)


@pytest.fixture
def source(tmp_path: Path, portraits: list[bytes]) -> Path:
    return faces(tmp_path / "faces", portraits, BAD)


@pytest.fixture
def sink(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "out"), StorageConfig())


@pytest.fixture
def run(source: Path, sink: Folder) -> PlainRun:
    """Twenty rows in four chunks, four of them rejected: 1, 2, 1 and none in a chunk."""
    return PlainRun(source, sink).finish()


def verdict(sink: Folder) -> tuple[dict[str, int], int]:
    reach = [f"storage.{name}={value}" for name, value in sink.storage.model_dump(exclude_defaults=True).items()]
    found = verify(compose("verify", [f"sink.path={sink.uri}", *reach], VerifyConfig))
    return found.kinds, found.exit_code


def names(sink: Folder, status: str) -> Counter[str]:
    return Counter(Path(row["uri"]).stem for row in rows_of(sink, status))


def test_what_was_mended_moves_and_the_rest_counts_its_attempts(
    run: PlainRun, source: Path, sink: Folder, portraits: list[bytes]
) -> None:
    untouched = sink.read(marker_name(3))
    for number in (3, 8):
        (source / f"{number:02d}.jpg").write_bytes(portraits[number])
    again = run.again().replay()
    assert again.tally.counts() == {"input": 20, "ok": 16, "rejected": 0, "pending": 4, "rows_out": 16}
    again.finish(chunks=again.tally.reopened)
    assert names(sink, "ok") == Counter(f"{n:02d}" for n in range(20) if n not in (7, 11))
    rejected = rows_of(sink, "rejected")
    assert {Path(row["uri"]).stem: row["attempts"] for row in rejected} == {"07": 2, "11": 2}
    assert verdict(sink) == ({}, 0)
    assert sink.read(marker_name(3)) == untouched, "chunks without such rows are left alone"
    manifest = json.loads(sink.read("manifest.json"))
    assert manifest["counts"] == {"input": 20, "ok": 18, "rejected": 2, "pending": 0, "rows_out": 18}
    assert manifest["rejects_by_kind"] == {"unsupported_format": 2}
    assert again.replay("timeout").tally.reopened == {}.keys()


def test_only_rejects_go_through_the_engine_again(run: PlainRun, source: Path, portraits: list[bytes]) -> None:
    faces(source, portraits)
    asked: list[int] = []

    def count(request: Ask) -> Text:
        asked.append(request.seed)
        return Text("mended", 1)

    again = run.again(engine=Instant(count)).replay()
    again.finish(chunks=again.tally.reopened)
    assert len(asked) == len(BAD)
    assert names(again.sink, "ok").total() == 20
    assert not again.sink.list("data/status=rejected")


def test_kinds_and_a_limit_choose(source: Path, sink: Folder, portraits: list[bytes]) -> None:
    def refuse(request: Ask) -> Text | Reject:
        return Reject(RejectKind.TIMEOUT, "too slow", "engine") if request.seed % 2 else Text("quick", 1)

    run = PlainRun(source, sink, engine=Instant(refuse)).finish()
    late = run.tally.rejects_by_kind["timeout"]
    assert late > 3
    again = run.again(engine=Instant()).replay("timeout", limit=3)
    assert again.tally.pending == 3
    again.finish(chunks=again.tally.reopened)
    assert again.tally.rejects_by_kind == {"timeout": late - 3, "unsupported_format": len(BAD)}
    assert verdict(sink) == ({}, 0)


def test_a_limit_that_was_too_low(run: PlainRun, source: Path, sink: Folder, portraits: list[bytes]) -> None:
    faces(source, portraits)
    low = run.again("decode.max_pixels=4").replay()
    low.finish(chunks=low.tally.reopened)
    assert low.tally.rejects_by_kind == {"too_large": 4}
    again = low.again().replay("too_large")
    again.finish(chunks=again.tally.reopened)
    assert (verdict(sink), again.tally.ok) == (({}, 0), 20)


def test_a_list_with_blank_lines_that_could_not_be_read(tmp_path: Path, source: Path, sink: Folder) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    table = lists / "a.jsonl"
    table.write_text("".join(f'\n{{"uri": "../faces/{n:02d}.jpg"}}\n' + "\n" * (n % 3) for n in range(20)))
    run = PlainRun(lists, sink)
    table.rename(tmp_path / "away")
    run.finish()
    assert (run.tally.rejects_by_kind, verdict(sink)) == ({"not_found": 20}, ({}, 0))
    (tmp_path / "away").rename(table)
    again = run.again().replay("not_found")
    again.finish(chunks=again.tally.reopened)
    assert (again.tally.ok, again.tally.rejected, verdict(sink)) == (16, 4, ({}, 0))


def test_a_source_that_is_down_leaves_the_reasons_as_they_are(run: PlainRun, source: Path, sink: Folder) -> None:
    rejected = rows_of(sink, "rejected")
    again = run.again().replay()
    for number in range(20):
        path = source / f"{number:02d}.jpg"
        path.unlink()
        path.symlink_to(path)  # nobody can read it
    with pytest.raises(StoppedError, match="gives nothing any more"):
        read_chunk(again.job, again.plan.index, 1)
    assert rows_of(sink, "rejected") == rejected


def test_of_a_table_only_rejects_are_fetched_again(
    tmp_path: Path, source: Path, sink: Folder, portraits: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_text("".join(f'{{"uri": "faces/{n:02d}.jpg"}}\n' for n in range(20)))
    run = PlainRun(tmp_path / "a.jsonl", sink).finish()
    faces(source, portraits)
    fetched: list[str] = []

    def fetch_and_note(uri: str, *settings: Any) -> bytes:
        fetched.append(Path(uri).stem)
        return fetch(uri, *settings)

    monkeypatch.setattr(fetching, "fetch", fetch_and_note)
    again = run.again().replay()
    again.finish(chunks=again.tally.reopened)
    assert sorted(fetched) == [f"{n:02d}" for n in BAD]
    assert (again.tally.ok, verdict(sink)) == (20, ({}, 0))


class DiedError(Exception):
    """The process is gone."""


class Dying(Fenced):
    """A sink whose process dies before its n-th change."""

    def __init__(self, sink: Fenced, changes: int) -> None:
        super().__init__(sink.uri, sink.storage, sink.token)
        self.left = changes

    def _live(self) -> None:
        if not self.left:
            raise DiedError
        self.left -= 1

    def replace(self, name: str, data: bytes, version: str | None) -> str | None:
        self._live()
        return super().replace(name, data, version)

    def remove(self, name: str, version: str) -> bool:
        self._live()
        return super().remove(name, version)


@pytest.mark.parametrize("changes", range(5))
@pytest.mark.parametrize(
    ("rescue", "mended"), [("resume", (7, 8)), ("replay, then resume", (8,)), ("the same task again", (7,))]
)
def test_death_between_any_two_changes(
    source: Path, sink: Folder, portraits: list[bytes], changes: int, rescue: str, mended: tuple[int, ...]
) -> None:
    run = PlainRun(source, sink).finish()
    for number in mended:
        (source / f"{number:02d}.jpg").write_bytes(portraits[number])
    again = run.again().replay()
    answered = again.answered(1)
    alive, again.job = again.job, replace(again.job, sink=Dying(again.job.sink, changes))
    try:
        commit_chunk(again.job, again.plan.index, answered)
        assert changes == 4, "a commit is four changes: the marker opened, two files, the new marker"
    except DiedError:
        assert changes < 4
    again.job = alive
    if rescue == "the same task again":
        commit_chunk(again.job, again.plan.index, answered)
        again.finish(chunks=[])
    elif rescue == "resume":
        run.again().finish()
    else:
        second = run.again().replay()
        second.finish("interrupted", second.tally.reopened)
        run.again().finish()
    assert verdict(sink) == ({}, 0)
    if rescue == "resume" and not changes:
        mended = ()  # nothing was touched, and a resume does what is pending only
    left = {f"{number:02d}" for number in BAD if number not in mended}
    assert set(names(sink, "rejected")) == left
    if rescue == "the same task again":
        (attempts,) = (row["attempts"] for row in rows_of(sink, "rejected") if row["uri"].endswith("08.jpg"))
        assert attempts == 2


def test_settings_come_from_the_manifest_and_typed_ones_win(run: PlainRun, sink: Folder) -> None:
    config, replay = compose_again([f"sink.path={sink.uri}", "decode.max_pixels=9", "replay.kinds=[timeout]"])
    assert (config.decode.max_pixels, config.run.chunk_rows, replay.kinds) == (9, 5, ("timeout",))
    assert config.source == run.config.source
    assert config.task == run.config.task
    assert config.decode.max_bytes == run.config.decode.max_bytes


def test_what_was_asked_of_one_run_only_is_not_asked_of_the_replay(source: Path, sink: Folder) -> None:
    PlainRun(source, sink, "run.dry_run=true", "remote.concurrency=3").finish("stopped")
    config, _ = compose_again([f"sink.path={sink.uri}", "remote.timeout_s=9"])
    assert (config.run.dry_run, config.run.preflight, config.run.chunk_rows) == (False, False, 5)
    assert (config.remote.concurrency, config.remote.timeout_s) == (3, 9.0)
    assert compose_again([f"sink.path={sink.uri}", "run.dry_run=true"])[0].run.dry_run


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["replay.kinds=[tired]"], "replay.kinds has tired, but the kinds are unreadable_image, "),
        (["source.path=other"], "source.path: there is no such setting"),
        (["replay.limit=0"], "replay.limit=0"),
    ],
)
def test_mistakes(run: PlainRun, sink: Folder, words: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told.replace(".", r"\.")):
        compose_again([f"sink.path={sink.uri}", *words])


def test_a_sink_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        compose_again([f"sink.path={tmp_path / 'nothing'}"])


def test_secrets_are_not_those_of_the_manifest(source: Path, sink: Folder) -> None:
    PlainRun(source, sink, "storage.access_key=a", "storage.secret_key=s").finish()
    assert compose_again([f"sink.path={sink.uri}"])[0].storage.secret_key is None
    typed = [f"sink.path={sink.uri}", "storage.access_key=b", "storage.secret_key=t"]
    assert compose_again(typed)[0].storage.secret_key == "t"


@pytest.mark.slow
def test_the_command_on_ray(caption: Caption, tmp_path: Path, portraits: list[bytes]) -> None:
    def run_replay(*words: str) -> int:
        return cli.main("replay-rejects", words)

    source, out = faces(tmp_path / "faces", portraits, BAD), tmp_path / "out"
    sink = Folder(str(out), StorageConfig())
    caption(f"source.path={source}", f"sink.path={out}", "run.chunk_rows=5")
    faces(source, portraits, (11,))
    assert run_replay(f"sink.path={out}", "run.dry_run=true") == 0
    assert json.loads((out / "manifest.json").read_text())["state"] == "done"
    assert run_replay(f"sink.path={out}") == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["state"], manifest["counts"]["ok"], manifest["counts"]["rejected"]) == ("done", 19, 1)
    kinds = sorted(RejectKind)
    assert manifest["attempts"][-1]["replay"] == {"kinds": kinds, "rows": 4, "now_ok": 3}
    assert json.loads((out / "progress.json").read_text())["counts"] == manifest["counts"]
    assert verdict(sink) == ({}, 0)
    assert run_replay(f"sink.path={out}", "replay.kinds=[timeout]") == 0
