import json
import os
import stat
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(__file__))

from anchorhold_fed import Agent, Operator, Refused, Rounds
from fake_agent import FakeAgent

ROUND = "cd" * 16

# Stands in for the command line: writes down its arguments, and answers as told.
PROGRAM = """#!{python}
import json, os, sys
here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "said"), "a") as f:
    f.write(json.dumps(sys.argv[1:]) + "\\n")
status, out, err = json.load(open(os.path.join(here, "answer")))
print(out)
print(err, file=sys.stderr)
sys.exit(status)
"""


class OperatorTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        self.program = os.path.join(self.directory, "anchorhold")
        with open(self.program, "w") as f:
            f.write(PROGRAM.format(python=sys.executable))
        os.chmod(self.program, stat.S_IRWXU)
        self.operator = Operator("/b.sock", ["/1.sock", "/2.sock"], program=self.program, timeout=60)
        self.answer(0, {"round": ROUND})

    def answer(self, status, out, err=""):
        with open(os.path.join(self.directory, "answer"), "w") as f:
            json.dump([status, json.dumps(out), err], f)

    def said(self):
        with open(os.path.join(self.directory, "said")) as f:
            return [json.loads(line) for line in f]

    def test_every_value_stays_in_its_option(self):
        got = self.operator.open_round(model="--broker=/evil.sock", length=10, clip_l2=0.5, contributor_tenant=["a", "--b"], recount=True)
        self.assertEqual(got, {"round": ROUND})
        self.assertEqual(self.said(), [["fed", "round", "open", "--model=--broker=/evil.sock", "--length=10", "--clip-l2=0.5", "--contributor-tenant=a",
                                        "--contributor-tenant=--b", "--recount=true", "--json", "--broker=/b.sock", "--aggregator=/1.sock", "--aggregator=/2.sock"]])

    def test_what_is_no_term_or_no_round_is_not_run(self):
        for name in ("broker", "aggregator", "json", "Model", "a b", "-x", ""):
            with self.subTest(name), self.assertRaisesRegex(ValueError, "no term"):
                self.operator.open_round(**{name: "1"})
        for do in (self.operator.status, self.operator.close_round, self.operator.finish_round, self.operator.abandon_round):
            with self.assertRaisesRegex(ValueError, "no round"):
                do("--help")
        with self.assertRaises(FileNotFoundError):
            self.said()
        with self.assertRaises(ValueError):
            Operator("/b.sock", "/1.sock")

    def test_refusals_keep_their_code(self):
        for answer, said, code, message in (
            ({"error": {"reason": "not-authorised", "message": "uid 1000 may not"}}, "anchorhold: refused: other-thing: uid 1000", "not-authorised", "uid 1000 may not"),
            ({"error": {"reason": "refused", "message": "no"}}, "", "refused", "no"),
            ({}, "anchorhold: refused: killed-before: it answered", "refused", "anchorhold: refused: killed-before: it answered"),
            ({"error": "no"}, "no", "refused", "no"),
            ([], "no", "refused", "no"),
        ):
            self.answer(3, answer, said)
            with self.subTest(answer), self.assertRaises(Refused) as refused:
                self.operator.close_round(ROUND)
            self.assertEqual((refused.exception.code, refused.exception.message), (code, message))

    def test_other_failures_are_no_refusals(self):
        for answer, said in (
            ({}, "anchorhold: no operator socket at /b.sock: is anchorhold-broker running?"),
            ({"error": {"reason": "broker-unreachable", "message": "is anchorhold-broker running?"}}, "other"),
        ):
            self.answer(1, answer, said)
            with self.assertRaisesRegex(RuntimeError, "is anchorhold-broker running"):
                self.operator.status(ROUND)
        self.answer(0, [1])
        with self.assertRaisesRegex(ValueError, "list"):
            self.operator.status(ROUND)
        with self.assertRaisesRegex(FileNotFoundError, "install anchorhold"):
            Operator("/b.sock", program=os.path.join(self.directory, "absent")).status(ROUND)

    def test_a_command_that_does_not_end_is_ended(self):
        with open(self.program, "w") as f:
            f.write(f"#!{sys.executable}\nimport time\ntime.sleep(600)\n")
        self.operator.timeout = 0.5
        with self.assertRaises(subprocess.TimeoutExpired):
            self.operator.status(ROUND)

    def test_a_round_from_open_to_mean(self):
        fake = FakeAgent(3)
        self.addCleanup(fake.close)
        agent = Agent(fake.socket_path, timeout=10)
        rounds = Rounds(self.operator, agent, {"model": "m", "clip_l2": 1.0}, timeout=10)
        name = rounds.open(3)
        self.assertEqual(name, ROUND)
        agent.wait(agent.submit(name, memoryview(b"\0\0\x80\x3f" * 3), weight=4), 10)
        published = rounds.publish(name)
        self.assertEqual((published.count, published.epsilon, published.delta, published.adjacency, published.error), (1, 1.5, 1e-5, "add-remove", 0.25))
        self.assertEqual(list(published.mean), [1.0, 1.0, 1.0])
        rounds.abandon(name)
        self.assertEqual([line[2] for line in self.said()], ["open", "close", "finish", "abandon"])
        with self.assertRaisesRegex(ValueError, "length"):
            Rounds(self.operator, agent, {"length": 3})


if __name__ == "__main__":
    unittest.main()
