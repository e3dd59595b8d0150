import base64
import contextlib
import io
import logging
import os
import re
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(__file__))

try:
    import numpy as np
    from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.client import NumPyClient
    from flwr.common import (
        Code, EvaluateIns, EvaluateRes, FitIns, FitRes, GetParametersIns, GetPropertiesIns, Status, ndarrays_to_parameters,
    )
    from flwr.compat.client.client import Client
    from flwr.compat.common import recorddict_compat as compat
    from flwr.supercore.task_identity import TaskIdentity
except ImportError as missing:
    raise unittest.SkipTest(f"NOT TESTED with Flower: {missing}")

from anchorhold_fed import Agent, Refused
from anchorhold_flower import ROUND_KEY, Settings, Withheld, anchorhold_mod, parse_metrics, protect
from anchorhold_flower.records import CODES, NO_EXAMPLES, SUBMITTED, outcome_of
from anchorhold_flower.guard import _OfAgent
from fake_agent import FakeAgent

ROUND = "ef" * 16
SECRET = np.random.default_rng(5).normal(size=6).astype(np.float32)
BEFORE = np.arange(6, dtype=np.float32)
TEXT = SECRET.tobytes().hex()

logging.getLogger("flwr.anchorhold").setLevel(logging.CRITICAL)
TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1  # as in a running task


def serialized(reply):
    """All the bytes of a reply that Flower sends: the message and its objects."""
    out, todo = b"", [reply]
    while todo:
        item = todo.pop()
        out += item.deflate()
        todo += (item.children or {}).values()
    return out


def holds_secret(data):
    """Whether a part of SECRET is in the bytes, in the encodings that leaks come in."""
    model = BEFORE + SECRET
    for v in (SECRET, model):
        for kind in ("<f4", "<f8", ">f4", "<f2"):
            raw = v.astype(kind).tobytes()
            forms = [raw[i : i + 2 * v.astype(kind).itemsize] for i in range(0, len(raw) - 1, v.astype(kind).itemsize)]
            if any(len(f) > 3 and f in data for f in forms):
                return True
    return any(f in data for f in (TEXT.encode(), base64.b64encode(SECRET.tobytes()), repr(float(SECRET[0])).encode(), b"secret"))


class GuardTest(unittest.TestCase):
    def setUp(self):
        self.fake = FakeAgent(6, max_weight=100)
        self.addCleanup(self.fake.close)
        self.named("loss=0:10:0.5,accuracy=0:1:0.1")

    def named(self, metrics, **more):
        config = {"anchorhold-socket": self.fake.socket_path, "anchorhold-metrics": metrics, "anchorhold-timeout": 30, **more}
        self.context = Context(run_id=1, node_id=2, node_config=config, state=RecordDict(), run_config={})

    def message(self, kind, content=None):
        if content is None:
            content = RecordDict({"arrays": ArrayRecord([BEFORE.reshape(2, 3)]), "config": ConfigRecord({ROUND_KEY: ROUND, "server-round": 1})})
        return Message(content, dst_node_id=2, message_type=kind)

    def ask(self, app, kind="train", content=None):
        """A protected app's reply; whatever it is, it holds nothing of the secret."""
        message = self.message(kind, content)
        reply = protect(app)(message, self.context)
        self.assertFalse(holds_secret(serialized(reply)), reply)
        self.assertEqual(reply.metadata.reply_to_message_id, message.metadata.message_id)
        return reply

    def refused(self, code, app, kind="train", content=None):
        reply = self.ask(app, kind, content)
        self.assertTrue(reply.has_error(), reply)
        self.assertEqual(reply.error.reason, "anchorhold: " + code)

    def app(self, records, kind="train", action="default"):
        """An app that answers with these records."""
        app = ClientApp()
        getattr(app, kind)(action)(lambda message, _: Message(RecordDict(dict(records)), reply_to=message))
        return app

    def trained(self, examples=3, arrays=None, **metrics):
        after = (BEFORE + SECRET).reshape(2, 3) if arrays is None else arrays
        return {"arrays": ArrayRecord([after]), "metrics": MetricRecord({"num-examples": examples, **metrics})}

    # Training.

    def test_training_is_submitted_and_the_server_gets_a_placeholder(self):
        for kind, action in (("train", "default"), ("train.special", "special")):
            with self.subTest(kind):
                self.fake.rounds.clear(), self.fake.jobs.clear()
                reply = self.ask(self.app(self.trained(loss=1.3, secret=float(SECRET[0]), more=SECRET.astype(float).tolist()), "train", action), kind)
                self.assertEqual(outcome_of(reply.content), SUBMITTED)
                self.assertEqual(dict(reply.content.metric_records["metrics"]), {"loss": 1.5, "num-examples": 1})
                self.assertEqual(list(reply.content), ["metrics", "anchorhold"])
                [(values, weight)] = self.fake.rounds[ROUND].values()
                np.testing.assert_allclose(values, SECRET, atol=1e-6)
                self.assertEqual(weight, 3)

    def test_the_weight_is_bounded_by_the_rounds(self):
        self.ask(self.app(self.trained(examples=5000)))
        [(_, weight)] = self.fake.rounds[ROUND].values()
        self.assertEqual(weight, 100)

    def test_no_examples_weigh_nothing(self):
        reply = self.ask(self.app(self.trained(examples=0)))
        self.assertEqual(outcome_of(reply.content), NO_EXAMPLES)
        self.assertEqual(reply.content.metric_records["metrics"]["num-examples"], 0)
        self.assertEqual(self.fake.rounds, {})

    def test_examples_are_told_only_where_they_are_named(self):
        self.named("num-examples=0:1000:10")
        reply = self.ask(self.app(self.trained(examples=77)))
        self.assertEqual(reply.content.metric_records["metrics"]["num-examples"], 80)

    def test_what_a_round_cannot_carry_is_refused(self):
        good = self.trained()
        for name, records, code in (
            ("a second set of arrays", {**good, "control": ArrayRecord([SECRET])}, "reply-not-protectable"),
            ("another record", {"model": good["arrays"], "metrics": good["metrics"]}, "reply-not-protectable"),
            ("text", {**good, "note": ConfigRecord({"x": TEXT})}, "reply-not-protectable"),
            ("another shape", self.trained(arrays=SECRET), "reply-not-protectable"),
            ("another name", {**good, "arrays": ArrayRecord({"secret": Array(SECRET.reshape(2, 3))})}, "reply-not-protectable"),
            ("complex numbers", self.trained(arrays=SECRET.reshape(2, 3).astype(np.complex64)), "arrays-invalid"),
            ("not numpy's", {**good, "arrays": ArrayRecord({"0": Array("float32", (2, 3), "raw", SECRET.tobytes())})}, "arrays-invalid"),
            ("cut short", {**good, "arrays": ArrayRecord({"0": Array("float32", (2, 3), "numpy.ndarray", SECRET.tobytes())})}, "arrays-invalid"),
            ("no metrics", {"arrays": good["arrays"]}, "num-examples-invalid"),
            ("negative examples", self.trained(examples=-1), "num-examples-invalid"),
            ("half an example", self.trained(examples=0.5), "num-examples-invalid"),
            ("a list of examples", self.trained(examples=[1, 2]), "num-examples-invalid"),
            ("a named metric twice", {**good, "secret": MetricRecord({"num-examples": 1})}, "metric-invalid"),
            ("a named metric that is a list", self.trained(loss=SECRET.astype(float).tolist()), "metric-invalid"),
            ("a named metric that is not finite", self.trained(loss=float("nan")), "metric-invalid"),
            ("nothing", {}, "reply-not-protectable"),
        ):
            with self.subTest(name):
                self.refused(code, self.app(records))
        self.assertEqual(self.fake.rounds, {})

    def test_requests_that_cannot_be_protected(self):
        arrays, config = ArrayRecord([BEFORE.reshape(2, 3)]), ConfigRecord({ROUND_KEY: ROUND})
        called = []
        app = ClientApp()
        app.train()(lambda message, _: called.append(message))
        for name, records, code in (
            ("no round", {"arrays": arrays, "config": ConfigRecord({})}, "round-not-named"),
            ("no configuration", {"arrays": arrays}, "round-not-named"),
            ("two rounds", {"arrays": arrays, "config": config, "other": ConfigRecord({ROUND_KEY: ROUND})}, "round-not-named"),
            ("a malformed round", {"arrays": arrays, "config": ConfigRecord({ROUND_KEY: "../x"})}, "round-not-named"),
            ("no arrays", {"config": config}, "request-invalid"),
            ("two models", {"arrays": arrays, "more": arrays, "config": config}, "request-invalid"),
            ("another length", {"arrays": ArrayRecord([BEFORE[:5]]), "config": config}, "round-mismatch"),
        ):
            with self.subTest(name):
                self.refused(code, app, content=RecordDict(records))
        self.assertEqual(called, [], "the app ran for nothing")

    def test_whole_numbers_and_scalars_are_trained_too(self):
        # Such as the counters of batch normalization.
        before = ArrayRecord({"w": Array(np.zeros(5, np.float64)), "n": Array(np.asarray(7, np.int64))})
        after = ArrayRecord({"w": Array(np.ones(5, np.float64)), "n": Array(np.asarray(9, np.int64))})
        content = RecordDict({"arrays": before, "config": ConfigRecord({ROUND_KEY: ROUND})})
        self.ask(self.app({"arrays": after, "metrics": MetricRecord({"num-examples": 1})}), content=content)
        [(values, _)] = self.fake.rounds[ROUND].values()
        self.assertEqual(list(values), [1, 1, 1, 1, 1, 2])

    def test_the_app_cannot_write_into_the_reply(self):
        app = ClientApp()

        @app.train()
        def train(message, _):
            message.metadata.group_id = TEXT
            reply = Message(RecordDict(self.trained()), reply_to=message)
            reply.metadata.group_id = TEXT
            return reply

        self.assertEqual(self.ask(app).metadata.group_id, "")

    def test_the_app_may_change_the_arrays_that_it_was_sent(self):
        app = ClientApp()

        @app.train()
        def train(message, _):
            arrays = message.content.array_records["arrays"]
            arrays["0"] = Array(arrays["0"].numpy() + SECRET.reshape(2, 3))
            return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})}), reply_to=message)

        self.ask(app)
        [(values, _)] = self.fake.rounds[ROUND].values()
        np.testing.assert_allclose(values, SECRET, atol=1e-6)

    # Exceptions.

    def test_of_an_exception_the_server_learns_that_there_was_one(self):
        def fail(*_):
            raise ValueError(TEXT)

        raising = ClientApp()
        for kind in ("train", "evaluate", "query"):
            getattr(raising, kind)()(fail)
        for kind in ("train", "evaluate"):
            self.refused("client-exception", raising, kind)
        cut = self.app(self.trained())
        cut.lifespan()(lambda _: fail())
        self.refused("client-exception", cut)
        late = self.app(self.trained())

        def leave(_):
            yield
            fail()

        late.lifespan()(leave)
        self.refused("client-exception", late)
        self.refused("client-exception", self.app(self.trained()), "train.absent")  # no such function
        none = ClientApp()
        none.train()(lambda *_: None)
        self.refused("reply-invalid", none)
        returned = ClientApp()
        returned.train()(lambda message, _: Message(Error(7, TEXT), reply_to=message))
        self.refused("client-error", returned)

    def test_an_app_cannot_write_a_code(self):
        class Stop(BaseException):
            pass

        class Evil(Withheld):
            @property
            def code(self):
                raise ValueError(TEXT)

            @code.setter
            def code(self, value):
                pass

        class EvilArrays(ArrayRecord):
            def __init__(self, failure):
                super().__init__()
                self.__dict__["failure"] = failure

            def __iter__(self):
                raise self.failure

            def values(self):
                raise self.failure

        class Odd:
            def has_error(self):
                return True

            @property
            def error(self):
                raise Withheld(TEXT, TEXT)

        for failure in (
            Withheld(TEXT, TEXT), Withheld([TEXT], TEXT), Withheld("metric-invalid", TEXT), _OfAgent(TEXT, TEXT), Evil(TEXT, TEXT), Refused(TEXT, TEXT), ExceptionGroup(TEXT, [Withheld(TEXT, TEXT)]),
            BaseExceptionGroup(TEXT, [Stop(TEXT)]), Stop(TEXT),
        ):
            with self.subTest(repr(failure)[:30]):
                app = ClientApp()
                app.train()(lambda *_, failure=failure: (_ for _ in ()).throw(failure))
                self.refused("client-exception", app)
        for failure in (Withheld(TEXT, TEXT), Evil(TEXT, TEXT), Stop(TEXT), _OfAgent("of-the-app", TEXT)):
            with self.subTest(repr(failure)[:30], read="arrays"):
                content = RecordDict({"arrays": EvilArrays(failure), "metrics": MetricRecord({"num-examples": 1})})
                self.refused("client-exception", self.app(content))
        app = ClientApp()
        app.train()(lambda *_: Odd())
        self.refused("reply-invalid", app)
        # Flower's own end of the process, by a signal, is left to it.
        app = ClientApp()
        app.train()(lambda *_: sys.exit(1))
        with self.assertRaises(SystemExit):
            protect(app)(self.message("train"), self.context)

    def test_an_apps_own_arrays_are_taken_as_plain_ones(self):
        class Numbers(np.ndarray):
            def astype(self, *_, **__):
                raise Refused("of-the-app", TEXT)

        class Own:
            def numpy(self):
                return (BEFORE + SECRET).reshape(2, 3).view(Numbers)

        class Arrays(ArrayRecord):
            def values(self):
                return [Own()]

        content = self.trained()
        content["arrays"] = Arrays(content["arrays"].to_numpy_ndarrays())
        self.assertEqual(outcome_of(self.ask(self.app(content)).content), SUBMITTED)

    def test_what_an_app_raises_is_printed_and_nothing_of_that_leaves(self):
        class Text:
            def __str__(self):
                raise RecursionError(TEXT)  # which logging hands on

        class Cause(Exception):
            @property
            def __cause__(self):
                raise RecursionError(TEXT)

        class Traceback(Exception):
            @property
            def __traceback__(self):
                raise ValueError(TEXT)

        class Failing(ArrayRecord):
            def __iter__(self):
                raise self.__dict__["failure"]

        log, out = logging.getLogger("flwr.anchorhold"), logging.StreamHandler(io.StringIO())
        log.addHandler(out)
        self.addCleanup(log.removeHandler, out)
        self.addCleanup(log.setLevel, log.level)
        log.setLevel(logging.ERROR)
        with contextlib.redirect_stderr(io.StringIO()):
            for failure in (Cause(TEXT), Traceback(TEXT)):
                app = ClientApp()
                app.train()(lambda *_, failure=failure: (_ for _ in ()).throw(failure))
                with self.subTest(type(failure).__name__):
                    self.refused("client-exception", app)
            for failure, code in ((Cause(TEXT), "client-exception"), (Traceback(TEXT), "client-exception"), (Withheld("metric-invalid", Text()), "metric-invalid")):
                arrays = Failing(self.trained()["arrays"].to_numpy_ndarrays())
                arrays.__dict__["failure"] = failure
                with self.subTest(type(failure).__name__, read="arrays"):
                    self.refused(code, self.app({**self.trained(), "arrays": arrays}))

    def test_every_code_is_written_down(self):
        here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        with open(os.path.join(here, "README.md")) as f:
            text = f.read()
        for code in CODES:
            self.assertIn(f"`{code}`", text)
        for name in ("guard.py", "records.py"):
            with open(os.path.join(here, "src", "anchorhold_flower", name)) as f:
                self.assertLessEqual(set(re.findall(r'Withheld\(\s*"([a-z-]+)"', f.read())), CODES)

    def test_an_app_that_cannot_be_loaded(self):
        with tempfile.TemporaryDirectory() as d:
            sys.path.insert(0, d)
            self.addCleanup(sys.path.remove, d)
            with open(os.path.join(d, "broken_app.py"), "w") as f:
                f.write(f"raise OSError('{TEXT}')\n")
            with open(os.path.join(d, "other_app.py"), "w") as f:
                f.write("app = 'secret'\n")
            self.refused("client-exception", "broken_app:app")
            self.refused("client-exception", "other_app:app")
            self.refused("client-exception", "absent_app:app")
        with self.assertRaises(ValueError):
            protect("no reference")
        with self.assertRaises(TypeError):
            protect(ClientApp()).train()

    # Evaluation.

    def test_an_evaluation_tells_what_is_named(self):
        for kind, action in (("evaluate", "default"), ("evaluate.special", "special")):
            answer = {"metrics": MetricRecord({"num-examples": 9, "accuracy": 0.8765, "secret": SECRET.astype(float).tolist()})}
            reply = self.ask(self.app(answer, "evaluate", action), kind)
            self.assertEqual(dict(reply.content.metric_records["metrics"]), {"accuracy": 0.9, "num-examples": 1})
            self.assertEqual(list(reply.content), ["metrics"])

    def test_evaluations_that_are_refused(self):
        good = MetricRecord({"num-examples": 9, "accuracy": 0.5})
        for name, records, code in (
            ("arrays", {"metrics": good, "arrays": ArrayRecord([SECRET])}, "reply-not-protectable"),
            ("text", {"metrics": good, "note": ConfigRecord({"x": TEXT})}, "reply-not-protectable"),
            ("nothing that is named", {"metrics": MetricRecord({"num-examples": 9, "secret": float(SECRET[0])})}, "metrics-not-named"),
            ("no weight", {"metrics": MetricRecord({"accuracy": 0.5})}, "num-examples-invalid"),
        ):
            with self.subTest(name):
                self.refused(code, self.app(records, "evaluate"), "evaluate")
        for metrics in ("", "num-examples=0:10:1"):
            self.named(metrics)
            self.refused("metrics-not-named", self.app({"metrics": good}, "evaluate"), "evaluate")

    def test_an_evaluation_without_examples_weighs_nothing(self):
        reply = self.ask(self.app({"metrics": MetricRecord({"num-examples": 0, "accuracy": 0.0})}, "evaluate"), "evaluate")
        self.assertEqual(reply.content.metric_records["metrics"]["num-examples"], 0)

    # Everything else.

    def test_no_other_message_reaches_the_app(self):
        called = []
        leak = RecordDict({"arrays": ArrayRecord([SECRET]), "note": ConfigRecord({"x": TEXT})})

        class Legacy(NumPyClient):
            def get_parameters(self, config):
                called.append(config)
                return [SECRET]

            def get_properties(self, config):
                called.append(config)
                return {"secret": TEXT}

        app = ClientApp()
        for action in ("default", "special"):
            app.query(action)(lambda message, _: called.append(message) or Message(leak, reply_to=message))
        legacy = ClientApp(client_fn=lambda context: Legacy().to_client())
        for kind in ("query", "query.special", "system", "system.special", "reconnect", "get_parameters", "get_properties"):
            content = leak
            if kind == "get_parameters":
                content = compat.getparametersins_to_recorddict(GetParametersIns({}))
            elif kind == "get_properties":
                content = compat.getpropertiesins_to_recorddict(GetPropertiesIns({}))
            for one in (app, legacy):
                with self.subTest(kind):
                    self.refused("message-type-not-protected", one, kind, content)
        self.assertEqual(called, [])

    def test_the_detector_finds_the_secret_without_the_guard(self):
        app = self.app({**self.trained(), "note": ConfigRecord({"x": TEXT})})
        message = self.message("train")
        self.assertTrue(holds_secret(serialized(app(message, self.context))))
        for form in (ArrayRecord([SECRET]), ArrayRecord([SECRET.astype(np.float64)]), MetricRecord({"x": SECRET.astype(float).tolist()}), ConfigRecord({"x": TEXT})):
            self.assertTrue(holds_secret(serialized(Message(RecordDict({"x": form}), reply_to=message))), form)

    # The agent.

    def test_the_agents_refusals_keep_their_code_and_lose_their_text(self):
        self.refused("vector-invalid", self.app(self.trained(arrays=np.full((2, 3), np.nan, np.float32))))
        self.fake.stuck = True
        self.named("", **{"anchorhold-timeout": 0.2})
        self.refused("agent-timeout", self.app(self.trained()))
        self.named("", **{"anchorhold-socket": "/nowhere/secret.sock"})
        self.refused("agent-unreachable", self.app(self.trained()))

    def test_a_configuration_that_is_wrong_sends_nothing(self):
        self.named("loss=secret")
        self.refused("configuration-invalid", self.app(self.trained()))
        self.named("", **{"anchorhold-sockets": "secret"})
        self.refused("configuration-invalid", self.app(self.trained()))

    def test_as_a_mod(self):
        settings = Settings(Agent(self.fake.socket_path), parse_metrics("loss=0:10:0.5"), 30)
        app = ClientApp(mods=[anchorhold_mod(settings)])
        app.train()(lambda message, _: Message(RecordDict(self.trained(loss=2.0)), reply_to=message))
        app.query()(lambda message, _: Message(RecordDict({"x": ArrayRecord([SECRET])}), reply_to=message))
        reply = app(self.message("train"), self.context)
        self.assertEqual(outcome_of(reply.content), SUBMITTED)
        reply = app(self.message("query"), self.context)
        self.assertEqual(reply.error.reason, "anchorhold: message-type-not-protected")

    # NumPyClient.

    def fit_message(self):
        return compat.fitins_to_recorddict(FitIns(ndarrays_to_parameters([BEFORE.reshape(2, 3)]), {ROUND_KEY: ROUND, "server_round": 1}), keep_input=True)

    def evaluate_message(self):
        return compat.evaluateins_to_recorddict(EvaluateIns(ndarrays_to_parameters([BEFORE.reshape(2, 3)]), {}), keep_input=True)

    def legacy(self, fit=None, evaluate=None):
        class Legacy(NumPyClient):
            def fit(self, parameters, config):
                return fit

            def evaluate(self, parameters, config):
                return evaluate

        return ClientApp(client_fn=lambda context: Legacy().to_client())

    def test_numpyclient_fit(self):
        after = [(BEFORE + SECRET).reshape(2, 3)]
        reply = self.ask(self.legacy(fit=(after, 3, {"loss": 1.3, "note": TEXT, "raw": SECRET.tobytes()})), "train", self.fit_message())
        got = compat.recorddict_to_fitres(reply.content, keep_input=True)
        self.assertEqual((got.parameters.tensors, got.num_examples, got.metrics, got.status.message), ([], 1, {"loss": 1.5, "anchorhold-outcome": SUBMITTED}, ""))
        [(values, weight)] = self.fake.rounds[ROUND].values()
        np.testing.assert_allclose(values, SECRET, atol=1e-6)
        self.assertEqual(weight, 3)
        self.fake.rounds.clear()
        reply = self.ask(self.legacy(fit=(after, 0, {})), "train", self.fit_message())
        got = compat.recorddict_to_fitres(reply.content, keep_input=True)
        self.assertEqual((got.num_examples, got.metrics, self.fake.rounds), (0, {"anchorhold-outcome": NO_EXAMPLES}, {}))

    def test_numpyclients_examples_are_told_where_they_are_named(self):
        self.named("num-examples=0:1000:10,loss=0:10:0.5")
        # What the client says by itself under the name is not its number of examples.
        reply = self.ask(self.legacy(fit=([BEFORE.reshape(2, 3)], 77, {"num-examples": 500.0})), "train", self.fit_message())
        got = compat.recorddict_to_fitres(reply.content, keep_input=True)
        self.assertEqual((got.num_examples, got.metrics), (80, {"anchorhold-outcome": SUBMITTED}))
        reply = self.ask(self.legacy(evaluate=(0.7, 77, {"num-examples": 500.0})), "evaluate", self.evaluate_message())
        evaluated = compat.recorddict_to_evaluateres(reply.content)
        self.assertEqual((evaluated.num_examples, evaluated.metrics), (80, {}))

    def test_numpyclient_fit_refused(self):
        for name, fit, code in (
            ("another shape", ([SECRET], 3, {}), "reply-not-protectable"),
            ("one array more", ([BEFORE.reshape(2, 3), SECRET], 3, {}), "reply-not-protectable"),
            ("text as a named metric", ([BEFORE.reshape(2, 3)], 3, {"loss": TEXT}), "metric-invalid"),
            ("no result", None, "client-exception"),
        ):
            with self.subTest(name):
                self.refused(code, self.legacy(fit=fit), "train", self.fit_message())
        self.refused("client-exception", self.legacy(fit=([BEFORE], 1, {})), "train.special", self.fit_message())

        class Failing(Client):
            def fit(self, ins):
                return FitRes(Status(Code.FIT_NOT_IMPLEMENTED, TEXT), ins.parameters, 1, {})

            def evaluate(self, ins):
                return EvaluateRes(Status(Code.EVALUATE_NOT_IMPLEMENTED, TEXT), 0.0, 1, {})

        app = ClientApp(client_fn=lambda context: Failing())
        self.refused("client-error", app, "train", self.fit_message())
        self.refused("client-error", app, "evaluate", self.evaluate_message())

    def test_numpyclient_evaluate(self):
        app = self.legacy(evaluate=(0.7, 9, {"accuracy": 0.8765, "note": TEXT}))
        got = compat.recorddict_to_evaluateres(self.ask(app, "evaluate", self.evaluate_message()).content)
        self.assertEqual((got.loss, got.num_examples, got.metrics, got.status.message), (0.5, 1, {"accuracy": 0.9}, ""))
        self.named("accuracy=0:1:0.1")
        self.refused("metrics-not-named", app, "evaluate", self.evaluate_message())


if __name__ == "__main__":
    unittest.main()
