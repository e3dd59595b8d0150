"""What all-MiniLM-L6-v2 makes of texts, in exact arithmetic: its published weights in float64.

usage: minilm.py DIRECTORY < texts.json > answers.json

The tokens are those of Hugging Face's tokenizers, to which the text of a control token is text. The steps
are those of BertModel in transformers and of the modules that modules.json of the model lists: the mean of
the last block's outputs, divided by its length.
"""
import json, math, os, struct, sys
import numpy as np
from tokenizers import Tokenizer

at = sys.argv[1]
raw = open(os.path.join(at, "model.safetensors"), "rb").read()
(size,) = struct.unpack("<Q", raw[:8])
w = {}
for name, t in json.loads(raw[8 : 8 + size]).items():
    if name != "__metadata__" and t["dtype"] == "F32":
        a, b = t["data_offsets"]
        w[name] = np.frombuffer(raw[8 + size + a : 8 + size + b], "<f4").reshape(t["shape"]).astype(np.float64)
config = json.load(open(os.path.join(at, "config.json")))
tok = Tokenizer.from_file(os.path.join(at, "tokenizer.json"))
tok.no_truncation()
tok.no_padding()
tok.encode_special_tokens = True
erf = np.vectorize(math.erf)


def linear(x, name): return x @ w[name + ".weight"].T + w[name + ".bias"]


def norm(x, name):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + config["layer_norm_eps"]) * w[name + ".weight"] + w[name + ".bias"]


def embed(ids):
    e, n, heads = "embeddings.", len(ids), config["num_attention_heads"]
    x = w[e + "word_embeddings.weight"][ids] + w[e + "position_embeddings.weight"][:n] + w[e + "token_type_embeddings.weight"][0]
    x = norm(x, e + "LayerNorm")
    for i in range(config["num_hidden_layers"]):
        b = "encoder.layer.%d." % i
        q, k, v = (linear(x, b + "attention.self." + s).reshape(n, heads, -1).transpose(1, 0, 2) for s in ("query", "key", "value"))
        s = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
        s = np.exp(s - s.max(-1, keepdims=True))
        y = (s / s.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(n, -1)
        x = norm(x + linear(y, b + "attention.output.dense"), b + "attention.output.LayerNorm")
        h = linear(x, b + "intermediate.dense")
        x = norm(x + linear(h * (1 + erf(h / math.sqrt(2))) / 2, b + "output.dense"), b + "output.LayerNorm")
    x = x.mean(0)
    return (x / np.linalg.norm(x)).tolist()


job = json.load(sys.stdin)
ids = [tok.encode(t).ids for t in job["texts"]]
answers = {"ids": ids, "embeddings": [embed(i) for i in ids[: job["embed"]]]}
if job["normalize"]:
    # What becomes of each character between two letters: the words, as the pre-tokenizer cuts them.
    def words(c): return [p for p, _ in tok.pre_tokenizer.pre_tokenize_str(tok.normalizer.normalize_str("x" + c + "y"))]
    answers["words"] = [" ".join(words(chr(c))) for c in job["normalize"]]
json.dump(answers, sys.stdout)
