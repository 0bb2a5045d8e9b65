"""Files of S3, by `bucket/key`, through pyarrow's client."""

import functools
import os
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.s3_conditional import delete_if, put_if, version_of
from uniface_ray.core.s3_listing import list_objects

_CUT = "Failed to flush response stream"
_FIRST_WAIT_S = 0.1


@dataclass(frozen=True)
class Bucket:
    """The same methods as `disk.Disk`."""

    filesystem: fs.S3FileSystem
    storage: StorageConfig
    endpoint: str | None
    region: str | None

    def read(self, path: str) -> bytes:
        for attempt in range(1, self.storage.attempts + 1):
            try:
                with self.filesystem.open_input_file(path) as file:
                    data: bytes = file.read()
                return data
            except OSError as error:
                # The client itself tries all again but this: an answer whose head came, and not all of its body.
                if _CUT not in str(error) or attempt == self.storage.attempts:
                    raise
                time.sleep(random.uniform(0, _FIRST_WAIT_S * 2**attempt))
        raise AssertionError("attempts >= 1")

    def write(self, path: str, data: bytes) -> None:
        """Whole or not at all: one PUT up to 10 MB, a multipart upload (seen only once complete) above."""
        with self.filesystem.open_output_stream(path) as file:
            file.write(data)

    def create(self, path: str, data: bytes) -> bool:
        """The same, only where there is no object yet; False where there is one of other content."""
        return self.write_over(path, data, None) is not None or self.read(path) == data

    def version(self, path: str) -> str | None:
        """What changes with an object's content (its ETag); None where there is no object."""
        return version_of(self.storage, self.endpoint, self.region, path)

    def write_over(self, path: str, data: bytes, version: str | None) -> str | None:
        """Write where the object is still as it was at `version`: its new version, or None where it is not."""
        return put_if(self.storage, self.endpoint, self.region, path, data, version)

    def remove(self, path: str, version: str) -> bool:
        """Delete, likewise; False where the object is not as it was."""
        return delete_if(self.storage, self.endpoint, self.region, path, version)

    def size(self, path: str) -> int | None:
        """Bytes of an object; None where there is none."""
        info = self.filesystem.get_file_info(path)
        return int(info.size) if info.is_file else None

    def is_folder(self, path: str) -> bool:
        return bool(self.filesystem.get_file_info(path).type == fs.FileType.Directory)

    def delete(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self.filesystem.delete_file(path)

    def list(self, path: str, recursive: bool) -> Iterator[tuple[str, int, float]]:
        """(key relative to `path`, bytes, modification time in Unix seconds) of every object, in the server's order.

        Raises:
            FileNotFoundError: no such bucket.
            OSError: the server refuses or cannot be reached.
        """
        return list_objects(self.storage, self.endpoint, self.region, path, recursive)

    def open_input(self, path: str) -> pa.NativeFile:
        return self.filesystem.open_input_file(path)

    def check_bucket(self, bucket: str) -> None:
        """Raise FileNotFoundError where the bucket is not there (a PUT would make it on some servers).

        A key that may use a prefix but not look at the bucket gets no answer: then the next request tells.
        """
        try:
            missing = self.filesystem.get_file_info(bucket).type == fs.FileType.NotFound
        except OSError as error:
            if is_refusal(error):
                return
            raise
        if missing:
            raise FileNotFoundError(f"bucket {bucket} does not exist")


def open_bucket(storage: StorageConfig, bucket: str) -> Bucket:
    """The client for one bucket; clients are kept for the life of the process."""
    url = storage.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return _open(storage, url, _region(storage, url, bucket))


@functools.lru_cache(maxsize=64)
def _open(storage: StorageConfig, endpoint: str | None, region: str | None) -> Bucket:
    scheme, host = _split_endpoint(endpoint) if endpoint else ("https", None)
    return Bucket(
        fs.S3FileSystem(
            access_key=storage.access_key,
            secret_key=storage.secret_key,
            session_token=storage.session_token,
            anonymous=storage.anonymous,
            region=region,
            scheme=scheme,
            endpoint_override=host,
            connect_timeout=storage.connect_timeout_s,
            request_timeout=storage.request_timeout_s,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=storage.attempts),
            # Without it every write is a multipart upload of three requests, however small.
            allow_delayed_open=True,
        ),
        storage,
        f"{scheme}://{host}" if host else None,
        region,
    )


def _region(storage: StorageConfig, endpoint: str | None, bucket: str) -> str | None:
    given = storage.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return given if given or endpoint else _home_region(bucket)


@functools.lru_cache(maxsize=64)
def _home_region(bucket: str) -> str | None:
    """Where AWS keeps a bucket: a request to any other region is turned away."""
    try:
        return str(fs.resolve_s3_region(bucket))
    except OSError:
        return None  # the request itself will tell what is wrong


def _split_endpoint(endpoint: str) -> tuple[str, str]:
    url = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
    if url.scheme not in ("http", "https") or not url.netloc or url.path.strip("/"):
        raise UserError(
            f"storage.endpoint is {endpoint!r}, but must be a server's URL without a path, "
            "such as https://minio.example.com:9000"
        )
    return url.scheme, url.netloc


def is_refusal(error: OSError) -> bool:
    """Whether the server understood and said no: wrong, expired or insufficient credentials."""
    text = str(error)
    return any(word in text for word in _REFUSALS)


def is_unreachable(error: OSError) -> bool:
    """Whether no server answered."""
    text = str(error)
    return any(word in text for word in _SILENCES)


_REFUSALS = (
    "ACCESS_DENIED",
    "SIGNATURE_DOES_NOT_MATCH",
    "INVALID_ACCESS_KEY_ID",
    "INVALID_CLIENT_TOKEN_ID",
    "UNRECOGNIZED_CLIENT",
    "MISSING_AUTHENTICATION_TOKEN",
    "EXPIRED_TOKEN",
    "ExpiredToken",
    "InvalidToken",
    "HTTP status 401",
    "HTTP status 403",
)
_SILENCES = ("NETWORK_CONNECTION", "REQUEST_TIMEOUT", "curlCode")
