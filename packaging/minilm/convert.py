"""Makes a GGUF file of all-MiniLM-L6-v2 as sentence-transformers has it.

usage: convert.py DIRECTORY OUT.gguf

DIRECTORY has config.json, model.safetensors, tokenizer.json and 1_Pooling/config.json. Whatever the
file could not say, or says otherwise than the engine means it, ends the conversion: a model that tells
capital letters from small ones, another activation, several ways of pooling. Matrices become F16, vectors
and the two small tables F32, as llama.cpp's converter has it. Needs the packages gguf (0.19.0) and numpy.
"""
import json
import os
import struct
import sys

import gguf
import numpy as np

source, out = sys.argv[1:]


def read(name):
    with open(os.path.join(source, name), encoding="utf-8") as f:
        return json.load(f)


def tensors():
    """The tensors of a safetensors file: a length, a JSON header, and the data."""
    with open(os.path.join(source, "model.safetensors"), "rb") as f:
        raw = f.read()
    (size,) = struct.unpack("<Q", raw[:8])
    for name, t in json.loads(raw[8 : 8 + size]).items():
        if name == "__metadata__" or name.endswith("position_ids"):
            continue
        if t["dtype"] != "F32":
            sys.exit("%s has type %s; want F32" % (name, t["dtype"]))
        begin, end = t["data_offsets"]
        yield name, np.frombuffer(raw[8 + size + begin : 8 + size + end], "<f4").reshape(t["shape"])


def expect(what, got, want):
    if got != want:
        sys.exit("%s is %r; this script converts models with %r" % (what, got, want))


config, tokens, pooling = read("config.json"), read("tokenizer.json"), read("1_Pooling/config.json")
expect("model_type", config["model_type"], "bert")
expect("hidden_act", config["hidden_act"], "gelu")
expect("position_embedding_type", config.get("position_embedding_type", "absolute"), "absolute")
expect("pooling", sorted(k for k, v in pooling.items() if v is True), ["pooling_mode_mean_tokens"])
normalizer = tokens["normalizer"]
expect("the normalizer", [normalizer.get(k) for k in ("type", "clean_text", "handle_chinese_chars", "strip_accents", "lowercase")], ["BertNormalizer", True, True, None, True])
expect("the pre-tokenizer", tokens["pre_tokenizer"], {"type": "BertPreTokenizer"})
expect("the tokenizer", [tokens["model"].get(k) for k in ("continuing_subword_prefix", "max_input_chars_per_word", "unk_token")], ["##", 100, "[UNK]"])

vocab = [t for t, _ in sorted(tokens["model"]["vocab"].items(), key=lambda kv: kv[1])]
special = {t["content"] for t in tokens["added_tokens"] if t["special"]}
expect("the size of the vocabulary", len(vocab), config["vocab_size"])

w = gguf.GGUFWriter(out, "bert")
w.add_name("all-MiniLM-L6-v2")
w.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
w.add_block_count(config["num_hidden_layers"])
w.add_context_length(config["max_position_embeddings"])
w.add_embedding_length(config["hidden_size"])
w.add_feed_forward_length(config["intermediate_size"])
w.add_head_count(config["num_attention_heads"])
w.add_layer_norm_eps(config["layer_norm_eps"])
w.add_causal_attention(False)
w.add_pooling_type(gguf.PoolingType.MEAN)
w.add_tokenizer_model("bert")
w.add_token_type_count(config["type_vocab_size"])
# A token that begins a word has the sign of a space before it; "##" before others is left out.
w.add_token_list([t if t in special or t.startswith("[unused") else t[2:] if t.startswith("##") else "\u2581" + t for t in vocab])
w.add_token_types([gguf.TokenType.CONTROL if t in special else gguf.TokenType.NORMAL for t in vocab])
w.add_unk_token_id(vocab.index("[UNK]"))
w.add_bos_token_id(vocab.index("[CLS]"))
w.add_sep_token_id(vocab.index("[SEP]"))
w.add_pad_token_id(vocab.index("[PAD]"))
w.add_mask_token_id(vocab.index("[MASK]"))

names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, config["num_hidden_layers"])
for name, values in tensors():
    if name.startswith("pooler."):
        continue  # for classification; sentence-transformers takes the mean instead
    new = names.get_name(name, try_suffixes=(".weight", ".bias"))
    if new is None:
        sys.exit("no name for the tensor " + name)
    whole = values.ndim == 1 or new in ("position_embd.weight", "token_types.weight")
    w.add_tensor(new, values if whole else values.astype(np.float16))
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()
