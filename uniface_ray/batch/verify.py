"""An output against its plan, its markers and its manifest: is every row there once, and every byte as written?

Goes through the plan chunk by chunk and keeps nothing of a row (but 8 bytes of each file of the source, and a number of
each output file), so that memory does not grow with their number. Needs the storage only.
"""

import hashlib
import json
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from uniface_ray.batch.commit import Marker, marker_of
from uniface_ray.batch.layout import CHECKPOINT, OK, REJECTED, is_marker, marker_name, part_name
from uniface_ray.batch.plan import Generation, Plan, chunks_of, plan_file
from uniface_ray.batch.status import open_document
from uniface_ray.batch.tally import Tally
from uniface_ray.batch.verify_chunk import IMAGE_FILE, Part, Problem, check_images, check_rows, read_part
from uniface_ray.core.errors import StoppedError
from uniface_ray.core.parallel import map_ahead
from uniface_ray.core.records import row_id_of
from uniface_ray.core.sink_config import VerifyConfig
from uniface_ray.core.storage import Folder
from uniface_ray.core.storage_errors import explain, is_storage_failure
from uniface_ray.data.slices import Slice

EXIT_PROBLEMS = 5
_PART = re.compile(r"part-(\d{8,})\.parquet")


@dataclass(slots=True)
class Verdict:
    """What was found.

    Attributes:
        sink: its address.
        state: of the run, by its manifest.
        counts: as markers and plan add up, in the manifest's words.
        files: output files that were read in full.
        bytes: of them.
        kinds: problems by their kind.
        problems: the first of them.
    """

    sink: str
    state: str
    counts: dict[str, int | None] = field(default_factory=dict)
    files: int = 0
    bytes: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0: whole. 3: sound, and rows are pending. 5: problems."""
        if self.kinds:
            return EXIT_PROBLEMS
        return StoppedError.exit_code if self.counts["pending"] else 0

    def lines(self) -> list[tuple[str, str]]:
        """(label, text) for `view.aligned`."""
        counts = self.counts
        files = f"{self.files:,} files of {self.bytes:,} bytes in {self.sink}"
        done = f"{counts['ok']:,} ok and {counts['rejected']:,} rejected of {counts['input']:,} rows"
        rows = [("checked", files), ("checked", done)]
        if self.state == "running":
            rows.append(("note", "the run is at work: what it writes meanwhile may be told as a problem"))
        rows += [(problem.kind, f"{problem.where}: {problem.message}") for problem in self.problems]
        if (more := sum(self.kinds.values()) - len(self.problems)) > 0:
            rows.append(("more", f"{more:,} other problems: {self.kinds}"))
        if self.kinds:
            rows.append(("bad", f"{sum(self.kinds.values()):,} problems"))
        elif counts["pending"]:
            rows.append(("sound", f"{counts['pending']:,} rows are pending: the run's own command goes on with them"))
        else:
            rows.append(("good", "every planned row is there exactly once, every file as it was written"))
        return rows

    def to_json(self) -> str:
        """One object, with the fields of this class."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)


def verify(config: VerifyConfig) -> Verdict:
    """Check a sink's output.

    Raises:
        UserError: no run there, no rights, no answer.
    """
    sink = Folder(config.sink.path, config.storage)
    document = open_document(sink)
    verdict = Verdict(sink.uri, document["state"])
    tally = Tally()
    try:
        for problem in _problems(sink, document, verdict, tally):
            verdict.kinds[problem.kind] = verdict.kinds.get(problem.kind, 0) + 1
            if len(verdict.problems) < config.verify.problems:
                verdict.problems.append(problem)
    except OSError as error:
        raise explain(error, "sink.path", sink.uri) from error
    verdict.counts = tally.counts()
    return verdict


def _problems(sink: Folder, document: dict[str, Any], verdict: Verdict, tally: Tally) -> Iterator[Problem]:
    plan = Plan.load(sink, clean=False)
    tally.input = plan.rows
    markers = {entry.name for entry in sink.list(CHECKPOINT) if is_marker(entry.name)}
    parts: dict[str, set[int]] = {OK: set(), REJECTED: set()}
    yield from _strays(sink, plan.chunks, markers, parts)
    identity = document["identity"]
    names = {"task": identity["task"]["name"], "model": identity["model"]["name"]}
    schemas: dict[str, pa.Schema] = {}

    def look(planned: tuple[int, list[Slice]]) -> _Look:
        there = {status for status, chunks in parts.items() if planned[0] in chunks}
        return _look(sink, *planned, names, there, IMAGE_FILE if identity["task"].get("files") else ())

    files = array("q")
    broken: list[Problem] = []
    chunks = (one for generation in plan.generations for one in _planned(sink, generation, files, broken))
    committed = (one for one in chunks if marker_name(one[0]) in markers)
    for found in map_ahead(look, committed, threads=8, ahead=16):
        yield from found.problems
        if found.marker:
            tally.add(found.marker)
            verdict.files += len(found.marker.files)
            verdict.bytes += sum(file.bytes for file in found.marker.files)
        for status, (name, schema) in found.schemas.items():
            if not schemas.setdefault(status, schema).equals(schema):
                yield Problem("schema", name, "has other columns than the files before it")
    yield from broken
    if doubled := len(files) - len(np.unique(np.asarray(files, np.int64))):
        yield Problem("plan", "plan", f"has {doubled:,} files of the source twice")
    yield from _against_manifest(document, tally)


@dataclass(slots=True)
class _Look:
    """What was found of a chunk; `schemas` are (file, columns) by status."""

    marker: Marker | None
    problems: list[Problem]
    schemas: dict[str, tuple[str, pa.Schema]]


def _look(
    sink: Folder,
    number: int,
    slices: list[Slice],
    names: Mapping[str, str],
    there: set[str],
    images: Sequence[str],
) -> _Look:
    """Read all that belongs to a chunk: `there` are the folders that have a file of it, `images` the columns of images
    that are files too."""
    name = marker_name(number)
    try:
        marker = marker_of(sink.read(name))
    except (ValueError, TypeError, KeyError, FileNotFoundError) as error:
        return _Look(None, [Problem("unreadable", name, f"is no marker: {error!r}")], {})
    if marker is None:
        return _Look(None, [_unfinished(part_name(status, number)) for status in sorted(there)], {})
    more = {OK: images, REJECTED: ()}
    parts = {status: read_part(sink, marker, status, status in there, more[status]) for status in more}
    problems = [part for part in parts.values() if isinstance(part, Problem)]
    whole = {status: part for status, part in parts.items() if isinstance(part, Part)}
    if not problems:
        problems += check_rows(marker, slices, whole.get(OK), whole.get(REJECTED), names)
    if images and OK in whole:
        problems += check_images(sink, whole[OK])
    return _Look(marker, problems, {status: (part.name, part.schema) for status, part in whole.items()})


def _planned(
    sink: Folder, generation: Generation, files: "array[int]", broken: list[Problem]
) -> Iterator[tuple[int, list[Slice]]]:
    """The chunks of a generation; ids of its source files go into `files`, what is wrong with it into `broken`."""
    digest = hashlib.sha256()
    path, end = "", 0
    for first in generation.first_chunks:
        try:
            data = sink.read(plan_file(first))
            chunks = chunks_of(data)
        except (OSError, pa.ArrowException, KeyError, TypeError) as error:
            if is_storage_failure(error) and not isinstance(error, FileNotFoundError):
                raise  # what is wrong is not with the file
            broken.append(Problem("plan", plan_file(first), f"cannot be read: {error!r}"))
            continue
        digest.update(data)
        for number, slices in chunks.items():
            for one in slices:
                if one.path != path:
                    files.append(row_id_of(one.path, 0))
                elif one.start < end:
                    broken.append(Problem("plan", f"chunk {number}", f"has {one.path} from row {one.start} twice"))
                path, end = one.path, one.start + one.count
            yield number, slices
    if digest.hexdigest() != generation.sha256:
        broken.append(Problem("plan", f"generation of chunk {generation.first_chunk}", "is not as it was written"))


def _unfinished(name: str) -> Problem:
    """A file of a chunk that is not done."""
    return Problem("no_marker", name, "its chunk was not finished: a resumed run writes it again")


def _strays(sink: Folder, chunks: int, markers: set[str], parts: dict[str, set[int]]) -> Iterator[Problem]:
    """Files of chunks that have no marker, or are not in the plan; `parts` gets the chunks of the rest by folder."""
    for name in sorted(markers):
        if int(name.rpartition("/")[2].removesuffix(".json")) >= chunks:
            yield Problem("unplanned", name, f"is of a chunk that the plan of {chunks:,} does not have")
    for status in (OK, REJECTED):
        for entry in sink.list(status):
            found = _PART.fullmatch(entry.name.rpartition("/")[2])
            if not found:
                yield Problem("stray", entry.name, "is no file of the run, but readers of the folder take it for one")
            elif marker_name(int(found[1])) not in markers:
                yield _unfinished(entry.name)
            else:
                parts[status].add(int(found[1]))


def _against_manifest(document: dict[str, Any], tally: Tally) -> Iterator[Problem]:
    if document["state"] == "running":
        return  # it is brought up to date when the run ends
    for name, said, found in (
        ("counts", document["counts"], tally.counts()),
        ("rejects_by_kind", document["rejects_by_kind"], dict(tally.rejects_by_kind)),
    ):
        if said != found:
            yield Problem("manifest", "manifest.json", f"{name} are {said}, but the markers add up to {found}")
    yield from _files_against_manifest(document["files"], tally)


def _files_against_manifest(said: Iterable[Mapping[str, Any]], tally: Tally) -> Iterator[Problem]:
    listed = {file["name"]: file["sha256"] for file in said}
    for file in tally.files:
        if listed.pop(file.name, None) != file.sha256:
            yield Problem("manifest", file.name, "is not in manifest.json as its marker has it")
    for name in listed:
        yield Problem("manifest", name, "is in manifest.json, and no marker has it")
