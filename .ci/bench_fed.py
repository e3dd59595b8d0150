"""Times encrypted sums of 10^6 values: the peers' libraries and the Go benchmarks.

What is measured: CPU time of this process (peers) or of the benchmark's process (Go),
per value, one thread. A peer's step is one call into its native code for each
ciphertext of 8192 values, on NumPy arrays where it takes them; TenSEAL gives and takes
Python lists, and the cost of the conversion is timed by itself and subtracted. Keys,
contexts and allocation of the input are outside. Encryption includes encoding and uses
the public key; decryption includes decoding. Bytes per value are the length of a fresh
ciphertext as each library serializes it. Rounds alternate; medians are printed.
"""
import json
import math
import os
import re
import resource
import statistics
import subprocess
import sys
import time

import numpy as np

VALUES = 1_000_000
SLOTS = 8192  # of the ring degree of docs/architecture.md's template, 16384, one real value in each
ROUNDS = 3
PRIMES = [60, 40, 40, 60]
SCALE_BITS = 40
STEPS = ("encrypt", "add", "decrypt")
COLUMNS = (*STEPS, "bytes")


def blocks():
    x = np.random.default_rng(1).normal(0, 0.05, math.ceil(VALUES / SLOTS) * SLOTS)
    return list(x.reshape(-1, SLOTS))


def timed(function, items):
    """CPU nanoseconds per value, and the results."""
    start = time.process_time_ns()
    results = [function(item) for item in items]
    return (time.process_time_ns() - start) / (len(items) * SLOTS), results


def check(name, decrypted, data):
    worst = max(np.abs(np.asarray(d)[:SLOTS] - 2 * x).max() for d, x in zip(decrypted, data))
    if worst > 1e-5:
        sys.exit(f"{name} is wrong by {worst}: it is not set up as meant")


class SEAL:
    name = "SEAL"

    def __init__(self):
        import seal

        parms = seal.EncryptionParameters(seal.scheme_type.ckks)
        parms.set_poly_modulus_degree(2 * SLOTS)
        parms.set_coeff_modulus(seal.CoeffModulus.Create(2 * SLOTS, PRIMES))
        context = seal.SEALContext(parms)
        keys = seal.KeyGenerator(context)
        self.encoder, self.evaluator = seal.CKKSEncoder(context), seal.Evaluator(context)
        self.encryptor = seal.Encryptor(context, keys.create_public_key())
        self.decryptor = seal.Decryptor(context, keys.secret_key())
        self.name = f"SEAL {'.'.join(seal.__version__.split('.')[:2])}"

    def round(self, data):
        scale = 2.0**SCALE_BITS
        enc, cts = timed(lambda x: self.encryptor.encrypt(self.encoder.encode(x, scale)), data)
        sums = [self.evaluator.add(ct, ct) for ct in cts[:1]]
        pairs = list(zip([self.evaluator.add(ct, sums[0]) for ct in cts], cts))
        add, _ = timed(lambda p: self.evaluator.add_inplace(p[0], p[1]), pairs)
        doubled = [self.evaluator.add(ct, ct) for ct in cts]
        dec, out = timed(lambda ct: self.encoder.decode(self.decryptor.decrypt(ct)), doubled)
        check(self.name, out, data)
        return enc, add, dec, cts[0].save_size() / SLOTS


class TenSEAL:
    name = "TenSEAL 0.3.18"

    def __init__(self):
        import tenseal

        self.ts = tenseal
        # One thread; the relinearization keys that it makes are not used.
        self.context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 2 * SLOTS, coeff_mod_bit_sizes=PRIMES, n_threads=1)
        self.context.global_scale = 2.0**SCALE_BITS

    def round(self, data):
        lists = [x.tolist() for x in data]
        plain = self.ts.plain_tensor
        convert, plains = timed(plain, lists)
        enc, cts = timed(lambda x: self.ts.ckks_vector(self.context, x), plains)
        pairs = [(ct.copy(), ct) for ct in cts]
        add, doubled = timed(lambda p: p[0].add_(p[1]), pairs)
        dec, out = timed(lambda ct: ct.decrypt(), doubled)
        check(self.name, out, data)
        return enc, add, max(dec - convert, 0), len(cts[0].serialize()) / SLOTS


class OpenFHE:
    name = "OpenFHE"

    def __init__(self):
        import openfhe as fhe

        self.fhe = fhe
        p = fhe.CCParamsCKKSRNS()
        p.SetRingDim(2 * SLOTS)
        p.SetMultiplicativeDepth(2)
        p.SetFirstModSize(PRIMES[0])
        p.SetScalingModSize(SCALE_BITS)
        p.SetScalingTechnique(fhe.ScalingTechnique.FIXEDMANUAL)
        p.SetBatchSize(SLOTS)
        p.SetSecurityLevel(fhe.SecurityLevel.HEStd_128_classic)
        self.cc = fhe.GenCryptoContext(p)
        for feature in (fhe.PKESchemeFeature.PKE, fhe.PKESchemeFeature.LEVELEDSHE):
            self.cc.Enable(feature)
        self.keys = self.cc.KeyGen()

    def round(self, data):
        lists = [x.tolist() for x in data]

        def encrypt(x):
            return self.cc.Encrypt(self.keys.publicKey, self.cc.MakeCKKSPackedPlaintext(x))

        def decrypt(ct):
            return self.cc.Decrypt(ct, self.keys.secretKey)

        enc, cts = timed(encrypt, lists)
        add, doubled = timed(lambda ct: self.cc.EvalAdd(ct, ct), cts)
        dec, plains = timed(decrypt, doubled)
        check(self.name, [p.GetRealPackedValue() for p in plains], data)
        return enc, add, dec, len(self.fhe.Serialize(cts[0], self.fhe.BINARY)) / SLOTS


def peers():
    found, missing = [], []
    for kind in (SEAL, TenSEAL, OpenFHE):
        try:
            found.append(kind())
        except ImportError as err:
            missing.append(f"{kind.name}: not measured ({err})")
    return found, missing


def go_benchmarks(binary, pattern):
    """Nanoseconds per value of each benchmark, as CPU time, and bytes per value where it reports them.

    A benchmark reports elapsed time; its process had the processor for a part of it,
    and the figure is multiplied by that part.
    """
    if not os.path.exists(binary):
        return {}, {}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    out = subprocess.run(
        [binary, "-test.run", "^$", "-test.bench", pattern, "-test.benchtime", "1s", "-test.cpu", "1"],
        check=True, capture_output=True, text=True,
    ).stdout
    elapsed, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    share = min(busy / elapsed, 1)
    found = {}
    for unit in ("ns", "bytes"):
        found[unit] = dict(re.findall(rf"^Benchmark(\S+?)(?:-\d+)?\s.*?([\d.]+) {unit}/value", out, re.MULTILINE))
    return {k: float(v) * share for k, v in found["ns"].items()}, {k: float(v) for k, v in found["bytes"].items()}


# Rows of the table from benchmarks: name, binary, benchmarks of STEPS; the first of them reports bytes.
OURS = (
    ("Lattigo 6.2", "ckks", ("Lattigo/encrypt", "Lattigo/add", "Lattigo/decrypt")),
    ("ours: ckks-16384", "ckks", ("Encrypt/real", "Add", "Decrypt/real")),
    ("ours: same, two in a slot", "ckks", ("Encrypt/pairs", None, "Decrypt/pairs")),
    ("ours: sum-2048-27", "rlwe", ("Encrypt", "Add", "Decrypt")),
)


def median(rows):
    """The median of each column, without what was not measured."""
    return [statistics.median(v) if v else None for v in ([x for x in col if x is not None] for col in zip(*rows))]


def cell(value, width=11):
    return f"{'-' if value is None else format(value, '.3g' if value < 10 else '.0f'):>{width}}"


def main():
    work, target = sys.argv[1:]
    libraries, missing = peers()
    data = blocks()
    samples, noise = {}, {}
    for _ in range(ROUNDS):
        for library in libraries:
            samples.setdefault(library.name, []).append(library.round(data))
        go = {b: go_benchmarks(os.path.join(work, b), p) for b, p in (("ckks", "^Benchmark(Lattigo|Encrypt|Add|Decrypt)$"), ("rlwe", "^Benchmark(Encrypt|Add|Decrypt)$"))}
        for name, binary, steps in OURS:
            times, sizes = go[binary]
            if times:
                samples.setdefault(name, []).append([*(times.get(s) for s in steps), sizes.get(steps[0])])
        for name, value in go_benchmarks(os.path.join(work, "dp"), "Gaussian|Laplace")[0].items():
            noise.setdefault(name, []).append(value)

    rows = [{"name": name, **dict(zip(COLUMNS, median(v)))} for name, v in samples.items()]
    theirs = [r for r in rows if not r["name"].startswith("ours")]
    print(f"{VALUES} float32 values, one thread, CPU ns per value, medians of {ROUNDS} alternating rounds")
    print(f"{'':<27}{'bytes':>7}" + "".join(f"{s:>11}" for s in STEPS) + "   (peers: N=16384, [60,40,40]+60, scale 2^40)")
    for r in rows:
        print(f"{r['name']:<27}{r['bytes']:>7.4g}" + "".join(cell(r[s]) for s in STEPS))
    for r in rows:
        if r["name"].startswith("ours"):
            r["less_than_best_peer"] = {s: min(t[s] for t in theirs) / r[s] for s in STEPS if r[s]}
            r["less_than_best_peer"]["bytes"] = min(t["bytes"] for t in theirs) / r["bytes"]
            print(f"{r['name']} against the best peer: " + ", ".join(f"{k} {v:.3g}x less" for k, v in r["less_than_best_peer"].items()))
    for name, values in noise.items():
        print(f"exact noise, {name}: {statistics.median(values):.3g} ns per value")
    for line in missing:
        print(line)
    if target:
        with open(target, "w", encoding="utf-8") as f:
            json.dump({"values": VALUES, "rounds": ROUNDS, "rows": rows, "noise": {k: statistics.median(v) for k, v in noise.items()}, "missing": missing}, f, indent=1)


main()
