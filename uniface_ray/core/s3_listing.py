"""Objects of S3, a page at a time: pyarrow's client holds a listing as a whole."""

from collections.abc import Iterator

from uniface_ray.core.config import StorageConfig
from uniface_ray.core.s3_client import open_client, worded


def list_objects(
    storage: StorageConfig, endpoint: str | None, region: str | None, path: str, recursive: bool
) -> Iterator[tuple[str, int, float]]:
    """(key relative to `path`, bytes, modification time in Unix seconds) of every object below a `bucket/prefix`.

    Args:
        storage: credentials and patience.
        endpoint: URL of the server; None for AWS.
        region: of the bucket.
        path: bucket and prefix, without a slash at its end.
        recursive: take the folders below, too.

    Raises:
        FileNotFoundError: no such bucket.
        OSError: the server refuses or cannot be reached.
    """
    bucket, _, prefix = path.partition("/")
    prefix = f"{prefix}/" if prefix else ""
    options = {"Bucket": bucket, "Prefix": prefix, **({} if recursive else {"Delimiter": "/"})}
    with worded(f"listing {path}"):
        for page in open_client(storage, endpoint, region).get_paginator("list_objects_v2").paginate(**options):
            for found in page.get("Contents", ()):
                if not found["Key"].endswith("/"):  # some clients keep an empty object for a folder
                    yield found["Key"][len(prefix) :], int(found["Size"]), found["LastModified"].timestamp()
