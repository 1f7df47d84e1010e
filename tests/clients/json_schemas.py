#!/usr/bin/env python3
"""Asks a Firstline server for JSON under random schemas, and checks every answer.

Usage: json_schemas.py BASE_URL CHAT_MODEL [COUNT=200] [MAX_TOKENS=512] [SEED=1]

Schemas are nested, with enums, constants, patterns, formats, bounded and open numbers, texts and lists, choices
(anyOf) and references, recursive ones too. Each is asked once, sampled at temperature 1, four at a time. Prints how many
answers ended with `stop`, how many of those are JSON and take the schema (package `jsonschema`, draft 2020-12), and the
time a token beside free answers to the same questions. Ends with status 1 if an answer that stopped is not valid, or
if fewer than 95 in 100 stopped.
"""
import concurrent.futures
import json
import random
import sys
import time

import jsonschema
import openai

if len(sys.argv) < 3 or "--help" in sys.argv:
    sys.exit(__doc__)
BASE, CHAT = sys.argv[1:3]
COUNT, MAX_TOKENS, SEED = (int(arg) for arg in (sys.argv[3:] + ["200", "512", "1"][len(sys.argv) - 3:]))
client = openai.OpenAI(base_url=BASE, api_key="unused", max_retries=2, timeout=600)
WORDS = ("name title colour price count status city lid base filter order note tags items owner amount active level "
         "größe цвет 名前 a b c").split()
PATTERNS = (r"^[A-Z]{2}[0-9]{4}$", r"^\d{3}-\d{2}$", r"^(red|blue|green)-[a-f]+$", r"^[a-z]+(\.[a-z]+)*$", r"^#[0-9a-f]{6}$")
FORMATS = ("date", "date-time", "email", "uuid", "ipv4", "time")


def text(r):
    kind = r.randrange(5)
    if kind == 0:
        return {"type": "string", "enum": r.sample(WORDS, r.randint(1, 6))}
    if kind == 1:
        return {"type": "string", "pattern": r.choice(PATTERNS)}
    if kind == 2:
        return {"type": "string", "format": r.choice(FORMATS)}
    if kind == 3:
        low = r.randint(0, 5)
        return {"type": "string", "minLength": low, "maxLength": low + r.randint(0, 30)}
    return {"type": "string"}


def number(r):
    schema = {"type": r.choice(["integer", "number"])}
    if r.random() < 0.5:
        low = r.randint(-1000, 1000)
        schema["minimum" if r.random() < 0.7 else "exclusiveMinimum"] = low
        if r.random() < 0.7:
            schema["maximum"] = low + r.randint(2, 500)
    if schema["type"] == "integer" and r.random() < 0.2:
        schema["multipleOf"] = r.choice([2, 5, 10]) if "minimum" not in schema and "exclusiveMinimum" not in schema else 1
    return schema


def schema_of(r, depth, names):
    kind = r.random()
    if depth == 0 or kind < 0.45:
        return r.choice([text, text, number, number, lambda r: {"type": "boolean"}, lambda r: {"type": "null"},
                         lambda r: {"const": r.choice(["x", 5, True, None, ["a"], {"k": 1.5}])}])(r)
    if kind < 0.6:
        schema = {"type": "array", "items": schema_of(r, depth - 1, names)}
        if r.random() < 0.5:
            schema["minItems"] = r.randint(0, 3)
            schema["maxItems"] = schema["minItems"] + r.randint(0, 3)
        return schema
    if kind < 0.7:
        return {"anyOf": [schema_of(r, depth - 1, names) for _ in range(r.randint(2, 3))]}
    if kind < 0.8 and names:
        return {"$ref": f"#/$defs/{r.choice(names)}"}
    if kind < 0.83:
        return {"type": ["string", "null"]}
    return record(r, depth, names)


def record(r, depth, names):
    properties = {name: schema_of(r, depth - 1, names) for name in r.sample(WORDS, r.randint(1, 5))}
    schema = {"type": "object", "properties": properties,
              "required": [name for name in properties if r.random() < 0.7]}
    if r.random() < 0.7:
        schema["additionalProperties"] = False
    return schema


def root(r):
    names = [f"d{n}" for n in range(r.randint(0, 2))]
    schema = record(r, 3, names)
    if names:
        # Definitions name only later ones, so that every value comes to an end ...
        schema["$defs"] = {name: record(r, 2, names[n + 1:]) for n, name in enumerate(names)}
        if r.random() < 0.5:
            # ... or themselves, where a value can do without.
            schema["$defs"][names[-1]]["properties"]["next"] = {"anyOf": [{"$ref": f"#/$defs/{names[-1]}"}, {"type": "null"}]}
    return schema


def ask(n):
    r = random.Random(SEED * 100_003 + n)
    schema = root(r)
    question = [{"role": "user", "content": f"Make up an example with {r.choice(WORDS)} and {r.choice(WORDS)}."}]
    common = {"model": CHAT, "messages": question, "max_tokens": MAX_TOKENS, "seed": n, "temperature": 1}
    started = time.monotonic()
    answer = client.chat.completions.create(**common, response_format={
        "type": "json_schema", "json_schema": {"name": "example", "strict": True, "schema": schema}})
    seconds = time.monotonic() - started
    choice = answer.choices[0]
    fault = None
    if choice.finish_reason == "stop":
        try:
            jsonschema.validate(json.loads(choice.message.content), schema, cls=jsonschema.Draft202012Validator)
        except (ValueError, jsonschema.ValidationError) as error:
            fault = f"{str(error).splitlines()[0]}\n  schema {json.dumps(schema)}\n  answer {choice.message.content}"
    return choice.finish_reason, fault, answer.usage.completion_tokens, seconds, schema, choice.message.content


def speed(messages, tokens, **form):
    """Seconds a token of one answer alone, its first token left out."""
    started, count, first = time.monotonic(), 0, None
    for chunk in client.chat.completions.create(model=CHAT, messages=messages, max_tokens=tokens, seed=7, stream=True,
                                                stream_options={"include_usage": True}, **form):
        if chunk.usage:
            count = chunk.usage.completion_tokens
        elif first is None and chunk.choices and chunk.choices[0].delta.content:
            first = time.monotonic()
    return (time.monotonic() - first) / max(count - 1, 1), count


with concurrent.futures.ThreadPoolExecutor(4) as pool:
    results = list(pool.map(ask, range(COUNT)))
stopped = [result for result in results if result[0] == "stop"]
faults = [result[1] for result in stopped if result[1]]
tokens = sum(result[2] for result in results)
print(f"{COUNT} schemas, max_tokens {MAX_TOKENS}: {len(stopped)} stopped ({100 * len(stopped) / COUNT:.1f} %), "
      f"{len(stopped) - len(faults)} of them valid; {tokens} tokens")
for result in results:
    if result[0] != "stop":
        print("not stopped:", json.dumps(result[4])[:300], "->", result[5][-200:])
for fault in faults[:10]:
    print("NOT VALID:", fault)
question = [{"role": "user", "content": "Write a list of kettles."}]
wide = {"type": "object", "required": ["kettles"], "properties": {"kettles": {"type": "array", "minItems": 12, "items": {
    "type": "object", "required": ["name", "litres"], "properties": {"name": {"type": "string"}, "litres": {"type": "number"}}}}}}
form = {"response_format": {"type": "json_schema", "json_schema": {"name": "k", "schema": wide}}}
for name, extra in (("free", {}), ("schema", form), ("json_object", {"response_format": {"type": "json_object"}})):
    runs = [speed(question, 150, temperature=1, **extra) for _ in range(5)]
    best = sorted(run[0] for run in runs)
    print(f"{name}: {1000 * best[len(best) // 2]:.2f} ms a token (median of 5, best {1000 * best[0]:.2f}; {runs[0][1]} tokens)")
sys.exit(1 if faults or len(stopped) < 0.95 * COUNT else 0)
