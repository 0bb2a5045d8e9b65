"""An engine that is somewhere else: any server that speaks OpenAI's chat API."""

import base64
import io
import json
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
from PIL import Image

from uniface_ray.core.engine_config import RemoteConfig
from uniface_ray.core.errors import StoppedError, UserError
from uniface_ray.core.records import Pixels, Reject, RejectKind
from uniface_ray.engine.protocol import Ask, Drawing, Outcome, Request, Text, run_all

# Requests that fail with none in between that works, after all their tries: then it is the server, not they.
_FAILURES = 8
# A step tells that the client is at work on a request, which may take all its tries: it ends with them.
_STEP_S = 1.0
_SERVER = (RejectKind.FETCH_FAILED, RejectKind.TIMEOUT)


class RemoteEngine:
    """See `protocol.Engine`. It answers `Ask` only.

    At most `concurrency` requests are at the server at a time. The client tries again what fails for a passing reason
    (a lost connection, 408, 409, 429, 5xx), after the time that the server asks for (Retry-After) or a random one that
    grows.
    """

    def __init__(self, remote: RemoteConfig, image_size: int) -> None:
        """Connect to nothing yet.

        Args:
            remote: which server and model; the key is read from the environment's OPENAI_API_KEY.
            image_size: side of the pictures sent.

        Raises:
            UserError: the client is not installed, or there is no key.
        """
        self.image_size = image_size
        self._remote = remote
        self._client = _client(remote)
        self._pool = ThreadPoolExecutor(remote.concurrency)
        self._futures: dict[Future[Outcome], int] = {}
        self._next_id = 0
        self._failures = 0

    def submit(self, request: Request) -> int:
        """Send a request as soon as there is room; its id comes back with its outcome from `step`."""
        self._next_id += 1
        self._futures[self._pool.submit(self._answer, request)] = self._next_id
        return self._next_id

    def step(self) -> list[tuple[int, Outcome]]:
        """Wait a moment for something to end; outcomes of all that has, by id.

        Raises:
            StoppedError: the server answers nothing any more, or lets us in no more.
        """
        done, _ = wait(self._futures, _STEP_S, return_when=FIRST_COMPLETED)
        ended = [(self._futures.pop(future), future.result()) for future in done]
        for _, outcome in ended:
            lost = isinstance(outcome, Reject) and outcome.kind in _SERVER
            self._failures = self._failures + 1 if lost else 0
            if isinstance(outcome, Reject) and self._failures >= _FAILURES:
                raise StoppedError(
                    f"remote.url is {self._remote.url!r}, which answers nothing any more ({outcome.message}); "
                    "once it does, the same command goes on where this one stopped"
                )
        return ended

    def progress(self) -> list[tuple[int, Text | Drawing]]:
        """Nothing: answers come whole."""
        return []

    def cancel(self, number: int) -> None:
        """Forget a request; one that is at the server already is not waited for."""
        for future, other in list(self._futures.items()):
            if other == number:
                future.cancel()
                del self._futures[future]

    def run(self, requests: Sequence[Request]) -> list[Outcome]:
        """Answer requests; the i-th outcome belongs to the i-th request."""
        return run_all(self, requests)

    def _answer(self, request: Request) -> Outcome:
        import openai

        if not isinstance(request, Ask):
            what = f"a chat server answers questions, and cannot {type(request).__name__.lower()}"
            return Reject(RejectKind.BAD_REQUEST, what, "engine")
        client = self._client
        if request.time_limit_s is not None:
            client = client.with_options(timeout=request.time_limit_s)
        try:
            reply = client.chat.completions.create(
                model=self._remote.model,
                messages=_messages(request),
                max_tokens=request.max_new_tokens,
                temperature=request.temperature,
                top_p=request.top_p,
                seed=request.seed,
                **_response_format(request),
            )
        except openai.APITimeoutError as error:
            return self._reject(RejectKind.TIMEOUT, error)
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise StoppedError(
                f"remote.url is {self._remote.url!r}, and the server refuses model {self._remote.model!r} or our key: "
                f"{error}"
            ) from error
        except openai.APIStatusError as error:
            passing = error.status_code in (408, 409, 429) or error.status_code >= 500
            return self._reject(RejectKind.FETCH_FAILED if passing else RejectKind.BAD_REQUEST, error)
        except openai.OpenAIError as error:
            return self._reject(RejectKind.FETCH_FAILED, error)
        text = reply.choices[0].message.content if reply.choices else None
        if text is None:
            return Reject(RejectKind.MODEL_ERROR, "the server's reply holds no answer", "engine")
        if request.choices:
            text = _choice(text)
        return Text(text.strip(), reply.usage.completion_tokens if reply.usage else 0)

    def _reject(self, kind: RejectKind, error: Exception) -> Reject:
        attempts = 1 if kind == RejectKind.BAD_REQUEST else self._remote.attempts
        return Reject(kind, f"{type(error).__name__}: {error}"[:500], "engine", attempts)


def _client(remote: RemoteConfig) -> Any:
    try:
        import openai
    except ImportError as error:
        raise UserError(
            "engine.kind is openai, whose client is not installed: pip install 'uniface-ray[openai]'"
        ) from error
    try:
        return openai.OpenAI(base_url=remote.url, max_retries=remote.attempts - 1, timeout=remote.timeout_s)
    except openai.OpenAIError as error:
        raise UserError(
            "engine.kind is openai, and OPENAI_API_KEY is not set: export the server's key, or any word if it has none"
        ) from error


def _messages(request: Ask) -> list[dict[str, Any]]:
    image = {"type": "image_url", "image_url": {"url": _data_url(request.pixels)}}
    return [{"role": "user", "content": [image, {"type": "text", "text": request.question}]}]


def _response_format(request: Ask) -> dict[str, Any]:
    """The form of the answer in the API's words. A choice is a field of an object: servers take no other root."""
    schema: Any = None
    if request.choices:
        field = {"type": "string", "enum": list(request.choices)}
        schema = {"type": "object", "properties": {"answer": field}, "required": ["answer"]}
        schema["additionalProperties"] = False
    elif request.json_schema is not None:
        schema = json.loads(request.json_schema)
    if schema is None:
        return {}
    named = {"name": "answer", "strict": True, "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def _choice(text: str) -> str:
    """The choice in a reply; the reply itself where the server has not kept to the form."""
    try:
        return str(json.loads(text)["answer"])
    except (ValueError, TypeError, KeyError):
        return text


def _data_url(pixels: Pixels) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(buffer, "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
