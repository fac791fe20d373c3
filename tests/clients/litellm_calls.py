"""Calls of LiteLLM that work here, as its documentation shows them; prints what each gave, as JSON."""

import asyncio
import json
import os

import litellm

MODEL, LINE, ADDRESS, KEY = json.loads(os.environ["CALLS"])
OPENAI = {"model": f"openai/{MODEL}", "api_base": f"{ADDRESS}/v1", "api_key": KEY}
CHAT = OPENAI | {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": LINE}}]}]}
INPUT = [{"role": "user", "content": [{"type": "input_image", "image_url": LINE, "detail": "auto"}]}]
MISTRAL = {"model": f"mistral/{MODEL}", "api_base": f"{ADDRESS}/v1", "api_key": KEY}


async def streamed() -> str:
    chunks = [chunk async for chunk in await litellm.acompletion(**CHAT, stream=True)]
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def refused() -> str:
    try:
        litellm.completion(**CHAT | {"api_key": "ink_wrong"})
    except litellm.AuthenticationError as error:
        return type(error).__name__
    return "nothing"


gave = {
    "completion": litellm.completion(**CHAT).choices[0].message.content,
    "stream": "".join(chunk.choices[0].delta.content or "" for chunk in litellm.completion(**CHAT, stream=True)),
    "async_stream": asyncio.run(streamed()),
    "responses": litellm.responses(**OPENAI, input=INPUT).output[0].content[0].text,
    "ocr": litellm.ocr(**MISTRAL, document={"type": "image_url", "image_url": LINE}).pages[0].markdown,
    "wrong_key": refused(),
}
print(json.dumps(gave))
