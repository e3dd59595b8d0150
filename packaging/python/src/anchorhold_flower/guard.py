"""What stands between an app and the reply that Flower sends.

A reply leaves in one of three forms: "submitted" (or "no-examples") in place of a
trained model, the numbers that the node's configuration names, or an error that is a
reason code. Message types that are neither training nor evaluation are refused before
the app sees them.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Callable
from http.client import HTTPException
from typing import Any, NoReturn, TypeVar

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable, Mod
from flwr.common.constant import ErrorCode

from anchorhold_fed import Refused

from . import records
from .records import Withheld
from .settings import Settings

# Below Flower's own, whose level and form it takes: the SuperNode shows it.
log = logging.getLogger("flwr.anchorhold")

_T = TypeVar("_T")
_CODE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def anchorhold_mod(settings: Settings | None = None) -> Mod:
    """A mod that protects one app's functions: the first in the list of mods, so that
    no other works on what it lets through. settings are those of the node's
    configuration unless given. Use protect() where it can be: a mod does not see what
    an app does while it is loaded and in its lifespan."""

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        return guarded(message, context, call_next, settings)

    return mod


class _Protected(ClientApp):
    def __init__(self, app: ClientApp | str, settings: Settings | None) -> None:
        super().__init__()
        if isinstance(app, str) and not _REFERENCE.fullmatch(app):
            raise ValueError(f"{app!r} is no app: write module:attribute")
        self._app, self._settings = app, settings

    def __call__(self, message: Message, context: Context) -> Message:
        return guarded(message, context, self._run, self._settings)

    def _run(self, message: Message, context: Context) -> Message:
        app: object = self._app
        if isinstance(app, str):
            module, _, attribute = app.partition(":")
            app = getattr(importlib.import_module(module), attribute)
        if not isinstance(app, ClientApp):
            raise TypeError(f"{self._app!r} is no ClientApp")
        return app(message, context)

    def _not_here(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("register functions with the app that protect() was given")

    train = evaluate = query = lifespan = _not_here


def protect(app: ClientApp | str, settings: Settings | None = None) -> ClientApp:
    """An app whose every reply is protected or refused. app is a ClientApp, or the name
    of one (module:attribute), which is then loaded behind the guard too, so that the
    text of an exception at its import stays here."""
    return _Protected(app, settings)


def guarded(message: Message, context: Context, call: ClientAppCallable, settings: Settings | None) -> Message:
    """Has an app answer a message, and answers with what may leave."""
    # Both replies take their metadata before the app sees the message: it is not the
    # app's to write into.
    answer = Message(RecordDict(), reply_to=message)
    refusal = Message(Error(ErrorCode.MOD_FAILED_PRECONDITION, "withheld"), reply_to=message)
    kind = message.metadata.message_type
    try:
        answer.content = _answer(message, context, call, settings)
        return answer
    except (KeyboardInterrupt, SystemExit):
        raise  # Flower ends the process, and tells the server only that it did
    except BaseException as e:
        code = _code(e)
        if code:
            refusal.error = Error(ErrorCode.MOD_FAILED_PRECONDITION, f"anchorhold: {code}")
            _tell(e.__cause__, "%s: withheld from the server: %s: %s", kind, code, e)
        else:
            refusal.error = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "anchorhold: client-exception")
            _tell(e.__cause__ if type(e) is _AppFailed else e, "%s: the client's exception; the server is told client-exception and nothing of this", kind)
    return refusal


def _tell(cause: BaseException | None, text: str, *args: object) -> None:
    """Writes a line to the node's log. What an app raised runs code of the app's when it is
    printed: what that raises would reach the server in place of the refusal."""
    try:
        log.error(text, *args, exc_info=cause)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        log.error("what the client raised cannot be printed")


class _OfAgent(Withheld):
    """A refusal of the agent, with the agent's own code."""


class _AppFailed(Exception):
    """What the app raised, or what it returned when it was read: that is the cause."""


def _code(e: BaseException) -> str | None:
    """The code of a refusal of ours. What the app returns may raise Withheld when it is
    read, or what looks like it: of that nothing is called, and only our codes count."""
    if type(e) not in (Withheld, _OfAgent):
        return None
    code = e.__dict__.get("code")
    return code if type(code) is str and (type(e) is _OfAgent or code in records.CODES) else None


def _read(read: Callable[[], _T]) -> _T:
    """Reads what an app returned, which can raise whatever it likes: no code of the agent."""
    try:
        return read()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as e:
        if type(e) is Withheld:
            raise
        raise _AppFailed from e


def _answer(message: Message, context: Context, call: ClientAppCallable, settings: Settings | None) -> RecordDict:
    kind = message.metadata.message_type
    category = kind.partition(".")[0]
    if category not in ("train", "evaluate"):
        raise Withheld("message-type-not-protected", f"what an app answers to {kind!r} cannot be protected; only training and evaluation can")
    if not message.has_content():
        raise Withheld("request-invalid", "the message has no content")
    if settings is None:
        try:
            settings = Settings.of_node(context.node_config)
        except ValueError as e:
            raise Withheld("configuration-invalid", str(e)) from e
    if category == "train":
        return _train(message, context, call, settings)
    return _evaluate(message, context, call, settings)


def _train(message: Message, context: Context, call: ClientAppCallable, settings: Settings) -> RecordDict:
    asked = records.read_training(message.content)
    terms = _ask(lambda: settings.agent.round(asked.round_id))
    if terms.get("length") != asked.length:
        raise Withheld("round-mismatch", f"round {asked.round_id} takes {terms.get('length')} values, the model has {asked.length}")
    returned = _content(call, message, context)
    result = _read(lambda: records.read_trained(returned, asked))
    released = _read(lambda: _release(result.metrics, settings))
    if result.examples == 0:
        log.warning("no examples: nothing is submitted to round %s", asked.round_id)
        return records.trained_reply(asked.legacy, records.NO_EXAMPLES, released)
    weight = min(result.examples, int(terms.get("max_weight") or 1))
    _ask(lambda: settings.agent.wait(settings.agent.submit(asked.round_id, result.difference, weight), settings.timeout))
    log.info("submitted to round %s with weight %d", asked.round_id, weight)
    return records.trained_reply(asked.legacy, records.SUBMITTED, released)


def _evaluate(message: Message, context: Context, call: ClientAppCallable, settings: Settings) -> RecordDict:
    legacy = records.is_legacy(message.content, "evaluateins")
    named = set(settings.metrics) - {records.WEIGHT_KEY}
    if not named or legacy and "loss" not in named:
        needed = "loss" if legacy else "a metric"
        raise Withheld("metrics-not-named", f"an evaluation tells the server numbers about this node's data, and its configuration does not name {needed} (anchorhold-metrics)")
    returned = _content(call, message, context)
    result = _read(lambda: records.read_evaluated(returned, legacy))
    released = _read(lambda: _release(result.metrics, settings))
    if not set(released) - {records.WEIGHT_KEY}:
        raise Withheld("metrics-not-named", "the app returned none of the metrics that the node's configuration names (anchorhold-metrics)")
    return records.evaluated_reply(legacy, result.examples > 0, released)


def _content(call: ClientAppCallable, message: Message, context: Context) -> RecordDict:
    try:
        reply = call(message, context)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as e:
        raise _AppFailed from e
    if type(reply) is not Message:
        raise Withheld("reply-invalid", f"the app returned {type(reply).__name__}, not a Message")
    if _read(reply.has_error):
        raise Withheld("client-error", f"the app returned an error: {_read(lambda: reply.error.reason)}")
    return reply.content


def _release(metrics: Any, settings: Settings) -> dict[str, float]:
    released = records.release(metrics, settings.metrics)
    if rest := sorted(set(metrics) - set(released) - {records.WEIGHT_KEY}):
        log.warning("withheld from the server, for the node's configuration does not name them (anchorhold-metrics): %s", ", ".join(rest))
    return released


def _ask(call: Callable[[], Any]) -> Any:
    """Asks the agent; its refusals keep their code and lose their text."""
    try:
        return call()
    except Refused as e:
        raise _OfAgent(e.code if _CODE.fullmatch(e.code) else "agent-refused", e.message) from e
    except TimeoutError as e:
        raise Withheld("agent-timeout", str(e)) from e
    except (OSError, HTTPException) as e:
        raise Withheld("agent-unreachable", str(e)) from e
