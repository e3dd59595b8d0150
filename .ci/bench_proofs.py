"""Measures our proofs beside EZKL's.

    python bench_proofs.py ZKPROOF_TEST_BINARY CLASSIFIERS [JSON]

ANCHORHOLD_FIGURE_KEYS is the directory where circuits and keys stay between runs.

One proof of ours is one process, which reads circuit and key from files, solves the
circuit, proves and ends, under the memory limit that a worker has by default: CPU
seconds and peak memory are those that the kernel counted for it. "proof alone" is the
part without reading. EZKL's step "prove" is measured in the same way (bench_zk.py says
how), but reads a witness that a step before it computed. Rounds alternate with EZKL's
models; medians are printed. Verification is the median of single runs of the benchmark,
in CPU milliseconds: with a key that is ready, with key and proof read from files each
time (which is what EZKL's figure is), and of a hundred together.
"""
import json
import os
import re
import statistics
import subprocess
import sys
import time

import bench_zk

ROUNDS = 3
LIMIT = "896MiB"  # for the Go runtime, as a worker sets it whose bound is 1 GiB
FIGURES = {
    "64-32-10": "64-32-10",
    "784-128-10": "784-128-10",
    "784-128-10x16": "784-128-10, batch of 16",
    "cnn-28x28": "CNN 28x28: conv 8, conv 16, dense 10",
    "lenet-5": "LeNet-5 28x28: conv 6, largest, conv 16, largest, dense 120, 84, 10",
    "gradient-10000x8": "gradient, 10,000 coordinates of 8 bits",
    "gradient-10000x16": "gradient, 10,000 coordinates of 16 bits",
}
# What was to be reached: figure, column, at least, aim.
TARGETS = (
    ("64-32-10", "proof_cpu_s", 0.6, 0.3, 1, "CPU-s"),
    ("784-128-10", "proof_cpu_s", 12, 6, 1, "CPU-s"),
    ("784-128-10", "peak_mb", 1400, 700, 1, "MB"),
    ("784-128-10x16", "proof_cpu_s", 0.9, 0.4, 16, "CPU-s for each inference"),
    ("gradient-10000x8", "proof_cpu_s", 1.5, 0.7, 1, "CPU-s"),
    ("gradient-10000x16", "proof_cpu_s", 1.5, 0.7, 1, "CPU-s"),
)
AGAINST = {  # of EZKL's figure, how many times better: prove, verify, proving key
    "64-32-10": ((12, 25), (10, 20), (25, 50)),
    "784-128-10": ((1.6, 3), (20, 30), (2.5, 4)),
}


def benchmark(binary, pattern, bench_time, **environment):
    """Runs a benchmark in a process of its own: its metrics by name, and its usage."""
    start = time.perf_counter()
    child = subprocess.Popen([binary, "-test.run", "^$", "-test.bench", pattern, "-test.benchtime", bench_time, "-test.timeout", "60m"],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **environment})
    out = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{pattern}: {out}")
    found = {}
    for name, rest in re.findall(r"^Benchmark\w+/(\S+?)(?:-\d+)?\s+\d+\s+(.*)$", out, re.MULTILINE):
        found[name] = {unit: float(value) for value, unit in re.findall(r"([\d.e+-]+) (\S+)", rest)}
    return found, {"cpu_s": usage.ru_utime + usage.ru_stime, "elapsed_s": time.perf_counter() - start, "peak_mb": usage.ru_maxrss * 1024 / 1e6}


def prove(binary, name):
    found, used = benchmark(binary, f"^BenchmarkAlone$/^{name}$", "1x", GOMEMLIMIT=LIMIT)
    return {**used, "proof_cpu_s": found[name]["CPU-s/proof"], "load_cpu_s": found[name]["CPU-s/load"], "proof_bytes": found[name]["proof-bytes"]}


def medians(rows):
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def ours(binary, results):
    for name in FIGURES:
        results[name].append(prove(binary, name))


def kept(name):
    with open(os.path.join(os.environ["ANCHORHOLD_FIGURE_KEYS"], name + ".json"), encoding="utf-8") as f:
        return json.load(f)


def measure(binary, classifiers):
    print("circuits and keys (made once, kept in the cache) ...", flush=True)
    benchmark(binary, "^BenchmarkKeys$", "1x")
    rounds, theirs = {name: [] for name in FIGURES}, {}
    models = list(bench_zk.MODELS.items()) if have_ezkl() else []
    for i in range(ROUNDS):
        print(f"round {i + 1} of {ROUNDS} ...", flush=True)
        ours(binary, rounds)
        if i < len(models):
            shape, name = models[i]
            theirs[shape] = bench_zk.run(classifiers, name, ROUNDS)
    verified = [benchmark(binary, "^BenchmarkVerifyAlone$", "1s")[0] for _ in range(ROUNDS)]
    figures = {}
    for name in FIGURES:
        figures[name] = {**medians(rounds[name]), **kept(name)}
        for kind in ("single", "files", "hundred"):
            figures[name]["verify_" + kind + "_cpu_ms"] = statistics.median(v[f"{name}/{kind}"]["CPU-ms/proof"] for v in verified)
    return figures, theirs


def have_ezkl():
    try:
        import ezkl  # noqa: F401
    except ImportError as err:
        print(f"EZKL: not measured ({err})")
        return False
    return True


def report(figures, theirs):
    print(f"\nmedians of {ROUNDS} rounds; constraints for each weight or coordinate; CPU seconds, but for elapsed ones; MB of 10^6 bytes; verification in CPU ms")
    print(f"{'':<41}{'constr.':>8}{'each':>6}{'proof':>7}{'process':>8}{'elapsed':>8}{'peak MB':>8}{'key MB':>7}{'bytes':>6}{'verify':>7}{'files':>6}{'of 100':>7}{'set-up':>8}")
    for name, title in FIGURES.items():
        f = figures[name]
        print(f"{title:<41}{f['constraints']:>8.0f}{f['constraints_per_unit']:>6.2f}{f['proof_cpu_s']:>7.2f}{f['cpu_s']:>8.2f}{f['elapsed_s']:>8.2f}{f['peak_mb']:>8.0f}{f['proving_key_bytes'] / 1e6:>7.1f}"
              f"{f['proof_bytes']:>6.0f}{f['verify_single_cpu_ms']:>7.2f}{f['verify_files_cpu_ms']:>6.2f}{f['verify_hundred_cpu_ms']:>7.2f}{f['setup_cpu_s']:>8.1f}")
    for shape, t in theirs.items():
        p = t["steps"]["prove"]
        print(f"{'EZKL, ' + shape:<41}{'':>14}{'':>7}{p['cpu_s']:>8.2f}{p['elapsed_s']:>8.2f}{p['peak_mib'] * 1.048576:>8.0f}{t['proving_key_bytes'] / 1e6:>7.1f}{t['proof_bytes']:>6}{'':>7}{t['verify']['cpu_ms']:>6.1f}{'':>7}{t['steps']['setup']['cpu_s']:>8.1f}")
    print("\nagainst what was to be reached (at least, aim)")
    for name, column, least, aim, share, unit in TARGETS:
        value = figures[name][column] / share
        print(f"{name}: {value:.3g} {unit}; {least / value:.2f}x inside the least ({least}), {aim / value:.2f}x inside the aim ({aim})")
    slowest = max(f["verify_single_cpu_ms"] for f in figures.values())
    print(f"verification, any: at most {slowest:.2f} ms (10, aim 2); 64-32-10 {figures['64-32-10']['verify_single_cpu_ms']:.2f} ms (2, aim 1.5)")
    print(f"constraints for each private weight: {figures['784-128-10']['constraints_per_unit']:.2f} in 784-128-10 (4.4, aim 3)")
    for shape, bars in AGAINST.items():
        if shape not in theirs:
            continue
        f, t = figures[shape], theirs[shape]
        ratios = (t["steps"]["prove"]["cpu_s"] / f["cpu_s"], t["verify"]["cpu_ms"] / f["verify_files_cpu_ms"], t["proving_key_bytes"] / f["proving_key_bytes"])
        for what, ratio, (least, aim) in zip(("prove", "verify, files read", "proving key"), ratios, bars):
            print(f"EZKL, {shape}: {what} {ratio:.1f}x better ({least}, aim {aim})")
        print(f"EZKL, {shape}: memory {t['steps']['prove']['peak_mib'] * 1.048576 / f['peak_mb']:.1f}x, proof bytes {t['proof_bytes'] / f['proof_bytes']:.1f}x, "
              f"verify with the key ready {t['verify']['cpu_ms'] / f['verify_single_cpu_ms']:.1f}x")


def main():
    binary, classifiers, target = sys.argv[1:]
    figures, theirs = measure(binary, classifiers)
    report(figures, theirs)
    if target:
        with open(target, "w", encoding="utf-8") as f:
            json.dump({"rounds": ROUNDS, "figures": figures, "ezkl": theirs}, f, indent=1)


main()
