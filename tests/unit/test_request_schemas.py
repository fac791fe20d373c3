"""What callers may ask of a job."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from api.chat_schemas import ChatRequest
from api.request_schemas import JobOptions


def chat(**more: Any) -> ChatRequest:
    return ChatRequest.model_validate({"model": "fake", "messages": [{"role": "user"}], **more})


@pytest.mark.parametrize("sent", [1, 5, 10])
def test_a_line_is_read_with_one_to_ten_beams(sent: int) -> None:
    # a form and a query hold strings
    assert JobOptions.model_validate({"beams": str(sent)}).beams == JobOptions(beams=sent).beams == sent
    assert chat(beams=sent).reading_options.beams == sent


@pytest.mark.parametrize("sent", [0, -1, 11, 1.5, "many", ""])
def test_other_numbers_of_beams_are_refused(sent: object) -> None:
    for read in (JobOptions.model_validate, lambda fields: chat(**fields)):
        with pytest.raises(ValidationError, match="beams"):
            read({"beams": sent})


def test_a_line_is_read_greedily_where_nothing_is_said() -> None:
    assert JobOptions().beams == chat().reading_options.beams == chat(beams=None).reading_options.beams == 1


def test_the_tokens_that_beams_read_are_told_but_not_what_else_could_stand_there() -> None:
    assert chat(beams=5, logprobs=True, top_logprobs=0).reading_options.top_logprobs == 0
    assert chat(beams=1, logprobs=True, top_logprobs=3).reading_options.top_logprobs == 3
    with pytest.raises(ValidationError, match="top_logprobs is not available with beams"):
        chat(beams=2, logprobs=True, top_logprobs=3)
