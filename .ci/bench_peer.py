"""Measures llama.cpp and the Go benchmarks by turns, prints medians and ratios."""
import os
import re
import statistics
import subprocess
import sys
import time

from llama_cpp import Llama

ROUNDS = 5
PROMPT_TOKENS = 512
DECODE_TOKENS = 64


def peer(model, threads):
    """Tokens per second of llama.cpp: (prompt, decode)."""
    llm = Llama(model, n_ctx=1024, n_threads=threads, n_threads_batch=threads, n_batch=512, verbose=False)
    prompt = [(i * 37) % 40000 + 1000 for i in range(PROMPT_TOKENS)]
    llm.eval(prompt[:8])
    llm.reset()
    t = time.perf_counter()
    llm.eval(prompt)
    prompt_rate = PROMPT_TOKENS / (time.perf_counter() - t)
    llm.reset()
    llm.eval(prompt[:16])
    t = time.perf_counter()
    for i in range(DECODE_TOKENS):
        llm.eval([prompt[i]])
    decode_rate = DECODE_TOKENS / (time.perf_counter() - t)
    llm.close()
    return prompt_rate, decode_rate


def ours(binary, model, threads):
    """Tokens per second of this project's benchmarks: (prompt, decode)."""
    out = subprocess.run(
        [binary, "-test.run", "^$", "-test.bench", f"Benchmark(Prompt|Decode)/threads={threads}$", "-test.benchtime", "2s"],
        check=True, capture_output=True, text=True, cwd="runtime/infer",
        env={**os.environ, "ANCHORHOLD_MODEL": model},
    ).stdout
    rates = {}
    for name, value in re.findall(r"Benchmark(Prompt|Decode)\S*.*?([\d.]+) tok/s", out):
        rates[name] = float(value)
    if set(rates) != {"Prompt", "Decode"}:
        sys.exit("the Go benchmarks printed no tok/s:\n" + out)
    return rates["Prompt"], rates["Decode"]


def main():
    model, binary = sys.argv[1:]
    print(f"{'threads':>7} {'work':>8} {'llama.cpp':>10} {'ours':>10} {'ratio':>6}   (medians of {ROUNDS} rounds, tokens/s)")
    worst = 9.0
    for threads in (1, 2):
        pairs = [(peer(model, threads), ours(binary, model, threads)) for _ in range(ROUNDS)]
        for i, work in enumerate(("prompt", "decode")):
            theirs = statistics.median(p[0][i] for p in pairs)
            mine = statistics.median(p[1][i] for p in pairs)
            ratio = statistics.median(p[1][i] / p[0][i] for p in pairs)
            worst = min(worst, ratio)
            print(f"{threads:>7} {work:>8} {theirs:>10.1f} {mine:>10.1f} {ratio:>6.2f}")
    if worst < 0.5:
        sys.exit(f"below half of the peer's speed: {worst:.2f}")


main()
