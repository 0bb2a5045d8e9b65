"""Names inside a sink (they are contracts: see docs/running.md, What a run writes)."""

import re

PROGRESS = "progress.json"
REPORT = "report.html"
PLAN = "plan"
CHECKPOINT = "checkpoint"
OK = "data/status=ok"
REJECTED = "data/status=rejected"


_MARKER = re.compile(CHECKPOINT + r"/\d{8,}\.json")


def part_name(status_folder: str, chunk: int) -> str:
    """`data/status=ok/part-00000042.parquet`."""
    return f"{status_folder}/part-{chunk:08d}.parquet"


def is_marker(name: str) -> bool:
    """Whether a file of the sink is a chunk's marker."""
    return _MARKER.fullmatch(name) is not None


def marker_name(chunk: int) -> str:
    """`checkpoint/00000042.json`: this chunk is done."""
    return f"{CHECKPOINT}/{chunk:08d}.json"
