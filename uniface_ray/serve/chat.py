"""`/v1/chat/completions`: a question about a picture, answered in one piece or token by token."""

import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from uniface_ray.core.errors import UserError
from uniface_ray.core.records import Reject, seed_of
from uniface_ray.engine.protocol import Ask, Text
from uniface_ray.serve.chat_schema import LONGEST_TEXT, ChatRequest, ImagePart, Message
from uniface_ray.serve.errors import ApiError, rejected
from uniface_ray.serve.growth import Growth
from uniface_ray.serve.models import Served
from uniface_ray.serve.pictures import Pictures
from uniface_ray.serve.streams import events, together, while_connected
from uniface_ray.serve.threads import WORK, run_in


def chat_router() -> APIRouter:
    """The route."""
    router = APIRouter()

    @router.post("/v1/chat/completions", response_model=None)
    async def complete(body: ChatRequest, request: Request) -> Response | dict[str, Any]:
        chat = await while_connected(request, _chat(body, request))
        if body.stream:
            return await events(request, chat.stream(), "data: [DONE]\n\n")
        return await while_connected(request, chat.whole())

    return router


@dataclass(slots=True)
class _Choice:
    """One of the answers to a request."""

    growth: Growth
    asked: Ask
    result: Text = field(default_factory=lambda: Text("", 0))

    def hear(self, result: Text, last: bool) -> str:
        """The answer so far -> what of it is new."""
        self.result = result
        return self.growth.more(result.text, last)

    @property
    def reason(self) -> str:
        """Why it ended."""
        cut = self.result.tokens >= self.asked.max_new_tokens and not self.growth.stopped
        return "length" if cut else "stop"


@dataclass(slots=True)
class _Chat:
    """A request and its answers."""

    model: Served
    name: str
    choices: list[_Choice]
    usage_wanted: bool
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    async def whole(self) -> dict[str, Any]:
        """All answers, when they are done."""
        async with aclosing(self._news()) as news:
            async for _ in news:
                pass
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": choice.growth.told, "refusal": None},
                "logprobs": None,
                "finish_reason": choice.reason,
            }
            for index, choice in enumerate(self.choices)
        ]
        return self._body("chat.completion", choices) | {"usage": self._usage()}

    async def stream(self) -> AsyncGenerator[dict[str, Any]]:
        """Chunks: who speaks, what they say, and why they end."""
        begun: set[int] = set()
        async with aclosing(self._news()) as news:
            async for index, new, last in news:
                if index not in begun:
                    yield self._chunk(index, {"role": "assistant", "content": ""})
                    begun.add(index)
                if new:
                    yield self._chunk(index, {"content": new})
                if last:
                    yield self._chunk(index, {}, self.choices[index].reason)
        if self.usage_wanted:
            yield self._body("chat.completion.chunk", []) | {"usage": self._usage()}

    async def _news(self) -> AsyncGenerator[tuple[int, str, bool]]:
        """(choice, new text, whether that is all of it), of all choices as it comes."""
        async with aclosing(together([self._follow(choice) for choice in self.choices])) as streams:
            async for index, (new, last) in streams:
                yield index, new, last

    async def _follow(self, choice: _Choice) -> AsyncGenerator[tuple[str, bool]]:
        async with aclosing(self.model.ask(choice.asked)) as stream:
            async for news in stream:
                if isinstance(news.outcome, Reject):
                    raise rejected(news.outcome, "messages")
                assert isinstance(news.outcome, Text)
                new = choice.hear(news.outcome, news.last)
                last = news.last or choice.growth.stopped
                yield new, last
                if last:
                    return  # a stop text ends the work too: closing the stream takes the request back

    def _chunk(self, index: int, delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        chunk = self._body("chat.completion.chunk", [choice])
        return chunk | {"usage": None} if self.usage_wanted else chunk

    def _body(self, kind: str, choices: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.name, "choices": list(choices)}

    def _usage(self) -> dict[str, int]:
        prompt = max(choice.result.prompt_tokens for choice in self.choices)
        answers = sum(choice.result.tokens for choice in self.choices)
        return {"prompt_tokens": prompt, "completion_tokens": answers, "total_tokens": prompt + answers}


async def _chat(body: ChatRequest, request: Request) -> _Chat:
    """What a request asks, with its picture read.

    Raises:
        ApiError: it cannot be asked.
    """
    name, model = request.app.state.models.pick(body.model)
    schema = body.response_format.schema_text if body.response_format else None
    if body.guided_choice or schema is not None:
        await run_in(WORK, check_answer_form, body.guided_choice, schema)
    settings = request.app.state.config.serve
    model.check_room(draws=False)
    url, place = picture_of(body.messages)
    pictures: Pictures = request.app.state.pictures
    pixels = (await pictures.picture(url, place, model.image_size)).pixels
    seed = secrets.randbits(63) if body.seed is None else body.seed & (2**63 - 1)
    asks = [
        Ask(
            pixels=pixels,
            question=question_of(body.messages),
            max_new_tokens=body.max_completion_tokens or body.max_tokens or settings.max_tokens,
            seed=seed_of(seed, number) if number else seed,
            temperature=body.temperature or 0.0,
            top_p=body.top_p or 1.0,
            time_limit_s=settings.timeout_s,
            watched=bool(body.stream or body.stops),
            choices=tuple(body.guided_choice),
            json_schema=schema,
        )
        for number in range(body.n or 1)
    ]
    choices = [_Choice(Growth(body.stops, final=not body.stream), ask) for ask in asks]
    return _Chat(model, name, choices, bool(body.stream_options and body.stream_options.include_usage))


def check_answer_form(choices: Sequence[str], schema: str | None) -> None:
    """Look at the form of an answer before the model is asked for it.

    Raises:
        ApiError: it cannot be kept to.
    """
    from uniface_ray.engine.guided import check_form  # brings torch and more, which few requests need here

    try:
        check_form(choices, schema)
    except UserError as error:
        param = "guided_choice" if schema is None else "response_format"
        raise ApiError(400, f"{param}: {error}", param=param, code="invalid_value") from error


def question_of(messages: Sequence[Message]) -> str:
    """The last user message's text; before it, what the system says.

    Raises:
        ApiError: there is none, or it is too long.
    """
    if messages[-1].role != "user":
        raise ApiError(400, "messages: the last one must be the user's", param="messages", code="invalid_value")
    rules = [text for one in messages if one.role in ("system", "developer") for text in one.texts]
    asked = "\n".join(messages[-1].texts).strip()
    if not asked:
        raise ApiError(400, "messages: the last one asks nothing: give it text", param="messages", code="invalid_value")
    text = "\n".join([*rules, asked])
    if len(text) > LONGEST_TEXT:
        what = f"messages: the last one, with the system's, has {len(text):,} characters; {LONGEST_TEXT:,} are the most"
        raise ApiError(400, what, param="messages", code="invalid_value")
    return text


def picture_of(messages: Sequence[Message]) -> tuple[str, str]:
    """URL and place of the picture that the conversation is about: the last one.

    Raises:
        ApiError: there is none, or a message has several.
    """
    for number, message in reversed(list(enumerate(messages))):
        parts = list(enumerate(message.content)) if isinstance(message.content, list) else []
        pictures = [(index, part) for index, part in parts if isinstance(part, ImagePart)]
        if len(pictures) > 1:
            what = f"messages.{number}: has {len(pictures)} pictures, but the model looks at one; ask about each apart"
            raise ApiError(400, what, param="messages", code="too_many_images")
        for index, part in pictures:
            return part.image_url.url, f"messages.{number}.content.{index}.image_url.url"
    what = "messages: there is no picture, but the model answers questions about one: add an image_url part"
    raise ApiError(400, what, param="messages", code="image_required")


__all__ = ["chat_router", "check_answer_form", "picture_of", "question_of"]
