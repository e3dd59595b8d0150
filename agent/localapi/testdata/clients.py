# Talks to the agent with the Python clients that people use, and asserts what their users rely
# on. Its model has random weights: whatever is well formed is the agent's doing. Arguments: the
# address, the client, and the addresses of an agent whose model embeds and of one
# whose model calls add with 1 and 2.
import asyncio
import json
import os
import sys
import urllib.request

base, client, vectors, calls = sys.argv[1:5]
v1 = base + "/v1"
question = [{"role": "user", "content": "Which city?"}]
schema = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "people": {"type": "integer", "minimum": 1, "maximum": 99999}},
    "required": ["name", "people"],
    "additionalProperties": False,
}
add = {
    "type": "object",
    "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 99}, "b": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
tools = [{"type": "function", "function": {"name": "add", "description": "adds", "parameters": add}}]


def city(text):
    value = json.loads(text) if isinstance(text, str) else text
    assert set(value) == {"name", "people"} and 1 <= value["people"] <= 99999 and len(value["name"]) <= 12, value


def added(arguments):
    value = json.loads(arguments) if isinstance(arguments, str) else arguments
    assert set(value) == {"a", "b"} and 0 <= value["a"] <= 99, value


def called_add(name, arguments):
    """A call of the agent whose model calls add with 1 and 2."""
    value = json.loads(arguments) if isinstance(arguments, str) else arguments
    assert name == "add" and value == {"a": 1, "b": 2}, (name, arguments)


def several(ask):
    """Two choices that differ, and that a seed repeats and another one does not."""
    first, again, other = (ask(n=2, seed=s, temperature=1.5) for s in (8, 8, 20))
    assert len(first) == 2 and first[0] != first[1] and first == again != other, (first, again, other)


def token(text):
    raw = urllib.request.urlopen(urllib.request.Request(base + "/tokenize", json.dumps({"content": text}).encode())).read()
    (one,) = json.loads(raw)["tokens"]
    return one


def sampled(ask, biased=True, more=True):
    """Options of sampling, each by its effect. ask takes them by OpenAI's names, and llama.cpp's."""
    greedy = ask(temperature=0)
    assert greedy and greedy == ask(temperature=0), greedy
    seeds = [ask(temperature=1.5, seed=s) for s in (5, 5, 6)]
    assert seeds[0] == seeds[1] != seeds[2], seeds
    if more:
        assert ask(temperature=1.5, seed=7, min_p=1) == greedy
        assert ask(temperature=0, repeat_penalty=10) != greedy
    if not biased:
        assert ask(temperature=0, presence_penalty=2, frequency_penalty=2) != greedy
        return
    q, z = str(token("q")), str(token("z"))
    assert set(ask(temperature=0, logit_bias={q: 100, z: 60})) == {"q"}
    assert set(ask(temperature=0, logit_bias={q: -100, z: 60})) == {"z"}
    close = {q: 60, z: 60}
    usual = ask(temperature=0, logit_bias=close)
    assert set(usual) <= {"q", "z"}, usual
    least = min(usual.count("q"), usual.count("z"))
    for penalty in ("frequency_penalty", "presence_penalty"):
        told = ask(temperature=0, logit_bias=close, **{penalty: 2})
        assert set(told) <= {"q", "z"} and min(told.count("q"), told.count("z")) >= least and told != usual, (penalty, usual, told)
    if more:
        told = ask(grammar='root ::= [qz]{5} "!"')
        assert len(told) == 6 and set(told[:5]) <= {"q", "z"} and told[5] == "!", told


def likely(tokens, text):
    """Tokens with their likelihoods, in OpenAI's form as objects, that make a text."""
    assert b"".join(bytes(t["bytes"]) for t in tokens).decode() == text, (tokens, text)
    for t in tokens:
        assert t["logprob"] <= 0 and len(t["top_logprobs"]) == 2 and t["top_logprobs"][0]["logprob"] >= t["top_logprobs"][1]["logprob"], t


def embedded(lists, again=None):
    """Vectors of "the to" and "fives", of length 4; and the same in another format."""
    assert [len(v) for v in lists] == [4, 4] and lists[0] != lists[1], lists
    for a, b in zip(lists, again or lists):
        assert all(abs(x - y) < 1e-6 for x, y in zip(a, b)), (lists, again)


def openai():
    import openai
    from pydantic import BaseModel

    class Shop(BaseModel):
        open: bool
        floors: list[int | None]

    c = openai.OpenAI(base_url=v1, api_key="none", max_retries=0)
    extra = ("min_p", "repeat_penalty", "grammar")

    def ask(**o):
        rest = {k: o.pop(k) for k in extra if k in o}
        return c.chat.completions.create(model="tiny", messages=question, max_tokens=24, extra_body=rest, **o).choices[0].message.content

    sampled(ask)
    choice = c.chat.completions.create(model="tiny", messages=question, max_tokens=5, temperature=0, logprobs=True, top_logprobs=2, logit_bias={str(token("q")): 100}).choices[0]
    likely([t.model_dump() for t in choice.logprobs.content], choice.message.content)
    several(lambda **o: [m.message.content for m in c.chat.completions.create(model="tiny", messages=question, max_tokens=24, **o).choices])
    text, scored = "", []
    for chunk in c.chat.completions.create(model="tiny", messages=question, max_tokens=5, logprobs=True, top_logprobs=2, stream=True, logit_bias={str(token("q")): 100}):
        text += chunk.choices[0].delta.content or ""
        scored += [t.model_dump() for t in chunk.choices[0].logprobs.content] if chunk.choices[0].logprobs else []
    assert text == "q" * 5, text
    likely(scored, text)
    word = "é漢🙂"
    for limit in range(1, len(word.encode()) + 1):
        parts = c.chat.completions.create(model="tiny", messages=question, max_tokens=limit, stream=True, extra_body={"grammar": f'root ::= "{word}"'})
        text = "".join(chunk.choices[0].delta.content or "" for chunk in parts)
        assert text == word.encode()[:limit].decode(errors="ignore"), (limit, text)
    said = "Grüße, 漢字 🙂"
    ids = c.post(base + "/tokenize", body={"content": said}, cast_to=object)["tokens"]
    assert c.post(base + "/detokenize", body={"tokens": ids}, cast_to=object)["content"] == said
    v = openai.OpenAI(base_url=vectors + "/v1", api_key="none", max_retries=0)
    both = [[d.embedding for d in v.embeddings.create(model="tiny", input=["the to", "fives"], encoding_format=f).data] for f in ("float", "base64")]
    assert isinstance(both[1][0], str), both
    embedded(both[0], [d.embedding for d in v.embeddings.create(model="tiny", input=["the to", "fives"]).data])
    r = c.responses.create(model="tiny", input="Which city?", max_output_tokens=5, include=["message.output_text.logprobs"], top_logprobs=2, temperature=0, extra_body={"logit_bias": None})
    assert len(r.output[0].content[0].logprobs) == 5 and len(r.output[0].content[0].logprobs[0].top_logprobs) == 2, r
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema, "strict": True}}
    city(c.chat.completions.create(model="tiny", messages=question, response_format=form, seed=1).choices[0].message.content)
    two = c.chat.completions.create(model="tiny", messages=question, response_format=form, n=2, logprobs=True, top_logprobs=3, seed=2, max_tokens=300)
    for choice in two.choices:
        city(choice.message.content)
        assert b"".join(bytes(t.bytes) for t in choice.logprobs.content).decode() == choice.message.content
    text = ""
    for chunk in c.chat.completions.create(model="tiny", messages=question, response_format=form, stream=True):
        text += chunk.choices[0].delta.content or ""
    city(text)
    shop = c.chat.completions.parse(model="tiny", messages=question, response_format=Shop, max_tokens=900, seed=3)
    assert isinstance(shop.choices[0].message.parsed, Shop), shop
    one = {"type": "function", "function": {"name": "add"}}
    m = c.chat.completions.create(model="tiny", messages=question, tools=tools, tool_choice=one).choices[0].message
    added(m.tool_calls[0].function.arguments)
    back = question + [m.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": m.tool_calls[0].id, "content": "3"}]
    assert c.chat.completions.create(model="tiny", messages=back, tools=tools, max_tokens=3).usage.completion_tokens <= 3
    with c.chat.completions.stream(model="tiny", messages=question, tools=tools, tool_choice=one) as s:
        added(s.get_final_completion().choices[0].message.tool_calls[0].function.arguments)

    k = openai.OpenAI(base_url=calls + "/v1", api_key="none", max_retries=0)
    answer = k.chat.completions.create(model="tiny", messages=question, tools=tools).choices[0]
    assert answer.finish_reason == "tool_calls" and answer.message.content is None and len(answer.message.tool_calls) == 1, answer
    with k.chat.completions.stream(model="tiny", messages=question, tools=tools) as s:
        streamed = s.get_final_completion().choices[0]
    assert streamed.finish_reason == "tool_calls", streamed
    for m in (answer.message, streamed.message):
        called_add(m.tool_calls[0].function.name, m.tool_calls[0].function.arguments)

    r = c.responses.create(model="tiny", input="Which city?", instructions="Be brief.", store=False, text={"format": {"type": "json_schema", "name": "city", "schema": schema, "strict": True}})
    city(r.output_text)
    flat = [{"type": "function", "name": "add", "parameters": add, "strict": True}]
    r = c.responses.create(model="tiny", input=question, tools=flat, tool_choice={"type": "function", "name": "add"})
    added(r.output[0].arguments)
    back = question + [r.output[0].model_dump(exclude_none=True), {"type": "function_call_output", "call_id": r.output[0].call_id, "output": "3"}]
    assert c.responses.create(model="tiny", input=back, tools=flat, max_output_tokens=3).usage.output_tokens <= 3
    whole = k.responses.create(model="tiny", input=question, tools=flat)
    with k.responses.stream(model="tiny", input=question, tools=flat) as s:
        kinds = [e.type for e in s]
        streamed = s.get_final_response()
    assert "response.function_call_arguments.done" in kinds, kinds
    for r in (whole, streamed):
        (call,) = r.output
        called_add(call.name, call.arguments)
    text, done = "", None
    with c.responses.stream(model="tiny", input="Which city?", text={"format": {"type": "json_schema", "name": "city", "schema": schema, "strict": True}}) as s:
        for e in s:
            if e.type == "response.output_text.delta":
                text += e.delta
        done = s.get_final_response()
    city(text)
    assert done.output_text == text and done.status == "completed", done


def langchain():
    from langchain_openai import ChatOpenAI
    from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

    from langchain_openai import OpenAIEmbeddings

    def ask(**o):
        rest = {k: o.pop(k) for k in ("min_p", "repeat_penalty", "grammar") if k in o}
        return ChatOpenAI(model="tiny", base_url=v1, api_key="none", max_retries=0, max_tokens=24, extra_body=rest, **o).invoke("Which city?").text

    sampled(ask)
    m = ChatOpenAI(model="tiny", base_url=v1, api_key="none", max_retries=0, max_tokens=5, logprobs=True, top_logprobs=2, logit_bias={str(token("q")): 100})
    answer = m.invoke("Which city?")
    likely(answer.response_metadata["logprobs"]["content"], answer.text)
    several(lambda **o: [g.text for g in ChatOpenAI(model="tiny", base_url=v1, api_key="none", max_retries=0, max_tokens=24, **o).generate([[HumanMessage("Which city?")]]).generations[0]])
    e = OpenAIEmbeddings(model="tiny", base_url=vectors + "/v1", api_key="none", max_retries=0, check_embedding_ctx_length=False)
    embedded(e.embed_documents(["the to", "fives"]), [e.embed_query("the to"), e.embed_query("fives")])
    for responses in (False, True):
        m = ChatOpenAI(model="tiny", base_url=v1, api_key="none", max_retries=0, use_responses_api=responses)
        city(m.with_structured_output({"title": "city", **schema}, method="json_schema", strict=True).invoke("Which city?"))
        caller = ChatOpenAI(model="tiny", base_url=calls + "/v1", api_key="none", max_retries=0, use_responses_api=responses).bind_tools(tools)
        whole, streamed = caller.invoke("Add."), None
        for chunk in caller.stream("Add."):
            streamed = chunk if streamed is None else streamed + chunk
        for answer in (whole, streamed):
            (call,) = answer.tool_calls
            called_add(call["name"], call["args"])
        call = m.bind_tools(tools, tool_choice="add").invoke("Add.")
        added(call.tool_calls[0]["args"])
        back = [HumanMessage("Add."), call, ToolMessage("3", tool_call_id=call.tool_calls[0]["id"])]
        assert isinstance(m.bind_tools(tools).invoke(back, max_tokens=3), AIMessage)
        form = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema, "strict": True}}
        city("".join(chunk.text if isinstance(chunk.text, str) else chunk.text() for chunk in m.stream("Which city?", response_format=form)))


def litellm():
    import litellm

    more = {"model": "openai/tiny", "api_base": v1, "api_key": "none", "messages": question}
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema, "strict": True}}
    city(litellm.completion(response_format=form, **more).choices[0].message.content)
    city("".join(c.choices[0].delta.content or "" for c in litellm.completion(response_format=form, stream=True, **more)))
    m = litellm.completion(tools=tools, tool_choice="required", parallel_tool_calls=False, **more).choices[0].message
    added(m.tool_calls[0].function.arguments)

    for model, address in (("openai/tiny", calls + "/v1"), ("ollama_chat/tiny", calls)):
        caller = {"model": model, "api_base": address, "api_key": "none", "messages": question, "tools": tools}
        whole, streamed = litellm.completion(**caller), litellm.stream_chunk_builder(list(litellm.completion(stream=True, **caller)))
        for answer in (whole, streamed):
            (call,) = answer.choices[0].message.tool_calls
            called_add(call.function.name, call.function.arguments)
            assert answer.choices[0].finish_reason == "tool_calls", answer

    def ask(**o):
        rest = {k: o.pop(k) for k in ("min_p", "repeat_penalty", "grammar") if k in o}
        return litellm.completion(max_tokens=24, extra_body=rest, **more, **o).choices[0].message.content

    sampled(ask)
    several(lambda **o: [m.message.content for m in litellm.completion(max_tokens=24, **more, **o).choices])
    answer = litellm.completion(max_tokens=5, n=2, seed=1, logprobs=True, top_logprobs=2, logit_bias={str(token("q")): 100}, **more)
    assert len(answer.choices) == 2, answer
    for choice in answer.choices:
        likely([dict(t, top_logprobs=[dict(o) for o in t["top_logprobs"]]) for t in (x.model_dump() for x in choice.logprobs.content)], choice.message.content)
    ways = {"openai/tiny": vectors + "/v1", "ollama/tiny": vectors}
    found = [[d["embedding"] for d in litellm.embedding(model=w, api_base=a, api_key="none", input=["the to", "fives"]).data] for w, a in ways.items()]
    embedded(*found)
    plain = litellm.embedding(model="openai/tiny", api_base=vectors + "/v1", api_key="none", input=["the to", "fives"], encoding_format="float")
    embedded(found[0], [d["embedding"] for d in plain.data])
    more["model"], more["api_base"] = "ollama_chat/tiny", base
    city(litellm.completion(response_format=form, **more).choices[0].message.content)


def ollama():
    import ollama

    c = ollama.Client(host=base)
    assert [m.model for m in c.list().models] == ["tiny"]
    sampled(lambda **o: c.chat(model="tiny", messages=question, options={"num_predict": 40, **o}).message.content, biased=False)
    for answer in (c.chat(model="tiny", messages=question, logprobs=True, top_logprobs=2, options={"num_predict": 5, "temperature": 0}), c.generate(model="tiny", prompt="x", logprobs=True, top_logprobs=2, options={"num_predict": 5, "temperature": 0})):
        assert len(answer.logprobs) == 5 and len(answer.logprobs[0].top_logprobs) == 2 and answer.logprobs[0].logprob <= 0, answer
    parts = list(c.chat(model="tiny", messages=question, logprobs=True, stream=True, think=False, options={"num_predict": 5, "temperature": 0}))
    assert sum(len(p.logprobs or []) for p in parts) == 5, parts
    v = ollama.Client(host=vectors)
    embedded(v.embed(model="tiny", input=["the to", "fives"]).embeddings, [v.embed(model="tiny", input=t, truncate=False).embeddings[0] for t in ("the to", "fives")])
    city(c.chat(model="tiny", messages=question, format=schema, options={"temperature": 0.7, "seed": 3}).message.content)
    city("".join(part.message.content for part in c.chat(model="tiny", messages=question, format=schema, stream=True)))
    city(c.generate(model="tiny", prompt="Which city?", system="Be brief.", format=schema).response)
    answer = c.chat(model="tiny", messages=question, tools=tools, options={"num_predict": 3})
    assert answer.done and answer.eval_count <= 3 and answer.prompt_eval_count > 0, answer
    k = ollama.Client(host=calls)

    def add(a: int, b: int) -> int:
        """adds"""
        return a + b

    for given in (tools, [add]):
        whole, parts = k.chat(model="tiny", messages=question, tools=given), list(k.chat(model="tiny", messages=question, tools=given, stream=True))
        for answer in ([whole], parts):
            (call,) = [call for part in answer for call in part.message.tool_calls or []]
            called_add(call.function.name, call.function.arguments)
            assert answer[-1].done_reason == "stop" and not "".join(part.message.content or "" for part in answer), answer
    back = question + [whole.message, {"role": "tool", "tool_name": "add", "content": "3"}]
    assert c.chat(model="tiny", messages=back, tools=tools, options={"num_predict": 3}).done

    async def later():
        text = ""
        async for part in await ollama.AsyncClient(host=base).generate(model="tiny", prompt="x", options={"num_predict": 3}, stream=True):
            text += part.response
        return text

    asyncio.run(later())
    try:
        c.chat(model="other", messages=question)
        raise AssertionError("unknown model answered")
    except ollama.ResponseError as e:
        assert e.status_code == 404, e


def llm():
    from llm.default_plugins.openai_models import Chat

    m = Chat("tiny", model_name="tiny", api_base=v1, supports_schema=True, supports_tools=True)
    m.key, m.needs_key = "none", None
    city(m.prompt("Which city?", schema=schema, stream=False).text())
    city("".join(m.prompt("Which city?", schema=schema, stream=True)))
    sampled(lambda **o: m.prompt("Which city?", stream=False, max_tokens=24, **o).text(), more=False)

    def add(a: int, b: int) -> int:
        "adds"
        got.append((a, b))
        return a + b

    got = []
    caller = Chat("tiny", model_name="tiny", api_base=calls + "/v1", supports_tools=True)
    caller.key, caller.needs_key = "none", None
    for stream in (False, True):
        (result,) = caller.prompt("Add.", tools=[add], stream=stream).execute_tool_calls()
        assert result.name == "add" and result.output == "3", result
    assert got == [(1, 2), (1, 2)], got
    os.environ["OPENAI_BASE_URL"] = vectors + "/v1"
    from llm.default_plugins.openai_models import OpenAIEmbeddingModel

    e = OpenAIEmbeddingModel("tiny", "tiny")
    e.key = "none"
    embedded(list(e.embed_multi(["the to", "fives"])), [e.embed("the to"), e.embed("fives")])
    assert m.prompt("Which city?", max_tokens=3, temperature=0, stream=False).usage().output <= 3


globals()[client]()
