import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(__file__))

try:
    import flwr.app  # noqa: F401
except ImportError as missing:
    raise unittest.SkipTest(f"NOT TESTED with Flower: {missing}")

from anchorhold_fed import DEFAULT_SOCKET
from anchorhold_flower import Metric, Settings, parse_metrics
from anchorhold_flower.settings import MAX_LEVELS, MAX_METRICS


class SettingsTest(unittest.TestCase):
    def test_metrics_are_clamped_and_rounded(self):
        rule = Metric(0, 1, 0.01)
        self.assertEqual(rule.levels, 101)
        for value, want in ((0.123456789, 0.12), (-5, 0.0), (7, 1.0), (0.999, 1.0), (1e300, 1.0), (0.07, 0.07)):
            self.assertEqual(rule.released(value), want)
        self.assertEqual(Metric(-1, 1, 0.3).released(1), 0.8)  # the last level below HIGH
        self.assertEqual(Metric(0, 1000, 100).released(449), 400)

    def test_a_metric_tells_no_more_than_sixteen_bits(self):
        self.assertEqual(Metric(0, MAX_LEVELS - 1, 1).levels, MAX_LEVELS)
        with self.assertRaisesRegex(ValueError, "65537 levels"):
            Metric(0, MAX_LEVELS, 1)

    def test_malformed_metrics(self):
        for text in ("accuracy", "accuracy=0:1", "accuracy=0:1:x", "accuracy=1:0:0.1", "accuracy=0:1:0", "accuracy=0:1:-1", "accuracy=0:inf:1",
                     "accuracy=nan:1:1", "=0:1:1", "a b=0:1:1", "a=0:1:1,a=0:1:1", "x" * 65 + "=0:1:1"):
            with self.subTest(text), self.assertRaises(ValueError):
                parse_metrics(text)
        many = [f"m{i}=0:1:0.1" for i in range(MAX_METRICS + 1)]
        self.assertEqual(len(parse_metrics(",".join(many[:-1]))), MAX_METRICS)
        with self.assertRaisesRegex(ValueError, "17 metrics"):
            parse_metrics(",".join(many))
        self.assertEqual(parse_metrics(""), {})

    def test_a_nodes_configuration(self):
        settings = Settings.of_node({})
        self.assertEqual((settings.agent.socket_path, settings.metrics, settings.timeout), (DEFAULT_SOCKET, {}, 3600))
        settings = Settings.of_node({"partition-id": 3, "anchorhold-socket": "/a.sock", "anchorhold-metrics": "loss=0:10:0.1", "anchorhold-timeout": 5})
        self.assertEqual((settings.agent.socket_path, settings.metrics, settings.timeout), ("/a.sock", {"loss": Metric(0, 10, 0.1)}, 5))
        for wrong in ({"anchorhold-metric": "loss=0:1:0.1"}, {"anchorhold-socket": 1}, {"anchorhold-timeout": 0}, {"anchorhold-timeout": True},
                      {"anchorhold-timeout": "5"}, {"anchorhold-metrics": 0.5}):
            with self.subTest(wrong), self.assertRaises(ValueError):
                Settings.of_node(wrong)


if __name__ == "__main__":
    unittest.main()
