package ckks

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/tuneinsight/lattigo/v6/multiparty"
	"github.com/tuneinsight/lattigo/v6/ring/ringqp"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// Errors of threshold decryption.
var (
	// ErrFlood means noise for shares that hides too little, that the library would sample
	// wrongly, or that drowns the values.
	ErrFlood = errors.New("ckks: flooding noise refused")
	// ErrShare means a share that is malformed, missing, given twice, or of the wrong kind.
	ErrShare = errors.New("ckks: share refused")
)

// Limits on threshold decryption.
const (
	// MaxParties is the largest number of parties of a key.
	MaxParties = 64
	// minFlood is the least standard deviation that hides a share: 2^30 times the
	// noise of a sum of a thousand contributions.
	minFlood = 1 << 40
	// maxFlood is where the library's float64 samples lose their lowest bits.
	maxFlood = 1 << 53
	// maxFloodError is how much of a value the noise may change, at six deviations.
	maxFloodError = 1.0 / (1 << 20)
)

// Flood is the standard deviation for which Threshold's primes and scale were chosen.
const Flood = maxFlood

// Access says who may decrypt what: the sums of one round, by any Threshold of
// Parties, numbered from 1.
type Access struct {
	Params
	Round              [16]byte
	Parties, Threshold int
	// Flood is the standard deviation of the noise in each share; 2^53 for Threshold.
	Flood float64
}

// Check refuses an access structure that the library would accept.
//
// When asked for noise wider than a prime, the library's sampler returns residues that are not
// reduced and disagree between primes, without an error: every decryption is then garbage. Above
// 2^53 it samples numbers whose lowest bits are zero.
func (a Access) Check() error {
	if err := a.Params.Check(); err != nil {
		return err
	}
	if a.Threshold < 2 || a.Parties < a.Threshold || a.Parties > MaxParties {
		return fmt.Errorf("got a threshold of %d of %d parties, want 2 of 2 or more and at most %d parties: %w", a.Threshold, a.Parties, MaxParties, ErrParams)
	}
	if !(a.Flood >= minFlood && a.Flood <= maxFlood) {
		return fmt.Errorf("deviation %g is not between 2^40 and 2^53: %w", a.Flood, ErrFlood)
	}
	for _, q := range a.Q[:a.level()+1] {
		if 6*a.Flood >= float64(q) {
			return fmt.Errorf("six deviations of %g do not fit the prime %d: %w", a.Flood, q, ErrFlood)
		}
	}
	if inSlot := 6 * a.Flood * math.Sqrt(float64(a.Threshold*a.N())) / math.Exp2(float64(a.LogScale)); inSlot > maxFloodError {
		return fmt.Errorf("deviation %g changes values by %.2g at scale 2^%d: %w", a.Flood, inSlot, a.LogScale, ErrFlood)
	}
	return nil
}

// The kinds of shares. Each begins with version, kind, digest of the parameters,
// round, parties, threshold, sender and receiver (0 for all).
const (
	kindPublic  byte = 1 // of the public key
	kindDealt   byte = 2 // of a party's secret, for one other party
	kindDecrypt byte = 3
	shareHeader      = 2 + 32 + 16 + 4*2
	senderAt         = 2 + 32 + 16 + 2*2
)

func (s *party) header(kind byte, from, to int) []byte {
	h := append(make([]byte, 0, shareHeader), keyVersion, kind)
	h = append(append(h, s.digest[:]...), s.access.Round[:]...)
	for _, v := range []int{s.access.Parties, s.access.Threshold, from, to} {
		h = binary.LittleEndian.AppendUint16(h, uint16(v))
	}
	return h
}

// DealtBytes and ShareBytes are the lengths of what a party deals to another, and of
// its share in the decryption of one ciphertext.
func (a Access) DealtBytes() int { return shareHeader + polyBytes(a.N(), a.Q) }

// ShareBytes is described with DealtBytes.
func (a Access) ShareBytes() int {
	return shareHeader + shareBinding + polyBytes(a.N(), a.Q[:a.level()+1])
}

// PublicShareBytes is the length of a party's part of the public key.
func (a Access) PublicShareBytes() int {
	return shareHeader + SeedSize + polyBytes(a.N(), a.primes())
}

// party is what both ends of a share know.
type party struct {
	*scheme
	access Access
}

func newParty(a Access) (party, error) {
	if err := a.Check(); err != nil {
		return party{}, err
	}
	s, err := newScheme(a.Params)
	return party{s, a}, err
}

// open checks a share's header and unpacks its residues over the primes.
func (s *party) open(share []byte, kind byte, from, to int, primes []uint64, skip int) ([][]uint64, error) {
	size := shareHeader + skip + polyBytes(s.N(), primes)
	if len(share) != size || string(share[:shareHeader]) != string(s.header(kind, from, to)) {
		return nil, fmt.Errorf("not a share from party %d for party %d: %w", from, to, ErrShare)
	}
	x := newPoly(s.N(), len(primes))
	if !unpackPoly(x, share[shareHeader+skip:], primes) {
		return nil, fmt.Errorf("share of party %d: %w: %w", from, ErrNotCanonical, ErrShare)
	}
	return x, nil
}

// CommonSeed returns the seed for the part of a round's key that all public shares have in
// common: a hash of the round's ID, which nobody can influence further.
func CommonSeed(round [16]byte) [SeedSize]byte {
	return sha256.Sum256(append([]byte("anchorhold/fedagg/common/1\x00"), round[:]...))
}

// Party is one holder of a threshold key. All its randomness comes from its seed; a party that
// lost its seed is lost, and the others can go on as long as Threshold of them are left. It is
// not safe for concurrent use.
//
// The steps: every party sends its PublicShare to all (after all committed to
// theirs, or the last one chooses the key), and its Deal to each other one over a
// confidential channel; every party Receives what the others dealt. Shares are not
// verifiable: a party that deals nonsense makes decryptions fail, as ErrRange. The
// library's work on a share is not in locked memory.
type Party struct {
	party
	index    int
	secret   *locked   // the party's own, over QP
	dealing  []*locked // the coefficients after it of the polynomial that it deals from; nil after Wipe
	seed     *keybuf.Buffer
	thr      multiparty.Thresholdizer
	shared   *locked // its share of the whole key, over Q
	received map[int]bool
	// published: two public shares over one a, with two errors, begin to tell the secret.
	published bool
}

// NewParty returns the party with an index from 1 to Parties and a seed of SeedSize bytes. The
// same seed must never serve another Round.
func NewParty(a Access, index int, seed *keybuf.Buffer) (*Party, error) {
	s, err := newParty(a)
	if err != nil {
		return nil, err
	}
	if index < 1 || index > a.Parties {
		return nil, fmt.Errorf("there is no party %d of %d: %w", index, a.Parties, ErrParams)
	}
	secret, _, err := GenerateKey(a.Params, seed)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe()
	p := &Party{party: s, index: index, thr: multiparty.NewThresholdizer(s.lib), received: map[int]bool{}}
	if err := p.draw(secret, seed); err != nil {
		p.Wipe()
		return nil, err
	}
	p.add(index, p.dealt(index))
	return p, nil
}

// draw fills what the party holds.
func (p *Party) draw(secret, seed *keybuf.Buffer) (err error) {
	if p.seed, err = keybuf.New(SeedSize); err != nil {
		return err
	}
	copy(p.seed.Bytes(), seed.Bytes())
	if p.secret, err = p.spread(secret); err != nil {
		return err
	}
	if p.shared, err = newLocked(p.N(), len(p.Q)); err != nil {
		return err
	}
	for i := 1; i < p.access.Threshold; i++ {
		x, err := newLocked(p.N(), len(p.primes()))
		if err != nil {
			return err
		}
		p.dealing = append(p.dealing, x)
		coefficients := stream("fedagg dealing "+strconv.Itoa(i), p.digest, seed.Bytes())
		uniform(x.coeffs, p.primes(), coefficients)
		coefficients.Reset()
	}
	return nil
}

// Wipe forgets the secret and all shares of it.
func (p *Party) Wipe() {
	p.secret.wipe()
	p.shared.wipe()
	for _, x := range p.dealing {
		x.wipe()
	}
	p.dealing = nil
	p.seed.Wipe()
}

// PublicShare returns the party's part of the collective public key, over the common a, whose
// seed no party chose. A second call returns ErrShareUsed.
func (p *Party) PublicShare(common [SeedSize]byte) ([]byte, error) {
	switch {
	case p.dealing == nil:
		return nil, fmt.Errorf("the key was wiped: %w", ErrKey)
	case p.published:
		return nil, fmt.Errorf("public share of party %d: %w", p.index, ErrShareUsed)
	}
	p.published = true
	small := make([]int8, p.N())
	defer clear(small)
	// Another common seed has another error.
	noise := stream("fedagg public share", p.digest, append(p.seed.Bytes()[:SeedSize:SeedSize], common[:]...))
	defer noise.Reset()
	centred(small, noise)
	key := p.publicKey(p.secret, common, small)
	return append(p.header(kindPublic, p.index, 0), key[33:]...), nil
}

// CombineKeys makes the collective public key from the shares of all parties, in the order of
// their indexes. It is used like any other key.
func CombineKeys(a Access, common [SeedSize]byte, shares [][]byte) ([]byte, error) {
	s, err := newParty(a)
	if err != nil {
		return nil, err
	}
	if len(shares) != a.Parties {
		return nil, fmt.Errorf("got %d public shares, want %d: %w", len(shares), a.Parties, ErrShare)
	}
	all := s.primes()
	sum := newPoly(s.N(), len(all))
	for i, share := range shares {
		b, err := s.open(share, kindPublic, i+1, 0, all, SeedSize)
		if err != nil {
			return nil, err
		}
		if [SeedSize]byte(share[shareHeader:]) != common {
			return nil, fmt.Errorf("the public share of party %d is for a different common seed: %w", i+1, ErrShare)
		}
		for k, q := range all {
			addMod(sum[k], b[k], q)
		}
	}
	return s.marshalKey(common, sum), nil
}

// dealt is the party's secret shared to one party, over Q.
func (p *Party) dealt(to int) [][]uint64 {
	share := p.thr.AllocateThresholdSecretShare()
	from := multiparty.ShamirPolynomial{Value: []ringqp.Poly{p.qp(p.secret.coeffs)}}
	for _, x := range p.dealing {
		from.Value = append(from.Value, p.qp(x.coeffs))
	}
	p.thr.GenShamirSecretShare(multiparty.ShamirPublicPoint(to), from, &share)
	clearAll(share.P.Coeffs)
	return share.Q.Coeffs
}

// Deal returns the share of the party's secret for one other party. The share is secret.
func (p *Party) Deal(to int) (*keybuf.Buffer, error) {
	if p.dealing == nil || to < 1 || to > p.access.Parties || to == p.index {
		return nil, fmt.Errorf("party %d has nothing to deal to party %d: %w", p.index, to, ErrShare)
	}
	x := p.dealt(to)
	defer clearAll(x)
	out, err := keybuf.New(shareHeader + polyBytes(p.N(), p.Q))
	if err != nil {
		return nil, err
	}
	copy(out.Bytes(), p.header(kindDealt, p.index, to))
	packPoly(out.Bytes()[shareHeader:], x, p.Q)
	return out, nil
}

// Receive takes the share that another party dealt to this one. Each party's share is taken
// once.
func (p *Party) Receive(from int, dealt *keybuf.Buffer) error {
	if p.dealing == nil || p.received[from] || from < 1 || from > p.access.Parties {
		return fmt.Errorf("party %d cannot take a share from party %d: %w", p.index, from, ErrShare)
	}
	x, err := p.open(dealt.Bytes(), kindDealt, from, p.index, p.Q, 0)
	if err != nil {
		return err
	}
	p.add(from, x)
	return nil
}

func (p *Party) add(from int, x [][]uint64) {
	defer clearAll(x)
	p.lib.RingQ().Add(poly(p.shared.coeffs), poly(x), poly(p.shared.coeffs))
	p.received[from] = true
}
