"""Flower with Anchorhold's rounds: updates leave the client only through its
attested agent, encrypted, and the server works with the published mean.

On the client, in front of the app:

    app = ClientApp(client_fn, mods=[anchorhold_mod(Agent(socket), round_of)])

On the server:

    strategy = AnchorholdFedAvg(Agent(socket), close_round, initial_parameters=...)

round_of(server_round) names the round of a server round; close_round(server_round)
closes it, has it decrypted, and returns its name (anchorhold fed round close, decrypt,
finish). Tested with flwr 1.41.
"""

import numpy as np
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
from flwr.compat.common import recorddict_compat as compat
from flwr.server.strategy import FedAvg

PLACEHOLDER = "anchorhold: the update went through the agent"


def _flat(arrays):
    return np.concatenate([np.asarray(a, dtype=np.float32).ravel() for a in arrays]) if arrays else np.empty(0, np.float32)


def _shaped(flat, like):
    out, at = [], 0
    for a in like:
        a = np.asarray(a)
        out.append(flat[at : at + a.size].reshape(a.shape).astype(a.dtype))
        at += a.size
    return out


def anchorhold_mod(agent, round_of, timeout=3600):
    """A client mod: lets the app train, submits the difference through the agent, and
    sends the server a placeholder in place of the parameters."""

    def mod(msg, ctxt, call_next):
        if msg.metadata.message_type != "train":
            return call_next(msg, ctxt)
        ins = compat.recorddict_to_fitins(msg.content, keep_input=True)
        before = parameters_to_ndarrays(ins.parameters)
        reply = call_next(msg, ctxt)
        if reply.has_error():
            return reply
        result = compat.recorddict_to_fitres(reply.content, keep_input=False)
        after = parameters_to_ndarrays(result.parameters)
        if [np.shape(a) for a in after] != [np.shape(b) for b in before]:
            raise ValueError("the app returned parameters of other shapes than it was sent")
        server_round = int(ins.config.get("server_round", msg.metadata.group_id or 0))
        name = round_of(server_round)
        weight = max(1, min(int(result.num_examples), int(agent.round(name)["max_weight"])))
        agent.wait(agent.submit(name, _flat(after) - _flat(before), weight), timeout)
        result.parameters = ndarrays_to_parameters([])
        result.metrics = dict(result.metrics, anchorhold=PLACEHOLDER)
        reply.content = compat.fitres_to_recorddict(result, keep_input=False)
        return reply

    return mod


class AnchorholdFedAvg(FedAvg):
    """Federated averaging over sums that nobody sees apart."""

    def __init__(self, agent, close_round, *, initial_parameters, **kwargs):
        super().__init__(initial_parameters=initial_parameters, **kwargs)
        self.agent, self.close_round = agent, close_round
        self.current = parameters_to_ndarrays(initial_parameters)
        if self.on_fit_config_fn is None:
            self.on_fit_config_fn = lambda server_round: {"server_round": server_round}

    def aggregate_fit(self, server_round, results, failures):
        """Closes the round and adds its published mean to the model. A reply that
        carries an update in the clear is an error: it was not protected."""
        if not results:
            return None, {}
        if failures and not self.accept_failures:
            return None, {}
        for _, reply in results:
            if reply.parameters.tensors or reply.metrics.get("anchorhold") != PLACEHOLDER:
                raise ValueError("a client sent its update in the clear: it runs without anchorhold_mod")
        name = self.close_round(server_round)
        published = self.agent.result(name)
        mean = np.frombuffer(self.agent.values(name), dtype=np.float32)
        flat = _flat(self.current)
        if mean.size != flat.size:
            raise ValueError(f"the round has {mean.size} values, the model {flat.size}")
        self.current = _shaped(flat + mean, self.current)
        metrics = {"contributions": int(published["count"]), "epsilon": float(published.get("spent_epsilon", 0))}
        return ndarrays_to_parameters(self.current), metrics
