"""The null job of `daft_peer`, in Daft: `python -m benchmarks.daft_job <prompts> <sink> <workers>`."""

import os
import sys
from typing import Any

import daft
from daft import DataType
from daft.io import IOConfig, S3Config

from uniface_ray.core.compose import compose
from uniface_ray.core.records import Row, RowRef, row_id_of, seed_of
from uniface_ray.engine.null import NullEngine
from uniface_ray.tasks.answer import answer_rows
from uniface_ray.tasks.registry import build_task

_COLUMNS = {
    "row_id": DataType.int64(),
    "parent_id": DataType.int64(),
    "uri": DataType.string(),
    "task": DataType.string(),
    "model": DataType.string(),
    "seed": DataType.int64(),
    "prompt": DataType.string(),
    "image": DataType.binary(),
    "prompt_cut": DataType.string(),
    "index": DataType.int32(),
}


@daft.udf(return_dtype=DataType.struct(_COLUMNS), batch_size=10_000)
class Draws:
    """The task of `uniface generate` on the engine that answers at once."""

    def __init__(self) -> None:
        self.config = compose("generate", ["source.path=.", "sink.path=.", "engine.kind=null"])
        self.task = build_task(self.config)
        self.engine = NullEngine(256)

    def __call__(self, prompt: daft.Series, path: daft.Series, position: daft.Series) -> list[dict[str, Any]]:
        rows = [
            Row(RowRef(row_id_of(name, number), name), fields={"prompt": text})
            for text, name, number in zip(prompt.to_pylist(), path.to_pylist(), position.to_pylist(), strict=True)
        ]
        told: list[dict[str, Any]] = []
        for answer in answer_rows(self.task, self.engine, rows, self.config.run.seed):
            (values,) = answer.rows
            own = {
                "row_id": answer.row.ref.row_id,
                "parent_id": None,
                "uri": answer.row.ref.uri,
                "task": "generate",
                "model": self.config.model.name,
                "seed": seed_of(self.config.run.seed, answer.row.ref.row_id),
            }
            told.append({name: {**own, **values}[name] for name in _COLUMNS})
        return told


def main() -> None:
    prompts, sink, workers = sys.argv[1:]
    daft.set_runner_native()
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    s3 = S3Config(
        endpoint_url=endpoint,
        key_id=os.environ.get("AWS_ACCESS_KEY_ID"),
        access_key=os.environ.get("AWS_SECRET_ACCESS_KEY"),
        region_name="us-east-1",
        use_ssl=False,
    )
    io = IOConfig(s3=s3) if endpoint and prompts.startswith("s3://") else None
    table = daft.read_parquet(f"{prompts}/*.parquet", file_path_column="path", io_config=io)
    table = table._add_monotonically_increasing_id("position")
    draws = Draws.with_concurrency(int(workers))  # type: ignore[attr-defined]  # the decorator hides the class from mypy
    drawn = table.select(draws(table["prompt"], table["path"], table["position"]).alias("row"))
    drawn.select(*(drawn["row"][name].alias(name) for name in _COLUMNS)).write_parquet(
        sink, compression="zstd", io_config=io
    )
    # All is written; a thread of Daft's own now and then aborts an interpreter that ends in the usual way.
    os._exit(0)


if __name__ == "__main__":
    main()
