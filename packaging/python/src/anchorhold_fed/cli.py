"""Command anchorhold-fed: a participant's rounds without the Go command line.

    anchorhold-fed round  --round R
    anchorhold-fed submit --round R update.f32 --weight 120
    anchorhold-fed result --round R --out mean.f32
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from http.client import HTTPException
from typing import Any

from .agent import DEFAULT_SOCKET, Agent, Refused


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0, 1 if it failed, 2 if the command
    line is wrong, 3 if it was refused."""
    args = _parser().parse_args(argv)
    try:
        answer = _run(args)
    except Refused as e:
        print(f"refused: {e}", file=sys.stderr)
        return 3
    except ValueError as e:
        print(f"anchorhold-fed: {e}", file=sys.stderr)
        return 2
    except (OSError, HTTPException) as e:
        print(f"anchorhold-fed: {e}", file=sys.stderr)
        return 1
    json.dump(answer, sys.stdout, indent=2)
    print()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="anchorhold-fed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = parser.add_subparsers(dest="command", required=True)
    for name, text in (("round", "show a round"), ("submit", "submit a vector"), ("result", "fetch the published mean")):
        p = sub.add_parser(name, help=text)
        p.add_argument("--socket", default=DEFAULT_SOCKET, help="the agent's (default %(default)s)")
        p.add_argument("--round", required=True)
        if name == "submit":
            p.add_argument("file", help="little-endian float32 values; - is standard input")
            p.add_argument("--weight", type=int, default=1)
            p.add_argument("--f16", action="store_true", help="the values are float16")
        if name == "result":
            p.add_argument("--out", help="file for the mean, little-endian float32")
    return parser


def _run(args: argparse.Namespace) -> Any:
    agent = Agent(args.socket)
    if args.command == "round":
        return agent.round(args.round)
    if args.command == "submit":
        with sys.stdin.buffer if args.file == "-" else open(args.file, "rb") as f:
            job = agent.submit(args.round, f, args.weight, args.f16)
        return agent.wait(job)
    answer = agent.result(args.round)
    if args.out:
        with open(args.out, "wb") as f:
            agent.values(args.round).tofile(f)
    return answer
