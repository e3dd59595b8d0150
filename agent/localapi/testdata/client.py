# Talks to the agent's socket with the OpenAI Python client and asserts what a
# user of it relies on. Arguments: the socket, and what state the agent is in.
import sys

import openai

try:
    import httpx
except ImportError:  # newer clients bring their own
    import httpx2 as httpx

socket, state = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "ready"
client = openai.OpenAI(
    base_url="http://agent/v1",
    api_key="none",
    max_retries=0,
    http_client=httpx.Client(transport=httpx.HTTPTransport(uds=socket)),
)
question = [{"role": "user", "content": "one two"}]


def refused(kind, **more):
    try:
        client.chat.completions.create(model="tiny", messages=question, **more)
    except kind as e:
        return e
    raise AssertionError(f"not refused as {kind.__name__}")


if state == "busy":
    e = refused(openai.RateLimitError)
    assert e.code == "queue-full" and int(e.response.headers["retry-after"]) >= 1, e
    sys.exit()
if state == "expired":
    e = refused(openai.InternalServerError)
    assert e.status_code == 503 and e.code == "lease-expired", e
    sys.exit()

assert [m.id for m in client.models.list()] == ["tiny"]
assert client.models.retrieve("tiny").id == "tiny"

answer = client.chat.completions.create(model="tiny", messages=question, max_tokens=3, temperature=0, seed=1, user="someone")
assert answer.choices[0].message.content == "w0 w1 w2 ", answer
assert answer.choices[0].finish_reason == "length" and answer.usage.total_tokens == 11, answer
receipt = answer.receipt
assert client.get(f"/receipts/{receipt}", cast_to=object)["receipt"]["body"]["id"] == receipt

text, last, usage = "", None, None
with client.chat.completions.create(
    model="tiny", messages=question, stream=True, stream_options={"include_usage": True}, stop=["w5"]
) as stream:
    for chunk in stream:
        last = chunk
        for c in chunk.choices:
            text += c.delta.content or ""
            usage = c.finish_reason or usage
assert text == "w0 w1 w2 w3 w4 " and usage == "stop", (text, usage)
assert last.usage.completion_tokens == 6 and len(last.receipt) == 32, last

raw = client.chat.completions.with_raw_response.create(model="tiny", messages=question, max_tokens=1)
assert raw.headers["x-anchorhold-receipt"] == raw.parse().receipt

plain = client.completions.create(model="tiny", prompt="a b", max_tokens=2)
assert plain.choices[0].text == "w0 w1 ", plain
pieces = [c.choices[0].text for c in client.completions.create(model="tiny", prompt="a b", max_tokens=2, stream=True)]
assert "".join(pieces) == "w0 w1 ", pieces

two = client.chat.completions.create(model="tiny", messages=question, max_tokens=2, n=2, seed=5, logprobs=True, top_logprobs=2)
assert [c.message.content for c in two.choices] == ["s5-0 s5-1 ", "s6-0 s6-1 "] and two.usage.completion_tokens == 4, two
first = two.choices[1].logprobs.content[0]
assert bytes(first.bytes).decode() == first.token == "w0 " and len(first.top_logprobs) == 2, first
pieces = {}
for chunk in client.chat.completions.create(model="tiny", messages=question, max_tokens=2, n=2, logprobs=True, stream=True):
    for c in chunk.choices:
        pieces[c.index] = pieces.get(c.index, "") + (c.delta.content or "")
        assert not c.delta.content or len(c.logprobs.content) == 1, c
assert pieces == {0: "w0 w1 ", 1: "w0 w1 "}, pieces
scored = client.completions.create(model="tiny", prompt="a b", max_tokens=2, logprobs=2, logit_bias={"7": -100}).choices[0].logprobs
assert scored.tokens == ["w0 ", "w1 "] and scored.text_offset == [0, 3] and len(scored.top_logprobs[0]) == 2, scored

e = refused(openai.BadRequestError, n=9)
assert e.param == "n" and e.code == "invalid-value", e
e = refused(openai.BadRequestError, tools=[{"type": "custom", "custom": {"name": "f"}}])
assert e.param == "tools[0].type", e
e = refused(openai.BadRequestError, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}})
assert e.param == "response_format" and e.code == "grammar-refused" and '"not"' in e.message, e
e = refused(openai.BadRequestError, temperature=5)
assert e.param == "temperature", e
try:
    client.chat.completions.create(model="other", messages=question)
    raise AssertionError("unknown model answered")
except openai.NotFoundError as e:
    assert e.code == "model_not_found", e
