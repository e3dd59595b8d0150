package ckks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/tuneinsight/lattigo/v6/ring"
	"github.com/tuneinsight/lattigo/v6/utils/sampling"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

func access() Access {
	return Access{Params: smallThreshold(), Round: [16]byte{9}, Parties: 4, Threshold: 3, Flood: maxFlood}
}

// memoryJournal is durable for as long as the test.
type memoryJournal struct {
	mu   sync.Mutex
	used map[[32]byte]bool
}

func (j *memoryJournal) Consume(ctx context.Context, key [32]byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if j.used[key] {
		return ErrShareUsed
	}
	if j.used == nil {
		j.used = map[[32]byte]bool{}
	}
	j.used[key] = true
	return nil
}

// A party is a function of its seed; nothing of it comes from elsewhere.
func TestAPartyIsItsSeed(t *testing.T) {
	a := access()
	make1 := func(seed int) (public, dealt []byte) {
		p, err := NewParty(a, 1, seedOf(t, byte(seed)))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Wipe()
		share, err := p.PublicShare([SeedSize]byte{4})
		if err != nil {
			t.Fatal(err)
		}
		d, err := p.Deal(2)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Wipe()
		if len(share) != a.PublicShareBytes() || d.Len() != a.DealtBytes() {
			t.Errorf("%d and %d bytes", len(share), d.Len())
		}
		return share, bytes.Clone(d.Bytes())
	}
	onePublic, oneDealt := make1(1)
	againPublic, againDealt := make1(1)
	otherPublic, otherDealt := make1(2)
	if !bytes.Equal(onePublic, againPublic) || !bytes.Equal(oneDealt, againDealt) {
		t.Error("one seed made two parties")
	}
	if bytes.Equal(onePublic, otherPublic) || bytes.Equal(oneDealt, otherDealt) {
		t.Error("two seeds made one party")
	}
}

// parties runs the whole key generation.
func parties(tb testing.TB, a Access) (list []*Party, public []byte) {
	tb.Helper()
	common := [SeedSize]byte{1, 2, 3}
	var shares [][]byte
	for i := range a.Parties {
		p, err := NewParty(a, i+1, seedOf(tb, byte(i+1)))
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(p.Wipe)
		share, err := p.PublicShare(common)
		if err != nil {
			tb.Fatal(err)
		}
		list, shares = append(list, p), append(shares, share)
	}
	for i, from := range list {
		for k, to := range list {
			if i == k {
				continue
			}
			dealt, err := from.Deal(k + 1)
			if err != nil {
				tb.Fatal(err)
			}
			if err := to.Receive(i+1, dealt); err != nil {
				tb.Fatal(err)
			}
			dealt.Wipe()
		}
	}
	public, err := CombineKeys(a, common, shares)
	if err != nil {
		tb.Fatal(err)
	}
	return list, public
}

func combine(tb testing.TB, a Access, ct []byte, shares [][]byte) ([]float64, error) {
	tb.Helper()
	c, err := NewCombiner(a, Pairs, 1)
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Wipe()
	got := make([]float64, a.Values(Pairs))
	return got, c.Combine(got, ct, shares)
}

func TestAnyThresholdOfPartiesDecrypts(t *testing.T) {
	a := access()
	list, public := parties(t, a)
	e := encryptor(t, a.Params, public, Pairs)
	for _, active := range [][]int{{1, 2, 3}, {4, 2, 1}, {2, 3, 4}} {
		want := updates(a.Values(Pairs), 1)
		ct := encrypt(t, e, want)
		var shares [][]byte
		for _, i := range active {
			share, err := list[i-1].DecryptionShare(t.Context(), &memoryJournal{}, active, ct)
			if err != nil {
				t.Fatal(err)
			}
			shares = append(shares, share)
		}
		got, err := combine(t, a, ct, shares)
		if err != nil {
			t.Fatal(err)
		}
		worst := largestError(got, want)
		t.Logf("parties %d: largest error %.2g", active, worst)
		if worst > 1e-8 {
			t.Errorf("parties %d: error %g", active, worst)
		}
	}
}

func TestOneShareForACiphertext(t *testing.T) {
	a := access()
	list, public := parties(t, a)
	e := encryptor(t, a.Params, public, Pairs)
	ct := encrypt(t, e, nil)
	j := &memoryJournal{}
	p := list[0]
	if _, err := p.DecryptionShare(t.Context(), j, []int{1, 2, 3}, ct); err != nil {
		t.Fatal(err)
	}
	// The same second polynomial under another first one.
	shifted := bytes.Clone(ct)
	shifted[0] ^= 1
	for name, c := range map[string]struct {
		active []int
		ct     []byte
	}{
		"again": {[]int{1, 2, 3}, ct}, "other parties": {[]int{1, 2, 4}, ct}, "another first polynomial": {[]int{1, 2, 3}, shifted},
	} {
		if share, err := p.DecryptionShare(t.Context(), j, c.active, c.ct); !errors.Is(err, ErrShareUsed) || share != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := p.DecryptionShare(t.Context(), j, []int{1, 2, 3}, encrypt(t, e, nil)); err != nil {
		t.Errorf("another ciphertext: %v", err)
	}
	// No record, no share; and what was not recorded may be tried again.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	next := encrypt(t, e, nil)
	if share, err := p.DecryptionShare(ctx, j, []int{1, 2, 3}, next); !errors.Is(err, context.Canceled) || share != nil {
		t.Errorf("the journal failed: %v", err)
	}
	if _, err := p.DecryptionShare(t.Context(), j, []int{1, 2, 3}, next); err != nil {
		t.Errorf("after a failed record: %v", err)
	}
}

// The defect, shown in the library, and the check that stands before it.
func TestNoiseWiderThanAPrimeIsRefused(t *testing.T) {
	q := primesOf(13, 60, 40)
	r, err := ring.NewRing(1<<13, q)
	if err != nil {
		t.Fatal(err)
	}
	prng, err := sampling.NewPRNG()
	if err != nil {
		t.Fatal(err)
	}
	wrong := func(sigma float64) (n int) {
		s := ring.NewGaussianSampler(prng, r, ring.DiscreteGaussian{Sigma: sigma, Bound: 6 * sigma}, false)
		x := s.ReadNew()
		for i := range 1 << 13 {
			// One number, seen modulo two primes.
			large := int64(x.Coeffs[0][i])
			if x.Coeffs[0][i] > q[0]/2 {
				large -= int64(q[0])
			}
			small := large % int64(q[1])
			if small < 0 {
				small += int64(q[1])
			}
			if uint64(small)%q[1] != x.Coeffs[1][i]%q[1] || x.Coeffs[1][i] > q[1] {
				n++
			}
		}
		return n
	}
	if n := wrong(1 << 40); n == 0 {
		t.Error("the library samples wide noise rightly now: the check may go")
	} else {
		t.Logf("deviation 2^40 modulo a prime of 40 bits: %d of 8192 coefficients are wrong", n)
	}
	if n := wrong(1 << 36); n != 0 {
		t.Errorf("deviation 2^36: %d coefficients are wrong", n)
	}
	a := access()
	// 60 and 40 bits: everything fits but the noise in the second prime.
	a.Q, a.P, a.LogScale, a.Flood = q, primesOf(13, 60, 60)[:1], 90, 1<<40
	if err := a.Check(); !errors.Is(err, ErrFlood) || !strings.Contains(err.Error(), fmt.Sprint(q[1])) {
		t.Errorf("refused otherwise: %v", err)
	}
	if _, err := NewParty(a, 1, seedOf(t, 1)); !errors.Is(err, ErrFlood) {
		t.Errorf("a party: %v", err)
	}
}

// Each case is an accepted structure with one number changed.
func TestChecksOfAccessBite(t *testing.T) {
	a := access()
	if err := a.Check(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(a *Access){
		"1 of 4 parties":               func(a *Access) { a.Threshold = 1 },
		"5 of 4 parties":               func(a *Access) { a.Threshold = 5 },
		"3 of 65 parties":              func(a *Access) { a.Parties = 65 },
		"not between 2^40 and 2^53":    func(a *Access) { a.Flood = minFlood / 2 },
		"is not between 2^40":          func(a *Access) { a.Flood = maxFlood * 2 },
		"changes values by":            func(a *Access) { a.LogScale = 75 },
		"2^9 is outside":               func(a *Access) { a.LogN = 9 },
		"deviation NaN is not between": func(a *Access) { a.Flood -= a.Flood; a.Flood /= a.Flood },
	} {
		b := access()
		change(&b)
		err := b.Check()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
		if _, err := CombineKeys(b, [SeedSize]byte{}, nil); err == nil {
			t.Errorf("%s: keys were combined", want)
		}
		if _, err := NewCombiner(b, Pairs, 1); err == nil {
			t.Errorf("%s: a combiner was made", want)
		}
	}
	for _, i := range []int{0, 5} {
		if _, err := NewParty(a, i, seedOf(t, byte(i))); !errors.Is(err, ErrParams) {
			t.Errorf("party %d: %v", i, err)
		}
	}
	// The template's own scale leaves no room for noise that hides anything.
	for _, flood := range []float64{1 << 20, minFlood, maxFlood} {
		if err := (Access{Params: Template(), Parties: 3, Threshold: 2, Flood: flood}).Check(); !errors.Is(err, ErrFlood) {
			t.Errorf("the template with %g: %v", flood, err)
		}
	}
}

func TestSharesOfAnythingElseAreRefused(t *testing.T) {
	a := access()
	list, public := parties(t, a)
	ct := encrypt(t, encryptor(t, a.Params, public, Pairs), nil)
	other := encrypt(t, encryptor(t, a.Params, public, Pairs), nil)
	share := func(i int, active []int, ct []byte) []byte {
		s, err := list[i-1].DecryptionShare(t.Context(), &memoryJournal{}, active, ct)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	active := []int{1, 2, 3}
	one, two, three := share(1, active, ct), share(2, active, ct), share(3, active, ct)
	change := func(at int, v byte) []byte {
		c := bytes.Clone(three)
		c[at] ^= v
		return c
	}
	high := bytes.Clone(three)
	copy(high[shareHeader+shareBinding:], bytes.Repeat([]byte{255}, 8))
	for name, last := range map[string][][]byte{
		"missing": {}, "twice": {two}, "a fourth": {three, share(4, []int{1, 2, 4}, ct)},
		"another ciphertext": {share(3, active, other)}, "other parties": {share(3, []int{3, 2, 4}, ct)},
		"cut": {three[:len(three)-1]}, "short": {three[:senderAt]}, "longer": {append(bytes.Clone(three), 0)},
		"version": {change(0, 3)}, "kind": {change(1, 1)}, "parameters": {change(2, 1)}, "round": {change(34, 1)},
		"parties": {change(50, 1)}, "threshold": {change(52, 1)}, "sender": {change(54, 7)}, "receiver": {change(56, 1)},
		"not reduced": {high},
	} {
		if _, err := combine(t, a, ct, append([][]byte{one, two}, last...)); !errors.Is(err, ErrShare) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := combine(t, a, ct, [][]byte{one, two, three}); err != nil {
		t.Errorf("the shares themselves: %v", err)
	}
	if _, err := combine(t, a, ct[1:], [][]byte{one, two, three}); !errors.Is(err, ErrNotCanonical) {
		t.Errorf("a cut ciphertext: %v", err)
	}
	// Shares are malleable; a residue that is off by one gives garbage, and is noticed.
	if _, err := combine(t, a, ct, [][]byte{one, two, change(shareHeader+shareBinding, 1)}); !errors.Is(err, ErrRange) {
		t.Errorf("a changed residue: %v", err)
	}
}

func TestPartiesRefuse(t *testing.T) {
	a := access()
	list, public := parties(t, a)
	ct := encrypt(t, encryptor(t, a.Params, public, Pairs), nil)
	j := &memoryJournal{}
	for _, active := range [][]int{{1, 2}, {1, 2, 3, 4}, {1, 2, 2}, {0, 1, 2}, {1, 2, 5}, {2, 3, 4}} {
		if _, err := list[0].DecryptionShare(t.Context(), j, active, ct); !errors.Is(err, ErrShare) {
			t.Errorf("active %d: %v", active, err)
		}
	}
	if _, err := list[0].DecryptionShare(t.Context(), j, []int{1, 2, 3}, ct[1:]); !errors.Is(err, ErrNotCanonical) {
		t.Errorf("a cut ciphertext: %v", err)
	}
	if len(j.used) != 0 {
		t.Error("a refusal went into the journal")
	}
	if share, err := list[0].PublicShare([SeedSize]byte{1, 2, 3}); !errors.Is(err, ErrShareUsed) || share != nil {
		t.Errorf("a second public share: %v", err)
	}
	dealt, err := list[1].Deal(1)
	if err != nil {
		t.Fatal(err)
	}
	defer dealt.Wipe()
	if err := list[0].Receive(2, dealt); !errors.Is(err, ErrShare) {
		t.Errorf("a second deal: %v", err)
	}
	for _, to := range []int{0, 2, 5} {
		if _, err := list[1].Deal(to); !errors.Is(err, ErrShare) {
			t.Errorf("deal to %d: %v", to, err)
		}
	}
	fresh, err := NewParty(a, 1, seedOf(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fresh.DecryptionShare(t.Context(), j, []int{1, 2, 3}, ct); !errors.Is(err, ErrShare) {
		t.Errorf("before it had its shares: %v", err)
	}
	for name, c := range map[string]struct {
		from  int
		dealt *keybuf.Buffer
	}{"nothing": {2, nil}, "of another": {3, dealt}, "nobody": {0, dealt}, "a stranger": {5, dealt}} {
		if err := fresh.Receive(c.from, c.dealt); !errors.Is(err, ErrShare) {
			t.Errorf("%s: %v", name, err)
		}
	}
	fresh.Wipe()
	_, first := fresh.PublicShare([SeedSize]byte{})
	_, second := list[1].DecryptionShare(t.Context(), j, []int{1, 2, 3}, ct)
	list[1].Wipe()
	_, third := list[1].DecryptionShare(t.Context(), &memoryJournal{}, []int{1, 2, 3}, ct)
	if !errors.Is(first, ErrKey) || second != nil || !errors.Is(third, ErrKey) {
		t.Errorf("after Wipe: %v, %v, %v", first, second, third)
	}
}

func TestPublicSharesOfAnythingElseAreRefused(t *testing.T) {
	a := access()
	common := [SeedSize]byte{5}
	shares := make([][]byte, a.Parties)
	for i := range shares {
		p, err := NewParty(a, i+1, seedOf(t, byte(i+1)))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Wipe()
		if shares[i], err = p.PublicShare(common); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := CombineKeys(a, common, shares); err != nil {
		t.Fatal(err)
	}
	other := a
	other.Round[0]++
	for name, f := range map[string]func() ([]byte, error){
		"missing": func() ([]byte, error) { return CombineKeys(a, common, shares[:3]) },
		"out of order": func() ([]byte, error) {
			return CombineKeys(a, common, [][]byte{shares[0], shares[2], shares[1], shares[3]})
		},
		"twice": func() ([]byte, error) {
			return CombineKeys(a, common, [][]byte{shares[0], shares[0], shares[2], shares[3]})
		},
		"another seed":  func() ([]byte, error) { return CombineKeys(a, [SeedSize]byte{6}, shares) },
		"another round": func() ([]byte, error) { return CombineKeys(other, common, shares) },
		"a cut last part": func() ([]byte, error) {
			return CombineKeys(a, common, [][]byte{shares[0], shares[1], shares[2], shares[3][:99]})
		},
	} {
		if _, err := f(); !errors.Is(err, ErrShare) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
