"""The agent's federated rounds over its unix socket (POST and GET /v1/fed/...)."""

from __future__ import annotations

import array
import http.client
import json
import operator
import re
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

DEFAULT_SOCKET = "/run/anchorhold/agent.sock"
FLOAT32 = "application/octet-stream"
FLOAT16 = "application/vnd.anchorhold.float16"

# Seconds between two looks at a job.
_POLL = 0.05

_ROUND = re.compile(r"[0-9a-f]{32}")


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


Vector = Any
"""A numpy array, an array.array, little-endian float32 bytes, a binary file, or an
iterable of these. (It is not spelled as a type: numpy need not be installed.)"""


class Refused(Exception):
    """Agent or broker refused. code is stable, message is for people; status is that of
    HTTP, or 0 where a job or a command ended that way."""

    def __init__(self, code: str, message: str, status: int = 0) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("agent", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self._path)
        except OSError as e:
            self.sock.close()
            raise type(e)(e.errno, f"no agent answers: {e.strerror or e}", self._path) from e


def _chunks(values: Vector) -> Iterator[bytes | memoryview]:
    """Yields little-endian float32 bytes of a vector and never holds more than one part."""
    if hasattr(values, "astype") and hasattr(values, "ravel"):  # a numpy array
        if values.dtype.kind not in "fiub":
            raise TypeError(f"an array of {values.dtype} holds no real numbers")
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
        yield from _blocks(values)
    else:
        for part in values:
            if isinstance(part, (int, float)):
                raise TypeError("hand in an array or an iterable of arrays, not of numbers")
            yield from _chunks(part)


def _blocks(file: _Readable) -> Iterator[bytes]:
    while part := file.read(1 << 20):
        yield part


def named(round_id: str) -> str:
    """The id of a round, checked: it becomes part of requests and command lines."""
    if not _ROUND.fullmatch(round_id):
        raise ValueError(f"{round_id!r} is no round: a round's id has 32 hexadecimal digits")
    return round_id


class Agent:
    """One agent, by its unix socket. timeout is in seconds, of one request."""

    def __init__(self, socket_path: str = DEFAULT_SOCKET, timeout: float = 600) -> None:
        self.socket_path, self.timeout = socket_path, timeout

    def _request(
        self, method: str, path: str, body: Iterable[bytes] | None = None, content_type: str | None = None
    ) -> tuple[_UnixConnection, http.client.HTTPResponse]:
        connection = _UnixConnection(self.socket_path, self.timeout)
        headers = {"Content-Type": content_type} if content_type else {}
        try:
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
        except BaseException:
            connection.close()
            raise
        connection.close()
        raise Refused(error.get("code", "unknown"), error.get("message", response.reason), response.status)

    def _json(self, method: str, path: str, body: Iterable[bytes] | None = None, content_type: str | None = None) -> dict[str, Any]:
        connection, response = self._request(method, path, body, content_type)
        try:
            answer = json.loads(response.read())
        finally:
            connection.close()
        if not isinstance(answer, dict):
            raise ValueError(f"{method} {path}: the agent answered with {type(answer).__name__}, not an object")
        return answer

    def round(self, round_id: str) -> dict[str, Any]:
        """The round's terms: length, bounds, cohort, noise, times, epsilon and the
        adjacency that it is between, and the error that is expected in the mean."""
        return self._json("GET", f"/v1/fed/rounds/{named(round_id)}")

    def submit(self, round_id: str, values: Vector, weight: int = 1, float16: bool = False, strict: bool = False) -> str:
        """Hands a vector to the agent and returns the job's id. The same vector
        again is the same job. strict refuses a vector beyond the round's bounds, which
        is otherwise scaled down to that of the norm and clamped to that of a value.
        weight is a whole number from 1 to the round's max_weight."""
        if getattr(getattr(values, "dtype", None), "str", "") == "<f2":
            float16 = True
        body = (bytes(part) for part in _chunks(values))
        excess = "&excess=refuse" if strict else ""
        answer = self._json(
            "POST", f"/v1/fed/rounds/{named(round_id)}/contributions?weight={operator.index(weight)}{excess}", body, FLOAT16 if float16 else FLOAT32
        )
        return str(answer["job"])

    def job(self, job_id: str) -> dict[str, Any]:
        """The job as it stands."""
        return self._json("GET", f"/v1/jobs/{job_id}")

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Cancels a job that is not over."""
        return self._json("DELETE", f"/v1/jobs/{job_id}")

    def wait(self, job_id: str, timeout: float = 3600, on_progress: Callable[[dict[str, Any]], None] | None = None) -> Any:
        """Waits until the job is done and returns its result; raises Refused if it
        failed for good, TimeoutError after timeout seconds."""
        end = time.monotonic() + timeout
        while True:
            job = self.job(job_id)
            if on_progress and job.get("progress"):
                on_progress(job["progress"])
            if job["state"] == "done":
                return job.get("result")
            if job["state"] in ("dead", "cancelled"):
                raise Refused(job.get("reason") or job["state"], job.get("detail", ""))
            if time.monotonic() > end:
                raise TimeoutError(f"job {job_id} is still {job['state']}")
            time.sleep(_POLL)

    def decrypt(self, round_id: str) -> str:
        """Has a decrypting guest open the closed round; returns the job's id."""
        return str(self._json("POST", f"/v1/fed/rounds/{named(round_id)}/decrypt")["job"])

    def result(self, round_id: str) -> dict[str, Any]:
        """What was published: count, weights, noise, the epsilon that the account has
        spent after it and the adjacency that it is between."""
        return self._json("GET", f"/v1/fed/rounds/{named(round_id)}/result")

    def values(self, round_id: str) -> array.array[float]:
        """The published mean as array('f')."""
        connection, response = self._request("GET", f"/v1/fed/rounds/{named(round_id)}/result/values")
        try:
            out = array.array("f")
            out.frombytes(response.read())
        finally:
            connection.close()
        if sys.byteorder == "big":
            out.byteswap()
        return out
