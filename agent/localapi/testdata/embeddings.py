# Asks the agent's socket for embeddings with the OpenAI Python client, whose default is base64, and
# asserts what a user of it relies on. Argument: the socket.
import sys

import openai

try:
    import httpx
except ImportError:  # newer clients bring their own
    import httpx2 as httpx

client = openai.OpenAI(
    base_url="http://agent/v1",
    api_key="none",
    max_retries=0,
    http_client=httpx.Client(transport=httpx.HTTPTransport(uds=sys.argv[1])),
)
answer = client.embeddings.create(model="tiny", input=["the to", "fives"])
assert answer.object == "list" and answer.model == "tiny" and answer.usage.prompt_tokens == answer.usage.total_tokens == 7, answer
assert [d.index for d in answer.data] == [0, 1] and all(len(d.embedding) == 4 for d in answer.data), answer
plain = client.embeddings.create(model="tiny", input=["the to", "fives"], encoding_format="float")
for a, b in zip(answer.data, plain.data):
    assert all(abs(x - y) < 1e-6 for x, y in zip(a.embedding, b.embedding)), (a, b)
one = client.embeddings.create(model="tiny", input="the to")
tokens = client.embeddings.create(model="tiny", input=[1, 13, 12, 2], dimensions=4)
assert one.data[0].embedding == tokens.data[0].embedding == answer.data[0].embedding
assert answer.model_extra["receipt"]


def refused(code, call, **arguments):
    try:
        call(model="tiny", **arguments)
    except openai.BadRequestError as e:
        assert e.code == code, e
        return
    raise AssertionError(f"not refused as {code}")


refused("context_length_exceeded", client.embeddings.create, input="a " * 40)
refused("unsupported-value", client.embeddings.create, input="a", dimensions=2)
refused("embeddings-only", client.chat.completions.create, messages=[{"role": "user", "content": "a"}])
