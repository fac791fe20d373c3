"""Calls of LangChain's OpenAI class that work here, as its documentation shows them; prints what each gave, as JSON."""

import asyncio
import json
import os

from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI

MODEL, LINE, ADDRESS, KEY = json.loads(os.environ["CALLS"])
OPTIONS = {"model": MODEL, "base_url": f"{ADDRESS}/v1", "api_key": KEY}
LLM = ChatOpenAI(**OPTIONS)
MESSAGES = [HumanMessage(content=[{"type": "image_url", "image_url": {"url": LINE}}])]

gave = {
    "invoke": LLM.invoke(MESSAGES).content,
    "stream": "".join(str(chunk.content) for chunk in LLM.stream(MESSAGES)),
    "ainvoke": asyncio.run(LLM.ainvoke(MESSAGES)).content,
    "batch": LLM.batch([MESSAGES, MESSAGES])[1].content,
    "logprobs": "".join(
        token["token"] for token in LLM.bind(logprobs=True).invoke(MESSAGES).response_metadata["logprobs"]["content"]
    ),
    "responses": ChatOpenAI(**OPTIONS, use_responses_api=True).invoke(MESSAGES).text,
}
print(json.dumps(gave))
