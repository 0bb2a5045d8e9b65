import os
import pickle
import socket
import threading
from pathlib import Path

import pytest
import s3fs
from hypothesis import given
from hypothesis import strategies as st

import uniface_ray
from tests.s3_server import Proxy, S3Server
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.storage import Folder, absolute, join, open_path

NAMES = ["plain.txt", "a b/c d.txt", "x=1/y#2.txt", "100%.txt", "a%20b.txt", "ü é 日本.txt", "a+b&c?d.txt", "q'\".txt"]


def test_files_come_back_as_written(place: Folder) -> None:
    for name in NAMES:
        place.write(name, name.encode())
    for name in NAMES:
        assert place.read(name) == name.encode()
        assert place.exists(name)
        assert place.size(name) == len(name.encode())
        with place.open_input(name) as file:
            file.seek(1)
            assert file.read() == name.encode()[1:]
    assert [entry.name for entry in place.list(recursive=True)] == sorted(NAMES)
    assert [entry.name for entry in place.list()] == sorted(name for name in NAMES if "/" not in name)
    assert [(entry.name, entry.size) for entry in place.list("a b")] == [("a b/c d.txt", 11)]
    assert all(entry.modified > 1e9 for entry in place.list(recursive=True))


def test_writing_replaces_and_takes_no_data_too(place: Folder) -> None:
    place.write("file", b"first")
    place.write("file", b"")
    assert place.read("file") == b""
    assert [entry.name for entry in place.list(recursive=True)] == ["file"]


def test_what_is_not_there(place: Folder) -> None:
    assert place.list() == place.list("none", recursive=True) == []
    assert not place.exists("none")
    assert not place.is_folder("none")
    place.delete("none")
    with pytest.raises(FileNotFoundError):
        place.read("none")
    with pytest.raises(FileNotFoundError):
        place.open_input("none")


def test_deleting(place: Folder) -> None:
    for name in ("keep", "one/a", "one/b/c", "one-more"):
        place.write(name, b"1")
    place.delete("keep")
    place.delete("one/a")
    assert [entry.name for entry in place.list(recursive=True)] == ["one-more", "one/b/c"]


def test_a_folder_is_no_file(place: Folder) -> None:
    place.write("folder/file", b"1")
    assert not place.exists("folder")
    assert place.is_folder("folder")
    assert not place.is_folder("folder/file")


def test_a_handle_travels_by_pickle(place: Folder) -> None:
    place.write("file", b"1")  # by now its client exists, and cannot be pickled
    assert pickle.loads(pickle.dumps(place)).read("file") == b"1"


def test_make_writable_leaves_nothing_behind(place: Folder) -> None:
    folder = Folder(join(place.uri, "new/sink"), place.storage)
    folder.make_writable("sink.path")
    assert folder.list(recursive=True) == []
    folder.write("file", b"1")
    assert place.read("new/sink/file") == b"1"


@pytest.mark.parametrize("path", ["/proc/none/sink", "/dev/null/sink"])
def test_an_unwritable_folder_is_the_users_mistake(path: str) -> None:
    with pytest.raises(UserError, match=r"sink.path is '/.*/sink', which cannot be used"):
        Folder(path, StorageConfig()).make_writable("sink.path")


def test_a_failed_write_leaves_nothing_on_the_disk(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path), StorageConfig())
    folder.write("target/file", b"1")  # so the target is a folder, which a file cannot replace
    with pytest.raises(OSError, match="target"):
        folder.write("target", b"2")
    assert os.listdir(tmp_path) == ["target"]


def test_readers_never_see_half_a_file(place: Folder) -> None:
    size = 300_000
    place.write("file", b"a" * size)
    stop = threading.Event()
    seen: list[bytes] = []

    def read() -> None:
        while not stop.is_set():
            seen.append(place.read("file"))

    reader = threading.Thread(target=read)
    reader.start()
    for letter in b"bcdefghijklmnopqrst":
        place.write("file", bytes([letter]) * size)
    stop.set()
    reader.join()
    assert seen
    assert all(len(data) == size and len(set(data)) == 1 for data in seen)


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    (tmp_path / "source" / "inside").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "linked.txt").write_text("1")
    (tmp_path / "source" / "inside" / "file.txt").write_text("12")
    (tmp_path / "source" / "inside" / "circle").symlink_to("..")
    (tmp_path / "source" / "other").symlink_to("../elsewhere")
    (tmp_path / "source" / "broken.txt").symlink_to("/nowhere/at/all")
    os.mkfifo(tmp_path / "source" / "pipe.txt")
    found = Folder(str(tmp_path / "source"), StorageConfig()).list(recursive=True)
    assert [(entry.name, entry.size) for entry in found] == [
        ("broken.txt", 0),
        ("inside/file.txt", 2),
        ("other/linked.txt", 1),
    ]


def test_a_name_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.jpg")).write_bytes(b"1")
    with pytest.raises(UserError, match=r"bad\\xff.jpg' has a name that is not UTF-8.*: rename it"):
        Folder(str(tmp_path), StorageConfig()).list()


def test_an_object_is_written_by_one_put(s3: S3Server) -> None:
    bucket = s3.bucket()
    Folder(f"s3://{bucket}", s3.storage).write("file", bytes(8_000_000))
    client = s3fs.S3FileSystem(key=s3.access_key, secret=s3.secret_key, endpoint_url=s3.endpoint)
    assert "-" not in client.info(f"{bucket}/file")["ETag"]  # a multipart upload's ends in -<parts>


def test_a_failed_upload_leaves_nothing(s3: S3Server) -> None:
    uri = f"s3://{s3.bucket()}"
    proxy = Proxy(s3.endpoint, cut_at=b"partNumber=2")
    cut = s3.storage.model_copy(update={"endpoint": proxy.endpoint, "attempts": 1})
    with pytest.raises(OSError, match="UploadPart"):
        Folder(uri, cut).write("big", bytes(12_000_000))
    proxy.stop()
    assert Folder(uri, s3.storage).list() == []


def test_a_missing_bucket_is_not_an_empty_folder(s3: S3Server) -> None:
    Folder(f"s3://{s3.bucket()}/empty", s3.storage).check("source.path")
    missing = Folder("s3://no-such-bucket/faces", s3.storage)
    with pytest.raises(UserError, match=r"source.path is .*but there is no bucket 'no-such-bucket' on this server"):
        missing.check("source.path")
    with pytest.raises(UserError, match="there is no bucket"):
        missing.make_writable("sink.path")


@pytest.mark.parametrize(
    "wrong",
    [
        {"access_key": "nobody"},
        {"secret_key": "wrong-secret-key"},
        {"access_key": None, "secret_key": None, "anonymous": True},
    ],
)
def test_refused_credentials(s3: S3Server, wrong: dict[str, object]) -> None:
    storage = s3.storage.model_copy(update=wrong)
    with pytest.raises(UserError, match=r"sink.path is .*refused these credentials.*storage.access_key"):
        Folder(f"s3://{s3.bucket()}", storage).make_writable("sink.path")


def test_nobody_at_the_endpoint() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    storage = StorageConfig(endpoint=f"http://127.0.0.1:{port}", access_key="a", secret_key="b")
    with pytest.raises(UserError, match=r"sink.path is .*does not answer: check storage.endpoint"):
        Folder("s3://bucket/sink", storage).make_writable("sink.path")


def test_an_endpoint_that_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # the system accepts, and nobody answers
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        storage = StorageConfig(
            endpoint=endpoint, access_key="a", secret_key="b", request_timeout_s=1, connect_timeout_s=1, attempts=1
        )
        with pytest.raises(UserError, match="does not answer"):
            Folder("s3://bucket/sink", storage).check("sink.path")


@pytest.mark.parametrize("endpoint", ["ftp://host", "http://host/path", "http://", ""])
def test_an_endpoint_that_is_no_url(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    if not endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense://")
    with pytest.raises(UserError, match=r"storage.endpoint is .* must be a server's URL without a path"):
        Folder("s3://bucket", StorageConfig(endpoint=endpoint or None)).check("sink.path")


def test_the_usual_aws_variables(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    folder = Folder(f"s3://{s3.bucket()}/a", StorageConfig())
    folder.make_writable("sink.path")
    folder.write("file", b"1")
    assert folder.read("file") == b"1"


def test_addresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    package = Path(uniface_ray.__file__).parent
    assert absolute("a/../b/") == f"{tmp_path}/b"
    assert absolute("/a b/100%#x=1") == "/a b/100%#x=1"
    assert absolute("/odd:/name") == "/odd:/name"
    assert absolute("file:///a%20b/c") == absolute("file://localhost/a b/c") == absolute("file:/a b/c") == "/a b/c"
    assert absolute("s3://bucket") == absolute("s3://bucket/") == "s3://bucket"
    assert absolute("S3://bucket//a%20b//c/") == "s3://bucket/a%20b/c"
    assert absolute("package://assets/portraits") == f"{package}/assets/portraits"
    assert join("/", "a") == "/a"
    assert join("s3://bucket", "a/b") == "s3://bucket/a/b"
    folder, name = open_path("s3://bucket/a/b.jsonl", StorageConfig())
    assert (folder.uri, folder.bucket, folder.is_local, name) == ("s3://bucket/a", "bucket", False, "b.jsonl")
    folder, name = open_path("/x", StorageConfig())
    assert (folder.uri, folder.is_local, name) == ("/", True, "x")


@pytest.mark.parametrize("uri", ["https://host/a", "gs://bucket/a", "s3a://bucket/a", "s3:///a", "s3:/bucket/a"])
def test_addresses_of_other_kinds(uri: str) -> None:
    with pytest.raises(UserError, match=r"s3://"):
        Folder(uri, StorageConfig())


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=20))
def test_a_path_is_taken_literally(name: str) -> None:
    parent, found = open_path(f"/folder/{name}", StorageConfig())
    if name not in (".", ".."):
        assert (parent.uri, found) == ("/folder", name)
