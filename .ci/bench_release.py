"""Runs BenchmarkBrokerHalf of two builds by turns and prints medians."""

import re
import statistics
import subprocess
import sys
import tempfile

LINE = re.compile(r"BenchmarkBrokerHalf/(\w+)/guests=(\d+)\S*\s.*?([\d.]+) cpu-us/release\s+([\d.]+) p384-us/verify\s+([\d.]+) p384-verifies/release")


def run(binary):
    with tempfile.TemporaryDirectory() as directory:
        out = subprocess.run(
            [binary, "-test.run", "^$", "-test.bench", "BrokerHalf", "-test.benchtime", "1x"],
            cwd=directory, stdout=subprocess.PIPE, text=True, check=True).stdout
    found = {(kind, int(guests)): tuple(map(float, figures)) for kind, guests, *figures in LINE.findall(out)}
    if not found:
        sys.exit(f"no figures in:\n{out}")
    return found


def main(before, after, rounds):
    results = {before: [], after: []}
    for i in range(rounds):
        for binary in (before, after):
            results[binary].append(run(binary))
        print(f"round {i + 1} of {rounds} done", file=sys.stderr)

    def median(binary, case, figure):
        return statistics.median(r[case][figure] for r in results[binary])

    print("| release | guests at once | P-384 verify, us | before: CPU us, in verifications | now: CPU us, in verifications | now / before |")
    print("|---|---|---|---|---|---|")
    for kind, guests in results[after][0]:
        case = (kind, guests)
        verify = statistics.median([r[case][1] for binary in results for r in results[binary]])
        b, a = median(before, case, 2), median(after, case, 2)
        print(f"| {kind} | {guests} | {verify:.0f} | {median(before, case, 0):.0f}, {b:.2f} | {median(after, case, 0):.0f}, {a:.2f} | {a / b:.2f} |")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
