"""Conditional writes of S3: only where the object is as it was, or not there. pyarrow's client has none.

AWS has them since 2024, and so have SeaweedFS, MinIO and Ceph; `Folder.make_writable` finds a server that ignores the
condition. Conditional deletes are younger (AWS: 2025); a server that does not know them deletes whatever is there.
"""

from uniface_ray.core.config import StorageConfig
from uniface_ray.core.s3_client import open_client, status_of, worded

# The server compared, and says no; 409 where two requests met and the client shall try again.
_NO, _AGAIN = 412, 409
_TRIES = 5


def version_of(storage: StorageConfig, endpoint: str | None, region: str | None, path: str) -> str | None:
    """ETag of the object at `bucket/key`; None where there is none.

    Raises:
        OSError: no answer, or a refusal.
    """
    bucket, _, key = path.partition("/")
    try:
        with worded(f"looking at {path}"):
            return str(open_client(storage, endpoint, region).head_object(Bucket=bucket, Key=key)["ETag"])
    except FileNotFoundError:
        return None


def put_if(
    storage: StorageConfig, endpoint: str | None, region: str | None, path: str, data: bytes, version: str | None
) -> str | None:
    """One PUT of up to 5 GB.

    Args:
        storage: credentials and patience.
        endpoint: URL of the server; None for AWS.
        region: of the bucket.
        path: bucket/key.
        data: the object.
        version: the ETag that it must have; None: it must not be there.

    Returns:
        The new ETag; None where the condition does not hold.

    Raises:
        OSError: no answer, or a refusal.
    """
    from botocore.exceptions import ClientError

    bucket, _, key = path.partition("/")
    condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
    client = open_client(storage, endpoint, region)
    with worded(f"writing {path}"):
        for attempt in range(_TRIES):
            try:
                return str(client.put_object(Bucket=bucket, Key=key, Body=data, **condition)["ETag"])
            except ClientError as error:
                # 404: it had this version, and is gone.
                if status_of(error) == _NO or (version and status_of(error) == 404):
                    return None
                if status_of(error) != _AGAIN or attempt == _TRIES - 1:
                    raise
    raise AssertionError


def delete_if(storage: StorageConfig, endpoint: str | None, region: str | None, path: str, version: str) -> bool:
    """One DELETE, where the object still has the ETag `version`.

    Returns:
        False where it has another, or is gone.

    Raises:
        OSError: no answer, or a refusal.
    """
    from botocore.exceptions import ClientError

    bucket, _, key = path.partition("/")
    with worded(f"deleting {path}"):
        try:
            open_client(storage, endpoint, region).delete_object(Bucket=bucket, Key=key, IfMatch=version)
        except ClientError as error:
            if status_of(error) in (_NO, _AGAIN, 404):
                return False
            raise
    return True
