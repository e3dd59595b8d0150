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

e = refused(openai.BadRequestError, n=2)
assert e.param == "n" and e.code == "unsupported-value", e
e = refused(openai.BadRequestError, tools=[{"type": "function", "function": {"name": "f"}}])
assert e.param == "tools", e
e = refused(openai.BadRequestError, temperature=5)
assert e.param == "temperature", e
try:
    client.chat.completions.create(model="other", messages=question)
    raise AssertionError("unknown model answered")
except openai.NotFoundError as e:
    assert e.code == "model_not_found", e
