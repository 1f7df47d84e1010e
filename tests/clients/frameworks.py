#!/usr/bin/env python3
"""Runs LangChain, LlamaIndex or LiteLLM against a Firstline server: streams, tool calls, JSON schemas,
embeddings, and what else of the API they speak.

Usage: frameworks.py BASE_URL CHAT_MODEL EMBED_MODEL langchain|llamaindex|litellm   (the black-box tests call it)
"""
import json
import sys
import typing

import pydantic

if len(sys.argv) != 5 or "--help" in sys.argv:
    sys.exit(__doc__)
BASE, CHAT, EMBED, WHICH = sys.argv[1:]
QUESTION = "Name the capital of France."


class Order(pydantic.BaseModel):
    """An order of parts."""

    kind: typing.Literal["lid", "base", "filter"]
    count: int


def weather(town: str, unit: typing.Literal["C", "F"]) -> str:
    """The weather of a town."""
    return f"7 {unit} in {town}"


def langchain():
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

    chat = ChatOpenAI(model=CHAT, base_url=BASE, api_key="unused", temperature=0, max_tokens=200, max_retries=0)
    support = ChatOpenAI(model="support", base_url=BASE, api_key="unused", max_retries=0)
    assert "Settings → Lid → Color" in support.invoke("How do I change the color of the lid?").content
    text = "".join(chunk.content for chunk in chat.stream(QUESTION, max_tokens=12))
    assert "Paris" in text, text
    ours = tool(weather)
    asked = [HumanMessage("What is the weather in Oslo?")]
    called = chat.bind_tools([ours], tool_choice="weather", parallel_tool_calls=False).invoke(asked)
    (call,) = called.tool_calls
    result = ours.invoke(call)
    assert isinstance(result, ToolMessage) and result.content.startswith("7 "), result
    assert chat.bind_tools([ours]).invoke([*asked, called, result]).response_metadata["finish_reason"]
    assert isinstance(chat.with_structured_output(Order, method="json_schema").invoke("Order two lids."), Order)
    assert isinstance(chat.with_structured_output(Order, method="function_calling").invoke("Order two lids."), Order)
    called = None
    for chunk in chat.bind_tools([ours], tool_choice="any", parallel_tool_calls=False).stream(asked):
        called = chunk if called is None else called + chunk
    assert set(called.tool_calls[0]["args"]) == {"town", "unit"}, called
    # The same by /v1/responses.
    newer = ChatOpenAI(model=CHAT, base_url=BASE, api_key="unused", temperature=0, max_tokens=200, max_retries=0,
                       use_responses_api=True)
    assert "Paris" in str(newer.invoke(QUESTION).content) and "Paris" in newer.invoke(QUESTION).text
    assert "Paris" in "".join(chunk.text for chunk in newer.stream(QUESTION))
    called = newer.bind_tools([ours], tool_choice="weather").invoke(asked)
    assert newer.bind_tools([ours]).invoke([*asked, called, ours.invoke(called.tool_calls[0])]).response_metadata
    assert isinstance(newer.with_structured_output(Order).invoke("Order two lids."), Order)
    # Texts continued, several prompts a request.
    bare = OpenAI(model=CHAT, base_url=BASE, api_key="unused", temperature=0, max_tokens=5, max_retries=0)
    said = [answers[0].text for answers in bare.generate(["The capital of France is", "One, two, three,"] * 10).generations]
    assert "Paris" in said[0] and said[:2] == said[2:4], said
    embedder = OpenAIEmbeddings(model=EMBED, base_url=BASE, api_key="unused", check_embedding_ctx_length=False)
    assert len(embedder.embed_query("a kettle")) == 384 and len(embedder.embed_documents(["a", "b"])) == 2


def llamaindex():
    from llama_index.core.llms import ChatMessage
    from llama_index.core.tools import FunctionTool
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding
    from llama_index.llms.openai_like import OpenAILike

    chat = OpenAILike(model=CHAT, api_base=BASE, api_key="unused", is_chat_model=True, is_function_calling_model=True,
                      temperature=0, max_tokens=200, max_retries=0, context_window=8192)
    support = OpenAILike(model="support", api_base=BASE, api_key="unused", is_chat_model=True, max_retries=0)
    asked = [ChatMessage(role="user", content="How do I change the color of the lid?")]
    assert "Settings → Lid → Color" in support.chat(asked).message.content
    asked = [ChatMessage(role="user", content=QUESTION)]
    text = "".join(part.delta or "" for part in chat.stream_chat(asked, max_tokens=12))
    assert "Paris" in text, text
    tool = FunctionTool.from_defaults(weather)
    answer = chat.chat_with_tools([tool], user_msg="What is the weather in Oslo?", tool_required=True)
    calls = chat.get_tool_calls_from_response(answer)
    assert calls and set(calls[0].tool_kwargs) == {"town", "unit"}, calls
    assert tool(**calls[0].tool_kwargs).content.startswith("7 ")
    streamed = None
    for streamed in chat.stream_chat_with_tools([tool], user_msg="What is the weather in Oslo?", tool_required=True):
        pass
    assert set(chat.get_tool_calls_from_response(streamed)[0].tool_kwargs) == {"town", "unit"}, streamed
    assert isinstance(chat.as_structured_llm(Order).chat([ChatMessage(role="user", content="Order two lids.")]).raw, Order)
    assert "Paris" in OpenAILike(model=CHAT, api_base=BASE, api_key="unused", is_chat_model=False, temperature=0,
                                 max_tokens=5).complete("The capital of France is").text
    schema = {"type": "json_schema", "json_schema": {"name": "order", "strict": True, "schema": Order.model_json_schema()}}
    order = chat.chat([ChatMessage(role="user", content="Order two lids.")], response_format=schema)
    Order.model_validate_json(order.message.content)
    embedder = OpenAILikeEmbedding(model_name=EMBED, api_base=BASE, api_key="unused", max_retries=0)
    assert len(embedder.get_text_embedding("a kettle")) == 384
    assert len(embedder.get_text_embedding_batch(["a", "b"])) == 2


def litellm():
    import litellm

    ask = {"model": f"openai/{CHAT}", "api_base": BASE, "api_key": "unused", "temperature": 0, "num_retries": 0}
    user = lambda text: [{"role": "user", "content": text}]
    support = litellm.completion(**{**ask, "model": "openai/support", "temperature": None},
                                 messages=user("How do I change the color of the lid?"))
    assert "Settings → Lid → Color" in support.choices[0].message.content
    stream = litellm.completion(**ask, messages=user(QUESTION), max_tokens=12, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert "Paris" in text, text
    tool = {"type": "function", "function": {
        "name": "weather", "description": weather.__doc__, "parameters": {
            "type": "object", "required": ["town", "unit"], "properties": {
                "town": {"type": "string"}, "unit": {"enum": ["C", "F"]}}}}}
    named = {"type": "function", "function": {"name": "weather"}}
    answer = litellm.completion(**ask, messages=user("What is the weather in Oslo?"), tools=[tool], tool_choice=named,
                                max_tokens=200)
    arguments = json.loads(answer.choices[0].message.tool_calls[0].function.arguments)
    assert weather(**arguments).startswith("7 ")
    chunks = list(litellm.completion(**ask, messages=user("What is the weather in Oslo?"), tools=[tool], tool_choice="required",
                                     max_tokens=200, stream=True))
    called = litellm.stream_chunk_builder(chunks).choices[0].message.tool_calls[0].function
    assert weather(**json.loads(called.arguments)).startswith("7 ")
    at = {"api_base": BASE, "api_key": "unused"}
    answer = litellm.responses(model=f"openai/{CHAT}", input=QUESTION, temperature=0, max_output_tokens=12, **at)
    assert "Paris" in answer.output[0].content[0].text, answer
    ranked = litellm.rerank(model=f"hosted_vllm/{EMBED}", query="the lid's color", documents=["The moon.", "The lid is blue."], **at)
    assert ranked.results[0]["index"] == 1, ranked
    found = litellm.vector_stores.search(vector_store_id="vs_pack", query="lid", custom_llm_provider="openai", **at)
    assert found["data"], found
    order = litellm.completion(**ask, messages=user("Order two lids."), response_format=Order, max_tokens=200)
    Order.model_validate_json(order.choices[0].message.content)
    vectors = litellm.embedding(model=f"openai/{EMBED}", input=["a", "b"], api_base=BASE, api_key="unused")
    assert len(vectors.data) == 2 and len(vectors.data[0]["embedding"]) == 384


{"langchain": langchain, "llamaindex": llamaindex, "litellm": litellm}[WHICH]()
print("ok", WHICH)
