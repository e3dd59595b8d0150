import array
import contextlib
import io
import math
import os
import struct
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(__file__))

import anchorhold_fed
from anchorhold_fed.cli import main
from fake_agent import FakeAgent

ROUND = "ab" * 16


class ClientTest(unittest.TestCase):
    def setUp(self):
        self.fake = FakeAgent(1000)
        self.addCleanup(self.fake.close)
        self.agent = anchorhold_fed.Agent(self.fake.socket_path, timeout=10)

    def values(self, offset=0.0):
        return array.array("f", [offset + i / 8 for i in range(1000)])

    def test_submit_wait_and_mean(self):
        seen = []
        job = self.agent.submit(ROUND, self.values(), weight=1)
        self.assertEqual(self.agent.wait(job, 10, seen.append), {"bytes": 7})
        self.assertEqual(seen[0]["phase"], "encrypt")
        self.agent.wait(self.agent.submit(ROUND, self.values(4.0), weight=3), 10)
        with self.assertRaises(anchorhold_fed.Refused) as early:
            self.agent.values(ROUND)
        self.assertEqual((early.exception.code, early.exception.status), ("round-not-closed", 404))
        self.fake.closed.add(ROUND)
        mean = self.agent.values(ROUND)
        self.assertEqual(len(mean), 1000)
        self.assertAlmostEqual(mean[8], 1 + 3.0, places=5)
        self.assertEqual(self.agent.result(ROUND)["count"], 2)

    def test_the_same_vector_is_the_same_job(self):
        self.assertEqual(self.agent.submit(ROUND, self.values()), self.agent.submit(ROUND, self.values()))

    def test_every_form_of_a_vector(self):
        v = self.values()
        forms = {"array": v, "bytes": v.tobytes(), "memoryview": memoryview(v), "file": io.BytesIO(v.tobytes()),
                 "chunks": (v[i : i + 100] for i in range(0, 1000, 100)), "doubles": array.array("d", v)}
        jobs = {name: self.agent.submit(ROUND, form) for name, form in forms.items()}
        self.assertEqual(len(set(jobs.values())), 1, jobs)
        half = struct.pack("<1000e", *v)
        self.agent.wait(self.agent.submit(ROUND, half, float16=True), 10)
        with self.assertRaises(TypeError):
            self.agent.submit(ROUND, [1.0, 2.0])

    def test_what_would_be_cut_off_is_refused(self):
        try:
            import numpy as np
        except ImportError:
            self.skipTest("NOT TESTED with numpy")
        for kind in (np.complex64, "U4", "M8[s]"):
            with self.subTest(kind), self.assertRaisesRegex(TypeError, "no real numbers"):
                self.agent.submit(ROUND, np.zeros(1000, kind))
        for weight in (1.9, "3", None):
            with self.subTest(weight), self.assertRaises(TypeError):
                self.agent.submit(ROUND, self.values(), weight=weight)
        self.assertEqual(self.fake.bodies, 0)
        self.agent.submit(ROUND, np.ones(1000, np.int8), weight=np.int64(3))

    def test_what_is_no_round_is_not_asked_for(self):
        for do in (self.agent.round, self.agent.result, self.agent.values, self.agent.decrypt, lambda r: self.agent.submit(r, b"")):
            for name in ("../jobs", "", ROUND + "?x", ROUND.upper(), ROUND + "\n"):
                with self.assertRaisesRegex(ValueError, "no round"):
                    do(name)

    def test_a_dead_job_says_why(self):
        v = self.values()
        v[3] = math.nan
        with self.assertRaises(anchorhold_fed.Refused) as dead:
            self.agent.wait(self.agent.submit(ROUND, v), 10)
        self.assertEqual(dead.exception.code, "vector-invalid")

    def test_refusals_keep_their_code(self):
        with self.assertRaises(anchorhold_fed.Refused) as short:
            self.agent.submit(ROUND, self.values()[:-1])
        self.assertEqual(short.exception.code, "vector-invalid")
        with self.assertRaises(anchorhold_fed.Refused) as strict:
            self.agent.submit(ROUND, self.values(1e4), strict=True)
        self.assertEqual(strict.exception.code, "norm-exceeded")
        with self.assertRaises(anchorhold_fed.Refused):
            self.agent.job("0" * 64)

    def test_large_bodies_are_streamed(self):
        fake = FakeAgent(1_000_000)
        self.addCleanup(fake.close)
        part = array.array("f", [0.5]) * 10_000
        agent = anchorhold_fed.Agent(fake.socket_path, timeout=60)
        agent.submit(ROUND, (part for _ in range(100)))
        self.assertEqual(fake.bodies, 4_000_000)

    def test_command_line(self):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "u.f32")
            with open(path, "wb") as f:
                self.values().tofile(f)
            with contextlib.redirect_stdout(io.StringIO()) as out:
                self.assertEqual(main(["submit", "--socket", self.fake.socket_path, "--round", ROUND, path, "--weight", "2"]), 0)
            self.assertIn("bytes", out.getvalue())
            with contextlib.redirect_stderr(io.StringIO()) as err:
                self.assertEqual(main(["result", "--socket", self.fake.socket_path, "--round", ROUND]), 3)
            self.assertIn("round-not-closed", err.getvalue())
            away = os.path.join(d, "away")
            for status, args in (
                (1, ["round", "--socket", away, "--round", ROUND]),
                (1, ["submit", "--socket", self.fake.socket_path, "--round", ROUND, away]),
                (2, ["round", "--socket", self.fake.socket_path, "--round", "away"]),
            ):
                with contextlib.redirect_stderr(io.StringIO()) as err:
                    self.assertEqual(main(args), status)
                self.assertRegex(err.getvalue(), "^anchorhold-fed: .*away.*\n$")
            self.fake.closed.add(ROUND)
            mean = os.path.join(d, "mean.f32")
            with contextlib.redirect_stdout(io.StringIO()):
                self.assertEqual(main(["result", "--socket", self.fake.socket_path, "--round", ROUND, "--out", mean]), 0)
            self.assertEqual(os.path.getsize(mean), 4000)


if __name__ == "__main__":
    unittest.main()
