"""A real training task for federated rounds: scikit-learn's handwritten digits
(1,797 images of 8 by 8, ten classes), one hidden layer, NumPy alone, participants
with data of different kinds (Dirichlet split). Deterministic.

    python3 digits.py init     --model model.f32
    python3 digits.py train    --model model.f32 --index 3 --of 8 --round 2 --out update.f32
    python3 digits.py train    --model model.f32 --of 8 --round 2 --out update%d.f32    (all of them)
    python3 digits.py apply    --model model.f32 --mean mean.f32
    python3 digits.py evaluate --model model.f32
    python3 digits.py baseline --of 8 --rounds 5       plain federated averaging, in one process
    python3 digits.py privacy  --of 8 --rounds 5       accuracy against epsilon: CSV and SVG

train prints one line of JSON: for each participant its examples (the weight) and the
norm of its update.
"""

import argparse
import json
import math
import os
import sys

import numpy as np

HIDDEN = 32
SHAPES = ((64, HIDDEN), (HIDDEN,), (HIDDEN, 10), (10,))
LENGTH = sum(math.prod(s) for s in SHAPES)
EPOCHS, BATCH, RATE = 5, 16, 0.2
CLIP = 3.0  # of an update's Euclidean norm; see docs/performance.md


def data():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(7).permutation(len(x))
    x, y = (x[order] / 16.0).astype(np.float32), y[order]
    return (x[:1437], y[:1437]), (x[1437:], y[1437:])


def part(index, of):
    """The examples of one participant: each class is dealt out by a Dirichlet
    distribution with concentration 0.5, so that participants see different digits."""
    (x, y), _ = data()
    rng = np.random.default_rng(11)
    mine = []
    for label in range(10):
        where = np.flatnonzero(y == label)
        shares = np.cumsum(rng.dirichlet([0.5] * of))[:-1]
        mine.append(np.split(where, (shares * len(where)).astype(int))[index])
    mine = np.concatenate(mine)
    return x[mine], y[mine]


def unpack(flat):
    out, at = [], 0
    for shape in SHAPES:
        n = math.prod(shape)
        out.append(flat[at : at + n].reshape(shape))
        at += n
    return out


def initial():
    rng = np.random.default_rng(1)
    weights = [rng.normal(0, 1 / math.sqrt(s[0]), s) if len(s) == 2 else np.zeros(s) for s in SHAPES]
    return np.concatenate([w.ravel() for w in weights]).astype(np.float32)


def logits(model, x):
    w1, b1, w2, b2 = unpack(model)
    return np.maximum(x @ w1 + b1, 0) @ w2 + b2


def accuracy(model):
    _, (x, y) = data()
    return float((logits(model, x).argmax(axis=1) == y).mean())


def update(model, index, of, round_number):
    """Local training from the global model; returns the difference and the number of
    examples."""
    x, y = part(index, of)
    rng = np.random.default_rng(1000 * round_number + index)
    new = model.astype(np.float64).copy()
    w1, b1, w2, b2 = unpack(new)
    for _ in range(EPOCHS):
        for batch in np.array_split(rng.permutation(len(x)), max(len(x) // BATCH, 1)):
            if not len(batch):
                continue
            hidden = np.maximum(x[batch] @ w1 + b1, 0)
            z = hidden @ w2 + b2
            p = np.exp(z - z.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            p[np.arange(len(batch)), y[batch]] -= 1
            p /= len(batch)
            back = (p @ w2.T) * (hidden > 0)
            w2 -= RATE * hidden.T @ p
            b2 -= RATE * p.sum(axis=0)
            w1 -= RATE * x[batch].T @ back
            b1 -= RATE * back.sum(axis=0)
    return (new - model).astype(np.float32), len(x)


def clipped(v, bound):
    norm = float(np.linalg.norm(v))
    return v * min(1, bound / norm) if norm else v


def federate(of, rounds, clip=None, multiplier=0.0, seed=0):
    """Federated averaging in one process, with clipping and central noise if wanted:
    every participant counts the same then, as privacy demands."""
    model, rng = initial(), np.random.default_rng(seed)
    for r in range(rounds):
        total, weights = np.zeros(LENGTH), 0
        for i in range(of):
            v, n = update(model, i, of, r)
            if clip:
                v, n = clipped(v, clip), 1
            total += v.astype(np.float64) * n
            weights += n
        if multiplier:
            total += rng.normal(0, multiplier * clip, LENGTH)
        model = (model + total / weights).astype(np.float32)
    return model


def gaussian_epsilon(multiplier, rounds, delta=1e-5):
    """Of so many Gaussian mechanisms together (Balle and Wang 2018)."""
    mu = math.sqrt(rounds) / multiplier
    phi = lambda x: math.erfc(-x / math.sqrt(2)) / 2
    low, high = 0.0, 200.0
    for _ in range(200):
        e = (low + high) / 2
        if phi(mu / 2 - e / mu) - math.exp(e) * phi(-mu / 2 - e / mu) > delta:
            low = e
        else:
            high = e
    return high


def multiplier_for(epsilon, rounds):
    low, high = 0.05, 200.0
    for _ in range(100):
        m = math.sqrt(low * high)
        if gaussian_epsilon(m, rounds) > epsilon:
            low = m
        else:
            high = m
    return high


def svg(points, plain):
    """A small plot: accuracy against epsilon on a logarithmic axis."""
    w, h, left, top = 560, 320, 56, 24
    xs = [math.log2(e) for e, _, _ in points]
    lo, hi = min(xs) - 0.3, max(xs) + 0.3
    px = lambda e: left + (math.log2(e) - lo) / (hi - lo) * (w - left - 16)
    py = lambda a: top + (1 - a) * (h - top - 48)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" font-family="sans-serif" font-size="12">',
           f'<rect width="{w}" height="{h}" fill="white"/>']
    for a in (0, 0.2, 0.4, 0.6, 0.8, 1):
        out.append(f'<line x1="{left}" x2="{w - 16}" y1="{py(a):.1f}" y2="{py(a):.1f}" stroke="#ddd"/><text x="{left - 8}" y="{py(a) + 4:.1f}" text-anchor="end">{a:.1f}</text>')
    out.append(f'<line x1="{left}" x2="{w - 16}" y1="{py(plain):.1f}" y2="{py(plain):.1f}" stroke="#888" stroke-dasharray="4 3"/>'
               f'<text x="{w - 18}" y="{py(plain) - 5:.1f}" text-anchor="end" fill="#666">without privacy {plain:.3f}</text>')
    for of, colour in ((8, "#b3541e"), (64, "#1e6fb3")):
        line = [(e, a) for e, a, n in points if n == of]
        if line:
            out.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="' + " ".join(f"{px(e):.1f},{py(a):.1f}" for e, a in line) + '"/>')
            out += [f'<circle cx="{px(e):.1f}" cy="{py(a):.1f}" r="3" fill="{colour}"/>' for e, a in line]
            out.append(f'<text x="{px(line[-1][0]) - 6:.1f}" y="{py(line[-1][1]) + 18:.1f}" text-anchor="end" fill="{colour}">{of} participants</text>')
    for e in sorted({e for e, _, _ in points}):
        out.append(f'<text x="{px(e):.1f}" y="{h - 28}" text-anchor="middle">{e:g}</text>')
    out.append(f'<text x="{(left + w) / 2}" y="{h - 8}" text-anchor="middle">epsilon in all rounds (a contribution more or less), delta 1e-5</text>'
               f'<text x="14" y="{h / 2}" transform="rotate(-90 14 {h / 2})" text-anchor="middle">test accuracy</text></svg>')
    return "\n".join(out) + "\n"


def privacy(rounds, directory):
    plain = float(np.mean([accuracy(federate(8, rounds))]))
    points, rows = [], ["participants,epsilon_add_remove,multiplier,accuracy"]
    for of in (8, 64):
        for epsilon in (1, 2, 4, 8, 16, 32):
            m = multiplier_for(epsilon, rounds)
            a = float(np.mean([accuracy(federate(of, rounds, clip=1.0 if of > 8 else CLIP, multiplier=m, seed=s)) for s in range(3)]))
            points.append((epsilon, a, of))
            rows.append(f"{of},{epsilon},{m:.4f},{a:.4f}")
            print(rows[-1], flush=True)
    with open(os.path.join(directory, "digits-privacy.csv"), "w") as f:
        f.write("\n".join(rows) + "\n")
    with open(os.path.join(directory, "digits-privacy.svg"), "w") as f:
        f.write(svg(points, plain))


def main(argv=None):
    parser = argparse.ArgumentParser(prog="digits", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = parser.add_subparsers(dest="command", required=True)
    for name in ("init", "train", "apply", "evaluate", "baseline", "privacy"):
        p = sub.add_parser(name)
        if name in ("init", "train", "apply", "evaluate"):
            p.add_argument("--model", required=True)
        if name == "train":
            p.add_argument("--index", type=int)
            p.add_argument("--round", type=int, default=0)
            p.add_argument("--out", required=True)
        if name in ("train", "baseline"):
            p.add_argument("--of", type=int, default=8)
        if name in ("baseline", "privacy"):
            p.add_argument("--rounds", type=int, default=5)
        if name == "baseline":
            p.add_argument("--clip", type=float, default=0)
        if name == "apply":
            p.add_argument("--mean", required=True)
        if name == "privacy":
            p.add_argument("--directory", default=".")
    args = parser.parse_args(argv)
    load = lambda path: np.fromfile(path, dtype="<f4")
    if args.command == "init":
        initial().tofile(args.model)
        answer = {"length": LENGTH}
    elif args.command == "train":
        answer = []
        for i in range(args.of) if args.index is None else [args.index]:
            v, n = update(load(args.model), i, args.of, args.round)
            v.tofile(args.out % i if "%d" in args.out else args.out)
            answer.append({"participant": i, "examples": n, "norm": float(np.linalg.norm(v)), "largest": float(np.abs(v).max())})
    elif args.command == "apply":
        (load(args.model) + load(args.mean)).astype("<f4").tofile(args.model)
        answer = {"norm": float(np.linalg.norm(load(args.mean)))}
    elif args.command == "evaluate":
        answer = {"accuracy": accuracy(load(args.model))}
    elif args.command == "baseline":
        answer = {"accuracy": accuracy(federate(args.of, args.rounds, clip=args.clip or None)), "rounds": args.rounds, "participants": args.of}
    else:
        privacy(args.rounds, args.directory)
        return 0
    json.dump(answer, sys.stdout)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
