"""Client of the Anchorhold agent's federated rounds, over its unix socket.

Standard library only. The agent clips, rounds and encrypts what it is handed;
nothing else leaves the guest.

    agent = Agent("/run/anchorhold/agent.sock")
    job = agent.submit("5f2c...", update, weight=120)   # array, numpy array, chunks
    agent.wait(job)
    mean = agent.values("5f2c...")                      # array('f')

On the command line:

    python3 -m anchorhold_fed submit --socket S --round R update.f32 --weight 120
    python3 -m anchorhold_fed result --socket S --round R --out mean.f32
"""

import argparse
import array
import http.client
import json
import socket
import sys
import time

DEFAULT_SOCKET = "/run/anchorhold/agent.sock"
FLOAT32 = "application/octet-stream"
FLOAT16 = "application/vnd.anchorhold.float16"


class Refused(Exception):
    """The agent refused. code is stable, message is for people."""

    def __init__(self, code, message, status):
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("agent", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _chunks(values):
    """Yields little-endian float32 bytes of an array, a buffer, or an iterable of
    either, and never holds more than one part."""
    if hasattr(values, "astype") and hasattr(values, "ravel"):  # a numpy array
        if values.dtype.str not in ("<f4", "<f2"):
            values = values.astype("<f4")
        yield memoryview(values.ravel()).cast("B")
    elif isinstance(values, array.array):
        if values.typecode != "f":
            values = array.array("f", values)
        if sys.byteorder == "big":
            values = array.array("f", values)
            values.byteswap()
        yield memoryview(values).cast("B")
    elif isinstance(values, (bytes, bytearray, memoryview)):
        yield memoryview(values).cast("B")
    elif hasattr(values, "read"):
        while part := values.read(1 << 20):
            yield part
    else:
        for part in values:
            if isinstance(part, (int, float)):
                raise TypeError("hand in an array or an iterable of arrays, not of numbers")
            yield from _chunks(part)


class Agent:
    """One agent, by its unix socket."""

    def __init__(self, socket_path=DEFAULT_SOCKET, timeout=600):
        self.socket_path, self.timeout = socket_path, timeout

    def _request(self, method, path, body=None, content_type=None):
        connection = _UnixConnection(self.socket_path, self.timeout)
        headers = {"Content-Type": content_type} if content_type else {}
        try:
            connection.request(method, path, body=body, headers=headers, encode_chunked=body is not None)
        except BrokenPipeError:
            pass  # the agent answered before it read everything: the answer says why
        response = connection.getresponse()
        if response.status // 100 == 2:
            return connection, response
        try:
            error = json.loads(response.read() or b"{}").get("error", {})
        except ValueError:
            error = {}
        finally:
            connection.close()
        raise Refused(error.get("code", "unknown"), error.get("message", response.reason), response.status)

    def _json(self, method, path, **kwargs):
        connection, response = self._request(method, path, **kwargs)
        try:
            return json.loads(response.read())
        finally:
            connection.close()

    def round(self, round_id):
        """The round's terms: length, bounds, cohort, noise, epsilon, times."""
        return self._json("GET", f"/v1/fed/rounds/{round_id}")

    def submit(self, round_id, values, weight=1, float16=False, strict=False):
        """Hands a vector to the agent and returns the job's id. The same vector
        again is the same job. strict refuses a vector beyond the round's bounds, which
        is otherwise scaled down to that of the norm and clamped to that of a value."""
        if getattr(getattr(values, "dtype", None), "str", "") == "<f2":
            float16 = True
        body = (bytes(part) if not isinstance(part, bytes) else part for part in _chunks(values))
        return self._json("POST", f"/v1/fed/rounds/{round_id}/contributions?weight={int(weight)}{'&excess=refuse' if strict else ''}", body=body, content_type=FLOAT16 if float16 else FLOAT32)["job"]

    def job(self, job_id):
        """The job as it stands."""
        return self._json("GET", f"/v1/jobs/{job_id}")

    def cancel(self, job_id):
        """Cancels a job that is not over."""
        return self._json("DELETE", f"/v1/jobs/{job_id}")

    def wait(self, job_id, timeout=3600, on_progress=None):
        """Waits until the job is done and returns its result; raises Refused if it
        failed for good."""
        end = time.monotonic() + timeout
        while True:
            job = self.job(job_id)
            if on_progress and job.get("progress"):
                on_progress(job["progress"])
            if job["state"] == "done":
                return job.get("result")
            if job["state"] in ("dead", "cancelled"):
                raise Refused(job.get("reason") or job["state"], job.get("detail", ""), 0)
            if time.monotonic() > end:
                raise TimeoutError(f"job {job_id} is still {job['state']}")
            time.sleep(0.05)

    def decrypt(self, round_id):
        """Has a decrypting guest open the closed round; returns the job's id."""
        return self._json("POST", f"/v1/fed/rounds/{round_id}/decrypt")["job"]

    def result(self, round_id):
        """What was published: count, weights, noise, epsilon spent."""
        return self._json("GET", f"/v1/fed/rounds/{round_id}/result")

    def values(self, round_id):
        """The published mean as array('f')."""
        connection, response = self._request("GET", f"/v1/fed/rounds/{round_id}/result/values")
        try:
            out = array.array("f")
            out.frombytes(response.read())
        finally:
            connection.close()
        if sys.byteorder == "big":
            out.byteswap()
        return out


def main(argv=None):
    parser = argparse.ArgumentParser(prog="anchorhold_fed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = parser.add_subparsers(dest="command", required=True)
    for name, text in (("round", "show a round"), ("submit", "submit a vector"), ("result", "fetch the published mean")):
        p = sub.add_parser(name, help=text)
        p.add_argument("--socket", default=DEFAULT_SOCKET)
        p.add_argument("--round", required=True)
        if name == "submit":
            p.add_argument("file", help="little-endian float32 values; - is standard input")
            p.add_argument("--weight", type=int, default=1)
            p.add_argument("--f16", action="store_true", help="the values are float16")
        if name == "result":
            p.add_argument("--out", help="file for the mean, little-endian float32")
    args = parser.parse_args(argv)
    agent = Agent(args.socket)
    try:
        if args.command == "round":
            answer = agent.round(args.round)
        elif args.command == "submit":
            with (sys.stdin.buffer if args.file == "-" else open(args.file, "rb")) as f:
                job = agent.submit(args.round, f, args.weight, args.f16)
            answer = agent.wait(job)
        else:
            answer = agent.result(args.round)
            if args.out:
                with open(args.out, "wb") as f:
                    agent.values(args.round).tofile(f)
    except Refused as e:
        print(f"refused: {e}", file=sys.stderr)
        return 3
    json.dump(answer, sys.stdout, indent=2)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
