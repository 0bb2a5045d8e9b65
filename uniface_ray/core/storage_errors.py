"""What an error of the storage means: to the user who named a path, or to a row that needed a file."""

from typing import TypeGuard

from uniface_ray.core.errors import StoppedError, UserError
from uniface_ray.core.records import RejectError, RejectKind
from uniface_ray.core.s3 import is_refusal, is_unreachable


def explain(error: OSError, setting: str, uri: str) -> UserError:
    """What a storage error means to the user who set `setting` to `uri`."""
    bucket = uri[len("s3://") :].partition("/")[0]
    if not uri.startswith("s3://"):
        reason = error.strerror or str(error)
        return UserError(f"{setting} is {uri!r}, which cannot be used ({reason}): give a path that you have rights to")
    if isinstance(error, FileNotFoundError) or "NO_SUCH_BUCKET" in str(error):
        return UserError(
            f"{setting} is {uri!r}, but there is no bucket {bucket!r} on this server: create it, or correct "
            "the name or storage.endpoint"
        )
    if is_refusal(error):
        return UserError(
            f"{setting} is {uri!r}, but the server refused these credentials for it: check storage.access_key "
            "and storage.secret_key (or AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE), or set "
            f"storage.anonymous=true for a public bucket. The server said: {error}"
        )
    if is_unreachable(error):
        return UserError(
            f"{setting} is {uri!r}, but its server does not answer: check storage.endpoint (or "
            "AWS_ENDPOINT_URL), its http:// or https://, and storage.region. "
            f"The client said: {error}"
        )
    return UserError(f"{setting} is {uri!r}, which cannot be used: {error}")


def sink_failed(uri: str, error: OSError) -> StoppedError:
    """What to tell of a sink that was writable once."""
    return StoppedError(
        f"sink.path is {uri!r}, which cannot be written any more ({error}); once it can, the same command goes on "
        "where this one stopped"
    )


def is_storage_failure(error: Exception) -> TypeGuard[OSError]:
    """Whether the storage failed, rather than that the bytes it gave make no sense to a reader."""
    return isinstance(error, OSError) and (error.errno is not None or "AWS Error" in str(error))


def reject_of(error: OSError | ValueError, uri: str) -> RejectError:
    """The reject of a row whose file gave this error."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return RejectError(RejectKind.NOT_FOUND, f"no such file: {uri}")
    reason = getattr(error, "strerror", None) or str(error)
    return RejectError(RejectKind.FETCH_FAILED, f"cannot read {uri}: {reason}")
