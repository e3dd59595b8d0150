// Talks to the agent with the JavaScript clients that people use, as clients.py does in Python.
// Arguments: the address, and the client.
import assert from "node:assert";

const [base, client] = process.argv.slice(2);
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

const clients = {
  async openai() {
    const { default: OpenAI } = await import("openai");
    const c = new OpenAI({ baseURL: base + "/v1", apiKey: "none", maxRetries: 0 });
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
    for (const model of [compatible("tiny"), official.chat("tiny"), official.responses("tiny")]) {
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
    city((await c.chat({ model: "tiny", messages, format: schema })).message.content);
    let text = "";
    for await (const part of await c.generate({ model: "tiny", prompt: "Which city?", format: schema, stream: true })) text += part.response;
    city(text);
  },
};

await clients[client]();
