"""Output files that belong to no marker: left by a worker that stood still while another one did its chunk."""

from collections.abc import Iterable

from uniface_ray.batch.commit import OutputFile, marker_of
from uniface_ray.batch.layout import OK, REJECTED, marker_name
from uniface_ray.core.fenced import Fenced


def sweep(sink: Fenced, files: Iterable[OutputFile]) -> list[str]:
    """Remove what no marker names.

    Args:
        sink: of a run that is done.
        files: of all markers.

    Returns:
        What was removed.
    """
    known = {file.name for file in files}
    found = [entry.name for folder in (OK, REJECTED) for entry in sink.list(folder) if entry.name not in known]
    strays = []
    for name in found:
        version = sink.version(name)
        if version and not _is_named(sink, name) and sink.remove(name, version):
            strays.append(name)
    return strays


def _is_named(sink: Fenced, name: str) -> bool:
    """Whether the chunk's marker, as it is now, names the file; another kind of file is none of ours."""
    part = name.rpartition("/part-")[2].removesuffix(".parquet")
    if not part.isdigit():
        return True
    try:
        marker = marker_of(sink.read(marker_name(int(part))))
    except FileNotFoundError:
        marker = None
    # Where the chunk is not done, whoever does it replaces the file.
    return marker is None or name in {file.name for file in marker.files}
