"""The settings of `/v1/files` and `/v1/batches`."""

from pydantic import Field

from uniface_ray.core.settings import Settings


class FilesSettings(Settings):
    """Files that clients upload, and batches that are run from them.

    Attributes:
        path: folder or s3:// URI that keeps them; null switches both off. Servers that share it share what it holds.
        jobs: address of a Ray cluster's job API, http://head:8265, that runs batches; null runs each in a process
            beside the server, on a Ray of its own.
        max_bytes: of one file.
        owner_bytes: of all files of one key. What batches give out is kept beyond that, but nothing more is taken then.
        keep_days: after which files and batches are removed.
        batch_lines: of one batch.
        batch_settings: different settings (model, max_tokens, steps, ...) that the lines of one batch may have; each
            is a run of its own.
        running: batches at a time; more wait.
    """

    path: str | None = Field(default=None, min_length=1)
    jobs: str | None = Field(default=None, pattern=r"^https?://")
    max_bytes: int = Field(default=200 * 2**20, ge=1)
    owner_bytes: int = Field(default=10 * 2**30, ge=1)
    keep_days: float = Field(default=30.0, gt=0)
    batch_lines: int = Field(default=50_000, ge=1)
    batch_settings: int = Field(default=16, ge=1)
    running: int = Field(default=1, ge=1)
