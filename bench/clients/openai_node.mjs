// The official `openai` package for Node against a running server: shapes and invariants, as openai_python.py.
//
//   NODE_PATH=DIR/node_modules node bench/clients/openai_node.mjs [--url URL] [--key KEY] [--only TEXT]
import assert from "node:assert/strict";
import { createRequire } from "node:module";

// NODE_PATH counts for `require` only.
const require = createRequire(import.meta.url);
const OpenAI = require("openai");

const option = (name, otherwise) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? otherwise : process.argv[at + 1];
};
const url = option("url", "http://127.0.0.1:8000");
const only = option("only", "");
const settings = { apiKey: option("key", "none"), maxRetries: 0, timeout: 300_000 };
const client = new OpenAI({ baseURL: `${url}/v1`, ...settings });
const beta = new OpenAI({ baseURL: `${url}/beta`, ...settings });

const model = "deepseek-chat";
const messages = [{ role: "user", content: "Tom has 3 apples and buys 4 more. How many apples does he have?" }];
const base = { model, messages, seed: 11, max_tokens: 40, temperature: 0.8 };
const ask = (more = {}, options) => client.chat.completions.create({ ...base, ...more }, options);
const parameters = {
  type: "object",
  properties: { a: { type: "integer", minimum: 0, maximum: 99 }, unit: { type: "string", enum: ["apples", "pears"] } },
  required: ["a", "unit"],
  additionalProperties: false,
};
const tool = { type: "function", function: { name: "count", description: "Counts.", strict: true, parameters } };

const isCount = (value) => {
  assert.deepEqual(Object.keys(value).sort(), ["a", "unit"]);
  assert.ok(Number.isInteger(value.a) && value.a >= 0 && value.a <= 99 && ["apples", "pears"].includes(value.unit));
};

const refused = async (kind, call, expected = {}) => {
  try {
    await call();
  } catch (error) {
    assert.ok(error instanceof kind, `${error.constructor.name} instead of ${kind.name}: ${error.message}`);
    for (const [name, value] of Object.entries(expected)) assert.equal(error[name], value, name);
    return error;
  }
  assert.fail(`nothing was refused, ${kind.name} was expected`);
};

class Skip extends Error {}

// The description of a tool and its call take several hundred tokens of a small vocabulary.
const needRoom = async () => {
  if ((await client.models.retrieve(model)).max_model_len < 1024) throw new Skip("the model's context is too small");
};

const cases = {
  async "models are listed and can be retrieved"() {
    const names = [];
    for await (const one of client.models.list()) names.push(one.id);
    assert.ok(names.includes(model));
    assert.equal((await client.models.retrieve(names[0])).id, names[0]);
  },

  async "an answer has its shape and the usage adds up"() {
    const { object, choices, usage } = await ask();
    assert.equal(object, "chat.completion");
    assert.equal(choices[0].message.role, "assistant");
    assert.equal(typeof choices[0].message.content, "string");
    assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
    assert.equal(usage.prompt_cache_hit_tokens + usage.prompt_cache_miss_tokens, usage.prompt_tokens);
  },

  async "a stream joined is the whole answer"() {
    const whole = await ask();
    let text = "", finish = null, usage = null;
    for await (const chunk of await ask({ stream: true, stream_options: { include_usage: true } })) {
      text += chunk.choices[0]?.delta.content ?? "";
      finish = chunk.choices[0]?.finish_reason ?? finish;
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(finish, whole.choices[0].finish_reason);
    assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
  },

  async "the stream helper gathers the whole answer"() {
    const whole = await ask();
    const stream = client.chat.completions.stream(base);
    const said = [];
    stream.on("content", (delta) => said.push(delta));
    const final = await stream.finalChatCompletion();
    assert.equal(final.choices[0].message.content, whole.choices[0].message.content);
    assert.equal(said.join(""), whole.choices[0].message.content);
  },

  async "several answers come in order"() {
    const { choices } = await ask({ n: 3, temperature: 1.2 });
    assert.deepEqual(choices.map((choice) => choice.index), [0, 1, 2]);
  },

  async "scores of tokens have alternatives"() {
    const { choices } = await ask({ logprobs: true, top_logprobs: 2 });
    for (const entry of choices[0].logprobs.content) assert.equal(entry.top_logprobs.length, 2);
  },

  async "a stop string ends the answer before it"() {
    const text = (await ask()).choices[0].message.content;
    const stop = text.slice(text.length >> 1).slice(0, 2);
    const stopped = await ask({ stop });
    assert.equal(stopped.choices[0].message.content, text.slice(0, text.indexOf(stop)));
    assert.equal(stopped.choices[0].finish_reason, "stop");
  },

  async "json of a schema parses and validates"() {
    const response_format = { type: "json_schema", json_schema: { name: "count", strict: true, schema: parameters } };
    for (const seed of [1, 2, 3]) {
      const answer = await client.chat.completions.parse({ ...base, seed, max_tokens: 400, response_format });
      isCount(JSON.parse(answer.choices[0].message.content));
    }
  },

  async "a forced call runs its function and the conversation goes on"() {
    await needRoom();
    const given = [];
    const count = (value) => {
      isCount(value);
      given.push(value);
      return "7";
    };
    const runner = client.chat.completions.runTools(
      {
        ...base,
        max_tokens: 400,
        parallel_tool_calls: false,
        tool_choice: { type: "function", function: { name: "count" } },
        tools: [{ type: "function", function: { ...tool.function, parse: JSON.parse, function: count } }],
      },
      { maxChatCompletions: 2 },
    );
    await runner.done();
    assert.ok(given.length >= 1, "the function was called");
  },

  async "a streamed call is the whole one"() {
    await needRoom();
    const wanted = { tools: [tool], tool_choice: "required", max_tokens: 400, parallel_tool_calls: false };
    const whole = (await ask(wanted)).choices[0].message.tool_calls[0].function;
    const final = await client.chat.completions.stream({ ...base, ...wanted }).finalChatCompletion();
    const call = final.choices[0].message.tool_calls[0].function;
    assert.equal(call.arguments, whole.arguments);
    isCount(JSON.parse(call.arguments));
  },

  async "a prefix goes on"() {
    const begun = [...messages, { role: "assistant", content: "The sum", prefix: true }];
    const answer = await beta.chat.completions.create({ ...base, messages: begun });
    assert.ok(!answer.choices[0].message.content.startsWith("The sum"));
  },

  async "text goes on whole and streamed"() {
    const wanted = { model, prompt: "Tom has 3 apples", seed: 5, max_tokens: 20 };
    const whole = await client.completions.create(wanted);
    let text = "";
    for await (const chunk of await client.completions.create({ ...wanted, stream: true })) {
      text += chunk.choices[0]?.text ?? "";
    }
    assert.equal(text, whole.choices[0].text);
  },

  async "an answer can be aborted"() {
    const abort = new AbortController();
    const stream = await ask({ stream: true, max_tokens: 400, temperature: 1.5 }, { signal: abort.signal });
    for await (const _ of stream) {
      abort.abort();
      break;
    }
    assert.equal((await ask({ max_tokens: 4 })).object, "chat.completion");
  },

  async "answers given together are those given alone"() {
    const seeds = [1, 2, 3, 4, 5, 6, 7, 8];
    const one = async (seed) => (await ask({ seed, temperature: 1 })).choices[0].message.content;
    const alone = [];
    for (const seed of seeds) alone.push(await one(seed));
    assert.deepEqual(await Promise.all(seeds.map(one)), alone);
  },

  async "an unknown field is answered with a warning"() {
    const { response } = await ask({ no_such_field: 1 }).withResponse();
    assert.match(response.headers.get("x-fathom-warning") ?? "", /no_such_field/);
  },

  async "refusals are the errors that programs expect"() {
    await refused(OpenAI.NotFoundError, () => ask({ model: "gpt-4o" }), { code: "model_not_found", param: "model" });
    await refused(OpenAI.BadRequestError, () => ask({ messages: [] }), { param: "messages" });
    await refused(OpenAI.UnprocessableEntityError, () => ask({ temperature: 3 }), { param: "temperature" });
    await refused(OpenAI.NotFoundError, () => client.embeddings.create({ model, input: "x" }));
    await refused(OpenAI.NotFoundError, () => client.responses.create({ model, input: "x" }));
  },
};

const version = require("openai/version").VERSION;
const began = Date.now();
let nOk = 0, nFailed = 0, nSkipped = 0;
for (const [name, run] of Object.entries(cases)) {
  if (!name.includes(only)) continue;
  try {
    await run();
    nOk += 1;
    console.log(`ok   ${name}`);
  } catch (error) {
    if (error instanceof Skip) {
      nSkipped += 1;
      console.log(`skip ${name}: ${error.message}`);
      continue;
    }
    nFailed += 1;
    console.log(`FAIL ${name}: ${error.name}: ${String(error.message).replace(/\s+/g, " ").slice(0, 300)}`);
  }
}
console.log(`openai (node) ${version}: ${nOk} ok, ${nFailed} failed, ${nSkipped} skipped in ${((Date.now() - began) / 1000).toFixed(1)} s`);
process.exit(nFailed ? 1 : 0);
