"""One peer of .ci/bench-peer: loads a model and answers lines on standard input with lines of JSON.

    python bench_peer_engine.py llama.cpp|ik_llama.cpp MODEL THREADS CONTEXT [small]

`small` keeps buffers small and maps the file as it is, without a copy in another layout. The first
line that it prints, before it loads the model, is the memory of the process so far, in bytes.
"""
import ctypes
import json
import os
import sys
import time

name, model, threads, context = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
small = "small" in sys.argv[5:]
batch = 32 if small else 512
if name == "llama.cpp":
    import llama_cpp as C
    from llama_cpp import llama_cpp as low
else:
    from ik_llama_cpp import _ctypes_api as C
    low = C


def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def say(**answer):
    print(json.dumps(answer), flush=True)


quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
if hasattr(low, "llama_log_set"):
    low.llama_log_set(quiet, ctypes.c_void_p(0))
C.llama_backend_init()
say(resident=resident())

mp = C.llama_model_default_params()
mp.use_mmap = True
if small and hasattr(mp, "use_extra_bufts"):
    mp.use_extra_bufts = False
loaded = C.llama_model_load_from_file(model.encode(), mp)
cp = C.llama_context_default_params()
cp.n_ctx, cp.n_batch, cp.n_ubatch = context, batch, batch
cp.n_threads = cp.n_threads_batch = threads
if name == "ik_llama.cpp":
    cp.flash_attn = True
ctx = C.llama_init_from_model(loaded, cp)
if not ctx:
    sys.exit(f"{name}: no context for {model}")
memory = C.llama_get_memory(ctx) if name == "llama.cpp" else None


def clear():
    if memory is not None:
        C.llama_memory_clear(memory, True)
    else:
        C.llama_kv_cache_clear(ctx)


def evaluate(tokens, position):
    """Computes tokens from a position on, and the logits of the last one."""
    n = len(tokens)
    b = C.llama_batch_init(n, 0, 1)
    b.n_tokens = n
    for i, token in enumerate(tokens):
        b.token[i], b.pos[i], b.n_seq_id[i], b.seq_id[i][0] = token, position + i, 1, 0
        b.logits[i] = i == n - 1
    status = C.llama_decode(ctx, b)
    C.llama_batch_free(b)
    if status:
        sys.exit(f"{name}: llama_decode says {status}")
    C.llama_get_logits_ith(ctx, -1)  # it waits until they are there


def ids(n):
    return [(i * 37) % 40000 + 1000 for i in range(n)]


def timed(work, **answer):
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    say(wall=time.perf_counter() - wall, cpu=time.process_time() - cpu, **answer)


def decode(n):
    clear()
    evaluate(ids(7), 0)
    timed(lambda: [evaluate([t], 7 + i) for i, t in enumerate(ids(n))], tokens=n)


def prompt(n):
    clear()
    timed(lambda: evaluate(ids(n), 0), tokens=n)


evaluate(ids(2), 0)
say(ready=True)
for line in sys.stdin:
    what, n = line.split()
    {"decode": decode, "prompt": prompt}[what](int(n))
