"""Names inside a sink (they are contracts: see README, Output)."""

MANIFEST = "manifest.json"
PROGRESS = "progress.json"
REPORT = "report.html"
PLAN = "plan"
CHECKPOINT = "checkpoint"
OK = "data/status=ok"
REJECTED = "data/status=rejected"


def part_name(status_folder: str, chunk: int) -> str:
    """`data/status=ok/part-00000042.parquet`."""
    return f"{status_folder}/part-{chunk:08d}.parquet"


def marker_name(chunk: int) -> str:
    """`checkpoint/00000042.json`: this chunk is done."""
    return f"{CHECKPOINT}/{chunk:08d}.json"
