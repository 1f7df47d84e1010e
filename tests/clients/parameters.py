#!/usr/bin/env python3
"""Holds a Firstline server to its own list of parameters: GET /openapi.json, docs/api.md, and the official client's types.

Usage: parameters.py SERVER CHAT_MODEL EMBED_MODEL CHANNEL   (the black-box tests call it)

Every parameter of the document is sent with good values, which must be taken, and with bad ones, which must be refused by
its name; what has no effect is taken whatever it says; what is refused, and a parameter that nobody knows, is refused by
its name. A parameter that is in the document and has no values here, or is not in docs/api.md, or that the official
client has and the document has not, is a fault too.
"""
import json
import pathlib
import re
import sys
import typing
import urllib.error
import urllib.parse
import urllib.request

from openai.types import (completion_create_params, embedding_create_params, file_create_params, file_list_params,
                          vector_store_create_params, vector_store_list_params, vector_store_search_params,
                          vector_store_update_params)
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import response_create_params
from openai.types.vector_stores import file_batch_create_params, file_list_params as store_files_params
from openai.types.vector_stores import file_create_params as attach_params, file_update_params

if len(sys.argv) != 5 or "--help" in sys.argv:
    sys.exit(__doc__)
SERVER, CHAT, EMBED, CHANNEL = sys.argv[1:]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
faults = []
FUNCTION = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
FLAT = {"type": "function", "name": "now", "parameters": {"type": "object", "properties": {}}}
HI = [{"role": "user", "content": "hi"}]
DAYS = {"anchor": "last_active_at", "days": 3}
# What is of no type that would tell a good value from a bad one, or has only some good values: (good ones, bad ones).
SHARED = {
    "temperature": ([0, 2, 0.5], [-0.1, 2.1, "hot"]), "top_p": ([0.1, 1], [-1, 1.5]), "top_k": ([0, 5], [-1, 1.5]),
    "min_p": ([0, 0.5], [2]), "repetition_penalty": ([1.1], ["x"]), "presence_penalty": ([-2, 2], [3]),
    "frequency_penalty": ([-2, 2], [-3]), "logit_bias": ([{"5": -100}], [{"x": 1}, {"5": 101}]), "seed": ([-5, 7], ["x", 1.5]),
    "stop": (["a", ["a", "b", "c", "d"]], [["a"] * 5, [""], 5]), "n": ([1, 2], [0, 10**6]), "stream": ([False], ["yes"]),
    "model": ([], ["nobody", 5]), "metadata": ([{"a": "b"}], [5]), "parallel_tool_calls": ([True, False], ["x"]),
    "max_tokens": ([2], [0, -1, 10**9, "x"]), "max_completion_tokens": ([2], [0, 10**9]), "user": (["u"], []),
    "stream_options": ([], [{"include_usage": True}, 5]), "expires_after": ([DAYS], [{"anchor": "created_at", "days": 3}, 5]),
    "chunking_strategy": ([{"type": "auto"}], [{"type": "static"}, 5]), "attributes": ([{"a": 1}], [{"a": []}, 5]),
    "name": (["n"], [5, "n" * 300]),
}
VALUES = {
    "post /v1/chat/completions": {
        "messages": ([[{"role": "developer", "content": [{"type": "text", "text": "hi"}]}, *HI]],
                     [[], 5, [{"role": "boss", "content": ""}], [{"role": "user"}], [{**HI[0], "colour": 1}]]),
        "logprobs": ([True, False], ["x"]), "top_logprobs": ([], [3, 21]), "tools": ([[FUNCTION], []], [5, [{"type": "web"}]]),
        "tool_choice": (["none", "auto"], ["required", "perhaps", {"type": "function", "function": {"name": "b"}}]),
        "response_format": ([{"type": "text"}, {"type": "json_object"}], [{"type": "xml"}, 5, {"type": "json_schema"}]),
        "reasoning_effort": (["none"], ["much", "high"]), "chat_template_kwargs": ([{"enable_thinking": False}], [5, {"a": 1}]),
        "modalities": ([["text"]], [["audio"], "text"]), "store": ([False], [True, 5]),
    },
    "post /v1/responses": {
        "input": ([HI, [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}]],
                  [5, [{"type": "item_reference", "id": "x"}], [{"role": "user", "content": [{"type": "input_image"}]}]]),
        "instructions": (["Be brief."], [5]), "previous_response_id": ([], ["resp_none", 5]),
        "max_output_tokens": ([2], [0, 10**9, "x"]), "top_logprobs": ([2], [21]),
        "include": ([["message.output_text.logprobs"], ["reasoning.encrypted_content"], []], [["file_search_call.results"], 5]),
        "tools": ([[FLAT], []], [5, [{"type": "web_search"}]]),
        "tool_choice": (["none", "auto"], ["required", "perhaps", {"type": "function", "name": "b"}]),
        "text": ([{"format": {"type": "text"}}], [{"verbosity": "low"}, 5]),
        "reasoning": ([{"effort": "none"}], [{"summary": "auto"}, {"effort": "much"}, 5]),
        "store": ([True, False], ["x"]), "background": ([False], [True]), "truncation": (["disabled"], ["auto", 5]),
    },
    "post /v1/completions": {
        "prompt": (["a", ["a", "b"], [1, 2], [[1], [2, 3]]], ["", [], 5, ["a", 5], [-1], [10**9]]), "logprobs": ([0, 2], [21, True]),
        "echo": ([False], [True]), "best_of": ([1], [2, 0]),
    },
    "post /v1/embeddings": {
        "input": (["a", ["a", "b"]], ["", [], 5, [1, 2], [[1]]]), "encoding_format": (["float", "base64"], ["hex", 5]),
        "dimensions": ([384], [64, 0, "x"]), "input_type": (["query", "passage"], ["other"]), "truncate": ([True, False], ["x"]),
    },
    "post /v1/rerank": {
        "query": ([], ["", 5]), "documents": ([["a", {"text": "b"}]], [[], 5, [""], [{"title": "b"}]]), "top_n": ([1, 9], [0, "x"]),
        "return_documents": ([True, False], ["x"]),
    },
    "post /v1/tokenize": {
        "prompt": ([], [5]), "messages": ([], [5, HI]), "tools": ([[], [FUNCTION]], [5]), "tool_choice": (["none"], ["perhaps"]),
        "add_special_tokens": ([True, False], [5]), "return_token_strs": ([True, False], [5]),
    },
    "post /v1/files": {
        "file": ([], []), "purpose": (["user_data"], ["batch"]), "expires_after[anchor]": ([], ["last_active_at"]),
        "expires_after[seconds]": ([], ["3", "x"]),
    },
    "post /v1/vector_stores": {"file_ids": ([[], ["FILE"]], [5, ["file-none"]])},
    "post /v1/vector_stores/{id}/search": {
        "query": (["a", ["a", "b"]], ["", [], 5, ["a"] * 17]), "max_num_results": ([1, 50], [0, 51]),
        "filters": ([{"type": "eq", "key": "a", "value": 1}], [{"type": "like"}, 5]), "rewrite_query": ([False], [True, "x"]),
        "ranking_options": ([{"ranker": "auto", "score_threshold": 0.5}], [{"ranker": "best"}, {"score_threshold": 2}, 5]),
    },
    "post /v1/vector_stores/{id}/files": {"file_id": ([], ["file-none", 5])},
    "post /v1/vector_stores/{id}/file_batches": {
        "file_ids": ([["FILE"]], [5, ["file-none"]]), "files": ([], [5, [{"file_id": "FILE"}]]),
    },
    "post /v1/channels/{name}/messages": {
        "id": ([], ["", 5]), "customer": ([{"id": "2", "name": "Ann"}], [5, {}, {"id": "2", "colour": 1}]), "text": ([], ["", 5]),
        "metadata": ([{"audience": "staff"}, {"a": "b"}], [5, {"operator": "nobody"}]),
    },
}
QUERY = {
    "limit": (["1", "100"], ["0", "x", "100000"]), "order": (["asc", "desc"], ["up"]), "after": ([], ["nobody"]),
    "before": ([], ["nobody"]), "purpose": (["user_data"], []), "filter": (["completed"], ["lost"]),
    "from": (["0"], ["yesterday"]), "to": (["9999999999999"], ["x"]), "operator": (["ann"], []), "version": (["v1"], []),
    "channel": (["site"], []), "by": (["day"], ["moon"]), "format": (["json", "csv"], ["xml"]),
}
# What the official client's types have.
OFFICIAL = {
    "post /v1/chat/completions": chat_params.CompletionCreateParamsNonStreaming,
    "post /v1/responses": response_create_params.ResponseCreateParamsNonStreaming,
    "post /v1/completions": completion_create_params.CompletionCreateParamsNonStreaming,
    "post /v1/embeddings": embedding_create_params.EmbeddingCreateParams,
    "post /v1/files": file_create_params.FileCreateParams,
    "get /v1/files": file_list_params.FileListParams,
    "post /v1/vector_stores": vector_store_create_params.VectorStoreCreateParams,
    "get /v1/vector_stores": vector_store_list_params.VectorStoreListParams,
    "post /v1/vector_stores/{id}": vector_store_update_params.VectorStoreUpdateParams,
    "post /v1/vector_stores/{id}/search": vector_store_search_params.VectorStoreSearchParams,
    "post /v1/vector_stores/{id}/files": attach_params.FileCreateParams,
    "get /v1/vector_stores/{id}/files": store_files_params.FileListParams,
    "post /v1/vector_stores/{id}/files/{file}": file_update_params.FileUpdateParams,
    "post /v1/vector_stores/{id}/file_batches": file_batch_create_params.FileBatchCreateParams,
}


def http(method, path, content=None, kind="application/json"):
    """Status and body of an answer."""
    request = urllib.request.Request(SERVER + path, content, {"content-type": kind}, method=method)
    try:
        with opener.open(request, timeout=120) as got:
            return got.status, got.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def post(path, body):
    return http("POST", path, json.dumps(body).encode())


def form(parts):
    """Sends a form to /v1/files; the part `file` with its name."""
    lines = []
    for name, text in parts.items():
        filename = '; filename="a.md"' if name == "file" else ""
        lines += ["--edge", f'Content-Disposition: form-data; name="{name}"{filename}', "", str(text)]
    return http("POST", "/v1/files", "\r\n".join([*lines, "--edge--", ""]).encode(), "multipart/form-data; boundary=edge")


def upload(**extra):
    return form({"purpose": "assistants", **extra, "file": "# A\n\nThe lid is blue.\n"})


FILE = json.loads(upload()[1])["id"]
LONE = json.loads(upload()[1])["id"]
STORE = json.loads(post("/v1/vector_stores", {"name": "parameters", "file_ids": [FILE]})[1])["id"]
BATCH = json.loads(post(f"/v1/vector_stores/{STORE}/file_batches", {"file_ids": [LONE]})[1])["id"]
BASES = {
    "post /v1/chat/completions": {"model": CHAT, "messages": HI, "max_tokens": 2},
    "post /v1/responses": {"model": CHAT, "input": "hi", "max_output_tokens": 2},
    "post /v1/completions": {"model": CHAT, "prompt": "a", "max_tokens": 2},
    "post /v1/embeddings": {"model": EMBED, "input": "a"},
    "post /v1/rerank": {"query": "a", "documents": ["a", "b"]},
    "post /v1/tokenize": {"prompt": "a"},
    "post /v1/vector_stores/{id}/search": {"query": "a"},
    "post /v1/vector_stores/{id}/files": {"file_id": FILE},
    "post /v1/vector_stores/{id}/files/{file}": {"attributes": {}},
    "post /v1/vector_stores/{id}/file_batches": {"file_ids": [FILE]},
    "post /v1/channels/{name}/messages": {"id": "1", "customer": {"id": "1"}, "text": "hi"},
}


def place(path):
    names = {"id": FILE if path.startswith("/v1/files") else STORE, "file": FILE, "batch": BATCH, "name": CHANNEL}
    return re.sub(r"\{(\w+)\}", lambda match: names[match[1]], path)


def send(operation, fields):
    path = place(operation.split()[1])
    if operation == "post /v1/files":
        return upload(**fields)
    if operation.startswith("get"):
        return http("GET", f"{path}?{urllib.parse.urlencode(fields)}")
    body = json.dumps({**BASES.get(operation, {}), **fields}).replace('"FILE"', json.dumps(FILE))
    return http("POST", path, body.encode())


def taken(operation, fields):
    status, text = send(operation, fields)
    if status not in (200, 202):
        faults.append(f"{operation}: {fields} is not taken: {text}")


def refused(operation, fields, name, codes=None):
    status, text = send(operation, fields)
    error = json.loads(text).get("error", {}) if status in (400, 404) else {}
    # A field may be refused where it does not fit another, and a fault deep inside with its whole place.
    said = str(error.get("param")).split(".")[0].split("[")[0]
    named = name.split("[")[0] in (said, *re.findall(r"[\w]+", error.get("message", "")))
    # A prompt and an answer may be too long together, and a file that is not there is named by its own name.
    named = named or error.get("code") in ("context_length_exceeded", "file_not_found")
    if not named or (codes and error.get("code") not in codes):
        faults.append(f"{operation}: {fields} is answered by {status} {text[:300]}")


def values(operation, name, kind):
    found = VALUES.get(operation, {}).get(name) or SHARED.get(name)
    if not found:
        faults.append(f"{operation}: no values of {name} ({kind}) are known here")
    return found or ([], [])


documented = re.sub(r"```.*?```", "", (pathlib.Path(__file__).parents[2] / "docs/api.md").read_text(), flags=re.S)
# `stop`, `stream_options.include_usage`, `store: false`, `expires_after[anchor]` and the like.
documented_words = {word for quoted in re.findall(r"`([^`]+)`", documented) for word in re.findall(r"[\w\[\]]+", quoted)}
document = json.loads(http("GET", "/openapi.json")[1])
count = 0
for path, methods in document["paths"].items():
    for method, described in methods.items():
        operation = f"{method} {path}"
        known = set()
        for parameter in described.get("parameters", []):
            if parameter["in"] == "query":
                known.add(parameter["name"])
                good, bad = QUERY[parameter["name"]]
                for value in good:
                    taken(operation, {parameter["name"]: value})
                for value in bad:
                    refused(operation, {parameter["name"]: value}, parameter["name"])
                count += len(good) + len(bad)
        if method == "get" and known:
            refused(operation, {"colour": "red"}, "colour")
        for content in described.get("requestBody", {}).get("content", {}).values():
            schema = content["schema"]
            for name, kind in schema["properties"].items():
                known.add(name)
                if kind.get("description") == "Accepted, without effect.":
                    for value in ("x", 5, [1], {"a": 1}):
                        taken(operation, {name: value})
                    continue
                good, bad = values(operation, name, kind)
                for value in good:
                    taken(operation, {name: value})
                for value in bad:
                    refused(operation, {name: value}, name)
                count += len(good) + len(bad)
                if name not in documented_words:
                    faults.append(f"{operation}: docs/api.md does not name {name}")
            for name in schema["required"]:
                base = {key: value for key, value in BASES.get(operation, {}).items() if key != name}
                parts = {"purpose": "assistants", "file": "a"}
                parts.pop(name, None)
                status, text = form(parts) if operation == "post /v1/files" else post(place(path), base)
                if status != 400 or name not in text:
                    faults.append(f"{operation} without {name}: {status} {text}")
            for name in schema["x-refused"]:
                known.add(name)
                refused(operation, {name: "x"}, name, {"unsupported_parameter"})
                if f"`{name}`" not in documented:
                    faults.append(f"{operation}: docs/api.md does not name {name}, which is refused")
                count += 1
            refused(operation, {"colour": "red"}, "colour", {"unknown_parameter"} if "channels" not in path else None)
        if operation in OFFICIAL:
            theirs = set(typing.get_type_hints(OFFICIAL[operation])) - {"vector_store_id", "file_id" if "{file}" in path else ""}
            ours = {name.split("[")[0] for name in known}
            if theirs - ours:
                faults.append(f"{operation}: the official client has {sorted(theirs - ours)}")
for fault in faults:
    print("FAULT", fault)
print(f"{count} values sent, {len(faults)} faults")
sys.exit(1 if faults else 0)
