"""Measures the figures of docs/performance.md ("Beside llama.cpp and ik_llama.cpp") in one run: this
project on sealed files, the peers on the unsealed ones, round by round, each engine in a process of
its own. Prints a table; with JSON=FILE in the environment, writes it there, too.

    bench_peer.py OURS WORK SMOLLM2.gguf QWEN.gguf NAME=PYTHON...

OURS is the program of bench_peer_ours.go, WORK a directory on a disk, NAME a peer and PYTHON the
interpreter that has it.
"""
import json
import mmap
import os
import select
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time

BEGAN = time.monotonic()
MINUTES = float(os.environ.get("MINUTES", "14"))
PARTS = {"smollm2": lambda: beside_peers("SmolLM2", 5, 45), "qwen": lambda: beside_peers("Qwen2.5-1.5B", 3, 90),
         "own": lambda: own_figures(), "cgroups": lambda: larger_than_memory()}
PROMPT, DECODE = 512, 48
HERE = os.path.dirname(os.path.abspath(__file__))
median = statistics.median


def left():
    """Seconds that the run may still take."""
    return MINUTES * 60 - (time.monotonic() - BEGAN)


def progress(text):
    print(f"[{time.monotonic() - BEGAN:5.0f} s] {text}", file=sys.stderr, flush=True)


class Failed(Exception):
    """An engine did not start, or gave no answer."""


class Engine:
    """A process that answers lines with lines of JSON."""

    def __init__(self, command, group=None, ready=300):
        self.errors = open(os.path.join(WORK, "errors"), "w+")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                        preexec_fn=group and group.enter)
        self.pending = b""
        OPEN.append(self)
        self.first = self.answer(ready)

    def answer(self, seconds):
        """The next line, or None if the process ends or the time is over."""
        end = time.monotonic() + seconds
        while b"\n" not in self.pending:
            if not select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]:
                return None
            piece = os.read(self.process.stdout.fileno(), 1 << 16)
            if not piece:
                return None
            self.pending += piece
        line, self.pending = self.pending.split(b"\n", 1)
        return json.loads(line)

    def ask(self, line, seconds=300, may_fail=False):
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        a = self.answer(seconds)
        if a is None and not may_fail:
            self.errors.seek(0)
            raise Failed(f"{self.process.args}: no answer to {line!r}\n{self.errors.read()[-2000:]}")
        return a

    def close(self):
        OPEN.remove(self)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.errors.close()


def ours(sealed, threads, sequences=1, mode="resident", **more):
    return Engine([OURS, "serve", "-threads", str(threads), "-sequences", str(sequences), "-mode", mode, *more.get("flags", []), sealed],
                  more.get("group"))


def peer(name, model, threads, context=1024, small=False, group=None):
    e = Engine([PEERS[name], os.path.join(HERE, "bench_peer_engine.py"), name, model, str(threads), str(context)] + ["small"] * small, group)
    if e.first is None or (not group and e.answer(300) is None):
        e.errors.seek(0)
        raise Failed(f"{name} does not start\n{e.errors.read()[-2000:]}")
    return e


class Busy:
    """Two processes that do nothing but compute."""

    def __enter__(self):
        self.list = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]

    def __exit__(self, *_):
        for p in self.list:
            p.kill()
            p.wait()


class Group:
    """A memory cgroup of this run, of either version, with a limit in bytes."""

    def __init__(self, limit):
        self.path, files = None, {}
        if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
            if "memory" in open("/sys/fs/cgroup/cgroup.controllers").read().split():
                self.path, files = f"/sys/fs/cgroup/anchorhold-bench-{os.getpid()}", {"memory.max": limit, "memory.swap.max": 0}
        elif os.path.isdir("/sys/fs/cgroup/memory"):
            self.path, files = f"/sys/fs/cgroup/memory/anchorhold-bench-{os.getpid()}", {"memory.limit_in_bytes": limit, "memory.swappiness": 0}
        if not self.path:
            raise OSError("this machine has no memory controller")
        os.mkdir(self.path)
        try:
            for name, value in files.items():
                if name == "memory.swap.max" and not os.path.exists(os.path.join(self.path, name)):
                    continue  # a kernel that does not account for swap
                with open(os.path.join(self.path, name), "w") as f:
                    f.write(str(value))
        except OSError:
            self.close()
            raise

    def enter(self):
        with open(os.path.join(self.path, "cgroup.procs"), "w") as f:
            f.write(str(os.getpid()))

    def close(self):
        for _ in range(100):
            try:
                os.rmdir(self.path)
                return
            except OSError:
                time.sleep(0.05)
        progress(f"{self.path} could not be removed")


ROWS = []
LEFT_OUT = []


def row(figure, at_least, aim, value, unit, **more):
    r = {"figure": figure, "value": round(value, 3), "unit": unit, "at_least": at_least, "aim": aim, **more}
    ROWS.append(r)
    progress(f"{figure}: {value:.3g} {unit}" + (f", {more['ours']:.4g} against {more['theirs']:.4g}" if "theirs" in more else ""))


def rate(a, clock="wall", of="tokens"):
    return a[of] / a[clock]


def compare(figure, bounds, pairs, unit="tokens/s", **more):
    """A row of two lists of answers: the median of the rounds' ratios."""
    row(figure, *bounds, median(rate(o) / rate(t) for o, t in pairs), "times",
        ours=median(rate(o) for o, _ in pairs), theirs=median(rate(t) for _, t in pairs), rate=unit, rounds=len(pairs),
        cpu_ratio=round(median(rate(o, "cpu") / rate(t, "cpu") for o, t in pairs), 3), **more)


def rounds(n, seconds):
    """Counts to n, but stops when so many seconds are over; at least one."""
    end = time.monotonic() + min(seconds, max(left(), 0))
    for i in range(n):
        if i and time.monotonic() > end:
            return
        yield i


DECODE_BOUNDS = {("SmolLM2", 0): (1.6, 2), ("Qwen2.5-1.5B", 0): (1.3, 1.6), ("SmolLM2", 1): (1.4, 1.8), ("Qwen2.5-1.5B", 1): (1.2, 1.5)}
PROMPT_BOUNDS = {("llama.cpp", 1): (3.5, 5), ("llama.cpp", 2): (3, 4), ("ik_llama.cpp", 1): (1.1, 1.6), ("ik_llama.cpp", 2): (1.1, 1.6)}


def engines(model, threads):
    """Our engine and the peers on one model."""
    list = {"ours": ours(SEALED[model], threads)}
    for name in PEERS:
        list[name] = peer(name, FILES[model], threads)
    return list


def beside_peers(model, n, seconds):
    """Decode and prompt, one and two threads; decode beside two busy processes."""
    for threads in (1, 2):
        if left() < 30:
            LEFT_OUT.append(f"{model}, {threads} thread(s) beside the peers: no time left")
            continue
        progress(f"{model}, {threads} thread(s): engines start")
        list = engines(model, threads)
        for e in list.values():
            e.ask("decode 4")
        answers = {}
        work = [("decode", f"decode {DECODE}", None), ("prompt", f"prompt {PROMPT}", None)]
        if threads == 2:
            work.append(("busy", f"decode {DECODE // 2}", Busy()))
        for _ in rounds(n, seconds):
            for name, line, busy in work:
                if busy:
                    busy.__enter__()
                try:
                    for engine, e in list.items():
                        answers.setdefault((name, engine), []).append(e.ask(line))
                finally:
                    if busy:
                        busy.__exit__()
        for name in PEERS:
            pairs = lambda what: [*zip(answers[what, "ours"], answers[what, name])]
            compare(f"decode, {model}, {threads} thread(s), against {name}", DECODE_BOUNDS[model, 0] if name == "llama.cpp" else (None, None), pairs("decode"))
            compare(f"prompt of {PROMPT}, {model}, {threads} thread(s), against {name}", PROMPT_BOUNDS[name, threads], pairs("prompt"))
            if threads == 2:
                compare(f"decode beside two busy processes, {model}, 2 threads, against {name}",
                        DECODE_BOUNDS[model, 1] if name == "llama.cpp" else (None, None), pairs("busy"))
        if model != "SmolLM2":
            read = median(a["bytes"] / a["wall"] for a in (list["ours"].ask("read 3") for _ in range(3)))
            used = list["ours"].ask("pass")["bytes"] * median(rate(a) for a in answers["decode", "ours"])
            row(f"share of measured read bandwidth, decode, {model}, {threads} thread(s)", 0.8, 0.9, used / read, "of it",
                ours=used / 1e9, theirs=read / 1e9, rate="GB/s")
        for e in list.values():
            e.close()
    beside_ourselves(model)


def beside_ourselves(model):
    """Our two threads against one of our own, beside two busy processes: long answers, for the scheduler favours who was idle,
    and by turns first and second."""
    one, two = ours(SEALED[model], 1), ours(SEALED[model], 2)
    pairs, n = [], 96 if model == "SmolLM2" else 24
    with Busy():
        for i in rounds(32, 45):
            answers = {e: e.ask(f"decode {n}") for e in ((one, two), (two, one))[i % 2]}
            pairs.append((answers[two], answers[one]))
    one.close(), two.close()
    compare(f"beside two busy processes, {model}: 2 threads against 1 of our own", (1, None), pairs)


def own_figures():
    """What has no peer: streams, loading, streaming, the second turn."""
    for part in (streams, second_turn, loading, streaming):
        if left() < 20:
            LEFT_OUT.append(f"{part.__name__.replace('_', ' ')}: no time left")
        else:
            part()


def streams():
    for model, n in (("SmolLM2", 5), ("Qwen2.5-1.5B", 3)):
        e = ours(SEALED[model], 1, 16)
        e.ask("streams 1")
        pairs = [(e.ask("streams 16"), e.ask("streams 1")) for _ in rounds(n, 40)]
        e.close()
        row(f"16 streams against one, {model}, 1 thread", 6, 10, median(rate(a, "cpu") / rate(b, "cpu") for a, b in pairs), "times",
            ours=median(rate(a, "cpu") for a, _ in pairs), theirs=median(rate(b, "cpu") for _, b in pairs), rate="tokens/s of a processor")


def second_turn():
    e = ours(SEALED["SmolLM2"], 2)
    pairs = [e.ask(f"turns {i}") for i in rounds(5, 30)]
    e.close()
    row("second turn, SmolLM2, 2 threads: time to first token against the first turn's", 0.2, 0.05, median(a["wall"] / a["first"] for a in pairs), "of it")


def disk_rate(path):
    """Bytes a second of plain reads by two threads, without the page cache; None where the file system does not read so."""
    size, piece = os.path.getsize(path) >> 20 << 20, 1 << 20
    try:
        file = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        return None

    def read(half):
        buffer = mmap.mmap(-1, piece)
        try:
            for at in range(half * piece, size, 2 * piece):
                done[half] += os.preadv(file, [buffer], at)
        except OSError:
            pass  # the sum tells

    list = []
    try:
        for _ in range(3):
            begin, done = time.monotonic(), [0, 0]
            threads = [threading.Thread(target=read, args=(half,)) for half in range(2)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            if sum(done) != size:
                return None
            list.append(size / (time.monotonic() - begin))
    finally:
        os.close(file)
    return median(list)


def beside_disk(figure, used, path):
    """A row of what reading for us takes of the disk's rate."""
    if disk := disk_rate(path):
        row(figure, None, None, used / disk, "of it", ours=used / 1e9, theirs=disk / 1e9, rate="GB/s")


def loading():
    for model, n in (("SmolLM2", 15), ("Qwen2.5-1.5B", 3)):
        for where, files in (("memory", MEMORY), ("disk", SEALED)):
            if model not in files:
                continue
            e = ours(files[model], 1, flags=["-mib", "6144"])
            a = e.ask(f"load {n}")
            e.close()
            row(f"sealed load, {model}, from {where}", 2, 4, a["bytes"] / a["cpu"] / 1e9, "GB/s of a processor")
    e = ours(SEALED["Qwen2.5-1.5B"], 2, flags=["-mib", "6144"])
    a = e.ask("load 3")
    e.close()
    beside_disk("sealed load, Qwen2.5-1.5B, 2 threads, of the disk's rate", rate(a, of="bytes"), SEALED["Qwen2.5-1.5B"])


def streaming():
    for model, n in (("SmolLM2", 5), ("Qwen2.5-1.5B", 3)):
        for where, files in (("memory", MEMORY), ("disk", SEALED)):
            if model not in files:
                continue
            a, b = ours(files[model], 2, 8), ours(files[model], 2, 8, mode="streamed")
            a.ask("streams 2"), b.ask("streams 2")
            pairs = [(b.ask("streams 8"), a.ask("streams 8")) for _ in rounds(n, 40)]
            size = b.ask("pass")["bytes"]
            a.close(), b.close()
            compare(f"streamed from {where} at batch 8 against resident, {model}, 2 threads", (0.4, 0.85), pairs)
            if where == "disk":
                beside_disk(f"streamed at batch 8, {model}, of the disk's rate", size * median(rate(o) for o, _ in pairs) / 8, files[model])


def in_cgroup(limit, kind):
    """Seconds for a token of Qwen in a memory cgroup, or None if the process did not survive."""
    model = os.path.join(WORK, "peer.gguf")
    with open(model, "rb") as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    group = Group(limit)
    try:
        if kind == "ours":
            e = ours(SEALED["Qwen2.5-1.5B"], 2, mode="auto", flags=["-context", "512", "-mib", str((limit >> 20) - 24)], group=group)
            ready = e.first
        else:
            e = peer(kind, model, 2, 512, True, group)
            ready = e.answer(90)
        list = []
        if ready:
            a = e.ask("decode 1", 60, True)
            while a and len(list) < 2 and left() > 0:
                a = e.ask("decode 2", 60, True)
                list.append(a and a["wall"] / a["tokens"])
        e.close()
        return min(filter(None, list), default=None)
    finally:
        group.close()


def larger_than_memory():
    """Qwen in memory cgroups that it does not fit in, beside llama.cpp with its file mapped."""
    if "llama.cpp" not in PEERS:
        LEFT_OUT.append("memory cgroups: llama.cpp is not installed")
        return
    try:
        Group(1 << 30).close()
    except OSError as why:
        LEFT_OUT.append(f"memory cgroups: {why}")
        return
    shutil.copyfile(FILES["Qwen2.5-1.5B"], os.path.join(WORK, "peer.gguf"))
    os.sync()
    e = peer("llama.cpp", FILES["SmolLM2"], 1)
    python = e.first["resident"]  # its limit is that much higher
    e.close()
    for mib in (512, 256, 128):
        if left() < 60:
            LEFT_OUT.append(f"memory cgroup of {mib} MiB: no time left")
            continue
        mine = in_cgroup(mib << 20, "ours")
        theirs = in_cgroup((mib << 20) + python, "llama.cpp")
        name = f"Qwen2.5-1.5B in a memory cgroup of {mib} MiB, 2 threads, against llama.cpp with its file mapped"
        if mine and theirs:
            row(name, 1.5, 4, theirs / mine, "times", ours=1 / mine, theirs=1 / theirs, rate="tokens/s")
        elif mine:
            row(name, 1.5, 4, 0.5 * 60 / mine, "times or more: llama.cpp was killed, or gave no two tokens in a minute", ours=1 / mine)
        else:
            LEFT_OUT.append(name + ": our process gave no answer")


def table():
    lines = ["| figure | ours | peer | result | by processor time | at least | aim |", "|---|---|---|---|---|---|---|"]
    for r in ROWS:
        cell = lambda name: f"{r[name]:.4g} {r.get('rate', '')}".strip() if name in r else ""
        bound = lambda name: "" if r[name] is None else f"{r[name]:g}"
        lines.append(f"| {r['figure']} | {cell('ours')} | {cell('theirs')} | {r['value']:.3g} {r['unit']} | {r.get('cpu_ratio', '')} | {bound('at_least')} | {bound('aim')} |")
    return "\n".join(lines)


def main():
    global WORK, OURS
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # what is below cleans up
    OURS, WORK, smol, qwen = sys.argv[1:5]
    parts = os.environ.get("PARTS", "").replace(",", " ").split() or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        sys.exit(f"PARTS names {', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}")
    PEERS.update(p.split("=", 1) for p in sys.argv[5:])
    FILES.update({"SmolLM2": smol, "Qwen2.5-1.5B": qwen})
    try:
        for model, path in FILES.items():
            progress(f"sealing {model}")
            SEALED[model] = os.path.join(WORK, model + ".sealed")
            subprocess.run([OURS, "seal", path, SEALED[model]], check=True)
            if shutil.disk_usage(MEMORY_DIR).free > 4 * os.path.getsize(path):
                MEMORY[model] = os.path.join(MEMORY_DIR, f"anchorhold-bench-{os.getpid()}-{model}")
                shutil.copyfile(SEALED[model], MEMORY[model])
        for name in parts:
            try:
                PARTS[name]()
            except Failed as why:  # the others' figures count all the same
                LEFT_OUT.append(str(why))
            for e in OPEN[:]:
                e.close()
    finally:
        for e in OPEN[:]:
            e.close()
        for path in MEMORY.values():
            os.path.exists(path) and os.remove(path)
    print(table())
    for text in LEFT_OUT:
        print("left out:", text)
    if os.environ.get("JSON"):
        with open(os.environ["JSON"], "w") as f:
            json.dump({"seconds": round(time.monotonic() - BEGAN), "load": os.getloadavg(), "figures": ROWS, "left_out": LEFT_OUT}, f, indent=1)
            f.write("\n")
    progress("done")
    if LEFT_OUT:
        sys.exit(f"{len(LEFT_OUT)} part(s) left out")


PEERS, FILES, SEALED, MEMORY, MEMORY_DIR, OPEN = {}, {}, {}, {}, "/dev/shm", []
main()
