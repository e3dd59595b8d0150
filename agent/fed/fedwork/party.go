package fedwork

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/ckks"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// partyTask is a party's task, checked.
type partyTask struct {
	fedtask.Party
	access ckks.Access
}

func newPartyTask(spec []byte, in, out []*os.File, wantIn, wantOut int) (t partyTask, err error) {
	if err := decode(spec, &t.Party); err != nil {
		return t, err
	}
	set, err := params.Lookup(t.Set)
	if err != nil || t.Set != params.Threshold || len(in) != wantIn || len(out) != wantOut {
		return t, taskInvalid("a party's task needs parameter set %s, %d inputs and %d outputs", params.Threshold, wantIn, wantOut)
	}
	t.access = accessOf(set, t.Round, t.Parties, t.Threshold)
	if err := t.access.Check(); err != nil {
		return t, taskInvalid("%v", err)
	}
	return t, nil
}

func accessOf(set params.Set, round digest.RoundID, parties, threshold int) ckks.Access {
	return ckks.Access{Params: slotParams(set), Round: round, Parties: parties, Threshold: threshold, Flood: ckks.Flood}
}

func (t *partyTask) party(seed io.Reader) (*ckks.Party, error) {
	s, err := readSecret(seed, ckks.SeedSize)
	if err != nil {
		return nil, err
	}
	defer s.Wipe()
	p, err := ckks.NewParty(t.access, t.Index, s)
	if errors.Is(err, ckks.ErrParams) {
		err = taskInvalid("%v", err)
	}
	return p, err
}

func readSecret(r io.Reader, size int) (*keybuf.Buffer, error) {
	b, err := keybuf.New(size)
	if err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(r, b.Bytes()); err != nil {
		b.Wipe()
		return nil, fmt.Errorf("read a secret: %w", err)
	}
	return b, nil
}

func partyBegin(_ context.Context, spec []byte, in, out []*os.File, _ func(string, uint64, uint64)) ([]byte, error) {
	t, err := newPartyTask(spec, in, out, 1, 2)
	if err != nil {
		return nil, err
	}
	p, err := t.party(in[0])
	if err != nil {
		return nil, err
	}
	defer p.Wipe()
	share, err := p.PublicShare(ckks.CommonSeed(t.Round))
	if err != nil {
		return nil, err
	}
	if _, err := out[0].Write(share); err != nil {
		return nil, err
	}
	for to := 1; to <= t.Parties; to++ {
		if to == t.Index {
			continue
		}
		dealt, err := p.Deal(to)
		if err != nil {
			return nil, err
		}
		_, err = out[1].Write(dealt.Bytes())
		dealt.Wipe()
		if err != nil {
			return nil, err
		}
	}
	return json.Marshal(struct{}{})
}

func partyKey(_ context.Context, spec []byte, in, out []*os.File, _ func(string, uint64, uint64)) ([]byte, error) {
	t, err := newPartyTask(spec, in, out, 1, 1)
	if err != nil {
		return nil, err
	}
	shares := make([][]byte, t.Parties)
	for i := range shares {
		shares[i] = make([]byte, t.access.PublicShareBytes())
		if _, err := io.ReadFull(in[0], shares[i]); err != nil {
			return nil, taskInvalid("public share %d: %v", i+1, err)
		}
	}
	key, err := ckks.CombineKeys(t.access, ckks.CommonSeed(t.Round), shares)
	if err != nil {
		return nil, taskInvalid("%v", err)
	}
	if _, err := out[0].Write(key); err != nil {
		return nil, err
	}
	return json.Marshal(struct{}{})
}

// once is the journal of one task. The agent gives a party's seed to one task alone,
// so that what this process has not computed was never computed.
type once map[[32]byte]bool

// Consume records a ciphertext.
func (o once) Consume(_ context.Context, key [32]byte) error {
	if o[key] {
		return ckks.ErrShareUsed
	}
	o[key] = true
	return nil
}

func partyShare(ctx context.Context, spec []byte, in, out []*os.File, progress func(string, uint64, uint64)) ([]byte, error) {
	t, err := newPartyTask(spec, in, out, 2, 1)
	if err != nil {
		return nil, err
	}
	p, err := t.party(in[0])
	if err != nil {
		return nil, err
	}
	defer p.Wipe()
	for from := 1; from <= t.Parties; from++ {
		if from == t.Index {
			continue
		}
		dealt, err := readSecret(in[0], t.access.DealtBytes())
		if err != nil {
			return nil, err
		}
		err = p.Receive(from, dealt)
		dealt.Wipe()
		if err != nil {
			return nil, taskInvalid("%v", err)
		}
	}
	journal, block := once{}, make([]byte, t.access.CiphertextBytes())
	for i := range t.Blocks {
		if _, err := io.ReadFull(in[1], block); err != nil {
			return nil, sumInvalid("the sum ends at block %d of %d: %v", i, t.Blocks, err)
		}
		share, err := p.DecryptionShare(ctx, journal, t.Active, block)
		if err != nil {
			return nil, sumInvalid("block %d: %v", i, err)
		}
		if _, err := out[0].Write(share); err != nil {
			return nil, err
		}
		progress("share", i+1, t.Blocks)
	}
	if n, err := io.ReadFull(in[1], block[:1]); n != 0 || !errors.Is(err, io.EOF) {
		return nil, sumInvalid("unexpected data after the sum's last block")
	}
	return json.Marshal(struct{}{})
}

// shareOpener opens a sum with the shares of the active parties, and no key.
type shareOpener struct {
	combiner *ckks.Combiner
	shares   []io.Reader
	block    [][]byte
	buf      []float64
}

func newShareOpener(r federation.Round, shares []io.Reader) (opener, error) {
	set, _, err := r.Parameters()
	if err != nil {
		return nil, err
	}
	a := accessOf(set, r.ID, len(r.Parties.Agents), int(r.Parties.Threshold))
	c, err := ckks.NewCombiner(a, ckks.Real, 2)
	if err != nil {
		return nil, taskInvalid("%v", err)
	}
	o := &shareOpener{combiner: c, shares: shares, buf: make([]float64, a.Values(ckks.Real))}
	for range shares {
		o.block = append(o.block, make([]byte, a.ShareBytes()))
	}
	return o, nil
}

func (o *shareOpener) wipe() { o.combiner.Wipe(); clear(o.buf) }
func (o *shareOpener) open(dst []int32, block []byte) error {
	for i, r := range o.shares {
		if _, err := io.ReadFull(r, o.block[i]); err != nil {
			return fmt.Errorf("share %d ends early: %w", i+1, err)
		}
	}
	if err := o.combiner.Combine(o.buf, block, o.block); err != nil {
		return err
	}
	toGrid(dst, o.buf)
	return nil
}
