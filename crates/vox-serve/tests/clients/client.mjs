// The official client for Node against the servers whose addresses are the arguments.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [modules, OPEN, KEYED, FULL, KEY] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { OpenAI } = require("openai");

const client = (address, apiKey = "none") =>
  new OpenAI({ baseURL: `http://${address}/v1`, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "Hi" }];
const c = client(OPEN);

// A chat, whole.
const chat = await c.chat.completions.create({
  model: "words", messages, logprobs: true, top_logprobs: 2,
});
assert.equal(chat.choices[0].message.content, "Hello, world!");
assert.equal(chat.choices[0].logprobs.content[0].top_logprobs[1].token, "other1");
assert.equal(chat.usage.total_tokens, 11);
assert.match(chat._request_id, /^req-/);

// A chat, streamed.
const chunks = [];
const asked = { model: "words", messages, stream: true, stream_options: { include_usage: true } };
for await (const chunk of await c.chat.completions.create(asked)) chunks.push(chunk);
assert.equal(chunks.map((x) => x.choices[0]?.delta.content ?? "").join(""), "Hello, world!");
assert.equal(chunks.at(-1).usage.completion_tokens, 4);

// The client's own helper, which is strict about the order of events.
const helped = c.chat.completions.stream({ model: "words", messages });
assert.equal(await helped.finalContent(), "Hello, world!");

// A stream that the user leaves.
for await (const _ of await c.chat.completions.create({ model: "endless", messages, stream: true })) break;

// Completions.
const text = await c.completions.create({ model: "words", prompt: "Once", max_tokens: 2, logprobs: 1 });
assert.equal(text.choices[0].text, "Hello,");
let whole = "";
for await (const chunk of await c.completions.create({ model: "words", prompt: "Once", stream: true }))
  whole += chunk.choices[0].text;
assert.equal(whole, "Hello, world!");

// Embeddings: the client asks for Base64 unless it is told otherwise.
for (const more of [{}, { encoding_format: "float" }]) {
  const made = await c.embeddings.create({ model: "org/vectors", input: ["a", "bcd"], ...more });
  assert.deepEqual(made.data.map((x) => [...x.embedding]), [[1, 0.5, -0.25], [3, 0.5, -0.25]]);
}

// Models.
const names = [];
for await (const model of c.models.list()) names.push(model.id);
assert.ok(names.includes("words"));
assert.equal((await c.models.retrieve("org/vectors")).owned_by, "tests");

// Classes of errors.
const ask = (more = {}, of = c) => of.chat.completions.create({ model: "words", messages, ...more });
const refused = async (kind, promise) => {
  const error = await promise.then(() => assert.fail("not refused"), (error) => error);
  assert.ok(error instanceof kind, `${error.constructor.name}: ${error.message}`);
  return error;
};
assert.equal((await refused(OpenAI.NotFoundError, ask({ model: "gpt-9" }))).code, "model_not_found");
assert.equal((await refused(OpenAI.BadRequestError, ask({ n: 2 }))).param, "n");
await refused(OpenAI.InternalServerError, ask({ model: "fails" }));
await refused(OpenAI.AuthenticationError, ask({}, client(KEYED)));
assert.equal((await ask({}, client(KEYED, KEY))).choices[0].finish_reason, "stop");
await refused(OpenAI.RateLimitError, ask({}, client(FULL)));
const big = [{ role: "user", content: "x".repeat(8 << 20) }];
assert.equal((await refused(OpenAI.APIError, ask({ messages: big }))).status, 413);
const half = async () => {
  for await (const _ of await ask({ model: "half", stream: true }));
};
assert.match((await refused(OpenAI.APIError, half())).message, /the weights are gone/);

const { version } = JSON.parse(readFileSync(`${modules}/node_modules/openai/package.json`, "utf8"));
console.log(`openai ${version} for Node: passed`);
