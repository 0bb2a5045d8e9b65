"""One run of a batch: `python -m uniface_ray.serve.batch_run COMMAND SETTING...` is `uniface COMMAND SETTING...`.

It is asked to end when the process that started it is gone, however that ended: the next one finds its sink free.
"""

import ctypes
import runpy
import signal

_PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_parent() -> None:
    """Have SIGTERM when the process that started this one is gone; only on Linux."""
    if prctl := getattr(ctypes.CDLL(None), "prctl", None):
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


if __name__ == "__main__":
    end_with_parent()
    runpy.run_module("uniface_ray.cli", run_name="__main__", alter_sys=True)


__all__ = ["end_with_parent"]
