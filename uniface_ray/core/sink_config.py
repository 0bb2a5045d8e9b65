"""The schemas of the commands that look at a sink, or go over one again."""

from typing import Literal

from pydantic import Field

from uniface_ray.core.config import (
    ClusterConfig,
    DecodeConfig,
    ReportConfig,
    RunConfig,
    SinkConfig,
    StorageConfig,
)
from uniface_ray.core.engine_config import EngineConfig, RemoteConfig
from uniface_ray.core.settings import Settings


class StatusSettings(Settings):
    """`uniface status`.

    Attributes:
        format: of the answer.
        stale_s: a run that says it is running and has not been heard of for this many seconds is called stale.
    """

    format: Literal["text", "json"] = "text"
    stale_s: float = Field(default=60.0, gt=0)


class StatusConfig(Settings):
    """All settings of `uniface status`."""

    sink: SinkConfig
    storage: StorageConfig = StorageConfig()
    status: StatusSettings = StatusSettings()


class VerifySettings(Settings):
    """`uniface verify`.

    Attributes:
        format: of the answer.
        problems: most of them that are listed; all are counted.
    """

    format: Literal["text", "json"] = "text"
    problems: int = Field(default=50, ge=0)


class VerifyConfig(Settings):
    """All settings of `uniface verify`."""

    sink: SinkConfig
    storage: StorageConfig = StorageConfig()
    verify: VerifySettings = VerifySettings()


class ReplaySettings(Settings):
    """`uniface replay-rejects`.

    Attributes:
        kinds: `error_kind` of the rows that are done again; none is all of them.
        limit: most rows; null is all.
    """

    kinds: tuple[str, ...] = ()
    limit: int | None = Field(default=None, ge=1)


class ReplayConfig(Settings):
    """All settings of `uniface replay-rejects`; the run's own come from its manifest."""

    sink: SinkConfig
    replay: ReplaySettings = ReplaySettings()
    storage: StorageConfig = StorageConfig()
    decode: DecodeConfig = DecodeConfig()
    engine: EngineConfig = EngineConfig()
    remote: RemoteConfig = RemoteConfig()
    run: RunConfig = RunConfig()
    cluster: ClusterConfig = ClusterConfig()
    report: ReportConfig = ReportConfig()
