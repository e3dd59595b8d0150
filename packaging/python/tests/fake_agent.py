"""A small agent for tests: HTTP on a unix socket, rounds that really average."""

import hashlib
import http.server
import json
import os
import re
import socketserver
import struct
import tempfile
import threading

import array


class FakeAgent:
    """Serves one round's terms for every name; keeps what each round was sent."""

    def __init__(self, length, max_weight=1000):
        self.length, self.max_weight = length, max_weight
        self.jobs, self.rounds, self.closed, self.bodies = {}, {}, set(), 0
        self.epsilon = 1.5
        self.stuck = False  # whether jobs stay queued
        self.lock = threading.Lock()
        self.directory = tempfile.mkdtemp()
        self.socket_path = os.path.join(self.directory, "agent.sock")
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def address_string(self):
                return "unix"

            def answer(self, status, body, kind="application/json"):
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def refuse(self, status, code):
                self.answer(status, {"error": {"message": "it is " + code, "type": "invalid_request_error", "param": None, "code": code}})

            def body(self):
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                out = bytearray()
                while size := int(self.rfile.readline(), 16):
                    out += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return bytes(out)

            def do_GET(self):
                outer.get(self)

            def do_POST(self):
                outer.post(self)

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass  # a client that went away in the middle of a request

            def get_request(self):
                request, _ = super().get_request()
                return request, ("unix", 0)

        self.server = Server(self.socket_path, Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        os.remove(self.socket_path)
        os.rmdir(self.directory)

    def mean(self, name):
        total, weights = [0.0] * self.length, 0
        for values, weight in self.rounds[name].values():
            weights += weight
            for i, v in enumerate(values):
                total[i] += v * weight
        return array.array("f", [t / weights for t in total])

    def get(self, h):
        if m := re.fullmatch(r"/v1/jobs/([0-9a-f]{64})", h.path):
            job = self.jobs.get(m[1])
            if not job:
                return h.refuse(404, "job-unknown")
            if self.stuck:
                pass
            elif job["state"] == "queued":
                job["state"] = "leased"
                job["progress"] = {"phase": "encrypt", "done": 0, "total": 1}
            elif job["state"] == "leased":
                job["state"] = job.pop("end")
            return h.answer(200, job)
        if m := re.fullmatch(r"/v1/fed/rounds/([0-9a-f]{32})(/result(/values)?)?", h.path):
            name = m[1]
            if not m[2]:
                return h.answer(200, {"round": name, "length": self.length, "max_weight": self.max_weight})
            if name not in self.closed:
                return h.refuse(404, "round-not-closed")
            if m[3]:
                return h.answer(200, self.mean(name).tobytes(), "application/octet-stream")
            return h.answer(200, {"round": name, "count": len(self.rounds[name]), "spent_epsilon": self.epsilon, "delta": 1e-5, "adjacency": "add-remove", "expected_error": {"relative": 0.25}})
        h.refuse(404, "not-found")

    def post(self, h):
        if m := re.fullmatch(r"/v1/fed/rounds/([0-9a-f]{32})/decrypt", h.path):
            name = hashlib.sha256(h.path.encode()).hexdigest()
            self.jobs[name] = {"id": name, "state": "queued", "end": "done", "result": {}}
            self.closed.add(m[1])
            return h.answer(202, {"job": name, "state": "queued"})
        m = re.fullmatch(r"/v1/fed/rounds/([0-9a-f]{32})/contributions\?weight=(\d+)(&excess=refuse)?", h.path)
        body = h.body()
        self.bodies += len(body)
        if not m:
            return h.refuse(404, "not-found")
        half = h.headers["Content-Type"].endswith("float16")
        size = 2 if half else 4
        if len(body) != size * self.length:
            return h.refuse(422, "vector-invalid")
        values = struct.unpack(f"<{self.length}{'e' if half else 'f'}", body)
        if m[3] and sum(v * v for v in values) > 1e6:
            return h.refuse(422, "norm-exceeded")
        name = hashlib.sha256(m[1].encode() + body).hexdigest()
        with self.lock:
            new = name not in self.jobs
            if new:
                bad = any(v != v for v in values)
                self.jobs[name] = {"id": name, "state": "queued", "end": "dead" if bad else "done", "result": {"bytes": 7},
                                   "reason": "vector-invalid" if bad else "", "detail": "not a number" if bad else ""}
                if not bad:
                    self.rounds.setdefault(m[1], {})[name] = (values, int(m[2]))
        h.answer(202, {"job": name, "state": "queued"})
