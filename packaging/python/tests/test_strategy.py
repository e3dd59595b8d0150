import logging
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))

try:
    import numpy as np
    from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
    from flwr.client import NumPyClient
    from flwr.clientapp import ClientApp
    from flwr.common import EvaluateRes, FitRes, Status, Code, ndarrays_to_parameters, parameters_to_ndarrays
    from flwr.compat.common import recorddict_compat as compat
    from flwr.server.client_manager import SimpleClientManager
    from flwr.supercore.task_identity import TaskIdentity
except ImportError as missing:
    raise unittest.SkipTest(f"NOT TESTED with Flower: {missing}")

import digits
from anchorhold_fed import Agent, Published, Refused
from anchorhold_flower import AnchorholdFedAvg, UpdateInTheClear, legacy, protect
from fake_agent import FakeAgent

OF = 3

logging.getLogger("flwr.anchorhold").setLevel(logging.CRITICAL)
TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1  # as in a running task
logging.getLogger("flwr").setLevel(logging.CRITICAL)


class FakeRounds:
    """Rounds that really average, at a FakeAgent."""

    def __init__(self, fake):
        self.fake, self.opened, self.abandoned, self.minimum, self.fail, self.epsilon = fake, [], [], 2, None, 1.5

    def open(self, length):
        assert length == self.fake.length
        self.opened.append(f"{len(self.opened) + 1:032x}")
        return self.opened[-1]

    def publish(self, name):
        if self.fail:
            raise self.fail
        got = self.fake.rounds.get(name, {})
        if len(got) < self.minimum:
            raise Refused("cohort-too-small", f"{len(got)} contributions")
        return Published(len(got), self.epsilon, 1e-5, "add-remove", 0.25, self.fake.mean(name))

    def abandon(self, name):
        self.abandoned.append(name)


class Grid:
    def __init__(self, apps, contexts):
        self.apps, self.contexts = apps, contexts

    def get_node_ids(self):
        return range(len(self.apps))

    def send_and_receive(self, messages, *, timeout=None):
        return [self.apps[m.metadata.dst_node_id](m, self.contexts[m.metadata.dst_node_id]) for m in messages]


class StrategyTest(unittest.TestCase):
    def setUp(self):
        self.fake = FakeAgent(digits.LENGTH, max_weight=10_000)
        self.addCleanup(self.fake.close)
        self.rounds = FakeRounds(self.fake)
        self.examples = [None] * OF  # instead of the true number
        self.first = [a.astype(np.float32) for a in digits.unpack(digits.initial())]
        self.contexts = [
            Context(1, i, {"anchorhold-socket": self.fake.socket_path, "anchorhold-metrics": "accuracy=0:1:0.001,loss=0:10:0.1"}, RecordDict(), {}) for i in range(OF)
        ]

    def counted(self, index, n):
        return n if self.examples[index] is None else self.examples[index]

    def app(self, index):
        app = ClientApp()

        @app.train()
        def train(message, _):
            model = np.concatenate([a.ravel() for a in message.content.array_records["arrays"].to_numpy_ndarrays()])
            change, n = digits.update(model, index, OF, int(message.content.config_records["config"]["server-round"]) - 1)
            arrays = ArrayRecord([a.astype(np.float32) for a in digits.unpack(model + change)])
            return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": self.counted(index, n)})}), reply_to=message)

        @app.evaluate()
        def evaluate(message, _):
            model = np.concatenate([a.ravel() for a in message.content.array_records["arrays"].to_numpy_ndarrays()])
            metrics = {"num-examples": self.counted(index, 10), "accuracy": digits.accuracy(model)}
            return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)

        return app

    def start(self, rounds, apps=None):
        apps = apps or [protect(self.app(i)) for i in range(OF)]
        strategy = AnchorholdFedAvg(self.rounds, min_train_nodes=OF, min_evaluate_nodes=OF, min_available_nodes=OF)
        return strategy.start(Grid(apps, self.contexts), ArrayRecord(self.first), num_rounds=rounds)

    def test_rounds_reach_what_plain_averaging_reaches(self):
        result = self.start(3)
        model = np.concatenate([a.ravel() for a in result.arrays.to_numpy_ndarrays()])
        plain = digits.accuracy(digits.federate(OF, 3))
        self.assertGreater(digits.accuracy(model), plain - 0.02)
        self.assertGreater(plain, 0.6)
        self.assertEqual([a.dtype for a in result.arrays.to_numpy_ndarrays()], [np.float32] * 4)
        self.assertEqual({k: dict(v) for k, v in result.train_metrics_clientapp.items()}, {r: {"contributions": OF, "expected-error": 0.25, "spent-epsilon-add-remove": 1.5} for r in (1, 2, 3)})
        self.assertAlmostEqual(result.evaluate_metrics_clientapp[3]["accuracy"], digits.accuracy(model), places=3)

    def test_an_epsilon_says_between_what_it_is(self):
        # And without noise there is none: 0 would be perfect privacy.
        log = logging.getLogger("flwr.anchorhold")
        with self.assertLogs(log, "INFO") as said:
            metrics = dict(self.start(1).train_metrics_clientapp[1])
        self.assertEqual([k for k in metrics if "epsilon" in k], ["spent-epsilon-add-remove"])
        told = [line for line in said.output if "epsilon" in line]
        self.assertEqual(len(told), 1)
        self.assertIn("off by 0.25 of clip_l2; the account has spent an epsilon of 1.5 at delta 1e-05 (add-remove)", told[0])
        self.rounds.epsilon = 0.0
        metrics = dict(self.start(1).train_metrics_clientapp[1])
        self.assertEqual(metrics, {"contributions": OF, "expected-error": 0.25})

    def test_a_client_without_examples_weighs_nothing(self):
        self.examples = [None, 0, None]
        result = self.start(1)
        self.assertEqual(result.train_metrics_clientapp[1]["contributions"], 2)
        start = np.concatenate([a.ravel() for a in self.first])
        parts = [digits.update(start, i, OF, 0) for i in (0, 2)]
        want = start + sum(c.astype(float) * n for c, n in parts) / sum(n for _, n in parts)
        got = np.concatenate([a.ravel() for a in result.arrays.to_numpy_ndarrays()])
        np.testing.assert_allclose(got, want, atol=1e-5)

    def test_no_client_with_examples_leaves_the_model_as_it_was(self):
        self.examples = [0] * OF
        result = self.start(2)
        self.assertEqual(self.rounds.abandoned, self.rounds.opened)
        self.assertEqual((result.train_metrics_clientapp, result.evaluate_metrics_clientapp), ({}, {}))

    def test_an_update_in_the_clear_is_refused(self):
        with self.assertRaises(UpdateInTheClear):
            self.start(1, [protect(self.app(0)), self.app(1), protect(self.app(2))])
        self.assertEqual(self.rounds.abandoned, self.rounds.opened)

    def test_other_refusals_end_the_training(self):
        self.rounds.fail = Refused("privacy-budget-exhausted", "epsilon 9 of 8")
        with self.assertRaises(Refused):
            self.start(1)

    def test_the_weight_has_one_name(self):
        with self.assertRaisesRegex(ValueError, "num-examples"):
            AnchorholdFedAvg(self.rounds, weighted_by_key="n")

    def test_whole_numbers_stay_whole(self):
        fake = FakeAgent(2)
        self.addCleanup(fake.close)
        rounds = FakeRounds(fake)
        contexts = [Context(1, i, {"anchorhold-socket": fake.socket_path}, RecordDict(), {}) for i in range(2)]

        def counting(by):
            app = ClientApp()

            @app.train()
            def train(message, _):
                w, n = message.content.array_records["arrays"].to_numpy_ndarrays()
                after = ArrayRecord({"w": Array(w + by), "n": Array(np.asarray(n + by))})
                return Message(RecordDict({"arrays": after, "metrics": MetricRecord({"num-examples": 1})}), reply_to=message)

            return protect(app)

        first = ArrayRecord({"w": Array(np.zeros(1, np.float16)), "n": Array(np.asarray(5, np.int64))})
        strategy = AnchorholdFedAvg(rounds, fraction_evaluate=0.0)
        got = strategy.start(Grid([counting(1), counting(2)], contexts), first, num_rounds=1).arrays
        self.assertEqual([(k, a.numpy().dtype.str, a.numpy().shape, float(a.numpy().sum())) for k, a in got.items()],
                         [("w", "<f2", (1,), 1.5), ("n", "<i8", (), 6.0)])


class LegacyStrategyTest(unittest.TestCase):
    def setUp(self):
        self.fake = FakeAgent(4)
        self.addCleanup(self.fake.close)
        self.rounds = FakeRounds(self.fake)
        self.first = ndarrays_to_parameters([np.zeros((2, 2), np.float32)])
        self.strategy = legacy.AnchorholdFedAvg(
            self.rounds, initial_parameters=self.first, min_fit_clients=2, min_available_clients=2, on_fit_config_fn=lambda r: {"rate": 0.5},
            fit_metrics_aggregation_fn=lambda got: {"loss": sum(n * m["loss"] for n, m in got) / sum(n for n, _ in got)})

    def fit(self, clients, protected=True):
        manager = SimpleClientManager()
        for i in range(len(clients)):
            manager.register(type("Proxy", (), {"cid": str(i)})())
        asked = self.strategy.configure_fit(1, self.first, manager)
        out = []
        for (_, ins), (by, n) in zip(asked, clients):
            self.assertEqual((ins.config["rate"], ins.config["server_round"]), (0.5, 1))

            class One(NumPyClient):
                def fit(self, parameters, config):
                    return [parameters[0] + np.float32(by)], n, {"loss": 1.0}

            app = ClientApp(client_fn=lambda context: One().to_client())
            context = Context(1, 1, {"anchorhold-socket": self.fake.socket_path, "anchorhold-metrics": "loss=0:10:0.5"}, RecordDict(), {})
            message = Message(compat.fitins_to_recorddict(ins, keep_input=True), dst_node_id=1, message_type="train")
            reply = (protect(app) if protected else app)(message, context)
            out.append((None, compat.recorddict_to_fitres(reply.content, keep_input=True)))
        return out

    def test_weighted_mean(self):
        parameters, metrics = self.strategy.aggregate_fit(1, self.fit([(1, 1), (2, 3)]), [])
        np.testing.assert_allclose(parameters_to_ndarrays(parameters)[0], np.full((2, 2), 1.75))
        self.assertEqual(metrics, {"loss": 1.0, "contributions": 2, "expected-error": 0.25, "spent-epsilon-add-remove": 1.5})

    def test_no_examples(self):
        self.assertEqual(self.strategy.aggregate_fit(1, self.fit([(1, 0), (2, 0)]), []), (None, {}))
        self.assertEqual(self.rounds.abandoned, self.rounds.opened)
        none = EvaluateRes(Status(Code.OK, ""), 5.0, 0, {})
        some = EvaluateRes(Status(Code.OK, ""), 1.0, 1, {})
        self.assertEqual(self.strategy.aggregate_evaluate(1, [(None, none)], []), (None, {}))
        self.assertEqual(self.strategy.aggregate_evaluate(1, [(None, none), (None, some)], [])[0], 1.0)

    def test_an_update_in_the_clear_is_refused(self):
        with self.assertRaises(UpdateInTheClear):
            self.strategy.aggregate_fit(1, self.fit([(1, 1), (2, 3)], protected=False), [])
        self.assertEqual(self.rounds.abandoned, self.rounds.opened)

    def test_failures_that_are_not_accepted(self):
        self.strategy.accept_failures = False
        self.assertEqual(self.strategy.aggregate_fit(1, self.fit([(1, 1), (2, 3)]), [ValueError()]), (None, {}))
        self.assertEqual(self.rounds.abandoned, self.rounds.opened)

    def test_nothing_was_asked(self):
        self.assertEqual(self.strategy.aggregate_fit(1, [], []), (None, {}))


if __name__ == "__main__":
    unittest.main()
