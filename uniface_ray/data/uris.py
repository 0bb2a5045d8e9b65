"""URIs that a table gives for its images."""

import posixpath

from uniface_ray.core.errors import UserError
from uniface_ray.core.records import RejectError, RejectKind
from uniface_ray.core.storage import absolute
from uniface_ray.data.listing import SUFFIXES


def resolve(uri: str, table: str) -> str:
    """The absolute path, s3:// URI or web address of an image.

    Args:
        uri: absolute path, s3://, file://, http:// or https:// URI, or a path relative to the folder of `table`.
        table: address of the file that names it.

    Raises:
        RejectError: an address of another kind, or text that is none.
    """
    try:
        uri.encode()  # half a surrogate pair is no text
        if is_web(uri):
            return uri
        if uri.startswith("/") or "://" in uri:
            return absolute(uri)
        scheme, _, folder = table.rpartition("/")[0].rpartition("://")
        path = posixpath.normpath(f"{folder}/{uri}")  # S3 has no `..`
        return f"{scheme}://{path}" if scheme else path
    except (UserError, ValueError) as error:
        raise RejectError(RejectKind.BAD_REQUEST, str(error)) from error


def is_web(uri: str) -> bool:
    """Whether a URI names something to be fetched by HTTP."""
    return uri[:8].lower().startswith(("http://", "https://"))


def is_image(uri: str) -> bool:
    """Whether a URI is that of one image, not that of a table or an archive with many."""
    return is_web(uri) or uri.lower().endswith(SUFFIXES["images"])
