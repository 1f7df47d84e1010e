// Runs the official JavaScript `openai` client against a Firstline server.
//
// Usage: node openai_client.mjs BASE_URL CHAT_MODEL EMBED_MODEL   (the black-box tests call it; the package is found by
// NODE_PATH or beside this file)
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [base, chat, embed] = process.argv.slice(2);
const require = createRequire(process.env.FIRSTLINE_TEST_NODE_MODULES ? `${process.env.FIRSTLINE_TEST_NODE_MODULES}/` : import.meta.url);
const OpenAI = require("openai").default ?? require("openai");
const client = new OpenAI({ baseURL: base, apiKey: "unused", maxRetries: 0, timeout: 300_000 });
const user = (content) => [{ role: "user", content }];
const weather = {
  type: "function",
  function: {
    name: "weather",
    description: "The weather of a town.",
    parameters: {
      type: "object", required: ["town", "unit"], additionalProperties: false,
      properties: { town: { type: "string" }, unit: { type: "string", enum: ["C", "F"] } },
    },
  },
};

const cases = {
  async support() {
    const answer = await client.chat.completions.create({
      model: "support", messages: user("How do I change the color of the lid?"),
    });
    assert.match(answer.choices[0].message.content, /Settings → Lid → Color/);
    assert.equal(answer.support.action, "answer");
  },
  async stream() {
    const stream = await client.chat.completions.create({
      model: chat, messages: user("Name the capital of France."), temperature: 0, max_tokens: 12, stream: true,
      stream_options: { include_usage: true },
    });
    let text = "", usage;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.match(text, /Paris/);
    assert.ok(usage.completion_tokens > 0);
  },
  async tool_call() {
    const messages = user("What is the weather in Oslo?");
    const ask = { model: chat, messages, tools: [weather], temperature: 0, max_tokens: 200 };
    const answer = await client.chat.completions.create({ ...ask, tool_choice: "required", parallel_tool_calls: false });
    const [call] = answer.choices[0].message.tool_calls;
    assert.equal(answer.choices[0].finish_reason, "tool_calls");
    assert.deepEqual(Object.keys(JSON.parse(call.function.arguments)).sort(), ["town", "unit"]);
    const result = { role: "tool", tool_call_id: call.id, content: "7 C, rain" };
    const next = await client.chat.completions.create({ ...ask, messages: [...messages, answer.choices[0].message, result] });
    assert.ok(next.choices[0].finish_reason);
    // The client's own helper puts the stream's deltas together.
    const helper = client.chat.completions.stream({ ...ask, tool_choice: "required", parallel_tool_calls: false });
    const final = await helper.finalChatCompletion();
    assert.equal(final.choices[0].message.tool_calls[0].function.name, "weather");
    JSON.parse(final.choices[0].message.tool_calls[0].function.arguments);
  },
  async json_schema() {
    const schema = {
      type: "object", required: ["kind", "count"], additionalProperties: false,
      properties: { kind: { enum: ["lid", "base"] }, count: { type: "integer" } },
    };
    const answer = await client.chat.completions.parse({
      model: chat, messages: user("Order two lids."), max_tokens: 200, seed: 1,
      response_format: { type: "json_schema", json_schema: { name: "order", strict: true, schema } },
    });
    const order = JSON.parse(answer.choices[0].message.content);
    assert.ok(["lid", "base"].includes(order.kind) && Number.isInteger(order.count), JSON.stringify(order));
  },
  async responses() {
    const first = await client.responses.create({
      model: chat, input: "Name the capital of France.", temperature: 0, max_output_tokens: 12,
    });
    assert.match(first.output_text, /Paris/);
    const names = [];
    const stream = await client.responses.create({
      model: chat, input: "And of Italy?", previous_response_id: first.id, temperature: 0, max_output_tokens: 12, stream: true,
    });
    for await (const event of stream) names.push(event.type);
    assert.equal(names[0], "response.created");
    assert.ok(names.includes("response.output_text.delta"));
    assert.match(names.at(-1), /^response\.(completed|incomplete)$/);
  },
  async responses_stream_and_tools() {
    const tool = { type: "function", name: "weather", strict: true, ...{ parameters: weather.function.parameters } };
    const stream = client.responses.stream({
      model: chat, input: "The weather in Oslo?", tools: [tool], tool_choice: { type: "function", name: "weather" },
      parallel_tool_calls: false, temperature: 0, max_output_tokens: 200,
    });
    const final = await stream.finalResponse();
    assert.deepEqual(Object.keys(JSON.parse(final.output[0].arguments)).sort(), ["town", "unit"]);
  },
  async files_and_vector_stores() {
    const text = "# The ferry\n\nThe ferry to the island leaves at 06:40.\n";
    const file = await client.files.create({ file: await OpenAI.toFile(Buffer.from(text), "ferry.md"), purpose: "assistants" });
    const store = await client.vectorStores.create({ name: "port" });
    const attached = await client.vectorStores.files.createAndPoll(store.id, { file_id: file.id });
    assert.equal(attached.status, "completed");
    const found = await client.vectorStores.search(store.id, { query: "When does the ferry leave?" });
    assert.match(found.data[0].content[0].text, /06:40/);
    await client.vectorStores.delete(store.id);
    await client.files.delete(file.id);
  },
  async rerank_and_tokenize() {
    const ranked = await client.post("/rerank", { body: { model: embed, query: "the lid's color", documents: ["The moon.", "The lid is blue."] } });
    assert.equal(ranked.results[0].index, 1);
    assert.ok((await client.post("/tokenize", { body: { prompt: "Hello" } })).count > 0);
  },
  async embeddings() {
    const answer = await client.embeddings.create({ model: embed, input: ["a kettle", "a lid"] });
    assert.equal(answer.data[1].embedding.length, 384);
  },
  async errors() {
    await assert.rejects(client.chat.completions.create({ model: "nobody", messages: user("hi") }), OpenAI.NotFoundError);
    const bad = client.chat.completions.create({ model: chat, messages: user("hi"), temperature: 9 });
    await assert.rejects(bad, (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature");
  },
};
for (const [name, run] of Object.entries(cases)) {
  await run();
  console.log("ok", name);
}
