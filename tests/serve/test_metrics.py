"""What the server counts, seen as Prometheus sees it."""

import httpx2
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.serve.conftest import Configure, serving
from tests.serve.test_chat import about
from uniface_ray.serve.app import build_app
from uniface_ray.serve.keys import make_key
from uniface_ray.serve.loop import EngineLoop
from uniface_ray.serve.metrics import NUMBERS


def numbers(address: str) -> dict[tuple[str, ...], float]:
    """(name, values of its labels in the order of their names) -> number."""
    text = httpx2.get(f"{address}/metrics").text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for sample in samples
        if "le" not in sample.labels
    }


def test_requests_answers_and_refusals_are_counted(configure: Configure, loop: EngineLoop) -> None:
    with serving(build_app(configure("guard.max_body_bytes=20000"), {"random": loop})) as address:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        answer = client.chat.completions.create(model="random", messages=about("who?"))  # type: ignore[arg-type]
        assert answer.usage
        list(client.chat.completions.create(model="random", messages=about("who?"), stream=True))  # type: ignore[arg-type]
        client.images.generate(prompt="a face", n=2, extra_body={"steps": 2})
        with pytest.raises(openai.APIStatusError):
            client.chat.completions.create(model="random", messages=about("x" * 30_000))  # type: ignore[arg-type]
        found = numbers(address)
        route = "/v1/chat/completions"
        assert found["uniface_http_requests_total", "POST", route, "200"] == 2
        assert found["uniface_http_requests_total", "POST", "other", "413"] == 1
        assert found["uniface_http_request_seconds_count", route] == 2
        assert found["uniface_http_first_byte_seconds_count", route] == 2
        assert found["uniface_http_refused_total", "body_too_large"] == 1
        assert found["uniface_first_token_seconds_count", "random"] == 1
        assert found["uniface_answer_tokens_total", "random"] == 2 * answer.usage.completion_tokens
        assert found["uniface_images_drawn_total", "random"] == 2
        assert found["uniface_model_requests", "answers", "random"] == 0
        assert found["uniface_model_slots", "waiting", "random"] == 0
        named = {name[0].removesuffix("_count").removesuffix("_sum") for name in found}
        assert {one.name for one in NUMBERS} <= named


def test_whoever_reads_them_needs_a_key_with_that_right(configure: Configure, loop: EngineLoop) -> None:
    (watcher, line), (other, other_line) = make_key("watcher"), make_key("other")
    config = configure(f"guard.keys=[{line}:metrics,{other_line}:chat]")
    with serving(build_app(config, {"random": loop})) as address:
        statuses = [
            httpx2.get(f"{address}/metrics", headers={"Authorization": f"Bearer {key}"}).status_code
            for key in (watcher, other, "nobody's")
        ]
        assert statuses == [200, 403, 401]
