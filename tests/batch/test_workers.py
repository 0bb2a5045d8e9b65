"""What each of Ray's processes of a run imports."""

import subprocess
import sys


def test_a_worker_starts_without_torch() -> None:
    """It takes several seconds, in each process that reads or commits, and once more whenever one is lost."""
    program = "import sys, uniface_ray.batch.pipeline; print(*{'torch', 'transformers'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "\n"
