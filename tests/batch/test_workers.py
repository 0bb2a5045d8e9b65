"""What each process of a run imports."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["batch.pipeline", "nodes", "batch.work", "batch.driver"])
def test_only_what_decodes_or_holds_a_model_waits_for_torch(module: str) -> None:
    """It takes several seconds, in each process that reads or commits, and once more whenever one is lost; the replicas
    of a remote server, or of nothing, can do without it too, and so can the driver of their run."""
    program = "import sys, uniface_ray." + module + "; print(*{'torch', 'transformers'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "\n"


@pytest.mark.parametrize("kind", ["null", "openai"])
def test_an_engine_without_a_model_is_checked_without_torch(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    program = f"""
import sys
from uniface_ray.core.compose import compose
from uniface_ray.engine.check import check_engine
settings = ["source=demo", "sink.path=out", "engine.kind={kind}", "remote.url=http://localhost:9", "remote.model=some"]
check_engine(compose("caption", settings))
print(*{{"torch", "transformers"}} & {{*sys.modules}})"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "\n"
