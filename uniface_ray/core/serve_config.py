"""The schema of `uniface serve`."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from uniface_ray.core.compose import absolute
from uniface_ray.core.config import (
    ClusterConfig,
    DecodeConfig,
    ModelConfig,
    StorageConfig,
)
from uniface_ray.core.engine_config import EngineConfig
from uniface_ray.core.files_config import FilesSettings
from uniface_ray.core.guard_config import GuardSettings
from uniface_ray.core.settings import Settings


def _named(value: str) -> str:
    if not re.fullmatch(r"[\w.:-]+=.+", value):
        raise ValueError("must be name=path; the name has letters, digits and .:_- only")
    name, _, path = value.partition("=")
    return f"{name}={absolute(path)}"  # processes of batches are started elsewhere


class ServeSettings(Settings):
    """The endpoint.

    Attributes:
        host: address to listen on; 0.0.0.0 for all of this machine's.
        port: likewise.
        models: `name=path` each, served beside `model`: a folder with a whole model, or with a LoRA adapter of `model`.
        doors: replicas of what reads requests and pictures, before the models.
        max_tokens: of an answer, where the request does not say.
        max_waiting: requests that wait for a free slot, of each replica; the next one is told 429 at once.
        timeout_s: seconds that a request may take, the waiting included.
        drain_s: seconds that requests under way have to end when a replica or the server stops.
        health_s: seconds between two looks at a replica; three bad ones in a row, and it is replaced.
        upscale_delay_s: seconds that there must be too many requests before another replica of `engine.replicas`=[a,b]
            starts.
        downscale_delay_s: seconds that there must be few before one of them ends.
        image_share: share of a replica's time that drawing takes while answers are under way too.
        image_batch: images drawn at a time; fewer keep the step of an answer shorter.
        image_urls: allow image_url to be an https:// address, which the server fetches; else data: URLs only.
    """

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8000, ge=1, le=65535)
    models: tuple[Annotated[str, AfterValidator(_named)], ...] = ()
    doors: int = Field(default=1, ge=1)
    max_tokens: int = Field(default=100, ge=1)
    max_waiting: int = Field(default=64, ge=0)
    timeout_s: float = Field(default=300.0, gt=0)
    drain_s: float = Field(default=30.0, ge=0)
    health_s: float = Field(default=5.0, gt=0)
    upscale_delay_s: float = Field(default=10.0, ge=0)
    downscale_delay_s: float = Field(default=300.0, ge=0)
    image_share: float = Field(default=0.5, gt=0, lt=1)
    image_batch: int = Field(default=4, ge=1)
    image_urls: bool = False


class ServeConfig(Settings):
    """All settings of `uniface serve`."""

    serve: ServeSettings = ServeSettings()
    guard: GuardSettings = GuardSettings()
    files: FilesSettings = FilesSettings()
    model: ModelConfig
    storage: StorageConfig = StorageConfig()
    decode: DecodeConfig = DecodeConfig()
    engine: EngineConfig = EngineConfig()
    cluster: ClusterConfig = ClusterConfig()
