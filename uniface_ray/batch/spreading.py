"""How many rows a chunk has, so that all replicas get work: a table of prompts is tiny, and still spread."""

from math import ceil

from uniface_ray.batch.chunking import limited, slices_of
from uniface_ray.data.slices import Source

# Chunks for each replica, so that one that falls behind holds up a fraction of its work only.
_WAVES = 4


def rows_of_a_chunk(source: Source, most: int, replicas: int, batch_size: int, limit: int | None) -> int:
    """`most` where the source is large, fewer where that would leave replicas without a chunk.

    Args:
        source: of the run. It is read only as far as it takes to see that it is large.
        most: rows of a chunk.
        replicas: that there may be.
        batch_size: rows that go through a replica together; smaller chunks only where replicas had none.
        limit: rows of the run; None for all.
    """
    enough = _WAVES * replicas * most
    slices = slices_of(source, source.files(), most)
    rows = sum(one.count for one in limited(slices, enough if limit is None else min(enough, limit)))
    if rows >= enough or not rows:
        return most
    return min(most, max(1, ceil(rows / (_WAVES * replicas)), min(batch_size, rows // replicas)))
