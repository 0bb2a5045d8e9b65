"""The same null job in Daft and here, over the same parquet, on disk and in a bucket, in turn.

    pip install --no-deps daft==0.7.26
    python -m benchmarks.daft_peer [--rows 200000] [--pairs 3] [--chunk-rows 10000]

Both read the same prompts, ask the same engine that answers at once, make the same image files and write
parquet of the same columns with zstd. Both get two worker processes. The bucket is a SeaweedFS server on this machine.
Rates are of whole commands, start-up included (`steady` leaves ours out: from the first commit to the last). What each
side promises stands in the result: they do not promise the same. (Daft asks for an older pyarrow, and runs with ours.)
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.caption import rate_of
from benchmarks.record import about, save
from benchmarks.scale import command, write_prompts
from tests.s3_server import S3Server
from uniface_ray.batch.commit import Marker
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.parallel import map_ahead
from uniface_ray.core.storage import Folder

WORKERS = 2
PROMISES = {
    "uniface_ray": [
        "every row in the output exactly once, as ok or rejected with a reason, also after a kill at any moment",
        "the same command resumes; rejected rows can be done again alone",
        "one writer at a time; a checksum of every file, a manifest, progress while it runs",
        "row ids and seeds do not depend on batches, order or workers",
    ],
    "daft": [
        "the write of this job (native runner, plain parquet) is not resumable: a killed run starts again",
        "with write_mode=append, files of a killed run stay beside those of the next one",
        "an exception in the function fails the job, or with on_error the row becomes null without its reason",
        "checkpoints with exactly-once commits exist on its Ray runner, for tables (Iceberg, Delta)",
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--chunk-rows", type=int, default=10_000)
    given = parser.parse_args()
    result: dict[str, Any] = {**about("benchmarks.daft_peer"), "rows": given.rows, "promises": PROMISES}
    result["versions"]["daft"] = version("daft")
    with tempfile.TemporaryDirectory(prefix="uniface-peer-") as temporary:
        work = Path(temporary)
        prompts = write_prompts(work / "prompts", given.rows)
        server = S3Server(work / "s3")
        try:
            bucket = Folder(f"s3://{server.bucket()}", server.storage)
            for file in prompts.iterdir():
                bucket.write(f"prompts/{file.name}", file.read_bytes())
            places = {"disk": Folder(str(work), StorageConfig()), "s3": bucket}
            for name, place in places.items():
                pairs = [_pair(place, number, given.rows, given.chunk_rows) for number in range(given.pairs)]
                ratio = statistics.median(pair["uniface_rows_per_s"] / pair["daft_rows_per_s"] for pair in pairs)
                result[name] = {"pairs": pairs, "ratio": round(ratio, 3)}
                save(result, "daft-peer")
        finally:
            server.stop()
    print(json.dumps(result, indent=1))


def _pair(place: Folder, number: int, rows: int, chunk_rows: int) -> dict[str, float]:
    """Rows per second of both; who goes first changes from pair to pair."""
    found: dict[str, float] = {}
    for side in ("daft", "uniface") if number % 2 else ("uniface", "daft"):
        sink = f"{place.uri}/{side}-{number}"
        words = [sys.executable, "-m", "benchmarks.daft_job", f"{place.uri}/prompts", sink, str(WORKERS)]
        if side == "uniface":
            words = command(f"{place.uri}/prompts", sink, chunk_rows, f"engine.replicas={WORKERS}")
        began_s = time.monotonic()
        subprocess.run(words, check=True, env=os.environ | _keys(place.storage), stdout=subprocess.DEVNULL)
        found[f"{side}_rows_per_s"] = round(rows / (time.monotonic() - began_s), 1)
        if side == "uniface":
            found["uniface_steady_rows_per_s"] = round(_steady(Folder(sink, place.storage)), 1)
    print(f"{place.uri}: {found}", flush=True)
    return found


def _keys(storage: StorageConfig) -> dict[str, str]:
    """How both reach the bucket."""
    if storage.endpoint is None:
        return {}
    return {
        "AWS_ENDPOINT_URL": storage.endpoint,
        "AWS_ACCESS_KEY_ID": storage.access_key or "",
        "AWS_SECRET_ACCESS_KEY": storage.secret_key or "",
        "AWS_REGION": "us-east-1",
    }


def _steady(sink: Folder) -> float:
    names = [entry.name for entry in sink.list("checkpoint")]
    markers = sorted(
        (Marker.from_json(data) for data in map_ahead(sink.read, names, threads=8, ahead=64)),
        key=lambda marker: marker.committed_at,
    )
    return rate_of(markers)


if __name__ == "__main__":
    main()
