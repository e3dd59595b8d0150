#!/usr/bin/env bash
# llama.cpp (libllama of the npm package @node-llama-cpp/linux-x64 3.22.1): a WordPiece tokenizer
# (tokenizer.ggml.model "bert", as of all embedding models of the BERT family) keeps of each Korean syllable its first
# consonant alone, and drops the vowel signs of Devanagari that stand beside their letter (general
# category Mc; BERT strips Mn alone). Different words so become the same token ids and get the same
# embedding: apple (sa-gwa) and secretary (seo-gi), art (kala) and black
# (kaala). Hugging Face's tokenizers 0.23.3 with the same vocabulary and BertNormalizer tell them apart.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6 gguf==0.19.0 tokenizers==0.23.3
(cd "$dir" && npm init -y >/dev/null && npm install --no-audit --no-fund --silent --ignore-scripts @node-llama-cpp/linux-x64@3.22.1)
cat >"$dir/observe.py" <<'PY'
import ctypes, os, struct, sys, unicodedata
import gguf
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

here = os.path.dirname(os.path.abspath(__file__))
at = os.path.join(here, "node_modules/@node-llama-cpp/linux-x64/bins/linux-x64")

pairs = {  # what differs, two words
    "Korean, vowels": ("\uc0ac\uacfc", "\uc11c\uae30"),
    "Korean, last consonants": ("\uac00", "\uac01"),
    "Hindi, a vowel sign": ("\u0915\u0932\u093e", "\u0915\u093e\u0932\u093e"),
    "French, accents (stripped by BERT, too)": ("pe\u0301che", "peche"),
    "English": ("stone", "notes"),
}
letters = sorted({c for words in pairs.values() for w in words for c in unicodedata.normalize("NFD", w)})
pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] + letters + ["##" + c for c in letters]

huggingface = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
huggingface.normalizer = normalizers.BertNormalizer()
huggingface.pre_tokenizer = pre_tokenizers.BertPreTokenizer()

def gguf_piece(p):  # as the converter of llama.cpp writes it: a word's begin is marked, not its continuation
    return p if p.startswith("[") else p[2:] if p.startswith("##") else "\u2581" + p

path = os.path.join(here, "m.gguf")
w = gguf.GGUFWriter(path, "bert")
w.add_context_length(64); w.add_embedding_length(8); w.add_block_count(1); w.add_feed_forward_length(8)
w.add_head_count(1); w.add_layer_norm_eps(1e-12)
w.add_tokenizer_model("bert"); w.add_tokenizer_pre("default")
w.add_token_list([gguf_piece(p) for p in pieces])
w.add_token_types([3 if p.startswith("[") else 1 for p in pieces])
w.add_pad_token_id(0); w.add_unk_token_id(1); w.add_uint32("tokenizer.ggml.cls_token_id", 2); w.add_sep_token_id(3)
w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()

def library(prefix):
    name = next(n for n in sorted(os.listdir(at)) if n.startswith(prefix) and ".so" in n)
    return ctypes.CDLL(os.path.join(at, name), mode=ctypes.RTLD_GLOBAL)
library("libggml-base"); ggml = library("libggml."); llama = library("libllama.")
silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *a: None)
llama.llama_log_set(silent, None)

# The package has no headers: the parameters are opaque, and the flag vocab_only is found by what follows it by default.
class Parameters(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_byte * 512)]
llama.llama_model_default_params.restype = Parameters
llama.llama_model_load_from_file.restype = ctypes.c_void_p
llama.llama_model_load_from_file.argtypes = [ctypes.c_char_p, Parameters]
llama.llama_model_get_vocab.restype = ctypes.c_void_p
llama.llama_model_get_vocab.argtypes = [ctypes.c_void_p]
llama.llama_tokenize.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.POINTER(ctypes.c_int32), ctypes.c_int32, ctypes.c_bool, ctypes.c_bool]
ggml.ggml_backend_load_all_from_path(at.encode())
parameters = llama.llama_model_default_params()
parameters.bytes[bytes(parameters).index(struct.pack("<i", 1 << 16), 64)] = 1
model = llama.llama_model_load_from_file(path.encode(), parameters)
if not model:
    sys.exit("CHANGED: the file is not loaded")

def tokens(text):
    ids = (ctypes.c_int32 * 64)()
    n = llama.llama_tokenize(llama.llama_model_get_vocab(model), text.encode(), len(text.encode()), ids, len(ids), False, False)
    return [pieces[i] for i in ids[:n]]

same = True
for what, (a, b) in pairs.items():
    hf = [huggingface.encode(t, add_special_tokens=False).tokens for t in (a, b)]
    got = [tokens(t) for t in (a, b)]
    print(f"{what}: {a} {b}\n  tokenizers {hf[0]} {hf[1]}\n  llama.cpp  {got[0]} {got[1]}")
    stripped = what.startswith("French")
    lost = what.startswith(("Korean", "Hindi"))
    same = same and (hf[0] == hf[1]) == stripped and (got[0] == got[1]) == (stripped or lost) and (got == hf) != lost
print("as stated" if same else "CHANGED: this is not what the finding states")
sys.exit(not same)
PY
"$dir/venv/bin/python" "$dir/observe.py"
