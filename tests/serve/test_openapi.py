"""The service against requests that are made from its own OpenAPI document: none of them is our fault."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings

from tests.serve.conftest import Configure, serving
from uniface_ray.serve.app import build_app
from uniface_ray.serve.loop import EngineLoop

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed: pip install -e '.[e2e]'")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(configure: Configure, loop: EngineLoop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    files: Path = tmp_path_factory.mktemp("files")
    app = build_app(configure(f"files.path={files}", "serve.max_tokens=2"), {"random": loop})
    app.state.batches._start = lambda batch, attempt: None
    with serving(app) as url:
        yield url


def test_no_request_is_the_server_s_fault(service: str) -> None:
    document = schemathesis.openapi.from_url(f"{service}/openapi.json")
    operations = [found.ok() for found in document.get_all_operations()]
    assert len(operations) > 15
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        def try_out(case: Any) -> None:
            if isinstance(case.body, dict) and isinstance(case.body.get("steps"), int):
                case.body["steps"] = min(case.body["steps"], 3)  # not to wait for a thousand steps
            response = case.call(timeout=60)
            assert response.status_code < 500, response.text

        try_out()
    assert httpx2.get(f"{service}/readyz").json() == {"status": "ready"}
