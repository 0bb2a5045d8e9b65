"""The request of `/v1/chat/completions`, as far as a model of one picture and one question can do what it says."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from uniface_ray.serve.errors import ApiError

# What these ask for is not done; values that ask for nothing are fine.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "audio": (None,),
    "frequency_penalty": (None, 0),
    "function_call": (None, "none"),
    "functions": (None, []),
    "logit_bias": (None, {}),
    "logprobs": (None, False),
    "modalities": (None, ["text"]),
    "prediction": (None,),
    "presence_penalty": (None, 0),
    "tool_choice": (None, "none", "auto"),
    "tools": (None, []),
    "top_logprobs": (None, 0),
    "web_search_options": (None,),
}
# What these ask for changes no answer here.
_WITHOUT_EFFECT = (
    "metadata",
    "moderation",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning_effort",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
    "verbosity",
)

_LONGEST_SCHEMA = 16_384  # characters: the model's thread reads it
LONGEST_TEXT = 32_000
"""Characters of a question with what the system says before it: the model's thread makes tokens of them."""

# Whatever has a length for pydantic is text that can be encoded too: JSON may hold halves of characters.
Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
Stop = Annotated[str, Field(min_length=1, max_length=200)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TextPart(_Body):
    """Text of a message."""

    type: Literal["text"]
    text: Text


class ImageUrl(_Body):
    """Where a picture is: a data: URL, or an https:// address where the server fetches such."""

    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class ImagePart(_Body):
    """A picture of a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(_Body):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[Part] | None = None
    name: str | None = None
    refusal: str | None = None

    @property
    def texts(self) -> list[str]:
        """Its texts."""
        if isinstance(self.content, list):
            return [part.text for part in self.content if isinstance(part, TextPart)]
        return [self.content] if self.content else []


class JsonSchema(BaseModel):
    """A form of answers."""

    model_config = ConfigDict(extra="ignore")
    schema_: dict[str, Any] = Field(alias="schema")


class ResponseFormat(_Body):
    """What the answer shall be; `strict` or not, it is kept to."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @property
    def schema_text(self) -> str | None:
        """A JSON schema, itself JSON; None for free text.

        Raises:
            ApiError: there is none, or it is too long or too deep.
        """
        if self.type == "text":
            return None
        if self.type == "json_schema" and self.json_schema is None:
            what = 'response_format: give a schema, as in {"type": "json_schema", "json_schema": {"schema": {...}}}'
            raise ApiError(400, what, param="response_format", code="invalid_value")
        try:
            text = json.dumps(self.json_schema.schema_ if self.json_schema else {"type": "object"})
        except RecursionError as error:
            what = "response_format: the schema is nested too deeply"
            raise ApiError(400, what, param="response_format", code="invalid_value") from error
        if len(text) > _LONGEST_SCHEMA:
            what = f"response_format: the schema has {len(text):,} characters, and {_LONGEST_SCHEMA:,} are the most"
            raise ApiError(400, what, param="response_format", code="invalid_value")
        return text


class StreamOptions(BaseModel):
    """What a stream shall hold."""

    model_config = ConfigDict(extra="ignore")
    include_usage: bool = False


class ChatRequest(_Body):
    """The body.

    Attributes:
        messages: the last picture of them is what the last user message asks about; system texts stand before it.
        model: by its name; the first of the server where None.
        max_tokens: of the answer; the older name of `max_completion_tokens`.
        temperature: 0, the default, takes the likeliest token each time, as batch runs do.
        response_format: JSON of a schema, where the server has the extra `guided`; free text where None.
        guided_choice: the answer is one of these texts, likewise (no parameter of OpenAI's).
        seed: of the random numbers; another one for each of `n` answers, and a random one where None.
    """

    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    model: str | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=2**31)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=2**31)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    n: int | None = Field(default=None, ge=1, le=16)
    stop: Stop | list[Stop] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    guided_choice: Annotated[list[Annotated[str, Field(min_length=1, max_length=1000)]], Field(max_length=100)] = []

    @model_validator(mode="before")
    @classmethod
    def _only_what_is_done(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        for name, nothing in _UNSUPPORTED.items():
            if name in values and values[name] not in nothing:
                what = f"{name} is not supported by this server; leave it out"
                raise ApiError(400, what, param=name, code="unsupported_parameter")
        return {name: one for name, one in values.items() if name not in _UNSUPPORTED and name not in _WITHOUT_EFFECT}

    @field_validator("stop")
    @classmethod
    def _few_stops(cls, value: str | list[str] | None) -> str | list[str] | None:
        if isinstance(value, list) and len(value) > 16:
            raise ValueError(f"has {len(value)} texts, but 16 are the most")
        return value

    @property
    def stops(self) -> list[str]:
        """Texts that end the answer."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


__all__ = ["LONGEST_TEXT", "ChatRequest", "ImagePart", "Message"]
