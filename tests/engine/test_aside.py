"""What computes aside leaves no threads behind."""

import os
import subprocess
import sys

import pytest

from uniface_ray.engine.aside import aside

_THREADS_LEFT = """
import os, sys, time, torch
from uniface_ray.engine.aside import aside

torch.set_num_threads(3)
here = len(os.listdir("/proc/self/task"))
compute = lambda: torch.rand(2**20).exp_().sum()
aside(compute) if sys.argv[1] == "aside" else compute()
for _ in range(400):  # those of a pool that ends are gone a moment after it
    left = len(os.listdir("/proc/self/task")) - here
    if left == int(sys.argv[2]):
        break
    time.sleep(0.05)
print(left)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs Linux's /proc")
@pytest.mark.parametrize(("how", "left"), [("aside", 0), ("here", 2)])
def test_no_pool_of_threads_stays(how: str, left: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _THREADS_LEFT, how, str(left)], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) == left


def test_errors_come_through() -> None:
    with pytest.raises(ZeroDivisionError):
        aside(lambda: 1 / 0)
