"""botocore's client, for what pyarrow's cannot do, and its errors in the words of pyarrow's (see `storage_errors`)."""

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from uniface_ray.core.config import StorageConfig


@functools.lru_cache(maxsize=16)
def open_client(storage: StorageConfig, endpoint: str | None, region: str | None) -> Any:
    """One for all threads of the process.

    Args:
        storage: credentials and patience.
        endpoint: URL of the server; None for AWS.
        region: of the bucket; None is us-east-1, as of pyarrow's client.
    """
    import botocore.session  # a run on a disk need not wait for these imports
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.handlers import add_expect_header

    config = Config(
        connect_timeout=storage.connect_timeout_s,
        read_timeout=storage.request_timeout_s,
        retries={"mode": "standard", "total_max_attempts": storage.attempts},
        s3={"addressing_style": "path" if endpoint else "auto"},
        # Else a checksum comes in a trailer of the body, which many servers refuse or keep as part of it.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        **({"signature_version": UNSIGNED} if storage.anonymous else {}),
    )
    client = botocore.session.Session().create_client(
        "s3",
        region_name=region or "us-east-1",
        endpoint_url=endpoint,
        aws_access_key_id=storage.access_key,
        aws_secret_access_key=storage.secret_key,
        aws_session_token=storage.session_token,
        config=config,
    )
    # A connection that closes in the middle of "100 Continue" makes botocore 1.43 read for ever (AWSConnection.
    # _consume_headers); who does not ask to continue cannot get there, and saves a round trip.
    client.meta.events.unregister("before-call.s3", add_expect_header)
    return client


@contextmanager
def worded(doing: str) -> Iterator[None]:
    """Turn botocore's errors into OSErrors; FileNotFoundError where the bucket or the object is not there."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except ClientError as error:
        if status_of(error) == 404:
            raise FileNotFoundError(f"not there, while {doing}: {error}") from error
        code = error.response.get("Error", {}).get("Code", "UNKNOWN")
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", code).upper()
        raise OSError(f"AWS Error {name} (HTTP status {status_of(error)}) while {doing}: {error}") from error
    except BotoCoreError as error:
        name = "MISSING_AUTHENTICATION_TOKEN" if isinstance(error, NoCredentialsError) else "NETWORK_CONNECTION"
        raise OSError(f"AWS Error {name} while {doing}: {error}") from error


def status_of(error: Any) -> int | None:
    """HTTP status of a botocore ClientError."""
    status: int | None = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status
