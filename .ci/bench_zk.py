"""Measures EZKL on the classifiers that our own proofs are measured on.

    python bench_zk.py CLASSIFIERS [JSON]

CLASSIFIERS is what packaging/classifiers/make.py wrote. Each step runs in a process of its
own: CPU seconds and peak memory are those that the kernel counted for it, the Python
interpreter included. Weights and input are private, the outputs public; unlike ours,
EZKL's proof here commits to neither, so it proves less. The reference string is made
locally, which EZKL allows for tests only; making it is not counted. Verification is the
median of ten calls in one process, files read anew at each, as a verifier does.
"""
import inspect
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

MODELS = {"64-32-10": "digits-plain", "784-128-10": "mnist-plain"}
CALLS = 10
LIMIT_S = 280  # of a step


def call(result):
    """EZKL's functions give a result or something to await."""
    if inspect.isawaitable(result):
        import asyncio

        async def wait():
            return await result

        result = asyncio.run(wait())
    if result is False or result is None:
        raise RuntimeError("the step failed")
    return result


def step(name, work):
    """Runs one step in this process, in the directory work."""
    import ezkl

    os.chdir(work)
    if name == "settings":
        args = ezkl.PyRunArgs()
        args.input_visibility, args.param_visibility, args.output_visibility = "private", "private", "public"
        args.variables = [("batch_size", 1)]
        call(ezkl.gen_settings("model.onnx", "settings.json", py_run_args=args))
    elif name == "calibrate":
        call(ezkl.calibrate_settings("calibration.json", "model.onnx", "settings.json", "resources"))
    elif name == "compile":
        call(ezkl.compile_circuit("model.onnx", "model.compiled", "settings.json"))
    elif name == "srs":
        with open("settings.json", encoding="utf-8") as f:
            ezkl.gen_srs("kzg.srs", json.load(f)["run_args"]["logrows"])
    elif name == "setup":
        call(ezkl.setup("model.compiled", "vk.key", "pk.key", "kzg.srs"))
    elif name == "witness":
        call(ezkl.gen_witness("input.json", "model.compiled", "witness.json"))
    elif name == "prove":
        call(ezkl.prove("witness.json", "model.compiled", "pk.key", "proof.json", "kzg.srs"))
    elif name == "verify":
        cpu, wall = [], []
        for _ in range(CALLS):
            begin, start = time.process_time(), time.perf_counter()
            call(ezkl.verify("proof.json", "settings.json", "vk.key", "kzg.srs"))
            cpu.append(time.process_time() - begin)
            wall.append(time.perf_counter() - start)
        print(json.dumps({"cpu_ms": 1000 * statistics.median(cpu), "elapsed_ms": 1000 * statistics.median(wall)}))


def measure(name, work):
    """CPU seconds and peak MiB of a step, and what it printed last."""
    start = time.perf_counter()
    with open(os.path.join(work, name + ".log"), "w+", encoding="utf-8") as log:
        child = subprocess.Popen([sys.executable, os.path.abspath(__file__), "--step", name, work], stdout=log, stderr=subprocess.STDOUT)
        while True:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            if time.perf_counter() - start > LIMIT_S:
                child.kill()
                _, status, usage = os.wait4(child.pid, 0)
                break
            time.sleep(0.02)
        child.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        lines = log.read().strip().splitlines()
    if child.returncode:
        sys.exit(f"EZKL: step {name} failed ({child.returncode}): {' / '.join(lines[-3:])}")
    figures = {"cpu_s": usage.ru_utime + usage.ru_stime, "elapsed_s": time.perf_counter() - start, "peak_mib": usage.ru_maxrss / 1024}
    return figures, lines[-1] if lines else ""


def run(classifiers, name, proofs=1):
    """Every step on one classifier; the figures of proving are medians of so many proofs."""
    rows = np.load(os.path.join(classifiers, name + ".test.npy"))
    with tempfile.TemporaryDirectory() as work:
        with open(os.path.join(classifiers, name + ".onnx"), "rb") as f, open(os.path.join(work, "model.onnx"), "wb") as out:
            out.write(f.read())
        for file, part in (("input", rows[:1]), ("calibration", rows[:8])):
            with open(os.path.join(work, file + ".json"), "w", encoding="utf-8") as out:
                json.dump({"input_data": [part.reshape(-1).astype(float).tolist()]}, out)
        result = {"steps": {}}
        for s in ("settings", "calibrate", "compile", "srs", "setup", "witness", "prove", "verify"):
            runs = [measure(s, work) for _ in range(proofs if s == "prove" else 1)]
            result["steps"][s] = {key: statistics.median(figures[key] for figures, _ in runs) for key in runs[0][0]}
            last = runs[-1][1]
            if s == "verify":
                result["verify"] = json.loads(last)
        size = lambda file: os.path.getsize(os.path.join(work, file))
        result["proving_key_bytes"], result["verifying_key_bytes"], result["srs_bytes"] = size("pk.key"), size("vk.key"), size("kzg.srs")
        with open(os.path.join(work, "proof.json"), encoding="utf-8") as f:
            result["proof_bytes"] = len(bytes.fromhex(json.load(f)["hex_proof"].removeprefix("0x")))
        with open(os.path.join(work, "settings.json"), encoding="utf-8") as f:
            settings = json.load(f)
        result["logrows"] = settings["run_args"]["logrows"]
    return result


def main():
    if sys.argv[1] == "--step":
        return step(*sys.argv[2:])
    import ezkl

    classifiers, target = sys.argv[1], (sys.argv + [""])[2]
    results = {"peer": "EZKL " + ezkl.__version__, "models": {}}
    for shape, name in MODELS.items():
        r = results["models"][shape] = run(classifiers, name)
        prove = r["steps"]["prove"]
        print(f"EZKL, {shape}: prove {prove['cpu_s']:.2f} CPU-s ({prove['elapsed_s']:.2f} s), {prove['peak_mib']:.0f} MiB; "
              f"witness {r['steps']['witness']['cpu_s']:.2f} CPU-s; setup {r['steps']['setup']['cpu_s']:.1f} CPU-s, {r['steps']['setup']['peak_mib']:.0f} MiB; "
              f"verify {r['verify']['cpu_ms']:.1f} ms CPU, {r['verify']['elapsed_ms']:.1f} ms; proof {r['proof_bytes']} B, "
              f"proving key {r['proving_key_bytes'] / 1e6:.1f} MB, verifying key {r['verifying_key_bytes'] / 1e3:.0f} kB, 2^{r['logrows']} rows", flush=True)
    if target:
        with open(target, "w", encoding="utf-8") as f:
            json.dump(results, f, indent=1)


if __name__ == "__main__":
    main()
