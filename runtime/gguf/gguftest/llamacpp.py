"""Answers of llama.cpp, from the prebuilt libllama.so of the npm package @node-llama-cpp.

usage: llamacpp.py DIRECTORY < jobs.json > answers.json

The package has no headers, so the structures of parameters are opaque here: the few fields that
are set are found by their defaults, and a library in which these differ is refused.
"""
import ctypes as C, json, os, struct, sys, time
at = sys.argv[1]
os.chdir(at)
names = sorted(os.listdir(at))
def lib(prefix): return C.CDLL(os.path.join(at, next(n for n in names if n.startswith(prefix) and ".so" in n)), mode=C.RTLD_GLOBAL)
base, ggml, llama = lib("libggml-base"), lib("libggml."), lib("libllama.")
class Opaque(C.Structure): _fields_ = [("b", C.c_byte * 512)]
class Batch(C.Structure): _fields_ = [("n", C.c_int32), ("token", C.c_void_p), ("embd", C.c_void_p), ("pos", C.c_void_p), ("n_seq_id", C.c_void_p), ("seq_id", C.c_void_p), ("logits", C.POINTER(C.c_int8))]
quiet = C.CFUNCTYPE(None, C.c_int, C.c_char_p, C.c_void_p)(lambda level, text, data: sys.stderr.write(text.decode(errors="replace")) if level == 4 else None)
llama.llama_log_set(quiet, None)
ggml.ggml_backend_load_all_from_path.argtypes = [C.c_char_p]
ggml.ggml_backend_load_all_from_path(at.encode())
for f, r, a in [("llama_model_default_params", Opaque, []), ("llama_context_default_params", Opaque, []),
    ("llama_model_load_from_file", C.c_void_p, [C.c_char_p, Opaque]), ("llama_init_from_model", C.c_void_p, [C.c_void_p, Opaque]),
    ("llama_model_get_vocab", C.c_void_p, [C.c_void_p]), ("llama_vocab_n_tokens", C.c_int32, [C.c_void_p]),
    ("llama_tokenize", C.c_int32, [C.c_void_p, C.c_char_p, C.c_int32, C.POINTER(C.c_int32), C.c_int32, C.c_bool, C.c_bool]),
    ("llama_batch_get_one", Batch, [C.POINTER(C.c_int32), C.c_int32]), ("llama_decode", C.c_int32, [C.c_void_p, Batch]),
    ("llama_get_logits_ith", C.POINTER(C.c_float), [C.c_void_p, C.c_int32]), ("llama_free", None, [C.c_void_p]), ("llama_set_embeddings", None, [C.c_void_p, C.c_bool]),
    ("llama_get_embeddings_seq", C.POINTER(C.c_float), [C.c_void_p, C.c_int32]), ("llama_model_n_embd", C.c_int32, [C.c_void_p]), ("llama_model_free", None, [C.c_void_p]),
    ("llama_vocab_is_eog", C.c_bool, [C.c_void_p, C.c_int32]), ("llama_token_to_piece", C.c_int32, [C.c_void_p, C.c_int32, C.c_char_p, C.c_int32, C.c_int32, C.c_bool])]:
    fn = getattr(llama, f); fn.restype, fn.argtypes = r, a
def put(p, word, value): C.memmove(C.addressof(p) + 4 * word, struct.pack("i", value), 4)
def parameters(n):
    p = llama.llama_context_default_params()
    words = struct.unpack("128i", bytes(p))
    # Scaling of the rotation, pooling, attention and flash attention are "unspecified".
    at = next(i for i in range(4, 24) if words[i:i+4] == (-1, -1, -1, -1))
    types = next(i for i in range(at + 4, 60) if words[i:i+2] == (1, 1)) # of keys and values: F16
    if words[:4] != (512, 2048, 512, 1) or words[at-3] != words[at-2]: sys.exit("llamacpp.py: another layout of llama_context_params")
    for i in (0, 1, 2): put(p, i, n)     # context and batches
    for i in (at-3, at-2): put(p, i, 1)  # threads
    put(p, at + 3, 0)                    # no flash attention
    put(p, types, 0), put(p, types + 1, 0) # keys and values as F32
    return p
def answer(job):
    p = llama.llama_model_default_params()
    if job.get("vocabulary"):
        words = struct.unpack("128i", bytes(p))
        put(p, next(i for i in range(16, 24) if words[i] == 1 << 16), 1 << 16 | 1) # false, false, true, false: vocab_only first
    m = llama.llama_model_load_from_file(job["file"].encode(), p)
    if not m: return {"error": "not loaded"}
    v, out = llama.llama_model_get_vocab(m), {}
    if job.get("texts"):
        out["ids"] = []
        for t in job["texts"]:
            b = t.encode(); buf = (C.c_int32 * (len(b) + 16))()
            began = time.process_time()
            n = llama.llama_tokenize(v, b, len(b), buf, len(buf), job.get("around", False), job.get("special", False))
            out["seconds"] = out.get("seconds", 0) + time.process_time() - began
            out["ids"].append(buf[:n])
    if job.get("ends"): out["ends"] = [i for i in range(llama.llama_vocab_n_tokens(v)) if llama.llama_vocab_is_eog(v, i)]
    if job.get("whole"):
        ctx, ids = llama.llama_init_from_model(m, parameters(job["context"])), job["tokens"]
        if not ctx: return {"error": "no context"}
        buf, wanted = (C.c_int32 * len(ids))(*ids), (C.c_int8 * len(ids))(*[1] * len(ids))
        batch = llama.llama_batch_get_one(buf, len(ids))
        batch.logits = wanted
        if llama.llama_decode(ctx, batch) != 0: return {"error": "decode"}
        with open(job["whole"], "wb") as f:
            for i in range(len(ids)): f.write(C.string_at(llama.llama_get_logits_ith(ctx, i), 4 * llama.llama_vocab_n_tokens(v)))
        llama.llama_free(ctx)
    elif job.get("tokens"):
        ctx = llama.llama_init_from_model(m, parameters(job.get("context", 512)))
        n, ids = len(job["tokens"]), job["tokens"]
        size, out["logits"] = llama.llama_vocab_n_tokens(v), []
        if not ctx: return {"error": "no context"}
        for i, id in enumerate(ids):
            buf = (C.c_int32 * 1)(id)
            if llama.llama_decode(ctx, llama.llama_batch_get_one(buf, 1)) != 0: return {"error": "decode"}
            if i >= job.get("from", 0): out["logits"].append(list(llama.llama_get_logits_ith(ctx, 0)[:size]))
        llama.llama_free(ctx)
    if job.get("embed"):
        ctx, ids = llama.llama_init_from_model(m, parameters(job.get("context", 512))), job["embed"]
        if not ctx: return {"error": "no context"}
        llama.llama_set_embeddings(ctx, True)
        buf = (C.c_int32 * len(ids))(*ids)
        if llama.llama_decode(ctx, llama.llama_batch_get_one(buf, len(ids))) != 0: return {"error": "decode"}
        out["vector"] = list(llama.llama_get_embeddings_seq(ctx, 0)[:llama.llama_model_n_embd(m)])
        llama.llama_free(ctx)
    llama.llama_model_free(m)
    return out
json.dump([answer(j) for j in json.load(sys.stdin)], sys.stdout)
