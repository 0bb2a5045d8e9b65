"""Two workers on gloo of which one fails: both say the same, so that it does not matter which is heard first."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.train.tokens import run_alone, settings
from uniface_ray.core.errors import StoppedError
from uniface_ray.train.held_out import are_held_out
from uniface_ray.train.hooks import Hooks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # each process imports torch anew


def broken(tokens: Path, folder: Path) -> int:
    """A copy of the data in which one row has features that are no numbers; its `row_id`."""
    folder.mkdir()
    for file in sorted((tokens / "data/status=ok").glob("*.parquet")):
        pq.write_table(pq.read_table(file), folder / file.name)
    last = max(folder.iterdir())
    table = pq.read_table(last)
    values = table["semantic"].to_pylist()
    rows = zip(are_held_out(table, "row_id", 0.2), table["questions"].to_pylist(), strict=True)
    # Not held out, and with a question: of these a short run sees every one.
    odd = next(index for index, (apart, asked) in enumerate(rows) if asked and not apart)
    values[odd] = np.full(len(values[odd]) // 2, np.nan, np.float16).tobytes()
    field = table.schema.field("semantic")
    pq.write_table(
        table.set_column(table.schema.get_field_index("semantic"), field, pa.array(values, field.type)), last
    )
    return int(table["row_id"][odd].as_py())


def _worker(rank: int, folder: Path, tokens: Path, model: Path) -> None:
    torch.set_num_threads(1)
    where = f"file://{folder}/meeting"
    dist.init_process_group("gloo", where, rank=rank, world_size=2, timeout=timedelta(seconds=60))

    def block(record: dict[str, Any]) -> None:
        if rank == 0 and record["step"] == 3 and "loss/total" in record:
            (folder / "full/checkpoints").rename(folder / "full/kept")
            (folder / "full/checkpoints").write_text("a file where a folder should be")

    more = ["stages.steps=30", "stages.learning_rate=1e-4"]
    for data, name in ((tokens, "full"), (folder / "broken", "odd")):
        hooks = Hooks(tell=block) if name == "full" else Hooks()
        with pytest.raises(StoppedError) as raised:
            run_alone(settings(data, model, folder / name, *more), hooks)
        (folder / f"{name}-{rank}").write_text(str(raised.value))
    dist.destroy_process_group()


def test_all_workers_say_what_one_of_them_knows(tokens: Path, toy: Path, tmp_path: Path) -> None:
    row = broken(tokens, tmp_path / "broken")
    mp.spawn(_worker, (tmp_path, tokens, toy), nprocs=2)
    full, odd = ([(tmp_path / f"{name}-{rank}").read_text() for rank in (0, 1)] for name in ("full", "odd"))
    assert full[0] == full[1]
    assert "which cannot be written any more" in full[0]
    assert odd[0] == odd[1]
    assert str(row) in odd[0].partition("the rows were ")[2].partition(". Nothing")[0].split(", ")
