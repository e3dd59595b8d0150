"""Reads "PACKAGE BENCHMARK N FIGURES" lines and prints tables of the best figures."""

import re
import sys

best = {}
for line in sys.stdin:
    package, name, _, *figures = line.split()
    key = package.removeprefix("keybroker/") + " " + re.sub(r"-\d+$", "", name)
    for value, unit in zip(map(float, figures[::2]), figures[1::2]):
        better = max if unit == "MB/s" else min
        known = best.setdefault(key, {})
        known[unit] = better(known.get(unit, value), value)


def us(nanoseconds):
    return f"{nanoseconds / 1000:,.0f}" if nanoseconds >= 100_000 else f"{nanoseconds / 1000:.1f}"


def memory(figures, prefix=""):
    if f"B/{prefix}op" not in figures:
        return "-"
    return f"{figures[f'B/{prefix}op'] / 1024:.1f} KiB, {figures[f'allocs/{prefix}op']:.0f}"


p384, p256 = best["appraise P384"]["ns/op"], best["appraise/tdx P256"]["ns/op"]
known = best["appraise/tdx Verify/v4/known"]["ns/op"]

print(f"One verification of a signature: P-384 {us(p384)} us, P-256 {us(p256)} us.\n")
print("| work | us | in verifications | KiB and allocations |\n|---|---|---|---|")
for what, key, unit, curve in [
    ("SEV-SNP report, chain known", "appraise Appraise/cached", p384, "P-384"),
    ("SEV-SNP report, a new chain", "appraise Appraise/first", p384, "P-384"),
    ("go-sev-guest, its roots parsed", "appraise Appraise/go-sev-guest", p384, "P-384"),
    ("TDX quote v4, platform known", "appraise/tdx Verify/v4/known", p256, "P-256"),
    ("TDX quote v4, a new attestation key", "appraise/tdx Verify/v4/restarted", p256, "P-256"),
    ("TDX quote v4, a new platform", "appraise/tdx Verify/v4/new", p256, "P-256"),
    ("TDX quote v5, body 2", "appraise/tdx Verify/v5_body_2/known", p256, "P-256"),
    ("TDX quote v5, body 3", "appraise/tdx Verify/v5_body_3/known", p256, "P-256"),
    ("TDX quote v5, body 4", "appraise/tdx Verify/v5_body_4/known", p256, "P-256"),
    ("go-tdx-guest, v4, documents in memory", "appraise/tdx GoTDXGuest/collateral", p256, "P-256"),
    ("go-tdx-guest, v4, without documents", "appraise/tdx GoTDXGuest/none", p256, "P-256"),
    ("dcap-qvl, v4, documents in memory", "appraise/tdx DCAPQVL", p256, "P-256"),
    ("TPM quote, key enrolled", "appraise/tpmquote EnrolledP256", p256, "P-256"),
    ("TPM quote and a log of 200 events", "guest/tpmsim QuoteWithLog", p256, "P-256"),
    ("GPU report, chain known", "appraise/gpu Appraise/cached", p384, "P-384"),
]:
    figures = best.get(key)
    if not figures:
        print(f"| {what} | not measured | - | - |")
        continue
    prefix = "peer-" if "ns/peer-op" in figures else ""
    took = figures[f"ns/{prefix}op"]
    print(f"| {what} | {us(took)} | {took / unit:.2f} {curve} | {memory(figures, prefix)} |")

print("\n| TDX v4, how many times as long | a known platform | a new attestation key |\n|---|---|---|")
restarted = best["appraise/tdx Verify/v4/restarted"]["ns/op"]
for what, key in [("go-tdx-guest, documents in memory", "GoTDXGuest/collateral"), ("go-tdx-guest, without documents", "GoTDXGuest/none"),
                  ("dcap-qvl, documents in memory", "DCAPQVL")]:
    if took := best.get("appraise/tdx " + key, {}).get("ns/peer-op"):
        print(f"| {what} | {took / known:.1f} | {took / restarted:.1f} |")

print("\n| mutants refused | a second on one core |\n|---|---|")
for what, key in [("SEV-SNP report of a known chip, one bit changed", "appraise RefusedMutant"), ("TDX quote of 16 KB, one bit changed", "appraise/tdx RefusedMutants"),
                  ("event log of 16 KB, one byte changed", "appraise/eventlog RefusedMutant"), ("TPM quote, one byte changed", "appraise/tpmquote RefusedMutant"),
                  ("report of Azure's paravisor, parsed", "appraise/hcl Parse/mutant"), ("GPU report, parsed", "appraise/gpu Appraise/parse-mutant")]:
    if figures := best.get(key):
        print(f"| {what} | {1e9 / figures['ns/op']:,.0f} |")

print("\n| event log | MB/s | us |\n|---|---|---|")
for what, key in [("200 events of 60 bytes, SHA-256", "Verify200Events"), ("400 events of 1,000 bytes, SHA-256", "VerifyLargeLog"),
                  ("GCE's CCEL, 262,144 bytes, SHA-384", "VerifyRealCCEL"), ("the parser alone, 400 events", "Parse")]:
    if figures := best.get("appraise/eventlog " + key):
        print(f"| {what} | {figures['MB/s']:,.0f} | {us(figures['ns/op'])} |")

start = best["daemon/appraisal Start"]["ns/op"]
print(f"\nThe verifier of all kinds with 10,000 kept certificates starts in {start / 1e6:.0f} ms.")
