// Talks to the agent with the JavaScript clients that people use, as clients.py does in Python.
// Arguments: the address, the client, and the addresses of an agent whose model embeds and of one
// whose model calls add with 1 and 2.
import assert from "node:assert";

const [base, client, vectors, calls] = process.argv.slice(2);
const messages = [{ role: "user", content: "Which city?" }];
const schema = {
  type: "object",
  properties: { name: { type: "string", maxLength: 12 }, people: { type: "integer", minimum: 1, maximum: 99999 } },
  required: ["name", "people"],
  additionalProperties: false,
};
const add = {
  type: "object",
  properties: { a: { type: "integer", minimum: 0, maximum: 99 }, b: { type: "integer", minimum: 0, maximum: 99 } },
  required: ["a", "b"],
  additionalProperties: false,
};

function city(text) {
  const v = typeof text === "string" ? JSON.parse(text) : text;
  assert.deepEqual(Object.keys(v).sort(), ["name", "people"]);
  assert(v.people >= 1 && v.people <= 99999 && [...v.name].length <= 12, text);
}

function added(args) {
  const v = typeof args === "string" ? JSON.parse(args) : args;
  assert.deepEqual(Object.keys(v).sort(), ["a", "b"]);
}

// A call of the agent whose model calls add with 1 and 2.
function calledAdd(name, args) {
  assert.equal(name, "add");
  assert.deepEqual(typeof args === "string" ? JSON.parse(args) : args, { a: 1, b: 2 });
}

async function token(text) {
  const { tokens } = await (await fetch(base + "/tokenize", { method: "POST", body: JSON.stringify({ content: text }) })).json();
  assert.equal(tokens.length, 1);
  return tokens[0];
}

// Options of sampling, each by its effect. ask takes them by OpenAI's names, and llama.cpp's.
async function sampled(ask, { biased = true, more = true } = {}) {
  const greedy = await ask({ temperature: 0 });
  assert.equal(await ask({ temperature: 0 }), greedy);
  const seeds = [];
  for (const seed of [5, 5, 6]) seeds.push(await ask({ temperature: 1.5, seed }));
  assert.equal(seeds[0], seeds[1]);
  assert.notEqual(seeds[1], seeds[2]);
  if (more) {
    assert.equal(await ask({ temperature: 1.5, seed: 7, min_p: 1 }), greedy);
    assert.notEqual(await ask({ temperature: 0, repeat_penalty: 10 }), greedy);
  }
  if (!biased) return assert.notEqual(await ask({ temperature: 0, presence_penalty: 2, frequency_penalty: 2 }), greedy);
  const q = await token("q"), z = await token("z");
  assert.match(await ask({ temperature: 0, logit_bias: { [q]: 100, [z]: 60 } }), /^q+$/);
  assert.match(await ask({ temperature: 0, logit_bias: { [q]: -100, [z]: 60 } }), /^z+$/);
  const usual = await ask({ temperature: 0, logit_bias: { [q]: 60, [z]: 60 } });
  for (const penalty of ["frequency_penalty", "presence_penalty"]) {
    const told = await ask({ temperature: 0, logit_bias: { [q]: 60, [z]: 60 }, [penalty]: 2 });
    assert.match(told, /^[qz]+$/);
    assert.notEqual(told, usual);
  }
  if (more) assert.match(await ask({ grammar: 'root ::= [qz]{5} "!"' }), /^[qz]{5}!$/);
}

function embedded(lists, again) {
  assert.deepEqual(lists.map((v) => v.length), [4, 4]);
  assert.notDeepEqual(lists[0], lists[1]);
  lists.forEach((v, i) => v.forEach((x, j) => assert(Math.abs(x - again[i][j]) < 1e-6, `${lists} ${again}`)));
}

const clients = {
  async openai() {
    const { default: OpenAI } = await import("openai");
    const c = new OpenAI({ baseURL: base + "/v1", apiKey: "none", maxRetries: 0 });
    const ask = async (o) => (await c.chat.completions.create({ model: "tiny", messages, max_tokens: 24, ...o })).choices[0].message.content;
    await sampled(ask);
    const two = await c.chat.completions.create({ model: "tiny", messages, max_tokens: 5, n: 2, seed: 1, logprobs: true, top_logprobs: 2, logit_bias: { [await token("q")]: 100 } });
    assert.equal(two.choices.length, 2);
    for (const { message, logprobs } of two.choices) {
      assert.equal(Buffer.from(logprobs.content.flatMap((t) => t.bytes)).toString(), message.content);
      assert(logprobs.content.every((t) => t.top_logprobs.length === 2 && t.logprob <= 0));
    }
    const several = async (seed) => (await c.chat.completions.create({ model: "tiny", messages, max_tokens: 24, n: 2, seed, temperature: 1.5 })).choices.map((m) => m.message.content);
    const first = await several(8);
    assert(first.length === 2 && first[0] !== first[1], first);
    assert.deepEqual(await several(8), first);
    assert.notDeepEqual(await several(20), first);
    let written = "";
    const scored = [];
    for await (const chunk of await c.chat.completions.create({ model: "tiny", messages, max_tokens: 5, stream: true, logprobs: true, top_logprobs: 2, logit_bias: { [await token("q")]: 100 } })) {
      written += chunk.choices[0].delta.content ?? "";
      scored.push(...(chunk.choices[0].logprobs?.content ?? []));
    }
    assert.equal(written, "qqqqq");
    assert.equal(Buffer.from(scored.flatMap((t) => t.bytes)).toString(), written);
    assert(scored.every((t) => t.top_logprobs.length === 2 && t.logprob <= 0));
    const word = "é漢🙂";
    for (let limit = 1; limit <= Buffer.byteLength(word); limit++) {
      let whole = "", part = "";
      for (const letter of word) if (Buffer.byteLength(whole + letter) <= limit) whole += letter;
      for await (const chunk of await c.chat.completions.create({ model: "tiny", messages, max_tokens: limit, stream: true, grammar: `root ::= "${word}"` })) part += chunk.choices[0].delta.content ?? "";
      assert.equal(part, whole);
    }
    const said = "Grüße, 漢字 🙂";
    const { tokens } = await c.post(base + "/tokenize", { body: { content: said } });
    assert.equal((await c.post(base + "/detokenize", { body: { tokens } })).content, said);
    const v = new OpenAI({ baseURL: vectors + "/v1", apiKey: "none", maxRetries: 0 });
    const embed = async (o) => (await v.embeddings.create({ model: "tiny", input: ["the to", "fives"], ...o })).data.map((d) => d.embedding);
    embedded(await embed({ encoding_format: "float" }), await embed({}));
    embedded(await embed({ encoding_format: "float" }), (await embed({ encoding_format: "base64" })).map((b) => [...new Float32Array(new Uint8Array(Buffer.from(b, "base64")).buffer)]));
    const response_format = { type: "json_schema", json_schema: { name: "city", schema, strict: true } };
    city((await c.chat.completions.create({ model: "tiny", messages, response_format })).choices[0].message.content);
    let text = "";
    for await (const chunk of await c.chat.completions.create({ model: "tiny", messages, response_format, stream: true })) text += chunk.choices[0]?.delta?.content ?? "";
    city(text);
    const tools = [{ type: "function", function: { name: "add", parameters: add, strict: true } }];
    const tool_choice = { type: "function", function: { name: "add" } };
    const m = (await c.chat.completions.create({ model: "tiny", messages, tools, tool_choice })).choices[0].message;
    added(m.tool_calls[0].function.arguments);
    await c.chat.completions.create({ model: "tiny", messages: [...messages, m, { role: "tool", tool_call_id: m.tool_calls[0].id, content: "3" }], tools, max_tokens: 3 });
    const s = c.chat.completions.stream({ model: "tiny", messages, tools, tool_choice });
    added((await s.finalChatCompletion()).choices[0].message.tool_calls[0].function.arguments);
    const k = new OpenAI({ baseURL: calls + "/v1", apiKey: "none", maxRetries: 0 });
    const loose = [{ type: "function", function: { name: "add", parameters: add } }];
    for (const answer of [await k.chat.completions.create({ model: "tiny", messages, tools: loose }), await k.chat.completions.stream({ model: "tiny", messages, tools: loose }).finalChatCompletion()]) {
      const { message, finish_reason } = answer.choices[0];
      assert(finish_reason === "tool_calls" && message.tool_calls.length === 1, JSON.stringify(answer));
      calledAdd(message.tool_calls[0].function.name, message.tool_calls[0].function.arguments);
    }
    const flat = [{ type: "function", name: "add", parameters: add, strict: true }];
    for (const answer of [await k.responses.create({ model: "tiny", input: "Add.", tools: flat }), await k.responses.stream({ model: "tiny", input: "Add.", tools: flat }).finalResponse()]) {
      assert.equal(answer.output.length, 1);
      calledAdd(answer.output[0].name, answer.output[0].arguments);
    }
    const r = await c.responses.create({ model: "tiny", input: "Which city?", text: { format: { type: "json_schema", name: "city", schema, strict: true } } });
    city(r.output_text);
    text = "";
    for await (const e of await c.responses.create({ model: "tiny", input: "Add.", stream: true, tools: [{ type: "function", name: "add", parameters: add, strict: true }], tool_choice: "required", parallel_tool_calls: false }))
      if (e.type === "response.function_call_arguments.delta") text += e.delta;
    added(text);
  },
  async ai() {
    const { generateText, generateObject, streamText, streamObject, jsonSchema, tool } = await import("ai");
    const { createOpenAICompatible } = await import("@ai-sdk/openai-compatible");
    const { createOpenAI } = await import("@ai-sdk/openai");
    const compatible = createOpenAICompatible({ name: "agent", baseURL: base + "/v1", supportsStructuredOutputs: true });
    const official = createOpenAI({ baseURL: base + "/v1", apiKey: "none" });
    const { embedMany } = await import("ai");
    const rename = { frequency_penalty: "frequencyPenalty", presence_penalty: "presencePenalty", seed: "seed", temperature: "temperature" };
    const asks = (model, provider, own = {}) => async (o) => {
      const settings = {}, options = {};
      for (const [k, value] of Object.entries(o)) if (rename[k]) settings[rename[k]] = value; else options[own[k] ?? k] = value;
      return (await generateText({ model, prompt: "Which city?", maxOutputTokens: 24, maxRetries: 0, ...settings, providerOptions: { [provider]: options } })).text;
    };
    await sampled(asks(compatible("tiny"), "agent"));
    await sampled(asks(official.chat("tiny"), "openai", { logit_bias: "logitBias" }), { more: false });
    for (const model of [official.chat("tiny"), official.responses("tiny")])
      for (const logprobs of [true, 2]) {
        const { providerMetadata, text } = await generateText({ model, prompt: "x", maxOutputTokens: 16, maxRetries: 0, providerOptions: { openai: { logprobs } } });
        assert(text && providerMetadata.openai.logprobs.flat().length > 0, JSON.stringify(providerMetadata));
      }
    const embed = async (provider) => (await embedMany({ model: provider.textEmbeddingModel("tiny"), values: ["the to", "fives"], maxRetries: 0 })).embeddings;
    embedded(await embed(createOpenAICompatible({ name: "agent", baseURL: vectors + "/v1" })), await embed(createOpenAI({ baseURL: vectors + "/v1", apiKey: "none" })));
    const caller = createOpenAI({ baseURL: calls + "/v1", apiKey: "none" });
    const callers = [createOpenAICompatible({ name: "agent", baseURL: calls + "/v1" })("tiny"), caller.chat("tiny"), caller.responses("tiny")];
    for (const [i, model] of [compatible("tiny"), official.chat("tiny"), official.responses("tiny")].entries()) {
      city((await generateObject({ model, prompt: "Which city?", schema: jsonSchema(schema), maxRetries: 0 })).object);
      const o = streamObject({ model, prompt: "Which city?", schema: jsonSchema(schema), maxRetries: 0 });
      for await (const _ of o.partialObjectStream);
      city(await o.object);
      const tools = { add: tool({ description: "adds", inputSchema: jsonSchema(add) }) };
      const called = await generateText({ model, prompt: "Add.", tools, toolChoice: { type: "tool", toolName: "add" }, maxRetries: 0 });
      added(called.toolCalls[0].input);
      const s = streamText({ model, prompt: "Add.", tools, toolChoice: { type: "tool", toolName: "add" }, maxRetries: 0 });
      for await (const _ of s.textStream);
      added((await s.toolCalls)[0].input);
      const ran = [];
      const acting = { add: tool({ description: "adds", inputSchema: jsonSchema(add), execute: async (args) => (ran.push(args), args.a + args.b) }) };
      const whole = await generateText({ model: callers[i], prompt: "Add.", tools: acting, maxRetries: 0 });
      assert(whole.finishReason === "tool-calls" && whole.toolResults.length === 1 && whole.toolResults[0].output === 3, JSON.stringify(whole.toolResults));
      const flow = streamText({ model: callers[i], prompt: "Add.", tools: acting, maxRetries: 0 });
      await flow.consumeStream();
      assert.equal((await flow.toolResults)[0].output, 3);
      assert.equal(ran.length, 2);
      ran.forEach((args) => calledAdd("add", args));
      const back = [{ role: "user", content: "Add." }, ...called.response.messages,
        { role: "tool", content: [{ type: "tool-result", toolCallId: called.toolCalls[0].toolCallId, toolName: "add", output: { type: "text", value: "3" } }] }];
      const plain = await generateText({ model, messages: back, tools, maxOutputTokens: 3, maxRetries: 0 });
      assert(plain.usage.outputTokens <= 3);
    }
  },
  async ollama() {
    const { Ollama } = await import("ollama");
    const c = new Ollama({ host: base });
    assert.equal((await c.list()).models[0].name, "tiny");
    await sampled(async (o) => (await c.chat({ model: "tiny", messages, options: { num_predict: 40, ...o } })).message.content, { biased: false });
    const scored = await c.chat({ model: "tiny", messages, logprobs: true, top_logprobs: 2, think: false, options: { num_predict: 5, temperature: 0 } });
    assert(scored.logprobs.length === 5 && scored.logprobs[0].top_logprobs.length === 2);
    const v = new Ollama({ host: vectors });
    embedded((await v.embed({ model: "tiny", input: ["the to", "fives"] })).embeddings, [(await v.embed({ model: "tiny", input: "the to" })).embeddings[0], (await v.embed({ model: "tiny", input: "fives" })).embeddings[0]]);
    city((await c.chat({ model: "tiny", messages, format: schema })).message.content);
    let text = "";
    for await (const part of await c.generate({ model: "tiny", prompt: "Which city?", format: schema, stream: true })) text += part.response;
    city(text);
    const k = new Ollama({ host: calls });
    const tools = [{ type: "function", function: { name: "add", description: "adds", parameters: add } }];
    const whole = await k.chat({ model: "tiny", messages, tools });
    const parts = [];
    for await (const part of await k.chat({ model: "tiny", messages, tools, stream: true })) parts.push(part);
    for (const answer of [[whole], parts]) {
      const made = answer.flatMap((part) => part.message.tool_calls ?? []);
      assert.equal(made.length, 1);
      calledAdd(made[0].function.name, made[0].function.arguments);
      assert.equal(answer.map((part) => part.message.content).join(""), "");
      assert.equal(answer.at(-1).done_reason, "stop");
    }
    assert((await c.chat({ model: "tiny", messages: [...messages, whole.message, { role: "tool", tool_name: "add", content: "3" }], tools, options: { num_predict: 3 } })).done);
  },
};

await clients[client]();
