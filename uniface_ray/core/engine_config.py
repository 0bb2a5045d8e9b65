"""The schema of replicas: what runs, where, and how many."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from uniface_ray.core.settings import Settings


def replica_range(value: Any) -> Any:
    """A number as [number, number]."""
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


def in_order(least: int) -> Callable[[tuple[int, int]], tuple[int, int]]:
    """Checks [min, max], min not below `least`."""

    def check(value: tuple[int, int]) -> tuple[int, int]:
        if not least <= value[0] <= value[1]:
            raise ValueError(f"needs {least} <= min <= max, and [{value[0]}, {value[1]}] is not")
        return value

    return check


class RemoteConfig(Settings):
    """A server of OpenAI's chat API, for `engine.kind=openai`; its key is read from OPENAI_API_KEY.

    Attributes:
        url: where the API begins, such as http://localhost:9000/v1.
        model: its name there.
        image_size: side in pixels of the square pictures that are sent.
        concurrency: requests at the server at a time, of each replica.
        attempts: tries of a request that fails for a passing reason.
        timeout_s: seconds that a try may take.
    """

    url: str | None = None
    model: str | None = None
    image_size: int = Field(default=512, ge=16, le=4096)
    concurrency: int = Field(default=16, ge=1, le=1024)
    attempts: int = Field(default=6, ge=1)
    timeout_s: float = Field(default=120.0, gt=0)


class EngineConfig(Settings):
    """How replicas run.

    Attributes:
        kind: `uniface` is our model; `transformers` any image-text model of that library; `openai` asks a server of
            OpenAI's chat API; `null` answers nothing at once, to measure and test all that is around a model.
        batch_size: rows that go through the model together.
        replicas: a number, or [min, max] to autoscale between; null is what a job finds to pay on this machine (see
            `batch.replicas`) with `kind=uniface`, and else 1, as on a cluster that is joined, and online.
        device: `auto` takes GPUs where there are some; `cpu`, `cuda` (which one, Ray decides).
        dtype: `auto` is float32 on a CPU and bfloat16 on a GPU.
        compile: torch.compile the steps of `kind=uniface`: minutes at the start of a replica, for faster steps.
        cuda_graphs: of `kind=uniface` on a GPU, launch all kernels of a step of answers at once.
        num_cpus: of one replica.
        num_gpus: of one replica, fractions allowed; null is 1 on a GPU and 0 on a CPU.
        threads: torch threads of one replica; null shares the machine's cores among the replicas.
        timeout_s: seconds that one step of the model may take (a batch of images read, a token of every answer, a
            step of every drawing); past that the replica starts again, and a row it hangs on is rejected as timeout.
            With `kind=openai`, the tries of a request end by `remote.timeout_s` and `remote.attempts` instead.
        image_size: side in pixels of the square pictures that a model of `transformers` is given; null is what its own
            config says, or 448 where it takes any size.
    """

    kind: Literal["uniface", "transformers", "openai", "null"] = "uniface"
    batch_size: int = Field(default=64, ge=1)
    replicas: Annotated[tuple[int, int], BeforeValidator(replica_range), AfterValidator(in_order(1))] | None = None
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda)$")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    compile: bool = False
    cuda_graphs: bool = False
    num_cpus: float = Field(default=1.0, ge=0)
    num_gpus: float | None = Field(default=None, ge=0)
    threads: int | None = Field(default=None, ge=1)
    timeout_s: float = Field(default=300.0, gt=0)
    image_size: int | None = Field(default=None, ge=16, le=4096)

    @property
    def holds_model(self) -> bool:
        """Whether a replica has a model, and so torch and a device, of its own."""
        return self.kind in ("uniface", "transformers")

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the most replicas, where nothing has been found out."""
        return self.replicas or (1, 1)

    @model_validator(mode="after")
    def _switches_are_of_our_model(self) -> "EngineConfig":
        on = [name for name in ("compile", "cuda_graphs") if getattr(self, name)]
        if on and self.kind != "uniface":
            raise ValueError(f"{on[0]} is true, but works on models of kind uniface only, and kind is {self.kind}")
        return self
