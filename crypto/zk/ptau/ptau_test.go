package ptau

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	curve "github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fp"
	"github.com/consensys/gnark-crypto/ecc/bn254/kzg"
	"github.com/consensys/gnark/backend/groth16/bn254/mpcsetup"

	"github.com/anchorhold/anchorhold/crypto/zk/ptau/ptautest"
)

const power = 4

// made is one ceremony for all tests; they copy what they change.
var made = sync.OnceValue(func() *mpcsetup.SrsCommons { return ptautest.Commons(power) })

func sections(t testing.TB, prepared bool) []ptautest.Section {
	t.Helper()
	s, err := ptautest.Sections(made(), prepared)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func open(t testing.TB, raw []byte) *File {
	t.Helper()
	f, err := Open(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFileIsRead(t *testing.T) {
	f := open(t, ptautest.File(sections(t, false)))
	if f.Power != power || f.CeremonyPower != power || f.Contributions != 3 {
		t.Errorf("%d, %d, %d", f.Power, f.CeremonyPower, f.Contributions)
	}
	for p := 1; p <= power; p++ {
		n := 1 << p
		c, err := f.Powers(t.Context(), uint64(n), nil)
		if err != nil {
			t.Fatal(err)
		}
		want := made()
		if !slices.Equal(c.G1.Tau, want.G1.Tau[:2*n-1]) || !slices.Equal(c.G2.Tau, want.G2.Tau[:n]) || !slices.Equal(c.G1.AlphaTau, want.G1.AlphaTau[:n]) ||
			!slices.Equal(c.G1.BetaTau, want.G1.BetaTau[:n]) || c.G2.Beta != want.G2.Beta {
			t.Errorf("power %d: not the points that were written", p)
		}
	}
}

// The string has both forms, and both commit to a polynomial alike; a prepared file and
// one that is not give the same.
func TestKZG(t *testing.T) {
	for _, prepared := range []bool{false, true} {
		f := open(t, ptautest.File(sections(t, prepared)))
		for _, n := range []int{4, 8, 16} {
			monomial, lagrange, err := f.KZG(t.Context(), uint64(n), nil)
			if err != nil {
				t.Fatal(err)
			}
			want, err := kzg.ToLagrangeG1(made().G1.Tau[:n])
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(monomial.Pk.G1, made().G1.Tau[:n+Blinding]) || !slices.Equal(lagrange.Pk.G1, want) || monomial.Vk.G2[1] != made().G2.Tau[1] ||
				monomial.Vk.Lines[1] != curve.PrecomputeLines(made().G2.Tau[1]) || lagrange.Vk != monomial.Vk {
				t.Errorf("prepared %v, domain %d: another string", prepared, n)
			}
		}
	}
}

func TestSizesThatAFileDoesNotHave(t *testing.T) {
	f := open(t, ptautest.File(sections(t, false)))
	for _, n := range []uint64{0, 1, 3, 2 << power, 1 << 63} {
		if _, err := f.Powers(t.Context(), n, nil); !errors.Is(err, ErrPower) {
			t.Errorf("powers for %d: %v", n, err)
		}
		if _, _, err := f.KZG(t.Context(), n, nil); !errors.Is(err, ErrPower) {
			t.Errorf("string for %d: %v", n, err)
		}
	}
	for _, p := range []int{-1, 0, power + 1} {
		if err := f.Truncate(t.Context(), io.Discard, p); !errors.Is(err, ErrPower) {
			t.Errorf("truncated to %d: %v", p, err)
		}
	}
}

func TestTruncate(t *testing.T) {
	f := open(t, ptautest.File(sections(t, true)))
	var raw bytes.Buffer
	if err := f.Truncate(t.Context(), &raw, 2); err != nil {
		t.Fatal(err)
	}
	part := open(t, raw.Bytes())
	if part.Power != 2 || part.CeremonyPower != power || part.Contributions != 3 {
		t.Errorf("%d, %d, %d", part.Power, part.CeremonyPower, part.Contributions)
	}
	a, err := part.Powers(t.Context(), 4, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(a.G1.Tau, made().G1.Tau[:7]) {
		t.Error("other powers")
	}
}

func TestDigests(t *testing.T) {
	raw := ptautest.File(sections(t, false))
	a, err := open(t, raw).Digests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-1] ^= 1
	b, err := open(t, raw).Digests(t.Context())
	if err != nil || a.SHA256 == b.SHA256 || a.BLAKE2b == b.BLAKE2b {
		t.Errorf("%v: a change does not show", err)
	}
}

func TestCancelled(t *testing.T) {
	f := open(t, ptautest.File(sections(t, false)))
	ctx, cancel := context.WithCancel(t.Context())
	var told []string
	_, err := f.Powers(ctx, 4, func(what string) {
		if told = append(told, what); len(told) == 2 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || len(told) != 2 {
		t.Errorf("%v after %q", err, told)
	}
	if _, _, err := f.KZG(ctx, 4, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := f.Digests(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := f.Truncate(ctx, io.Discard, 2); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := eachPiece(ctx, 1, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// find returns a section's bytes.
func find(list []ptautest.Section, kind uint32) []byte {
	for _, s := range list {
		if s.Kind == kind {
			return s.Data
		}
	}
	return nil
}

// Layouts that are refused before any point is looked at.
func TestLayoutsRefused(t *testing.T) {
	le := binary.LittleEndian
	for name, tc := range map[string]struct {
		want   string
		change func(t *testing.T, list []ptautest.Section) []ptautest.Section
	}{
		"another curve": {"BN254", func(_ *testing.T, l []ptautest.Section) []ptautest.Section { find(l, 1)[4] ^= 2; return l }},
		"longer elements": {"header", func(_ *testing.T, l []ptautest.Section) []ptautest.Section {
			l[0].Data = append(le.AppendUint32(nil, 48), make([]byte, 56)...) // BLS12-381 has these
			return l
		}},
		"another length of elements": {"BN254", func(_ *testing.T, l []ptautest.Section) []ptautest.Section { find(l, 1)[0] = 31; return l }},
		"power too large": {"section 2", func(_ *testing.T, l []ptautest.Section) []ptautest.Section {
			le.PutUint32(find(l, 1)[36:], 5)
			le.PutUint32(find(l, 1)[40:], 5)
			return l
		}},
		"power too small": {"section 2", func(_ *testing.T, l []ptautest.Section) []ptautest.Section {
			le.PutUint32(find(l, 1)[36:], 3)
			return l
		}},
		"power 0": {"power 0", func(_ *testing.T, l []ptautest.Section) []ptautest.Section {
			le.PutUint32(find(l, 1)[36:], 0)
			return l
		}},
		"power above the ceremony's": {"power 4", func(_ *testing.T, l []ptautest.Section) []ptautest.Section {
			le.PutUint32(find(l, 1)[40:], 3)
			return l
		}},
		"power 63": {"power 63", func(_ *testing.T, l []ptautest.Section) []ptautest.Section {
			le.PutUint32(find(l, 1)[36:], 63)
			le.PutUint32(find(l, 1)[40:], 63)
			return l
		}},
		"a short section": {"section 3", func(_ *testing.T, l []ptautest.Section) []ptautest.Section {
			l[2].Data = l[2].Data[:len(l[2].Data)-1]
			return l
		}},
		"a long section": {"section 6", func(_ *testing.T, l []ptautest.Section) []ptautest.Section {
			l[5].Data = append(l[5].Data, 0)
			return l
		}},
		"a missing section": {"section 5", func(_ *testing.T, l []ptautest.Section) []ptautest.Section { return slices.Delete(l, 4, 5) }},
		"a section twice":   {"section 4 appears twice", func(_ *testing.T, l []ptautest.Section) []ptautest.Section { return append(l, l[3]) }},
		"an empty section twice": {"section 15 appears twice", func(_ *testing.T, l []ptautest.Section) []ptautest.Section {
			return append(l, ptautest.Section{Kind: 15}, ptautest.Section{Kind: 15})
		}},
		"an unknown section": {"section 8", func(_ *testing.T, l []ptautest.Section) []ptautest.Section {
			return append(l, ptautest.Section{Kind: 8})
		}},
		"section 0": {"section 0", func(_ *testing.T, l []ptautest.Section) []ptautest.Section {
			return append(l, ptautest.Section{Kind: 0})
		}},
		"many sections": {"16 sections", func(_ *testing.T, l []ptautest.Section) []ptautest.Section {
			return append(l, make([]ptautest.Section, 9)...)
		}},
		"Lagrange's form too long": {"section 12", func(_ *testing.T, l []ptautest.Section) []ptautest.Section {
			return append(l, ptautest.Section{Kind: 12, Data: make([]byte, 64*g1Bytes)})
		}},
		"half a point": {"section 13", func(_ *testing.T, l []ptautest.Section) []ptautest.Section {
			return append(l, ptautest.Section{Kind: 13, Data: make([]byte, 64)})
		}},
		"no count":                {"section 7", func(_ *testing.T, l []ptautest.Section) []ptautest.Section { l[6].Data = l[6].Data[:3]; return l }},
		"more contributions":      {"contributions", func(_ *testing.T, l []ptautest.Section) []ptautest.Section { find(l, 7)[0]++; return l }},
		"fewer contributions":     {"contributions", func(_ *testing.T, l []ptautest.Section) []ptautest.Section { find(l, 7)[0] = 1; return l }},
		"very many contributions": {"contributions", func(_ *testing.T, l []ptautest.Section) []ptautest.Section { find(l, 7)[3] = 0xff; return l }},
	} {
		t.Run(name, func(t *testing.T) {
			raw := ptautest.File(tc.change(t, sections(t, false)))
			_, err := Open(bytes.NewReader(raw), int64(len(raw)))
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("want %q: %v", tc.want, err)
			}
		})
	}
}

func TestBytesRefused(t *testing.T) {
	good := ptautest.File(sections(t, false))
	change := func(at int, b byte) []byte {
		c := slices.Clone(good)
		c[at] = b
		return c
	}
	for name, raw := range map[string][]byte{
		"nothing": nil, "another magic": change(0, 'z'), "another version": change(4, 2), "fewer sections": change(8, 6), "more sections": change(8, 8),
		"trailing": append(slices.Clone(good), 0),
	} {
		if _, err := Open(bytes.NewReader(raw), int64(len(raw))); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, length := range []uint64{1 << 32, 1<<63 - 1, 1 << 63, 1<<64 - 1, 1<<64 - containerBytes - sectionHeaderBytes} {
		raw := slices.Clone(good)
		binary.LittleEndian.PutUint64(raw[containerBytes+4:], length)
		if _, err := Open(bytes.NewReader(raw), int64(len(raw))); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "are there") {
			t.Errorf("a section of %d bytes: %v", length, err)
		}
	}
	for n := range len(good) {
		if _, err := Open(bytes.NewReader(good[:n]), int64(n)); !errors.Is(err, ErrRefused) {
			t.Fatalf("the first %d bytes: %v", n, err)
		}
	}
	// A file that gets shorter while it is read.
	if _, err := Open(bytes.NewReader(good[:100]), int64(len(good))); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
	if _, err := Open(broken{}, 1000); !errors.Is(err, io.ErrNoProgress) || errors.Is(err, ErrRefused) {
		t.Error(err)
	}
}

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, io.ErrNoProgress }

// outside is a point of the twist that is not in G2.
func outside(t *testing.T) (p curve.G2Affine) {
	t.Helper()
	for x := uint64(1); ; x++ {
		p.X.A0.SetUint64(x)
		b := curveB()
		p.Y.Square(&p.X).Mul(&p.Y, &p.X).Add(&p.Y, &b)
		if p.Y.Legendre() != 1 {
			continue
		}
		p.Y.Sqrt(&p.Y)
		if p.IsOnCurve() && !p.IsInSubGroup() {
			return p
		}
	}
}

// curveB is the constant of the twist: y^2 - x^3 of the generator.
func curveB() (b curve.E2) {
	_, _, _, g := curve.Generators()
	var cube curve.E2
	cube.Square(&g.X).Mul(&cube, &g.X)
	b.Square(&g.Y).Sub(&b, &cube)
	return b
}

// Points that are refused, each for its own reason. K marks what KZG reads too.
func TestPointsRefused(t *testing.T) {
	scale := func(p curve.G1Affine, by int64) curve.G1Affine { p.ScalarMultiplication(&p, big.NewInt(by)); return p }
	put1 := func(b []byte, i int, p curve.G1Affine) { copy(b[i*g1Bytes:], ptautest.G1([]curve.G1Affine{p})) }
	put2 := func(b []byte, i int, p curve.G2Affine) { copy(b[i*g2Bytes:], ptautest.G2([]curve.G2Affine{p})) }
	swap := func(b []byte, i, k, each int) {
		x := slices.Clone(b[i*each : (i+1)*each])
		copy(b[i*each:], b[k*each:(k+1)*each])
		copy(b[k*each:], x)
	}
	_, _, g1, g2 := curve.Generators()
	c := made()
	for name, tc := range map[string]struct {
		want   string
		kzg    bool
		change func(l []ptautest.Section)
	}{
		"powers swapped in G1":     {"powers of tau in G1 are not", true, func(l []ptautest.Section) { swap(find(l, 2), 4, 5, g1Bytes) }},
		"the last power in G1":     {"powers of tau in G1 are not", false, func(l []ptautest.Section) { put1(find(l, 2), 2<<power-2, g1) }},
		"powers swapped in G2":     {"powers of tau in G2 are not", false, func(l []ptautest.Section) { swap(find(l, 3), 4, 5, g2Bytes) }},
		"the last power in G2":     {"powers of tau in G2 are not", false, func(l []ptautest.Section) { put2(find(l, 3), 1<<power-1, g2) }},
		"swapped times alpha":      {"powers times alpha are not", false, func(l []ptautest.Section) { swap(find(l, 4), 4, 5, g1Bytes) }},
		"the last times alpha":     {"powers times alpha are not", false, func(l []ptautest.Section) { put1(find(l, 4), 1<<power-1, g1) }},
		"swapped times beta":       {"powers times beta are not", false, func(l []ptautest.Section) { swap(find(l, 5), 4, 5, g1Bytes) }},
		"alpha and beta swapped":   {"beta in G2 differs", false, func(l []ptautest.Section) { l[3].Data, l[4].Data = l[4].Data, l[3].Data }},
		"another beta in G2":       {"beta in G2 differs", false, func(l []ptautest.Section) { put2(find(l, 6), 0, c.G2.Tau[1]) }},
		"another tau in G2":        {"tau in G2 differs", true, func(l []ptautest.Section) { put2(find(l, 3), 1, c.G2.Tau[2]) }},
		"another begin in G1":      {"begin with", true, func(l []ptautest.Section) { put1(find(l, 2), 0, scale(g1, 2)) }},
		"another begin in G2":      {"begin with", true, func(l []ptautest.Section) { put2(find(l, 3), 0, c.G2.Tau[1]) }},
		"tau is 1":                 {"tau is 1", true, func(l []ptautest.Section) { put1(find(l, 2), 1, g1) }},
		"tau is a root of unity":   {"root of unity", true, func(l []ptautest.Section) { put1(find(l, 2), 1<<power, g1) }},
		"alpha is 1":               {"alpha or beta is 1", false, func(l []ptautest.Section) { l[3].Data = slices.Clone(find(l, 2)[:g1Bytes<<power]) }},
		"beta is 1":                {"alpha or beta is 1", false, func(l []ptautest.Section) { l[4].Data = slices.Clone(find(l, 2)[:g1Bytes<<power]) }},
		"not on the curve, G1":     {"section 2, point 3: not on the curve", true, func(l []ptautest.Section) { find(l, 2)[3*g1Bytes] ^= 1 }},
		"not on the curve, G2":     {"section 3, point 1: not on the curve", true, func(l []ptautest.Section) { find(l, 3)[g2Bytes] ^= 1 }},
		"not on the curve, alpha":  {"section 4, point 7: not on the curve", false, func(l []ptautest.Section) { find(l, 4)[7*g1Bytes] ^= 1 }},
		"not on the curve, beta":   {"section 5, point 15: not on the curve", false, func(l []ptautest.Section) { find(l, 5)[15*g1Bytes] ^= 1 }},
		"not in the subgroup":      {"section 3, point 1: not in the subgroup", true, func(l []ptautest.Section) { put2(find(l, 3), 1, outside(t)) }},
		"beta not in the subgroup": {"section 6, point 0: not in the subgroup", false, func(l []ptautest.Section) { put2(find(l, 6), 0, outside(t)) }},
		"infinity in G1":           {"section 2, point 2: the point at infinity", true, func(l []ptautest.Section) { clear(find(l, 2)[2*g1Bytes : 3*g1Bytes]) }},
		"infinity in G2":           {"section 3, point 1: the point at infinity", true, func(l []ptautest.Section) { clear(find(l, 3)[g2Bytes : 2*g2Bytes]) }},
		"not below the prime": {"section 2, point 5: a coordinate", true, func(l []ptautest.Section) {
			// The same point, written in another way.
			at := find(l, 2)[5*g1Bytes:]
			var carry uint64
			for i := range fp.Limbs {
				x := binary.LittleEndian.Uint64(at[8*i:])
				sum := x + prime[i] + carry
				if sum < x || carry == 1 && sum == x {
					carry = 1
				} else {
					carry = 0
				}
				binary.LittleEndian.PutUint64(at[8*i:], sum)
			}
		}},
		"all bits set": {"section 3, point 1: a coordinate", true, func(l []ptautest.Section) {
			copy(find(l, 3)[g2Bytes:], bytes.Repeat([]byte{255}, g2Bytes))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			list := sections(t, false)
			tc.change(list)
			f := open(t, ptautest.File(list))
			if _, err := f.Powers(t.Context(), 1<<power, nil); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("want %q: %v", tc.want, err)
			}
			_, _, err := f.KZG(t.Context(), 1<<power, nil)
			if tc.kzg && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("KZG, want %q: %v", tc.want, err)
			}
			if !tc.kzg && err != nil {
				t.Errorf("KZG does not need what was changed: %v", err)
			}
		})
	}
}

func TestWrongLagrangeFormRefused(t *testing.T) {
	list := sections(t, true)
	b := find(list, secLagrangeTauG1)
	copy(b[len(b)-g1Bytes:], b[len(b)-2*g1Bytes:len(b)-g1Bytes])
	f := open(t, ptautest.File(list))
	if _, _, err := f.KZG(t.Context(), 1<<power, nil); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "section 12") {
		t.Error(err)
	}
	if _, _, err := f.KZG(t.Context(), 1<<(power-1), nil); err != nil {
		t.Errorf("a list that was not changed: %v", err)
	}
	b[len(b)-1] ^= 0xff
	if _, _, err := f.KZG(t.Context(), 1<<power, nil); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
}

// The combination of a random piece fails, wherever the fault is.
func TestEveryPowerCounts(t *testing.T) {
	for i := 2; i < 2<<power-1; i++ {
		if i == 1<<power {
			continue // found before
		}
		list := sections(t, false)
		copy(find(list, 2)[i*g1Bytes:], find(list, 2)[:g1Bytes])
		if _, err := open(t, ptautest.File(list)).Powers(t.Context(), 1<<power, nil); !errors.Is(err, ErrRefused) {
			t.Errorf("power %d of tau: %v", i, err)
		}
	}
}

// TestPublicFile reads a file of snarkjs, if the environment names one: none is carried in
// this repository.
func TestPublicFile(t *testing.T) {
	path := os.Getenv("ANCHORHOLD_PTAU")
	if path == "" {
		t.Skip("ANCHORHOLD_PTAU names no file")
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() // read only
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(file, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	d, err := f.Digests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("power %d of %d, %d contributions, BLAKE2b %x", f.Power, f.CeremonyPower, f.Contributions, d.BLAKE2b)
	n := uint64(1) << min(f.Power, 12)
	if _, err := f.Powers(t.Context(), n, nil); err != nil {
		t.Error(err)
	}
	if _, _, err := f.KZG(t.Context(), n, nil); err != nil {
		t.Error(err)
	}
	t.Logf("prepared for phase 2: %v", f.sections[secLagrangeTauG1].size > 0)
}

func FuzzOpen(f *testing.F) {
	good := ptautest.File(sections(f, false))
	f.Add(good)
	f.Add(good[:100])
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := Open(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			if !errors.Is(err, ErrRefused) {
				t.Error(err)
			}
			return
		}
		// What is laid out well is read, or refused, without a panic.
		if _, err := file.Powers(t.Context(), 2, nil); err != nil && !errors.Is(err, ErrRefused) {
			t.Error(err)
		}
		var part bytes.Buffer
		if err := file.Truncate(t.Context(), &part, 1); err != nil {
			t.Error(err)
		}
		open(t, part.Bytes())
	})
}
