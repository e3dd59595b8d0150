# Talks to the agent with the Python clients that people use, and asserts what their users rely
# on. Its model has random weights: whatever is well formed is the agent's doing. Arguments: the
# address, and the client.
import asyncio
import json
import sys

base, client = sys.argv[1], sys.argv[2]
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


def openai():
    import openai
    from pydantic import BaseModel

    class Shop(BaseModel):
        open: bool
        floors: list[int | None]

    c = openai.OpenAI(base_url=v1, api_key="none", max_retries=0)
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

    r = c.responses.create(model="tiny", input="Which city?", instructions="Be brief.", store=False, text={"format": {"type": "json_schema", "name": "city", "schema": schema, "strict": True}})
    city(r.output_text)
    flat = [{"type": "function", "name": "add", "parameters": add, "strict": True}]
    r = c.responses.create(model="tiny", input=question, tools=flat, tool_choice={"type": "function", "name": "add"})
    added(r.output[0].arguments)
    back = question + [r.output[0].model_dump(exclude_none=True), {"type": "function_call_output", "call_id": r.output[0].call_id, "output": "3"}]
    assert c.responses.create(model="tiny", input=back, tools=flat, max_output_tokens=3).usage.output_tokens <= 3
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

    for responses in (False, True):
        m = ChatOpenAI(model="tiny", base_url=v1, api_key="none", max_retries=0, use_responses_api=responses)
        city(m.with_structured_output({"title": "city", **schema}, method="json_schema", strict=True).invoke("Which city?"))
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
    more["model"], more["api_base"] = "ollama_chat/tiny", base
    city(litellm.completion(response_format=form, **more).choices[0].message.content)


def ollama():
    import ollama

    c = ollama.Client(host=base)
    assert [m.model for m in c.list().models] == ["tiny"]
    city(c.chat(model="tiny", messages=question, format=schema, options={"temperature": 0.7, "seed": 3}).message.content)
    city("".join(part.message.content for part in c.chat(model="tiny", messages=question, format=schema, stream=True)))
    city(c.generate(model="tiny", prompt="Which city?", system="Be brief.", format=schema).response)
    answer = c.chat(model="tiny", messages=question, tools=tools, options={"num_predict": 3})
    assert answer.done and answer.eval_count <= 3 and answer.prompt_eval_count > 0, answer
    called = {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1, "b": 2}}}]}
    back = question + [called, {"role": "tool", "tool_name": "add", "content": "3"}]
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
    assert m.prompt("Which city?", max_tokens=3, temperature=0, stream=False).usage().output <= 3


globals()[client]()
