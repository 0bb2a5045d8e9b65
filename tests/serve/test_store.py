"""Files of clients, on a disk and in S3."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from uniface_ray.core.storage import Folder
from uniface_ray.serve import store as module
from uniface_ray.serve.errors import ApiError
from uniface_ray.serve.files import page
from uniface_ray.serve.store import Store


def test_a_file_comes_back_as_it_was(place: Folder) -> None:
    store = Store(place, "ann", 1000, 1)
    record = store.put([b"a\nb", b"c\n\nd"], "../../etc/pass\x00wd.jsonl", "batch")
    assert record.filename == "passwd.jsonl"
    assert (record.bytes, record.purpose) == (7, "batch")
    assert store.get(record.id) == record
    assert b"".join(store.content(record.id)) == b"a\nbc\n\nd"
    assert list(store.lines(record.id, 100)) == [b"a", b"bc", b"", b"d"]
    assert store.ids() == [record.id]
    store.delete(record.id)
    assert store.ids() == []
    assert list(place.walk()) == []
    with pytest.raises(ApiError, match="there is no file"):
        store.get(record.id)


def test_an_owner_sees_only_its_own(place: Folder) -> None:
    ann, bob = Store(place, "ann", 1000, 1), Store(place, "bob", 1000, 1)
    record = ann.put([b"secret"], "a", "batch")
    assert bob.ids() == []
    for call in (bob.get, bob.delete):
        with pytest.raises(ApiError, match="there is no file"):
            call(record.id)
    assert list(bob.content(record.id)) == []


@pytest.mark.parametrize("number", ["", "file-", "../bob/files/x", "file-../x", "file-a/b", "file-\x00", "*"])
def test_ids_lead_nowhere_else(tmp_path: object, number: str) -> None:
    from uniface_ray.core.config import StorageConfig

    with pytest.raises(ApiError, match="there is no file"):
        Store(Folder(str(tmp_path), StorageConfig()), "ann", 1000, 1).get(number)


def test_no_more_than_an_owner_may_keep(place: Folder) -> None:
    store = Store(place, "ann", 1000, 1)
    first = store.put([bytes(500)], "a", "batch")
    with pytest.raises(ApiError, match=r"files\.owner_bytes") as error:
        store.put([bytes(300), bytes(300)], "b", "batch")
    assert error.value.status == 413
    assert store.ids() == [first.id]
    assert sum("json" not in entry.name for entry in place.walk()) == 1, "nothing is left of what was too much"
    Store(place, "bob", 1000, 1).put([bytes(900)], "c", "batch")


def test_uploads_side_by_side_are_not_more_than_an_owner_may_keep(place: Folder) -> None:
    store = Store(place, "ann", 1000, 1)
    first: list[str] = []

    def pieces() -> Iterator[bytes]:
        yield bytes(300)
        first.append(store.put([bytes(600)], "a", "batch").id)
        yield bytes(300)

    with pytest.raises(ApiError, match=r"files\.owner_bytes"):
        store.put(pieces(), "b", "batch")
    assert store.ids() == first
    assert sum("json" not in entry.name for entry in place.walk()) == 1


def test_a_file_is_kept_without_a_look_into_the_others(place: Folder) -> None:
    store = Store(place, "ann", 1000, 1)
    place.write(f"owners/ann/files/{module.new_id('file-')}.json", b"not read")
    store.put([bytes(100)], "a", "batch")
    store.check_room("input_file_id")


def test_only_what_a_page_shows_is_read() -> None:
    read: list[str] = []

    def one(number: str) -> dict[str, Any] | None:
        read.append(number)
        return {"id": number} if number != "d" else None

    found = page("abcdefgh", one, 2, "b")
    assert ([shown["id"] for shown in found["data"]], found["last_id"], found["has_more"]) == (["c", "e"], "e", True)
    assert read == ["c", "d", "e", "f"]
    assert page("ab", one, 2, None)["has_more"] is False
    assert page("ab", one, 2, "b")["data"] == []
    with pytest.raises(ApiError, match="after"):
        page("ab", one, 2, "c")


def test_what_batches_give_out_is_kept_and_counts(place: Folder) -> None:
    store = Store(place, "ann", 1000, 1)
    store.put([bytes(700)], "in", "batch")
    store.check_room("input_file_id")
    out = store.put([bytes(300)], "out", "batch_output")
    assert b"".join(store.content(out.id)) == bytes(300)
    for refused in (lambda: store.put([b"x"], "more", "batch"), lambda: store.check_room("input_file_id")):
        with pytest.raises(ApiError, match="delete some first") as error:
            refused()
        assert (error.value.status, error.value.code) == (413, "quota_exceeded")


def test_what_never_became_a_file_goes_after_a_day(place: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(place, "ann", 1000, 7)
    whole = store.put([b"x"], "a", "batch")
    place.write(f"owners/ann/files/{module.new_id('file-')}/000000", bytes(900))
    store.sweep()
    assert sum(one.size == 900 for one in place.walk()) == 1, "it may still be coming"
    now = time.time() + 86401
    monkeypatch.setattr(module.time, "time", lambda: now)
    store.sweep()
    assert {one.name.split("/")[3].removesuffix(".json") for one in place.walk()} == {whole.id}


def test_files_expire(place: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(place, "ann", 1000, 1)
    old = store.put([bytes(900)], "a", "batch")
    now = time.time() + 86401
    monkeypatch.setattr(module.time, "time", lambda: now)
    assert store.find(old.id) is None
    with pytest.raises(ApiError, match="there is no file"):
        store.get(old.id)
    new = store.put([bytes(900)], "b", "batch")
    assert [old.id in entry.name for entry in place.walk()].count(True) == 0
    assert store.ids() == [new.id]


def test_lines_longer_than_allowed_are_cut_where_that_shows(place: Folder) -> None:
    store = Store(place, "ann", 10_000, 1)
    record = store.put([b"x" * 50, b"x" * 50 + b"\nshort\n" + b"y" * 30, b"y\n"], "a", "batch")
    assert list(store.lines(record.id, 10)) == [b"x" * 11, b"short", b"y" * 11]
