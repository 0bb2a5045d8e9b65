"""Ray Data: plan, read, decode, replicas, commit; resume, rejects, progress, manifest."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uniface_ray.batch.driver import run


def __getattr__(name: str) -> Any:
    # The driver needs torch, which the plain parts of this package (the terminal view, the monitor) do not.
    if name == "run":
        from uniface_ray.batch.driver import run

        return run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["run"]
