package appraise

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/nistec"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// verdicts verifies with both and fails where they differ.
func verdicts(t testing.TB, key *ecdsa.PublicKey, digest [scalarSize]byte, r, s *big.Int) bool {
	t.Helper()
	prepared, err := newCombKey(key)
	if err != nil {
		t.Fatal(err)
	}
	want, got := ecdsa.Verify(key, digest[:], r, s), prepared.verify(&digest, r, s)
	if got != want {
		t.Errorf("crypto/ecdsa says %t, a comb %t: key %x digest %x r %x s %x", want, got, encodedKey(t, key), digest, r, s)
	}
	return got
}

func newP384(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestACombMultipliesAsTheLibraryDoes(t *testing.T) {
	params := elliptic.P384().Params()
	combs := []*combPoint{newComb(affineOf(params.Gx, params.Gy), chipTeeth), generatorComb()}
	scalars := [][scalarSize]byte{{}, {scalarSize - 1: 1}, [scalarSize]byte(bytes.Repeat([]byte{0xff}, scalarSize)),
		[scalarSize]byte(p384Order.Bytes()), [scalarSize]byte(new(big.Int).Sub(p384Order, big.NewInt(1)).Bytes())}
	for i := range 8 * scalarSize {
		var s [scalarSize]byte
		s[i/8] = 1 << (i % 8)
		scalars = append(scalars, s)
	}
	for range 100 {
		var s [scalarSize]byte
		rand.Read(s[:])
		scalars = append(scalars, s)
	}
	for _, s := range scalars {
		want, err := nistec.NewP384Point().ScalarBaseMult(s[:])
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range combs {
			if got := encodedPoint(combSum(c, c, &s, &[scalarSize]byte{})); !bytes.Equal(got, want.Bytes()) {
				t.Errorf("%d teeth, scalar %x: another point", c.teeth, s)
			}
			if got := encodedPoint(combSum(c, combs[0], &s, &s)); !bytes.Equal(got, want.Double(want).Bytes()) {
				t.Errorf("%d teeth, twice scalar %x: another point", c.teeth, s)
			}
			if want, err = want.ScalarBaseMult(s[:]); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestACombSaysWhatTheStandardLibrarySays: random signatures, and each of them changed.
func TestACombSaysWhatTheStandardLibrarySays(t *testing.T) {
	for range 20 {
		key := newP384(t)
		var digest [scalarSize]byte
		rand.Read(digest[:])
		r, s := signP384(t, key, digest)
		if !verdicts(t, &key.PublicKey, digest, r, s) {
			t.Error("a genuine signature is refused")
		}
		if !verdicts(t, &key.PublicKey, digest, r, new(big.Int).Sub(p384Order, s)) {
			t.Error("its other form is refused")
		}
		flipped := digest
		flipped[0] ^= 1
		flip := func(n *big.Int, bit int) *big.Int { return new(big.Int).SetBit(n, bit, n.Bit(bit)^1) }
		for _, bad := range []struct {
			digest [scalarSize]byte
			r, s   *big.Int
		}{{flipped, r, s}, {digest, s, r}, {digest, flip(r, 0), s}, {digest, flip(r, 380), s}, {digest, r, flip(s, 0)}, {digest, r, flip(s, 380)},
			{digest, new(big.Int).Add(r, p384Order), s}, {digest, r, new(big.Int).Add(s, p384Order)}, {digest, new(big.Int).Neg(r), s}, {digest, r, new(big.Int).Neg(s)}} {
			if verdicts(t, &key.PublicKey, bad.digest, bad.r, bad.s) {
				t.Error("a changed signature is accepted")
			}
		}
		if other := newP384(t); verdicts(t, &other.PublicKey, digest, r, s) {
			t.Error("another key's signature is accepted")
		}
	}
}

func TestNumbersAtTheEdgesAreJudgedAlike(t *testing.T) {
	key := newP384(t)
	n := p384Order
	numbers := []*big.Int{new(big.Int), big.NewInt(1), big.NewInt(2), new(big.Int).Sub(n, big.NewInt(1)), n, new(big.Int).Add(n, big.NewInt(1)),
		elliptic.P384().Params().P, new(big.Int).Lsh(big.NewInt(1), 384), new(big.Int).Lsh(big.NewInt(1), 575), big.NewInt(-1)}
	digests := [][scalarSize]byte{{}, {scalarSize - 1: 1}, [scalarSize]byte(n.Bytes()), [scalarSize]byte(bytes.Repeat([]byte{0xff}, scalarSize))}
	for _, digest := range digests {
		for _, r := range numbers {
			for _, s := range numbers {
				if verdicts(t, &key.PublicKey, digest, r, s) {
					t.Errorf("r %x s %x is accepted", r, s)
				}
			}
		}
		if r, s := signP384(t, key, digest); !verdicts(t, &key.PublicKey, digest, r, s) {
			t.Errorf("digest %x is refused", digest)
		}
	}
}

// TestSumsThatAreSpecialElsewhere: both multiples are the same point, or opposites, or the
// sum's x is not below the group's order.
func TestSumsThatAreSpecialElsewhere(t *testing.T) {
	curve, n := elliptic.P384(), p384Order
	key := newP384(t)
	digestOf := func(v *big.Int) (d [scalarSize]byte) { v.FillBytes(d[:]); return d }
	mul := func(a, b *big.Int) *big.Int { v := new(big.Int).Mul(a, b); return v.Mod(v, n) }
	k, err := rand.Int(rand.Reader, n)
	if err != nil {
		t.Fatal(err)
	}
	point := must(t)(nistec.NewP384Point().ScalarBaseMult(k.FillBytes(make([]byte, scalarSize))))
	encoded, err := point.BytesX()
	if err != nil {
		t.Fatal(err)
	}
	r := new(big.Int).SetBytes(encoded)
	r.Mod(r, n)
	private, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	rd := mul(r, new(big.Int).SetBytes(private))
	s := mul(mul(rd, big.NewInt(2)), new(big.Int).ModInverse(k, n))
	if !verdicts(t, &key.PublicKey, digestOf(rd), r, s) {
		t.Error("twice one point: refused")
	}
	if verdicts(t, &key.PublicKey, digestOf(new(big.Int).Sub(n, rd)), r, s) {
		t.Error("the point at infinity: accepted")
	}

	// The least x above the order that is on the curve; the key is made to fit.
	p := curve.Params().P
	x, y := new(big.Int).Add(n, big.NewInt(1)), (*big.Int)(nil)
	for ; y == nil; x.Add(x, big.NewInt(1)) {
		y2 := new(big.Int).Exp(x, big.NewInt(3), p)
		y2.Sub(y2, new(big.Int).Mul(x, big.NewInt(3))).Add(y2, curve.Params().B).Mod(y2, p)
		y = new(big.Int).ModSqrt(y2, p)
	}
	x.Sub(x, big.NewInt(1))
	r = new(big.Int).Sub(x, n)
	digest := sha512.Sum384([]byte("x above the order"))
	inverse := new(big.Int).ModInverse(k, n) // k is s here
	u, v := mul(new(big.Int).SetBytes(digest[:]), inverse), mul(r, inverse)
	bytesOf := func(v *big.Int) []byte { return v.FillBytes(make([]byte, scalarSize)) }
	q := must(t)(nistec.NewP384Point().SetBytes(append(append([]byte{4}, bytesOf(x)...), bytesOf(y)...)))
	q.Add(q, must(t)(nistec.NewP384Point().ScalarBaseMult(bytesOf(new(big.Int).Sub(n, u)))))
	q = must(t)(nistec.NewP384Point().ScalarMult(q, bytesOf(new(big.Int).ModInverse(v, n))))
	made, err := ecdsa.ParseUncompressedPublicKey(curve, q.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if !verdicts(t, made, digest, r, k) {
		t.Error("x above the order: refused")
	}
	if verdicts(t, made, digest, x, k) {
		t.Error("r above the order: accepted")
	}
}

func TestKeysThatAreNotOnTheCurveArePreparedForNobody(t *testing.T) {
	//lint:ignore SA1019 no parser makes such a key
	beside := &ecdsa.PublicKey{Curve: elliptic.P384(), X: big.NewInt(1), Y: big.NewInt(1)}
	if _, err := newCombKey(beside); err == nil {
		t.Error("a point beside the curve")
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newCombKey(&other.PublicKey); err == nil {
		t.Error("a key of P-256")
	}
	if new(combKeys).verify(&other.PublicKey, &[scalarSize]byte{}, big.NewInt(1), big.NewInt(1)) {
		t.Error("P-256 verifies")
	}
}

func TestWycheproofVectorsOfP384(t *testing.T) {
	path := filepath.Join(filepath.Dir(evidencetest.Dir(t)), "vectors", "ecdsa_secp384r1_sha384_test.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Skipf("the vectors are absent, so this test does not run (%v)", err)
	}
	var file struct {
		TestGroups []struct {
			PublicKey struct{ Uncompressed string }
			Tests     []struct {
				TCID             int
				Msg, Sig, Result string
			}
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	judged, accepted := 0, 0
	for _, group := range file.TestGroups {
		point := unhex(t, group.PublicKey.Uncompressed)
		key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), point)
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range group.Tests {
			r, s, ok := splitSignature(unhex(t, test.Sig))
			if !ok { // the form is not this package's: a report has two numbers
				if test.Result == "valid" {
					t.Errorf("vector %d does not parse", test.TCID)
				}
				continue
			}
			judged++
			got := verdicts(t, key, sha512.Sum384(unhex(t, test.Msg)), r, s)
			if got != (test.Result == "valid") {
				t.Errorf("vector %d: %t, want %s", test.TCID, got, test.Result)
			}
			if got {
				accepted++
			}
		}
	}
	if judged < 300 || accepted < 100 {
		t.Errorf("%d vectors judged, %d accepted", judged, accepted)
	}
}

// TestOnlySignaturesPrepareAKey: certificates alone, and signatures that do not verify,
// make the broker compute nothing; the third signature meets a prepared key.
func TestOnlySignaturesPrepareAKey(t *testing.T) {
	key := newP384(t)
	id := [1 + 2*scalarSize]byte(encodedKey(t, &key.PublicKey))
	digest := sha512.Sum384([]byte("a report"))
	r, s := signP384(t, key, digest)
	var keys combKeys
	for range 5 {
		if keys.verify(&key.PublicKey, &digest, s, r) {
			t.Fatal("a wrong signature is accepted")
		}
	}
	if len(keys.keys) != 0 {
		t.Error("a wrong signature earns a place")
	}
	for i, want := range []bool{false, true, true} {
		if !keys.verify(&key.PublicKey, &digest, r, s) {
			t.Fatal("a genuine signature is refused")
		}
		if got := keys.get(id) != nil; got != want {
			t.Errorf("after %d signatures: prepared %t", i+1, got)
		}
	}
	if keys.verify(&key.PublicKey, &digest, s, r) {
		t.Error("a wrong signature is accepted by a prepared key")
	}
}

func TestPreparedKeysAreBounded(t *testing.T) {
	var keys combKeys
	for i := range 3 * maxCombKeys {
		keys.signed([1 + 2*scalarSize]byte{1: byte(i), 2: byte(i >> 8)})
	}
	if len(keys.keys) != maxCombKeys {
		t.Errorf("%d keys, the limit is %d", len(keys.keys), maxCombKeys)
	}
}

// FuzzACombSaysWhatTheStandardLibrarySays: no key, digest or signature is judged
// otherwise than by crypto/ecdsa.
func FuzzACombSaysWhatTheStandardLibrarySays(f *testing.F) {
	f.Add([]byte("key"), []byte("digest"), []byte{1}, []byte{2}, true)
	f.Add([]byte{1}, make([]byte, scalarSize), p384Order.Bytes(), []byte{1}, false)
	f.Fuzz(func(t *testing.T, seed, d, r, s []byte, genuine bool) {
		seed = seed[:min(len(seed), scalarSize)]
		scalar := new(big.Int).SetBytes(seed)
		scalar.Add(scalar.Mod(scalar, new(big.Int).Sub(p384Order, big.NewInt(1))), big.NewInt(1))
		key, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), scalar.FillBytes(make([]byte, scalarSize)))
		if err != nil {
			t.Fatal(err)
		}
		var digest [scalarSize]byte
		copy(digest[:], d)
		rn, sn := new(big.Int).SetBytes(r[:min(len(r), 72)]), new(big.Int).SetBytes(s[:min(len(s), 72)])
		if genuine {
			rn, sn = signP384(t, key, digest)
		}
		if got := verdicts(t, &key.PublicKey, digest, rn, sn); genuine && !got {
			t.Error("a genuine signature is refused")
		}
	})
}

// BenchmarkVerify compares a chip's first report with those from the third on.
func BenchmarkVerify(b *testing.B) {
	key := newP384(b)
	digest := sha512.Sum384([]byte("a report"))
	r, s := signP384(b, key, digest)
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			new(combKeys).verify(&key.PublicKey, &digest, r, s)
		}
	})
	b.Run("later", func(b *testing.B) {
		var keys combKeys
		for range 2 {
			keys.verify(&key.PublicKey, &digest, r, s)
		}
		for b.Loop() {
			keys.verify(&key.PublicKey, &digest, r, s)
		}
	})
	b.Run("prepare", func(b *testing.B) {
		for b.Loop() {
			if _, err := newCombKey(&key.PublicKey); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func must(t testing.TB) func(*nistec.P384Point, error) *nistec.P384Point {
	return func(p *nistec.P384Point, err error) *nistec.P384Point {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
}

// encodedPoint is the encoding of SEC 1, 2.3.3, without compression.
func encodedPoint(p jacobian) []byte {
	if p.z.isZero() {
		return []byte{0}
	}
	q := p.affine()
	encoded := make([]byte, 1+2*scalarSize)
	encoded[0] = 4
	q.x.integer().FillBytes(encoded[1 : 1+scalarSize])
	q.y.integer().FillBytes(encoded[1+scalarSize:])
	return encoded
}

func signP384(t testing.TB, key *ecdsa.PrivateKey, digest [scalarSize]byte) (r, s *big.Int) {
	t.Helper()
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return r, s
}

func encodedKey(t testing.TB, key *ecdsa.PublicKey) []byte {
	t.Helper()
	encoded, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func splitSignature(der []byte) (r, s *big.Int, ok bool) {
	r, s = new(big.Int), new(big.Int)
	in, inner := cryptobyte.String(der), cryptobyte.String(nil)
	ok = in.ReadASN1(&inner, asn1.SEQUENCE) && in.Empty() && inner.ReadASN1Integer(r) && inner.ReadASN1Integer(s) && inner.Empty()
	return r, s, ok
}
