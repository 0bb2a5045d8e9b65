"""The closing summary of a run."""

from collections.abc import Iterator, Sequence

from uniface_ray.core.costs import costs_text
from uniface_ray.core.progress import clock, rate_text
from uniface_ray.core.report_data import Report, Sample

_KINDS_SHOWN = 5
_TEXT_SHOWN = 200


def closing(report: Report, samples: int = 8) -> list[tuple[str, str]]:
    """(label, text) rows for `View.finish`.

    Counts and pace, how to go on where rows are left, the most frequent rejects with an example each, up to
    `samples` results, and where all of it is.
    """
    return [
        *((report.state, text) for text in _outcome(report)),
        *(("rejected", text) for text in _rejected(report)),
        *(("samples", f"{_name(one.uri)}: {_short(one.text)}") for one in _spread(report.samples, samples)),
        *_places(report),
    ]


def _spread(samples: Sequence[Sample], most: int) -> Sequence[Sample]:
    """At most `most` of them, from all parts of the run."""
    return samples[:: max(1, -(-len(samples) // most))]


def _outcome(report: Report) -> Iterator[str]:
    counts = report.counts
    of = "" if counts["input"] is None else f" of {counts['input']:,} rows"
    yield f"{counts['ok']:,} ok, {counts['rejected']:,} rejected{of}"
    yield f"{rate_text(report.rows_per_s)}, {clock(report.duration_s)} in all"
    if report.costs and report.costs["replica_hours"]:
        yield costs_text(report.costs)
    if report.state not in ("done", "running"):
        left = "the rows" if counts["pending"] is None else f"{counts['pending']:,} rows"
        yield f"{left} are left: the same command resumes"


def _rejected(report: Report) -> Iterator[str]:
    examples = {reject.kind: reject for reject in reversed(report.rejects)}
    kinds = sorted(report.rejects_by_kind.items(), key=lambda item: -item[1])
    for kind, rows in kinds[:_KINDS_SHOWN]:
        example = examples.get(kind)
        why = f", as {_name(example.uri)}: {_short(example.message)}" if example else ""
        yield f"{rows:,} {kind}{why}"
    if rest := sum(rows for _, rows in kinds[_KINDS_SHOWN:]):
        yield f"{rest:,} of other kinds"


def _places(report: Report) -> Iterator[tuple[str, str]]:
    sink = report.sink.rstrip("/")
    yield "output", f"{sink}/data/status=ok/"
    if report.rejects_by_kind:
        yield "rejects", f"{sink}/data/status=rejected/"
    yield "manifest", f"{sink}/manifest.json"
    yield "report", f"{sink}/report.html"


def _name(uri: str) -> str:
    return uri.rstrip("/").rsplit("/", 1)[-1]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TEXT_SHOWN else f"{line[:_TEXT_SHOWN]}…"
