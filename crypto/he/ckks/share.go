package ckks

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/tuneinsight/lattigo/v6/core/rlwe"
	"github.com/tuneinsight/lattigo/v6/multiparty"
	"github.com/tuneinsight/lattigo/v6/ring"
)

// ErrShareUsed means that this share was computed before. There is no second one, not for other
// parties and not after a failure: two shares for one ciphertext, with two noises or for two
// subsets, reveal the key (ePrint 2024/194, 2025/409). A round that loses a party while it
// decrypts has failed.
var ErrShareUsed = errors.New("ckks: this share was already given out")

// ShareJournal remembers the ciphertexts for which a share was computed.
type ShareJournal interface {
	// Consume records the key, or returns ErrShareUsed if it is recorded. When it
	// returns nil the record is durable. Of concurrent calls with one key at most one
	// returns nil.
	Consume(ctx context.Context, key [32]byte) error
}

// A decryption share has after its header the ciphertext's key and a bit for each
// active party.
const shareBinding = 32 + 8

// ciphertextKey names a ciphertext in the journal and in shares. A share depends on
// the second polynomial alone, over the primes that decryption uses: the same one
// with another first polynomial is the same ciphertext.
func (s *party) ciphertextKey(ct []byte) [32]byte {
	h := sha256.New() // whose Write never fails
	_, _ = h.Write(append([]byte("anchorhold/fedagg/share/1\n"), s.digest[:]...))
	_, _ = h.Write(s.access.Round[:])
	second := ct[polyBytes(s.N(), s.Q):]
	_, _ = h.Write(second[:polyBytes(s.N(), s.Q[:s.level()+1])])
	return [32]byte(h.Sum(nil))
}

// bitmap checks the active parties: as many as the threshold, each once.
func (s *party) bitmap(active []int) (set uint64, err error) {
	for _, i := range active {
		if i < 1 || i > s.access.Parties || set>>(i-1)&1 == 1 {
			return 0, fmt.Errorf("invalid active parties %d: %w", active, ErrShare)
		}
		set |= 1 << (i - 1)
	}
	if len(active) != s.access.Threshold {
		return 0, fmt.Errorf("got %d active parties, want %d: %w", len(active), s.access.Threshold, ErrShare)
	}
	return set, nil
}

// DecryptionShare computes this party's share in the decryption of a sum by the active parties,
// including itself: c1 times its part of the key, plus noise. The journal records it before it
// is computed; a second call with the same ciphertext returns ErrShareUsed, whatever became of
// the first.
//
// The caller is responsible for the ciphertext, which must be a sum over the round's cohort that
// the broker signed. A party that decrypts whatever it is given is a decryption oracle.
func (p *Party) DecryptionShare(ctx context.Context, journal ShareJournal, active []int, ct []byte) ([]byte, error) {
	set, err := p.bitmap(active)
	switch {
	case err != nil:
		return nil, err
	case p.dealing == nil:
		return nil, fmt.Errorf("the key was wiped: %w", ErrKey)
	case !slices.Contains(active, p.index) || len(p.received) != p.access.Parties:
		return nil, fmt.Errorf("party %d is not active, or has shares from %d of %d parties only: %w", p.index, len(p.received), p.access.Parties, ErrShare)
	}
	sum := NewResidues(p.Params)
	if err := sum.Unmarshal(ct); err != nil {
		return nil, err
	}
	key := p.ciphertextKey(ct)
	if err := journal.Consume(ctx, key); err != nil {
		return nil, fmt.Errorf("record the share: %w", err)
	}
	share, err := p.share(active, sum)
	if err != nil {
		return nil, err
	}
	out := append(p.header(kindDecrypt, p.index, 0), key[:]...)
	out = binary.LittleEndian.AppendUint64(out, set)
	used := p.Q[:p.level()+1]
	out = append(out, make([]byte, polyBytes(p.N(), used))...)
	packPoly(out[shareHeader+shareBinding:], share.Coeffs, used)
	return out, nil
}

// share is the library's protocol: the party's Shamir share times its Lagrange
// coefficient among the active, switched to the key zero with flooding noise.
func (p *Party) share(active []int, sum *Residues) (ring.Poly, error) {
	points := make([]multiparty.ShamirPublicPoint, len(active))
	for i, v := range active {
		points[i] = multiparty.ShamirPublicPoint(v)
	}
	own := multiparty.ShamirPublicPoint(p.index)
	held := p.thr.AllocateThresholdSecretShare()
	held.Q = poly(p.shared.coeffs)
	part, err := newLocked(p.N(), len(p.primes()))
	if err != nil {
		return ring.Poly{}, err
	}
	defer part.wipe()
	key := &rlwe.SecretKey{Value: p.qp(part.coeffs)}
	combiner := multiparty.NewCombiner(p.lib, own, points, p.access.Threshold)
	if err := combiner.GenAdditiveShare(points, own, held, key); err != nil {
		return ring.Poly{}, fmt.Errorf("combine: %w", err)
	}
	noise := ring.DiscreteGaussian{Sigma: p.access.Flood, Bound: 6 * p.access.Flood}
	protocol, err := multiparty.NewKeySwitchProtocol(p.lib, noise)
	if err != nil {
		return ring.Poly{}, fmt.Errorf("flood: %w", err)
	}
	level := p.level()
	ct := rlwe.NewCiphertext(p.lib, 1, level)
	ct.IsNTT = false
	ct.Value[1] = poly(sum.parts[1][:level+1])
	out := protocol.AllocateShare(level)
	protocol.GenShare(key, rlwe.NewSecretKey(p.lib), ct, &out)
	// The library promises residues below twice the prime, no more.
	p.lib.RingQ().AtLevel(level).Reduce(out.Value, out.Value)
	return out.Value, nil
}

// Combiner decrypts a sum from the shares of all active parties. It holds no secret,
// but its results are like Decryptor's: not to be published before noise and rounding.
type Combiner struct {
	party
	dec *decoder
	sum *Residues
}

// NewCombiner returns a combiner; limit is as for NewDecryptor.
func NewCombiner(a Access, layout Layout, limit float64) (*Combiner, error) {
	s, err := newParty(a)
	if err != nil {
		return nil, err
	}
	c := &Combiner{party: s, sum: NewResidues(a.Params)}
	if c.dec, err = newDecoder(s.scheme, layout, limit); err != nil {
		return nil, err
	}
	return c, nil
}

// Combine fills values from the ciphertext and one share of each active party.
func (c *Combiner) Combine(values []float64, ct []byte, shares [][]byte) error {
	if err := c.sum.Unmarshal(ct); err != nil {
		return err
	}
	key := c.ciphertextKey(ct)
	used := c.Q[:len(c.dec.work)]
	for i := range used {
		copy(c.dec.work[i], c.sum.parts[0][i])
	}
	var active []int
	var claimed []uint64
	for _, share := range shares {
		if len(share) < shareHeader+shareBinding {
			return fmt.Errorf("a share of %d bytes is too short: %w", len(share), ErrShare)
		}
		from := int(binary.LittleEndian.Uint16(share[senderAt:]))
		x, err := c.open(share, kindDecrypt, from, 0, used, shareBinding)
		if err != nil {
			return err
		}
		if [32]byte(share[shareHeader:]) != key {
			return fmt.Errorf("the share of party %d is for a different ciphertext: %w", from, ErrShare)
		}
		for i, q := range used {
			addMod(c.dec.work[i], x[i], q)
		}
		active = append(active, from)
		claimed = append(claimed, binary.LittleEndian.Uint64(share[shareHeader+32:]))
	}
	set, err := c.bitmap(active)
	if err != nil {
		return err
	}
	for i, v := range claimed {
		if v != set {
			return fmt.Errorf("the share of party %d is for a different set of active parties: %w", active[i], ErrShare)
		}
	}
	return c.dec.decode(values)
}

// Wipe forgets the last result.
func (c *Combiner) Wipe() { c.dec.clear() }
