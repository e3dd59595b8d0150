import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
sys.path.insert(0, os.path.dirname(__file__))

try:
    import numpy as np
    from flwr.app import Message
    from flwr.common import Code, FitIns, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
    from flwr.compat.common import recorddict_compat as compat
except ImportError as missing:
    raise unittest.SkipTest(f"NOT TESTED with Flower: {missing}")

import anchorhold_flower
import digits
from anchorhold_fed import Agent
from fake_agent import FakeAgent

OF = 3


def name_of(server_round):
    return f"{server_round:032x}"


class Metadata:
    def __init__(self, kind):
        self.message_type, self.group_id = kind, ""


class Envelope:
    """A message as a mod sees it: metadata and content."""

    def __init__(self, content, kind="train"):
        self.metadata, self.content = Metadata(kind), content

    def has_error(self):
        return False


def app(index):
    """A client app that trains digits."""

    def call(msg, _):
        ins = compat.recorddict_to_fitins(msg.content, keep_input=True)
        model = anchorhold_flower._flat(parameters_to_ndarrays(ins.parameters))
        change, n = digits.update(model, index, OF, int(ins.config["server_round"]) - 1)
        arrays = [a.astype(np.float32) for a in digits.unpack(model + change)]
        res = FitRes(Status(Code.OK, ""), ndarrays_to_parameters(arrays), n, {})
        return Envelope(compat.fitres_to_recorddict(res, keep_input=False))

    return call


class FlowerTest(unittest.TestCase):
    def setUp(self):
        self.fake = FakeAgent(digits.LENGTH, max_weight=10_000)
        self.addCleanup(self.fake.close)
        self.agent = Agent(self.fake.socket_path, timeout=30)
        first = ndarrays_to_parameters([a.astype(np.float32) for a in digits.unpack(digits.initial())])
        self.strategy = anchorhold_flower.AnchorholdFedAvg(self.agent, self.close_round, initial_parameters=first)
        self.parameters = first

    def close_round(self, server_round):
        self.fake.closed.add(name_of(server_round))
        return name_of(server_round)

    def replies(self, server_round, clients):
        config = self.strategy.on_fit_config_fn(server_round)
        out = []
        for client in clients:
            ins = FitIns(self.parameters, config)
            reply = client(Envelope(compat.fitins_to_recorddict(ins, keep_input=True)), None)
            out.append((None, compat.recorddict_to_fitres(reply.content, keep_input=True)))
        return out

    def protected(self, index):
        mod = anchorhold_flower.anchorhold_mod(self.agent, name_of)
        return lambda msg, ctxt: mod(msg, ctxt, app(index))

    def test_rounds_reach_what_plain_averaging_reaches(self):
        for server_round in (1, 2, 3):
            results = self.replies(server_round, [self.protected(i) for i in range(OF)])
            for _, reply in results:
                self.assertEqual(reply.parameters.tensors, [])
            self.parameters, metrics = self.strategy.aggregate_fit(server_round, results, [])
            self.assertEqual(metrics, {"contributions": OF, "epsilon": 1.5})
        model = anchorhold_flower._flat(parameters_to_ndarrays(self.parameters))
        plain = digits.accuracy(digits.federate(OF, 3))
        self.assertGreater(digits.accuracy(model), plain - 0.02)
        self.assertGreater(plain, 0.6)

    def test_an_update_in_the_clear_is_refused(self):
        results = self.replies(1, [self.protected(0), app(1)])
        with self.assertRaisesRegex(ValueError, "in the clear"):
            self.strategy.aggregate_fit(1, results, [])

    def test_other_messages_pass(self):
        mod = anchorhold_flower.anchorhold_mod(self.agent, name_of)
        marker = Envelope(None, "evaluate")
        self.assertIs(mod(marker, None, lambda m, _: m), marker)

    def test_nothing_is_aggregated_without_results(self):
        self.assertEqual(self.strategy.aggregate_fit(1, [], []), (None, {}))


if __name__ == "__main__":
    unittest.main()
