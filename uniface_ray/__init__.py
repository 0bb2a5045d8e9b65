"""Captions, answers and generated faces by the million, on Ray."""

from typing import TYPE_CHECKING, Any

from uniface_ray.core.version import __version__

if TYPE_CHECKING:
    from uniface_ray.api import answer, caption, edit, generate, score


def __getattr__(name: str) -> Any:
    # torch and transformers take seconds to import: only who asks for them waits.
    if name in __all__:
        from uniface_ray import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["__version__", "answer", "caption", "edit", "generate", "score"]
