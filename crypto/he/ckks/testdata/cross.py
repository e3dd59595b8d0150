"""SEAL's half of the cross-decryption test, at the template's primes.

cross.py export DIR   SEAL makes a key pair and encrypts; keys and ciphertext are
                      written in the package's encoding.
cross.py check DIR    SEAL decrypts what the package encrypted under SEAL's public key,
                      and under its own key with its own secret; errors are printed.

Residues change between SEAL's order of transformed coefficients and coefficient form
in SEAL's own transforms; nothing here knows a root of unity. The package seal-python
is needed (SEAL 4), and NumPy.
"""
import pathlib
import sys

import numpy as np
import seal

N = 16384
SCALE = 2.0**40
SUM = 3  # ciphertexts that are added


def context(primes):
    parms = seal.EncryptionParameters(seal.scheme_type.ckks)
    parms.set_poly_modulus_degree(N)
    parms.set_coeff_modulus(primes)
    return seal.SEALContext(parms)


def widths(primes):
    return [int(p.value()).bit_length() for p in primes]


def pack(polys, primes):
    """Bit-packs residues, shape (polys, primes, N), lowest bits first."""
    out = []
    for poly in polys:
        for row, width in zip(poly, widths(primes)):
            bits = np.unpackbits(np.ascontiguousarray(row, "<u8").view(np.uint8).reshape(N, 8), axis=1, bitorder="little")
            out.append(np.packbits(bits[:, :width].reshape(-1), bitorder="little").tobytes())
    return b"".join(out)


def unpack(data, count, primes):
    """The reverse of pack."""
    polys, at = np.zeros((count, len(primes), N), "<u8"), 0
    for i in range(count):
        for k, width in enumerate(widths(primes)):
            bits = np.unpackbits(np.frombuffer(data, np.uint8, N * width // 8, at), bitorder="little").reshape(N, width)
            padded = np.zeros((N, 64), np.uint8)
            padded[:, :width] = bits
            polys[i, k] = np.packbits(padded, axis=1, bitorder="little").view("<u8").reshape(N)
            at += N * width // 8
    assert at == len(data)
    return polys


def tail(serialized, shape):
    """The residues at the end of an uncompressed serialization."""
    count = int(np.prod(shape))
    return np.frombuffer(serialized, "<u8", count, len(serialized) - 8 * count).reshape(shape)


class Form:
    """Moves residues in and out of coefficient form through a context's ciphertexts.

    SEAL refuses ciphertexts whose second polynomial is zero, so one polynomial goes
    through in both places.
    """

    def __init__(self, primes):
        self.ctx, self.primes = context(primes), primes[:-1]
        self.evaluator = seal.Evaluator(self.ctx)
        public = seal.KeyGenerator(self.ctx).create_public_key()
        self.sample = seal.Encryptor(self.ctx, public).encrypt(seal.CKKSEncoder(self.ctx).encode(np.zeros(1), SCALE))

    def _with(self, ct, polys):
        blank = ct.to_string(seal.compr_mode_type.none)
        data = np.ascontiguousarray(polys, "<u8").tobytes()
        return self.ctx.from_cipher_str(blank[: len(blank) - len(data)] + data)

    def _polys(self, ct):
        return tail(ct.to_string(seal.compr_mode_type.none), (2, len(self.primes), N))

    def coefficients(self, polys):
        ct = self._with(self.sample, polys)
        self.evaluator.transform_from_ntt_inplace(ct)
        return self._polys(ct)

    def ciphertext(self, coefficients):
        blank = self.evaluator.transform_from_ntt(self.sample)
        ct = self._with(blank, coefficients)
        self.evaluator.transform_to_ntt_inplace(ct)
        return ct

    def transformed(self, coefficients):
        return self._polys(self.ciphertext(coefficients))


def contexts():
    chain = seal.CoeffModulus.Create(N, [60, 40, 40, 60])
    # One more prime as the special one, so that a ciphertext can hold the key's primes.
    extra = seal.CoeffModulus.Create(N, [60, 60, 60])[0]
    return chain, Form(chain), Form(list(chain) + [extra])


def spread(small, primes):
    """The residues of ternary coefficients, where 2 stands for -1."""
    return np.stack([np.where(small == 2, np.uint64(p.value() - 1), small.astype("<u8")) for p in primes])


def updates():
    return np.random.default_rng(1).normal(0, 0.05, (SUM, N // 2))


def export(folder):
    chain, data, key = contexts()
    keygen = seal.KeyGenerator(data.ctx)
    secret, public = keygen.secret_key(), keygen.create_public_key()
    (folder / "seal-secret-serialized").write_bytes(secret.to_string())
    rows = tail(secret.to_string(), (4, N))
    ternary = key.coefficients(np.stack([rows, rows]))[0]
    first = int(chain[0].value())
    small = np.where(ternary[0] == first - 1, 2, ternary[0]).astype(np.uint8)
    assert small.max() == 2
    assert np.array_equal(ternary, spread(small, chain))
    quads = small.reshape(-1, 4)
    (folder / "seal-secret").write_bytes((quads[:, 0] | quads[:, 1] << 2 | quads[:, 2] << 4 | quads[:, 3] << 6).tobytes())
    pair = key.coefficients(tail(public.to_string(), (2, 4, N)))
    (folder / "seal-public").write_bytes(pack(pair, chain))
    encoder, encryptor = seal.CKKSEncoder(data.ctx), seal.Encryptor(data.ctx, public)
    total = None
    for x in updates():
        ct = encryptor.encrypt(encoder.encode(x, SCALE))
        total = ct if total is None else data.evaluator.add(total, ct)
    residues = data.coefficients(tail(total.to_string(seal.compr_mode_type.none), (2, 3, N)))
    (folder / "seal-sum").write_bytes(pack(residues, chain[:3]))
    updates().sum(axis=0).astype("<f8").tofile(folder / "expected")


def check(folder):
    chain, data, key = contexts()
    expected = np.fromfile(folder / "expected", "<f8")
    encoder = seal.CKKSEncoder(data.ctx)

    def error(secret, name):
        ct = data.ciphertext(unpack((folder / name).read_bytes(), 2, chain[:3]))
        plain = seal.Decryptor(data.ctx, secret).decrypt(ct)
        return np.abs(encoder.decode(plain) - expected).max()

    serialized = (folder / "seal-secret-serialized").read_bytes()
    print(f"seal-key {error(data.ctx.from_secret_str(serialized), 'our-sum-seal-key'):.3g}")
    packed = np.frombuffer((folder / "our-secret").read_bytes(), np.uint8)
    ours = spread(np.stack([packed >> s & 3 for s in (0, 2, 4, 6)], axis=1).reshape(N), chain)
    rows = key.transformed(np.stack([ours, ours]))[0].tobytes()
    secret = data.ctx.from_secret_str(serialized[: len(serialized) - len(rows)] + rows)
    print(f"our-key {error(secret, 'our-sum-our-key'):.3g}")


{"export": export, "check": check}[sys.argv[1]](pathlib.Path(sys.argv[2]))
