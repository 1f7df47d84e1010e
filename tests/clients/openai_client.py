#!/usr/bin/env python3
"""Runs the official `openai` client against a Firstline server: chat, streams, embeddings, models, every error case.

Usage: openai_client.py BASE_URL CHAT_MODEL EMBED_MODEL MODE   (the black-box tests call it)

MODE: all (an open server), keys (one with the keys shop-key and admin-key), busy (one that takes two requests at once),
slow (one whose requests may take a second).
"""
import asyncio
import concurrent.futures
import datetime
import json
import sys
import typing
import uuid

import openai
import pydantic

if len(sys.argv) != 5 or "--help" in sys.argv:
    sys.exit(__doc__)
BASE, CHAT, EMBED, MODE = sys.argv[1:]
client = openai.OpenAI(base_url=BASE, api_key="unused", max_retries=0, timeout=120)
HANDOFF = {"type": "function", "function": {"name": "transfer_to_human", "parameters": {"type": "object", "properties": {}}}}


def user(text):
    return [{"role": "user", "content": text}]


def chat():
    answer = client.chat.completions.create(model="support", messages=user("How do I change the color of the lid?"))
    assert "Settings → Lid → Color" in answer.choices[0].message.content, answer
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model_extra["support"]["action"] == "answer", answer.model_extra
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def chat_with_parts_and_options():
    parts = [{"type": "text", "text": "What is the capital"}, {"type": "text", "text": "of France?"}]
    answer = client.chat.completions.create(
        model=CHAT, messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}],
        temperature=0, top_p=1, seed=1, max_completion_tokens=12, stop=["\n\n"], presence_penalty=0, frequency_penalty=0,
        user="u", store=False, metadata={"a": "b"}, logprobs=True, top_logprobs=2, n=1,
        extra_body={"top_k": 5, "min_p": 0.01, "repetition_penalty": 1.0})
    assert "Paris" in answer.choices[0].message.content, answer
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 2
    assert answer.usage.prompt_tokens_details.cached_tokens is not None


def raw_response_headers():
    raw = client.chat.completions.with_raw_response.create(model="support", messages=user("How long is the warranty?"))
    conversation = raw.headers["x-conversation-id"]
    assert raw.headers["x-support-action"] == "answer", dict(raw.headers)
    again = client.chat.completions.with_raw_response.create(
        model="support", messages=user("And how do I change the color of the lid?"), metadata={"conversation_id": conversation})
    assert again.headers["x-conversation-id"] == conversation
    assert "Lid" in again.parse().choices[0].message.content


def stream():
    chunks = list(client.chat.completions.create(
        model=CHAT, messages=user("Name the capital of France."), temperature=0, max_tokens=12, stream=True,
        stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert "Paris" in text, text
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage.completion_tokens > 0 and not chunks[-1].choices


def support_stream():
    chunks = list(client.chat.completions.create(
        model="support", messages=user("How do I start the kettle from a script?"), stream=True))
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert 'curl -X POST https://api.kettlewood.example/v1/boil \\\n  -H "Authorization: Bearer TOKEN"\n' in text, text
    assert chunks[-1].choices[0].finish_reason == "stop" and chunks[-1].model_extra["support"]["action"] == "answer"


def stream_helper():
    with client.chat.completions.stream(model=CHAT, messages=user("Hello"), max_tokens=5, temperature=0) as events:
        for _ in events:
            pass
        # A helper of the client that keeps a strict account of chunks.
        assert events.current_completion_snapshot.choices[0].message.content


def handoff_call():
    for streamed in (False, True):
        answer = client.chat.completions.create(
            model="support", messages=user("Please refund my payment."), tools=[HANDOFF], stream=streamed)
        if streamed:
            chunks = list(answer)
            calls = [call for c in chunks for call in (c.choices[0].delta.tool_calls or [])]
            assert chunks[-1].choices[0].finish_reason == "tool_calls"
        else:
            calls = answer.choices[0].message.tool_calls
            assert answer.choices[0].finish_reason == "tool_calls", answer
        assert calls[0].function.name == "transfer_to_human" and calls[0].id


WEATHER = {"type": "function", "function": {
    "name": "weather", "description": "The weather of a town.",
    "parameters": {"type": "object", "required": ["town", "unit"], "additionalProperties": False, "properties": {
        "town": {"type": "string"}, "unit": {"type": "string", "enum": ["C", "F"]}}}}}


def called(calls):
    """Checks calls of `weather`; their ids."""
    for call in calls:
        arguments = json.loads(call.function.arguments)
        assert call.function.name == "weather" and set(arguments) == {"town", "unit"}, call
        assert arguments["unit"] in ("C", "F"), arguments
    return [call.id for call in calls]


def own_tools():
    ask = {"model": CHAT, "messages": user("What is the weather in Oslo?"), "tools": [WEATHER], "temperature": 0,
           "max_tokens": 200}
    named = {"type": "function", "function": {"name": "weather"}}
    for choice in ("required", named):
        answer = client.chat.completions.create(**ask, tool_choice=choice, parallel_tool_calls=False)
        message = answer.choices[0].message
        assert answer.choices[0].finish_reason == "tool_calls" and len(message.tool_calls) == 1, answer
        (call_id,) = called(message.tool_calls)
    # The result goes back, and the model answers.
    follow = client.chat.completions.create(**{**ask, "messages": [
        *ask["messages"], message, {"role": "tool", "tool_call_id": call_id, "content": "7 C, rain"}]})
    assert follow.choices[0].finish_reason in ("stop", "length", "tool_calls"), follow
    # The same as a stream, put together by the client.
    names, arguments = {}, {}
    for chunk in client.chat.completions.create(**ask, tool_choice="required", stream=True):
        for call in chunk.choices[0].delta.tool_calls or []:
            names.setdefault(call.index, call.function.name)
            arguments[call.index] = arguments.get(call.index, "") + call.function.arguments
        finish = chunk.choices[0].finish_reason
    assert finish == "tool_calls" and set(names.values()) == {"weather"}, (finish, names)
    assert all(set(json.loads(text)) == {"town", "unit"} for text in arguments.values()), arguments
    silent = client.chat.completions.create(**ask, tool_choice="none")
    assert not silent.choices[0].message.tool_calls


class Part(pydantic.BaseModel):
    name: str
    price: float
    in_stock: bool


class Order(pydantic.BaseModel):
    kind: typing.Literal["lid", "base", "filter"]
    parts: list[Part]


def json_schema():
    answer = client.chat.completions.parse(
        model=CHAT, messages=user("A customer orders a lid and a filter. Write the order."), temperature=0,
        max_tokens=400, response_format=Order)
    assert answer.choices[0].finish_reason == "stop" and isinstance(answer.choices[0].message.parsed, Order), answer
    anything = client.chat.completions.create(
        model=CHAT, messages=user("Describe a kettle as JSON."), max_tokens=300, seed=3,
        response_format={"type": "json_object"})
    assert anything.choices[0].finish_reason == "stop", anything
    assert isinstance(json.loads(anything.choices[0].message.content), dict)


class Contact(pydantic.BaseModel):
    """What pydantic writes schemas of: patterns, formats, unions, numbers."""

    mail: str = pydantic.Field(pattern=r"^[a-z]+@[a-z]+\.com$")
    site: pydantic.AnyUrl
    since: datetime.date
    price: float
    count: typing.Annotated[int, pydantic.Field(ge=1, le=10)]
    note: typing.Optional[str]
    key: typing.Union[int, uuid.UUID]


def rich_schemas():
    answer = client.beta.chat.completions.parse(
        model=CHAT, messages=user("A contact of a shop."), temperature=0, max_tokens=500, response_format=Contact)
    assert answer.choices[0].finish_reason == "stop" and isinstance(answer.choices[0].message.parsed, Contact), answer
    with client.chat.completions.stream(model=CHAT, messages=user("A contact."), temperature=0, max_tokens=500,
                                        response_format=Contact) as events:
        kinds = {event.type for event in events}
        assert "content.delta" in kinds and events.get_final_completion().choices[0].message.parsed.count <= 10, kinds
    with client.responses.stream(model=CHAT, input="A contact.", temperature=0, max_output_tokens=500,
                                 text_format=Contact) as events:
        assert events.until_done().get_final_response().output_parsed.mail.endswith(".com")


class Weather(pydantic.BaseModel):
    town: str
    unit: typing.Literal["C", "F"]


def typed_and_allowed_tools():
    tools = [openai.pydantic_function_tool(Weather, name="weather"), openai.pydantic_function_tool(Order, name="order")]
    ask = {"model": CHAT, "messages": user("What is the weather in Oslo?"), "tools": tools, "temperature": 0, "max_tokens": 300}
    named = {"type": "function", "function": {"name": "weather"}}
    parsed = client.chat.completions.parse(**ask, tool_choice=named, parallel_tool_calls=False)
    assert isinstance(parsed.choices[0].message.tool_calls[0].function.parsed_arguments, Weather), parsed
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named]}}
    calls = client.chat.completions.create(**ask, tool_choice=allowed).choices[0].message.tool_calls
    assert calls and {call.function.name for call in calls} == {"weather"}, calls
    flat = [{"type": "function", **tool["function"]} for tool in tools]
    answer = client.responses.create(
        model=CHAT, input="The weather in Oslo?", tools=flat, temperature=0, max_output_tokens=300,
        tool_choice={"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]})
    assert {item.name for item in answer.output if item.type == "function_call"} == {"weather"}, answer
    with client.responses.stream(model=CHAT, input="The weather in Oslo?", tools=flat[:1], tool_choice="required",
                                 parallel_tool_calls=False, temperature=0, max_output_tokens=300) as events:
        (call,) = events.until_done().get_final_response().output
        assert set(json.loads(call.arguments)) == {"town", "unit"}, call


def transcripts_as_clients_send_them():
    """What an answer was goes back as it came, refusals and refused parts too."""
    asked = user("Name the capital of France.")
    first = client.chat.completions.create(model=CHAT, messages=asked, temperature=0, max_tokens=12).choices[0].message
    refusal = {"role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot."}]}
    for said in (first, first.model_dump(), refusal):
        assert client.chat.completions.create(model=CHAT, messages=[*asked, said, *asked], max_tokens=2).choices
    output = client.responses.create(model=CHAT, input=asked, temperature=0, max_output_tokens=12).output
    for items in (output, [item.model_dump() for item in output]):
        assert client.responses.create(model=CHAT, input=[*asked, *items, *asked], max_output_tokens=2).output
    for part in ({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, {"type": "file", "file": {"file_id": "x"}}):
        refused = status_of(lambda: client.chat.completions.create(model=CHAT, messages=[{"role": "user", "content": [part]}]))
        assert refused == (openai.BadRequestError, 400, "unsupported_parameter"), refused


def log_probabilities():
    chunks = list(client.chat.completions.create(
        model=CHAT, messages=user("A word?"), n=2, seed=1, max_tokens=6, stream=True, logprobs=True, top_logprobs=3,
        stop=["zzz", "\n\n"], stream_options={"include_usage": True}))
    for n in (0, 1):
        of = [chunk.choices[0] for chunk in chunks if chunk.choices and chunk.choices[0].index == n]
        tokens = [token for choice in of if choice.logprobs for token in choice.logprobs.content or []]
        assert "".join(token.token for token in tokens) == "".join(choice.delta.content or "" for choice in of), of
        assert all(len(token.top_logprobs) == 3 for token in tokens)
    ask = {"model": CHAT, "input": "A word?", "temperature": 0, "max_output_tokens": 6, "top_logprobs": 2,
           "include": ["message.output_text.logprobs", "reasoning.encrypted_content"]}
    part = client.responses.create(**ask).output[0].content[0]
    assert "".join(token.token for token in part.logprobs) == part.text and len(part.logprobs[0].top_logprobs) == 2, part
    with client.responses.stream(**ask) as events:
        seen = [token.token for event in events if event.type == "response.output_text.delta" for token in event.logprobs]
        assert "".join(seen) == part.text, seen


def several_choices():
    answer = client.chat.completions.create(model=CHAT, messages=user("A word?"), n=3, seed=1, max_tokens=6)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    chunks = list(client.chat.completions.create(
        model=CHAT, messages=user("A word?"), n=2, seed=1, max_tokens=6, stream=True))
    texts = ["".join(c.choices[0].delta.content or "" for c in chunks if c.choices[0].index == n) for n in (0, 1)]
    assert texts == [choice.message.content for choice in answer.choices[:2]], texts


def text_completions():
    answer = client.completions.create(model=CHAT, prompt="The capital of France is", temperature=0, max_tokens=5,
                                       logprobs=2)
    assert "Paris" in answer.choices[0].text and len(answer.choices[0].logprobs.tokens) == 5, answer
    streamed = client.completions.create(model=CHAT, prompt="The capital of France is", temperature=0, max_tokens=5,
                                         stream=True)
    assert "".join(c.choices[0].text for c in streamed) == answer.choices[0].text
    # More prompts than run at once, each with two answers.
    prompts = [f"The capital of {land} is" for land in ("France", "Italy", "Spain", "Norway", "Poland")] * 4
    several = client.completions.create(model=CHAT, prompt=prompts, n=2, temperature=0, max_tokens=3)
    texts = [choice.text for choice in several.choices]
    assert [choice.index for choice in several.choices] == list(range(40)), several
    assert texts[:10] == texts[10:20] == texts[20:30] == texts[30:] and "Paris" in texts[0] and "Rome" in texts[2], texts
    alone = client.completions.create(model=CHAT, prompt=prompts[0], temperature=0, max_tokens=3)
    assert alone.choices[0].text == texts[0] and several.usage.prompt_tokens >= 20 * alone.usage.prompt_tokens - 20
    parts = {}
    for chunk in client.completions.create(model=CHAT, prompt=prompts[:5], temperature=0, max_tokens=3, stream=True):
        parts[chunk.choices[0].index] = parts.get(chunk.choices[0].index, "") + chunk.choices[0].text
    assert [parts[n] for n in range(5)] == texts[0:10:2], parts


def many_at_once():
    async def ask():
        together = openai.AsyncOpenAI(base_url=BASE, api_key="unused", max_retries=0, timeout=120)
        ask = {"model": CHAT, "messages": user("Name the capital of France."), "temperature": 0, "max_tokens": 12}
        answers = await asyncio.gather(*[together.chat.completions.create(**ask) for _ in range(6)])
        stream = await together.chat.completions.create(**ask, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert {answer.choices[0].message.content for answer in answers} == {text} and "Paris" in text, (answers, text)

    asyncio.run(ask())


def responses():
    first = client.responses.create(model=CHAT, input="Name the capital of France.", instructions="Be brief.",
                                    temperature=0, max_output_tokens=40)
    assert "Paris" in first.output_text and first.usage.output_tokens > 0, first
    assert client.responses.retrieve(first.id).output_text == first.output_text
    with client.responses.stream(model=CHAT, input="And of Italy?", previous_response_id=first.id, temperature=0,
                                 max_output_tokens=12) as events:
        names = [event.type for event in events]
    assert names[0] == "response.created" and "response.output_text.delta" in names, names
    assert names[-1] in ("response.completed", "response.incomplete"), names
    tool = {"type": "function", **WEATHER["function"]}
    called = client.responses.create(model=CHAT, input="The weather in Oslo?", tools=[tool], tool_choice="required",
                                     parallel_tool_calls=False, temperature=0, max_output_tokens=200)
    (call,) = [item for item in called.output if item.type == "function_call"]
    assert set(json.loads(call.arguments)) == {"town", "unit"}, called
    after = client.responses.create(model=CHAT, previous_response_id=called.id, temperature=0, max_output_tokens=20, input=[
        {"type": "function_call_output", "call_id": call.call_id, "output": "7 C, rain"}])
    assert after.output, after
    parsed = client.responses.parse(model=CHAT, input="Order a lid.", text_format=Order, max_output_tokens=400,
                                    temperature=0)
    assert isinstance(parsed.output_parsed, Order), parsed
    support = client.responses.create(model="support", input="How do I change the color of the lid?")
    assert "Settings → Lid → Color" in support.output_text and support.model_extra["support"]["action"] == "answer"
    client.responses.delete(first.id)
    assert status_of(lambda: client.responses.retrieve(first.id)) == (openai.NotFoundError, 404, "response_not_found")


def embeddings():
    # The client asks for base64 by itself and decodes it.
    default = client.embeddings.create(model=EMBED, input=["a kettle", "a lid"])
    floats = client.embeddings.create(model=EMBED, input=["a kettle", "a lid"], encoding_format="float")
    assert len(default.data) == 2 and len(default.data[0].embedding) == 384
    worst = max(abs(a - b) for a, b in zip(default.data[0].embedding, floats.data[0].embedding))
    assert worst < 1e-6, worst
    assert default.usage.prompt_tokens > 0


def rerank_and_tokenize():
    """Not of OpenAI's API, but by its client."""
    ranked = client.post("/rerank", cast_to=object, body={
        "model": EMBED, "query": "the lid's color", "documents": ["The moon is far.", "The lid is blue."], "return_documents": True})
    assert ranked["results"][0]["index"] == 1 and ranked["results"][0]["document"]["text"] == "The lid is blue.", ranked
    counted = client.post("/tokenize", cast_to=object, body={"messages": user("Hello"), "model": CHAT})
    answer = client.chat.completions.create(model=CHAT, messages=user("Hello"), max_tokens=1)
    assert counted["count"] == len(counted["tokens"]) == answer.usage.prompt_tokens, counted


def models():
    ids = [model.id for model in client.models.list()]
    assert {"support", "ann", "bob", CHAT, EMBED} <= set(ids), ids
    assert client.models.retrieve("support").id == "support"


def errors():
    def refused(kind, status, code, **request):
        try:
            client.chat.completions.create(**{"model": CHAT, "messages": user("hi"), "max_tokens": 1, **request})
        except kind as error:
            assert error.status_code == status and error.code == code, (error.status_code, error.code, error)
            assert error.request_id, "every error has a request id"
            return
        raise AssertionError(f"{code} was not raised for {request.keys()}")

    bad, missing = openai.BadRequestError, openai.NotFoundError
    refused(missing, 404, "model_not_found", model="nobody")
    refused(missing, 404, "conversation_not_found", model="support", metadata={"conversation_id": "nobody's"})
    refused(bad, 400, "context_length_exceeded", messages=user("kettle " * 9000))
    refused(bad, 400, "context_length_exceeded", max_tokens=100_000)
    refused(bad, 400, "invalid_value", temperature=3)
    refused(bad, 400, "invalid_value", messages=[])
    refused(bad, 400, "invalid_value", stop=["a"] * 5)
    refused(bad, 400, "unsupported_parameter", model="support", n=2)
    refused(bad, 400, "unsupported_parameter", model="support", response_format={"type": "json_object"})
    refused(bad, 400, "unsupported_parameter", model="support",
            tools=[{"type": "function", "function": {"name": "weather"}}])
    refused(bad, 400, "invalid_schema", response_format={
        "type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "not": {}}}})
    refused(bad, 400, "unsupported_parameter", store=True)
    refused(bad, 400, "unknown_parameter", extra_body={"colour": "red"})
    refused(bad, 400, "unsupported_parameter", messages=[
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]}])
    refused(openai.APIStatusError, 413, "body_too_large", messages=user("a" * (3 << 20)))
    for extra, code in (({"dimensions": 64}, "unsupported_parameter"), ({"input": [[1, 2]]}, "unsupported_parameter")):
        try:
            client.embeddings.create(**{"model": EMBED, "input": "a", **extra})
            raise AssertionError(code)
        except bad as error:
            assert error.code == code
    # A stream that is refused is refused before it begins.
    refused(bad, 400, "context_length_exceeded", messages=user("kettle " * 9000), stream=True)


def files():
    text = "# The ferry office\n\nThe ferry office on Pier Nine opens at 06:40 and closes at 21:15.\n".encode()
    file = client.files.create(file=("ferry.md", text), purpose="assistants", expires_after={"anchor": "created_at", "seconds": 3600})
    assert (file.bytes, file.filename, file.status) == (len(text), "ferry.md", "processed"), file
    assert file.expires_at == file.created_at + 3600
    assert client.files.content(file.id).read() == text
    assert client.files.retrieve(file.id).id == file.id
    more = [client.files.create(file=(f"{n}.txt", b"A page about nothing."), purpose="user_data") for n in range(3)]
    listed = list(client.files.list(limit=2, order="asc"))  # the client asks for one page after the other
    assert [f.id for f in listed][-4:] == [file.id] + [f.id for f in more], listed
    assert {f.id for f in client.files.list(purpose="user_data")} >= {f.id for f in more}
    assert client.files.delete(more[0].id).deleted
    assert status_of(lambda: client.files.retrieve(more[0].id)) == (openai.NotFoundError, 404, "file_not_found")
    assert status_of(lambda: client.files.create(file=("a.md", text), purpose="fine-tune"))[2] == "unsupported_parameter"


def vector_stores():
    ferry = b"# The ferry office\n\nThe ferry office on Pier Nine opens at 06:40 and closes at 21:15.\n\n```\nferry book --pier 9\n```\n"
    bridge = b"# The bridge\n\nThe bridge at Low Street carries bicycles only, and is painted green every spring.\n"
    store = client.vector_stores.create(name="harbour", metadata={"team": "north"}, expires_after={"anchor": "last_active_at", "days": 7})
    assert (store.name, store.metadata, store.status) == ("harbour", {"team": "north"}, "completed"), store
    assert store.expires_at == store.last_active_at + 7 * 86_400
    file = client.files.create(file=("ferry.md", ferry), purpose="assistants")
    attached = client.vector_stores.files.create_and_poll(file.id, vector_store_id=store.id, attributes={"lang": "en", "year": 2026}, poll_interval_ms=100)
    assert attached.status == "completed" and attached.usage_bytes > 50 and attached.last_error is None, attached
    batch = client.vector_stores.file_batches.upload_and_poll(
        store.id, files=[("bridge.md", bridge), ("broken.pdf", b"no pdf at all")], poll_interval_ms=100)
    assert (batch.status, batch.file_counts.completed, batch.file_counts.failed) == ("completed", 1, 1), batch
    broken = [f for f in client.vector_stores.files.list(store.id) if f.status == "failed"]
    assert len(broken) == 1 and broken[0].last_error.code == "invalid_file", broken

    found = client.vector_stores.search(store.id, query="When does the ferry office open?", max_num_results=2).data
    assert found[0].file_id == file.id and found[0].filename == "ferry.md", found
    assert "06:40" in found[0].content[0].text and "ferry book --pier 9" in found[0].content[0].text, found
    assert 0 < found[0].score <= 1 and found[0].attributes == {"lang": "en", "year": 2026}, found
    both = client.vector_stores.search(store.id, query=["ferry office", "bridge for bicycles"]).data
    assert {hit.filename for hit in both} == {"ferry.md", "bridge.md"}, both
    newer = {"type": "and", "filters": [{"type": "eq", "key": "lang", "value": "en"}, {"type": "gt", "key": "year", "value": 2026}]}
    assert client.vector_stores.search(store.id, query="ferry", filters=newer).data == []
    client.vector_stores.files.update(file.id, vector_store_id=store.id, attributes={"lang": "en", "year": 2027})
    assert client.vector_stores.search(store.id, query="ferry", filters=newer).data[0].file_id == file.id
    assert client.vector_stores.search(store.id, query="ferry", ranking_options={"score_threshold": 1.0}).data == []
    assert status_of(lambda: client.vector_stores.search(store.id, query="ferry", rewrite_query=True))[2] == "unsupported_parameter"
    assert "Pier Nine" in list(client.vector_stores.files.content(file.id, vector_store_id=store.id))[0].text

    assert client.vector_stores.update(store.id, name="port").name == "port"
    assert client.vector_stores.retrieve(store.id).file_counts.total == 3
    assert client.vector_stores.files.delete(file.id, vector_store_id=store.id).deleted
    assert all(hit.file_id != file.id for hit in client.vector_stores.search(store.id, query="ferry office").data)
    assert client.files.retrieve(file.id).id == file.id, "a file outlives its place in a store"
    assert {"vs_pack", store.id} <= {s.id for s in client.vector_stores.list()}
    lid = client.vector_stores.search("vs_pack", query="How do I change the color of the lid?").data
    assert any("Settings" in hit.content[0].text for hit in lid), lid
    assert status_of(lambda: client.vector_stores.delete("vs_pack"))[2] == "knowledge_pack"
    assert client.vector_stores.delete(store.id).deleted
    assert status_of(lambda: client.vector_stores.search(store.id, query="ferry")) == (openai.NotFoundError, 404, "vector_store_not_found")


def status_of(call):
    try:
        call()
    except openai.APIStatusError as error:
        return type(error), error.status_code, error.code
    return None


def keys():
    def ask(key, model):
        keyed = client.with_options(api_key=key)
        return status_of(lambda: keyed.chat.completions.create(model=model, messages=user("hello"), max_tokens=2))

    assert ask("shop-key", "support") is None
    assert ask("admin-key", CHAT) is None
    assert ask("wrong", "support") == (openai.AuthenticationError, 401, "invalid_api_key")
    assert ask("shop-key", CHAT) == (openai.PermissionDeniedError, 403, "insufficient_scope")


def story(**options):
    return client.chat.completions.create(
        model=CHAT, messages=user("Write a long story."), temperature=0, logit_bias={"2": -100}, **options)


def busy():
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        got = list(pool.map(lambda _: status_of(lambda: story(max_tokens=120)), range(6)))
    assert (openai.RateLimitError, 429, "queue_full") in got and None in got, got


def slow():
    assert status_of(lambda: story(max_tokens=4000)) == (openai.InternalServerError, 504, "timeout")
    try:
        for _ in story(max_tokens=4000, stream=True):
            pass
        raise AssertionError("the stream ended without its error")
    except openai.APIError as error:
        assert error.code == "timeout", error


MODES = {
    "all": (chat, chat_with_parts_and_options, raw_response_headers, stream, support_stream, stream_helper, handoff_call,
            own_tools, typed_and_allowed_tools, json_schema, rich_schemas, several_choices, log_probabilities,
            transcripts_as_clients_send_them, text_completions, many_at_once, responses, embeddings,
            rerank_and_tokenize, models, files,
            vector_stores, errors),
    "keys": (keys,), "busy": (busy,), "slow": (slow,),
}
for case in MODES[MODE]:
    case()
    print("ok", case.__name__)
