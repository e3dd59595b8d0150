"""The task: least squares on made data, each node with a part of its own."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

NDArrays = list[npt.NDArray[np.float32]]

SHAPES = ((40, 25), (25,))
STEPS, RATE = 5, 0.05


def initial() -> NDArrays:
    return [np.zeros(s, np.float32) for s in SHAPES]


def data(partition: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    truth = np.random.default_rng(1).normal(size=SHAPES[0])
    rng = np.random.default_rng(100 + partition)
    x = rng.normal(loc=partition, size=(60 + 20 * partition, SHAPES[0][0]))
    return x, x @ truth + rng.normal(size=(len(x), SHAPES[1][0]))


def loss(arrays: NDArrays, partition: int) -> float:
    x, y = data(partition)
    return float(np.mean((x @ arrays[0] + arrays[1] - y) ** 2))


def train(arrays: NDArrays, partition: int, kind: str) -> tuple[NDArrays, int]:
    """A few steps of gradient descent. Every kind of message starts elsewhere, so that
    what one leaks is nothing that another sent."""
    x, y = data(partition)
    w, b = (a.astype(np.float64) for a in arrays)
    w = w + np.random.default_rng(zlib.crc32(kind.encode()) + partition).normal(scale=1e-3, size=w.shape)
    for _ in range(STEPS):
        error = x @ w + b - y
        w -= RATE * x.T @ error / len(x)
        b -= RATE * error.mean(axis=0)
    return [w.astype(np.float32), b.astype(np.float32)], len(x)


def flat(arrays: NDArrays) -> npt.NDArray[np.float32]:
    return np.concatenate([a.ravel() for a in arrays])


def learned(before: NDArrays, partition: int, kind: str, evidence: str) -> tuple[NDArrays, npt.NDArray[np.float32], int]:
    """Trains, and writes down what nobody else may see, for those who search the traffic
    for it: the trained model and the difference, float32, in a file of their own."""
    after, n = train(before, partition, kind)
    change = flat(after) - flat(before)
    for name, values in (("model", flat(after)), ("update", change)):
        path = Path(evidence) / f"{kind}@{partition}.{name}.{os.getpid()}.f32"
        path.write_bytes(values.astype("<f4").tobytes())
    return after, change, n
