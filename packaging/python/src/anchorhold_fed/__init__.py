"""Federated rounds of Anchorhold from Python; the standard library is enough.

A participant hands its vector to the agent of its guest, which clips, rounds and
encrypts it. Nothing else leaves the guest.

    from anchorhold_fed import Agent
    agent = Agent("/run/anchorhold/agent.sock")
    agent.wait(agent.submit("5f2c...", update, weight=120))
    mean = agent.values("5f2c...")

Whoever operates the broker opens and closes rounds:

    from anchorhold_fed import Operator
    operator = Operator("/run/anchorhold-broker/operator.sock", ["/run/anchorhold-aggregator/admin.sock"])
    name = operator.open_round(model="digits", length=2410, clip_l2=3.0, contributors="everyone",
                               decryptor_image="sha256:5f2c...")["round"]
    operator.close_round(name)
"""

from .agent import DEFAULT_SOCKET, Agent, Refused, Vector
from .operator import Operator, Published, Rounds, Terms

__all__ = ["DEFAULT_SOCKET", "Agent", "Operator", "Published", "Refused", "Rounds", "Terms", "Vector"]
