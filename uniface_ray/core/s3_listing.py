"""Objects of S3, a page at a time: pyarrow's client holds a listing as a whole."""

import functools
import re
from collections.abc import Iterator
from typing import Any

from uniface_ray.core.config import StorageConfig


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
        OSError: the server refuses or cannot be reached; worded as pyarrow words it (see `storage_errors`).
    """
    from botocore.exceptions import BotoCoreError, ClientError  # a run on a disk need not wait for this import

    bucket, _, prefix = path.partition("/")
    prefix = f"{prefix}/" if prefix else ""
    options = {"Bucket": bucket, "Prefix": prefix, **({} if recursive else {"Delimiter": "/"})}
    try:
        for page in _client(storage, endpoint, region).get_paginator("list_objects_v2").paginate(**options):
            for found in page.get("Contents", ()):
                if not found["Key"].endswith("/"):  # some clients keep an empty object for a folder
                    yield found["Key"][len(prefix) :], int(found["Size"]), found["LastModified"].timestamp()
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "UNKNOWN")
        if code == "NoSuchBucket":
            raise FileNotFoundError(f"bucket {bucket} does not exist") from error
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", code).upper()
        raise OSError(f"AWS Error {name} while listing {path}: {error}") from error
    except BotoCoreError as error:
        raise OSError(f"AWS Error NETWORK_CONNECTION while listing {path}: {error}") from error


@functools.lru_cache(maxsize=16)
def _client(storage: StorageConfig, endpoint: str | None, region: str | None) -> Any:
    import botocore.session
    from botocore import UNSIGNED
    from botocore.config import Config

    config = Config(
        connect_timeout=storage.connect_timeout_s,
        read_timeout=storage.request_timeout_s,
        retries={"mode": "standard", "total_max_attempts": storage.attempts},
        s3={"addressing_style": "path" if endpoint else "auto"},
        **({"signature_version": UNSIGNED} if storage.anonymous else {}),
    )
    return botocore.session.Session().create_client(
        "s3",
        region_name=region or "us-east-1",
        endpoint_url=endpoint,
        aws_access_key_id=storage.access_key,
        aws_secret_access_key=storage.secret_key,
        aws_session_token=storage.session_token,
        config=config,
    )
