#!/usr/bin/env bash
# llama.cpp (libllama of the npm package @node-llama-cpp/linux-x64 3.22.1): the same text has other
# token ids in two GGUF files that differ in nothing but general.name. If "phi-3" or "phi3" is in
# the name, in capitals or not, control tokens take the white space after them along; with any other
# name ("Phi 3" with a space, too) they leave it. No key of the file says which is meant. A fine-tuned
# Phi-3 under a name of its own so gets a space and a newline as tokens after each <|user|> that the
# model it came from never saw.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6 gguf==0.19.0
(cd "$dir" && npm init -y >/dev/null && npm install --no-audit --no-fund --silent --ignore-scripts @node-llama-cpp/linux-x64@3.22.1)
cat >"$dir/observe.py" <<'PY'
import ctypes, os, struct, sys
import gguf

here = os.path.dirname(os.path.abspath(__file__))
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6

def vocabulary():
    pieces = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    pieces += [(f"<0x{b:02X}>", 0.0, BYTE) for b in range(256)]
    pieces += [(p, -float(i), NORMAL) for i, p in enumerate(["\u2581", "h", "i", "hi", "\u2581hi"])]
    pieces += [(p, 0.0, CONTROL) for p in ("<|endoftext|>", "<|user|>", "<|end|>")]
    return pieces

def write(path, name):
    w = gguf.GGUFWriter(path, "phi3")
    w.add_name(name)
    w.add_context_length(64); w.add_embedding_length(8); w.add_block_count(1); w.add_feed_forward_length(8)
    w.add_head_count(1); w.add_layer_norm_rms_eps(1e-5)
    w.add_tokenizer_model("llama"); w.add_tokenizer_pre("default")
    pieces = vocabulary()
    w.add_token_list([p for p, _, _ in pieces])
    w.add_token_scores([s for _, s, _ in pieces])
    w.add_token_types([t for _, _, t in pieces])
    w.add_bos_token_id(1); w.add_eos_token_id(2); w.add_unk_token_id(0); w.add_add_bos_token(False)
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()

at = os.path.join(here, "node_modules/@node-llama-cpp/linux-x64/bins/linux-x64")
def library(prefix):
    name = next(n for n in sorted(os.listdir(at)) if n.startswith(prefix) and ".so" in n)
    return ctypes.CDLL(os.path.join(at, name), mode=ctypes.RTLD_GLOBAL)
library("libggml-base"); ggml = library("libggml."); llama = library("libllama.")

# The package has no headers: the parameters are opaque, and three adjacent flags of theirs, by default false, false and
# true (vocab_only, use_direct_io or use_mmap, ...), are found by that pattern.
class Parameters(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_byte * 512)]
llama.llama_model_default_params.restype = Parameters
llama.llama_model_load_from_file.restype = ctypes.c_void_p
llama.llama_model_load_from_file.argtypes = [ctypes.c_char_p, Parameters]
llama.llama_model_get_vocab.restype = ctypes.c_void_p
llama.llama_model_get_vocab.argtypes = [ctypes.c_void_p]
llama.llama_tokenize.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.POINTER(ctypes.c_int32), ctypes.c_int32, ctypes.c_bool, ctypes.c_bool]
ggml.ggml_backend_load_all_from_path(at.encode())
silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *a: None)
llama.llama_log_set(silent, None)

def pieces_of(path, text):
    parameters = llama.llama_model_default_params()
    flags = bytes(parameters).index(struct.pack("<i", 1 << 16), 64)
    parameters.bytes[flags] = 1  # vocab_only
    model = llama.llama_model_load_from_file(path.encode(), parameters)
    if not model:
        sys.exit("CHANGED: the file is not loaded")
    ids = (ctypes.c_int32 * 64)()
    n = llama.llama_tokenize(llama.llama_model_get_vocab(model), text.encode(), len(text.encode()), ids, len(ids), False, True)
    names = [p for p, _, _ in vocabulary()]
    return [names[i] for i in ids[:n]]

text, same = "<|user|>\nhi<|end|> hi", True
for name, taken in (("Phi-3 mini", True), ("our-PHI3-tuned", True), ("Phi 3 mini", False), ("our helper", False)):
    path = os.path.join(here, "m.gguf")
    write(path, name)
    got = pieces_of(path, text)
    print(f"{name!r}: {got}")
    same = same and got == (["<|user|>", "\u2581hi", "<|end|>", "\u2581hi"] if taken else ["<|user|>", "\u2581", "<0x0A>", "hi", "<|end|>", "\u2581", "\u2581hi"])
print("as stated" if same else "CHANGED: this is not what the finding states")
sys.exit(not same)
PY
"$dir/venv/bin/python" "$dir/observe.py"
