"""The shapes of the replies of OpenAI-compatible servers, read strictly."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_Number = Annotated[int, Field(ge=0, lt=2**31)]


class Reply(BaseModel):
    """What a server replies; unknown fields are ignored, and other types refused."""

    model_config = ConfigDict(strict=True)


class _Model(Reply):
    id: Annotated[str, Field(min_length=1, max_length=400)]


class Models(Reply):
    """The reply of /v1/models."""

    data: list[_Model]


class _Said(Reply):
    content: str | None = None


class _Choice(Reply):
    message: _Said | None = None
    text: str | None = None
    finish_reason: str | None = None


class Usage(Reply):
    prompt_tokens: _Number | None = None
    completion_tokens: _Number | None = None


class Completion(Reply):
    """The reply of /v1/chat/completions and /v1/completions."""

    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: Usage | None = None
    prompt_token_ids: list[_Number] | None = None


class Tokens(Reply):
    """The reply of /tokenize."""

    tokens: list[_Number]


class Prompt(Reply):
    """The reply of llama.cpp's /apply-template."""

    prompt: str
