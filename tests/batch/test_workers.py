"""What each process of a run imports."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["batch.pipeline", "nodes", "batch.work"])
def test_only_what_decodes_or_holds_a_model_waits_for_torch(module: str) -> None:
    """It takes several seconds, in each process that reads or commits, and once more whenever one is lost; the replicas
    of a remote server, or of nothing, can do without it too."""
    program = "import sys, uniface_ray." + module + "; print(*{'torch', 'transformers'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "\n"
