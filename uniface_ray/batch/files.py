"""Images that are also files of the sink, beside the table that holds them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from uniface_ray.core.storage import Folder

_THREADS = 16


def write_files(sink: Folder, names: Sequence[str], images: pa.ChunkedArray) -> None:
    """Write each image under its name, whole or not at all; done again, the same names hold the same images.

    Raises:
        OSError: the sink cannot be written.
    """
    with ThreadPoolExecutor(_THREADS) as pool:  # one object of S3 takes a while, however small
        for _ in pool.map(lambda name, image: sink.write(name, image.as_py()), names, images):
            pass
