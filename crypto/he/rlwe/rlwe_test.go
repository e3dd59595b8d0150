package rlwe

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

func seedOf(t testing.TB, label string) *keybuf.Buffer {
	t.Helper()
	sum := sha256.Sum256([]byte(label))
	b, err := keybuf.Take(sum[:])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Wipe)
	return b
}

func keys(t testing.TB, label string) (*SecretKey, *PublicKey) {
	t.Helper()
	sk, pk, err := Generate(seedOf(t, label))
	if err != nil {
		t.Fatal(err)
	}
	return sk, pk
}

func encryptor(t testing.TB, pk *PublicKey, label string) *Encryptor {
	t.Helper()
	e, err := NewEncryptor(pk, seedOf(t, label))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func randomValues(r *rand.Rand, n int, bound int32) []int32 {
	v := make([]int32, n)
	for i := range v {
		v[i] = r.Int32N(2*bound+1) - bound
	}
	return v
}

// With the vector unit and without, every step computes the same words.
func TestVectorUnitAgreesWithTheReference(t *testing.T) {
	if !hasAVX2() {
		t.Skip("this processor has no AVX2: only the reference runs")
	}
	plain, vector := newRing(), newRing()
	plain.vector = false
	r := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, errorBytes)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	small := randomValues(r, BlockValues, Modulus/2)
	residues := make([]int32, BlockValues)
	for i := range residues {
		residues[i] = int32(r.Uint32N(Modulus))
	}
	copy(residues, []int32{0, Modulus - 1, 1, Modulus / 2, Modulus/2 + 1})
	wide := make([]int32, BlockValues)
	for i := range wide {
		wide[i] = int32(r.Uint32() / 32 * 31)
	}
	key := make([]factor, N)
	for i := range key {
		key[i] = factorOf(r.Uint32N(Modulus))
	}
	packed := make([]byte, polyBytes)
	plain.pack(packed, residues)
	steps := map[string]func(g *ring) []int32{
		"ntt":     func(g *ring) []int32 { x := slices.Clone(small); g.ntt(x); return x },
		"intt":    func(g *ring) []int32 { x := slices.Clone(residues); g.intt(x); return x },
		"finish":  func(g *ring) []int32 { x := slices.Clone(residues); g.finish(x); return x },
		"ternary": func(g *ring) []int32 { x := slices.Clone(small); g.ternary(x, random); return x },
		"errors":  func(g *ring) []int32 { x := slices.Clone(small); g.addErrors(x, random); return x },
		"combine": func(g *ring) []int32 { x := make([]int32, BlockValues); g.combine(x, small, residues, key); return x },
		"reduce":  func(g *ring) []int32 { x := slices.Clone(wide); g.reduce(x); return x },
		"pack": func(g *ring) []int32 {
			b := make([]byte, polyBytes)
			g.pack(b, residues)
			x := make([]int32, polyBytes/4)
			for i := range x {
				x[i] = int32(binary.LittleEndian.Uint32(b[4*i:]))
			}
			return x
		},
		"unpack": func(g *ring) []int32 {
			x := slices.Clone(small)
			if !g.addPacked(x, packed) {
				t.Error("canonical residues refused")
			}
			return x
		},
	}
	for name, step := range steps {
		if a, b := step(plain), step(vector); !slices.Equal(a, b) {
			i := 0
			for a[i] == b[i] {
				i++
			}
			t.Errorf("%s differs at word %d: %d, with AVX2 %d", name, i, a[i], b[i])
		}
	}
}

// The transform turns the product of polynomials modulo X^N+1 into a product of
// words: checked against the schoolbook product.
func TestTransformMultipliesPolynomials(t *testing.T) {
	g := newRing()
	r := rand.New(rand.NewPCG(3, 4))
	x, y := make([]int32, BlockValues), make([]int32, BlockValues)
	var a, b, want [N]int64
	const lane = 5
	for i := range N {
		a[i], b[i] = int64(r.IntN(3)-1), int64(r.Int32N(Modulus))
		x[i*Lanes+lane], y[i*Lanes+lane] = int32(a[i]), int32(b[i]-Modulus/2)
	}
	for i := range N {
		for j := range N {
			p := a[i] * (b[j] - Modulus/2)
			if k := i + j; k < N {
				want[k] += p
			} else {
				want[k-N] -= p
			}
		}
	}
	g.ntt(x)
	g.ntt(y)
	product := make([]int32, BlockValues)
	for i := range product {
		product[i] = int32(mulMod(canonical(g.one.mul(x[i])), canonical(g.one.mul(y[i]))))
	}
	g.intt(product)
	g.finish(product)
	for i := range N {
		w := want[i] % Modulus
		if w > Modulus/2 {
			w -= Modulus
		} else if w < -Modulus/2 {
			w += Modulus
		}
		if int64(product[i*Lanes+lane]) != w {
			t.Fatalf("coefficient %d is %d, want %d", i, product[i*Lanes+lane], w)
		}
	}
}

// The sum of many encryptions decrypts to the sum of the values, with noise of
// the computed size and no more.
func TestSumsDecryptWithTheNoiseThatTheSetStates(t *testing.T) {
	sk, pk := keys(t, "sums")
	const contributions = 40
	r := rand.New(rand.NewPCG(5, 6))
	want := make([]int32, BlockValues)
	sum, block := NewSum(), make([]byte, BlockBytes)
	for i := range contributions {
		e := encryptor(t, pk, "contribution"+string(rune('A'+i)))
		values := randomValues(r, BlockValues, Modulus/2/contributions-2000)
		if err := e.Encrypt(block, values); err != nil {
			t.Fatal(err)
		}
		e.Wipe()
		if err := sum.Add(block); err != nil {
			t.Fatal(err)
		}
		for j, v := range values {
			want[j] += v
		}
	}
	if err := sum.Write(block); err != nil {
		t.Fatal(err)
	}
	got := make([]int32, BlockValues)
	if err := NewDecryptor(sk).Decrypt(got, block); err != nil {
		t.Fatal(err)
	}
	var square, largest float64
	for i := range got {
		d := float64(got[i] - want[i])
		square += d * d
		largest = max(largest, math.Abs(d))
	}
	sd := math.Sqrt(square / BlockValues)
	expected := NoiseSD(contributions)
	if sd < 0.93*expected || sd > 1.07*expected {
		t.Errorf("noise has standard deviation %.1f, the set states %.1f", sd, expected)
	}
	if largest > 6*expected {
		t.Errorf("largest noise %.0f", largest)
	}
}

func TestAnotherKeyDecryptsToNothing(t *testing.T) {
	_, pk := keys(t, "one")
	other, _ := keys(t, "two")
	block, got := make([]byte, BlockBytes), make([]int32, BlockValues)
	if err := encryptor(t, pk, "e").Encrypt(block, make([]int32, BlockValues)); err != nil {
		t.Fatal(err)
	}
	if err := NewDecryptor(other).Decrypt(got, block); err != nil {
		t.Fatal(err)
	}
	large := 0
	for _, v := range got {
		if v > Modulus/8 || v < -Modulus/8 {
			large++
		}
	}
	if large < BlockValues/2 {
		t.Errorf("only %d of %d values look random", large, BlockValues)
	}
}

func TestEncryptionIsOfItsSeedAlone(t *testing.T) {
	_, pk := keys(t, "golden")
	values := randomValues(rand.New(rand.NewPCG(7, 8)), 1000, 1<<20)
	a, b, c := make([]byte, BlockBytes), make([]byte, BlockBytes), make([]byte, BlockBytes)
	first := encryptor(t, pk, "seed")
	for _, e := range []error{first.Encrypt(a, values), first.Encrypt(c, values), encryptor(t, pk, "seed").Encrypt(b, values)} {
		if e != nil {
			t.Fatal(e)
		}
	}
	if !bytes.Equal(a, b) {
		t.Error("the same seed gave another ciphertext: an interrupted upload could not go on")
	}
	if bytes.Equal(a, c) {
		t.Error("two blocks under one seed are the same")
	}
	// The bytes of version 1, for ever.
	digest := sha256.Sum256(append(pk.Bytes(), a...))
	if got := hex.EncodeToString(digest[:]); got != goldenDigest {
		t.Errorf("keys or ciphertexts changed their bytes: digest %s", got)
	}
}

const goldenDigest = "28835cfd64c30f5eb66c7484b789d0ebb76613ad4f91ccaca43f23b659a8609f"

func TestPublicKeyEncodingIsCanonical(t *testing.T) {
	_, pk := keys(t, "encoding")
	enc := pk.Bytes()
	back, err := ParsePublicKey(enc)
	if err != nil || !bytes.Equal(back.Bytes(), enc) || !slices.Equal(back.b, pk.b) || !slices.Equal(back.a, pk.a) {
		t.Fatalf("does not come back: %v", err)
	}
	if _, err := ParsePublicKey(enc[1:]); !errors.Is(err, ErrLength) {
		t.Errorf("short: %v", err)
	}
	for i := range 4 {
		enc[SeedSize+i] = 0xFF
	}
	if _, err := ParsePublicKey(enc); !errors.Is(err, ErrNotCanonical) {
		t.Errorf("residue of 2^27-1: %v", err)
	}
}

// Any single residue that is not below the modulus is found, wherever it is.
func TestSumRefusesResiduesThatAreNotCanonical(t *testing.T) {
	zero := make([]byte, BlockBytes)
	for _, vector := range []bool{false, hasAVX2()} {
		s := NewSum()
		s.ring.vector = vector
		if err := s.Add(zero); err != nil {
			t.Fatal(err)
		}
		for _, at := range []int{0, 1, 7, 8, 255, 256, 8191, BlockValues - 1, BlockValues, 2*BlockValues - 1} {
			for value, want := range map[int32]error{Modulus - 1: nil, Modulus: ErrNotCanonical, mask: ErrNotCanonical} {
				words := make([]int32, 2*BlockValues)
				words[at] = value
				bad := make([]byte, BlockBytes)
				plain := &ring{}
				plain.pack(bad[:polyBytes], words[:BlockValues])
				plain.pack(bad[polyBytes:], words[BlockValues:])
				s.Reset()
				if err := s.Add(bad); !errors.Is(err, want) {
					t.Errorf("AVX2 %v, residue %d at %d: %v", vector, value, at, err)
				}
			}
		}
		if err := s.Add(zero[1:]); !errors.Is(err, ErrLength) {
			t.Errorf("short block: %v", err)
		}
	}
}

// Many more additions than fit one word without reduction.
func TestSumsReduceInTime(t *testing.T) {
	words := make([]int32, 2*BlockValues)
	for i := range words {
		words[i] = Modulus - 1
	}
	block := make([]byte, BlockBytes)
	plain := &ring{}
	plain.pack(block[:polyBytes], words[:BlockValues])
	plain.pack(block[polyBytes:], words[BlockValues:])
	s := NewSum()
	const n = 3*maxPending + 7
	for range n {
		if err := s.Add(block); err != nil {
			t.Fatal(err)
		}
	}
	s.reduce()
	for i, v := range s.words {
		if v != Modulus-n {
			t.Fatalf("word %d is %d, want -%d", i, v, n)
		}
	}
}

func TestEncryptRefusesWhatDoesNotFit(t *testing.T) {
	_, pk := keys(t, "range")
	e := encryptor(t, pk, "range")
	block := make([]byte, BlockBytes)
	if err := e.Encrypt(block, []int32{maxValue + 1}); !errors.Is(err, ErrRange) {
		t.Errorf("too large: %v", err)
	}
	if err := e.Encrypt(block, []int32{-maxValue - 1}); !errors.Is(err, ErrRange) {
		t.Errorf("too small: %v", err)
	}
	if err := e.Encrypt(block, make([]int32, BlockValues+1)); !errors.Is(err, ErrLength) {
		t.Errorf("too many: %v", err)
	}
	if err := e.Encrypt(block[1:], nil); !errors.Is(err, ErrLength) {
		t.Errorf("no room: %v", err)
	}
	short, err := keybuf.New(16)
	if err != nil {
		t.Fatal(err)
	}
	defer short.Wipe()
	if _, err := NewEncryptor(pk, short); !errors.Is(err, ErrLength) {
		t.Errorf("short seed: %v", err)
	}
	if _, _, err := Generate(short); !errors.Is(err, ErrLength) {
		t.Errorf("short key seed: %v", err)
	}
}

// The errors have the distribution that the security rests on: chi-square against
// the binomial of 48 coins, and thirds for the ternary secrets.
func TestSamplesHaveTheirDistribution(t *testing.T) {
	g := newRing()
	seed := [SeedSize]byte{9}
	random, err := newStream(&seed)
	if err != nil {
		t.Fatal(err)
	}
	counts, thirds := map[int32]float64{}, map[int32]float64{}
	const blocks = 20
	for range blocks {
		x := make([]int32, BlockValues)
		g.addErrors(x, random.next(errorBytes))
		for _, v := range x {
			counts[v]++
		}
		g.ternary(x, random.next(ternaryBytes))
		for _, v := range x {
			thirds[v]++
		}
	}
	const n = blocks * BlockValues
	chi, p := 0.0, math.Exp2(-errorCoins)
	for k := range errorCoins + 1 {
		if expected := p * n; expected > 10 {
			d := counts[int32(k-errorCoins/2)] - expected
			chi += d * d / expected
		}
		p *= float64(errorCoins-k) / float64(k+1)
	}
	if chi > 60 { // about 27 classes: 0.03 % of honest samples reach 60
		t.Errorf("errors: chi-square %.1f", chi)
	}
	chi = 0
	for v := int32(-1); v <= 1; v++ {
		d := thirds[v] - n/3.0
		chi += d * d / (n / 3.0)
	}
	if chi > 18 || len(thirds) != 3 {
		t.Errorf("ternary: chi-square %.1f over %d values", chi, len(thirds))
	}
}

func BenchmarkEncrypt(b *testing.B) {
	_, pk := keys(b, "bench")
	e := encryptor(b, pk, "bench")
	values := randomValues(rand.New(rand.NewPCG(1, 1)), BlockValues, 1<<20)
	block := make([]byte, BlockBytes)
	b.SetBytes(4 * BlockValues)
	for b.Loop() {
		if err := e.Encrypt(block, values); err != nil {
			b.Fatal(err)
		}
	}
	perValue(b)
	b.ReportMetric(float64(len(block))/BlockValues, "bytes/value")
}

func perValue(b *testing.B) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/BlockValues, "ns/value")
}

// BenchmarkAdd streams 64 MiB of blocks past the accumulator, as an aggregator
// does; BenchmarkRead only reads them.
func BenchmarkAdd(b *testing.B) {
	blocks := benchBlocks(b)
	s := NewSum()
	i := 0
	b.SetBytes(BlockBytes)
	for b.Loop() {
		if err := s.Add(blocks[i%len(blocks)]); err != nil {
			b.Fatal(err)
		}
		i++
	}
	perValue(b)
}

func BenchmarkRead(b *testing.B) {
	blocks := benchBlocks(b)
	i, sum := 0, uint64(0)
	b.SetBytes(BlockBytes)
	for b.Loop() {
		block := blocks[i%len(blocks)]
		for ; len(block) >= 64; block = block[64:] {
			sum += binary.LittleEndian.Uint64(block) + binary.LittleEndian.Uint64(block[8:]) + binary.LittleEndian.Uint64(block[16:]) + binary.LittleEndian.Uint64(block[24:]) +
				binary.LittleEndian.Uint64(block[32:]) + binary.LittleEndian.Uint64(block[40:]) + binary.LittleEndian.Uint64(block[48:]) + binary.LittleEndian.Uint64(block[56:])
		}
		i++
	}
	if sum == 1 {
		b.Log(sum)
	}
	perValue(b)
}

func benchBlocks(b *testing.B) [][]byte {
	_, pk := keys(b, "bench")
	e := encryptor(b, pk, "bench")
	first := make([]byte, BlockBytes)
	if err := e.Encrypt(first, nil); err != nil {
		b.Fatal(err)
	}
	blocks := make([][]byte, 64<<20/BlockBytes)
	for i := range blocks {
		blocks[i] = bytes.Clone(first)
	}
	return blocks
}

func BenchmarkDecrypt(b *testing.B) {
	sk, pk := keys(b, "bench")
	block, got := make([]byte, BlockBytes), make([]int32, BlockValues)
	if err := encryptor(b, pk, "bench").Encrypt(block, nil); err != nil {
		b.Fatal(err)
	}
	d := NewDecryptor(sk)
	b.SetBytes(4 * BlockValues)
	for b.Loop() {
		if err := d.Decrypt(got, block); err != nil {
			b.Fatal(err)
		}
	}
	perValue(b)
}
