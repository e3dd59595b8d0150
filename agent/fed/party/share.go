package party

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"slices"

	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// closing is what a share is made for.
type closing struct {
	round  federation.Round
	ticket digest.Digest
	blocks uint64
}

// Share begins this party's share in decrypting a closed round with the active parties, for the
// local user who joined, root or the agent's own user. It does so once: as soon as it begins, the
// secret is no longer there for a second share.
func (s *Service) Share(ctx context.Context, uid uint32, id digest.RoundID, active []int) (Status, error) {
	m, err := s.member(id)
	if err != nil {
		return Status{}, err
	}
	if err := s.mayShare(m, uid); err != nil {
		return m.show(), err
	}
	active = slices.Sorted(slices.Values(active))
	switch st := m.show(); {
	case len(active) != st.Threshold || !slices.Contains(active, m.index) || len(slices.Compact(slices.Clone(active))) != len(active) || active[0] < 1 || active[len(active)-1] > st.Parties:
		return st, refusal.New(ReasonActive, "exactly %d parties decrypt together, and party %d must be one of them; got %d", st.Threshold, m.index, active)
	case st.State == SettingUp:
		return st, refusal.New(ReasonNotReady, "the key is being set up: %s", st.Phase)
	case st.State != Ready:
		return st, refusal.New(ReasonUsed, "party %d is %s; a second share is never made", m.index, st.State)
	}
	c, err := s.closing(ctx, m)
	if err != nil {
		return m.show(), err
	}
	// Asked before the secret is given: there is no second share after a disk was full.
	if err := s.cfg.Room(int64(c.blocks) * params.ShareBlockBytes); err != nil {
		return m.show(), err
	}
	secret := m.take()
	if secret == nil {
		return m.show(), refusal.New(ReasonUsed, "the share of party %d has already been begun", m.index)
	}
	m.mu.Lock()
	m.status.State = Sharing
	m.mu.Unlock()
	err = s.begin(ctx, m, func(ctx context.Context) error {
		defer wipe(secret)
		return s.share(ctx, m, c, active, secret)
	})
	if err != nil {
		wipe(secret)
		s.end(m, err)
	}
	return m.show(), err
}

// closing fetches round and ticket, and holds them against the key that was set up.
func (s *Service) closing(ctx context.Context, m *member) (c closing, err error) {
	signer, err := s.cfg.Sign()
	if err != nil {
		return c, err
	}
	// The ticket is what the broker says now, and it names the round by its digest.
	round, signed, err := s.cfg.Board.Round(ctx, protocol.Of(m.setup.Broker), signer.Live().Kept(), m.setup.Round)
	if err != nil {
		return c, err
	}
	p := round.Parties
	if p == nil || digest.Of(p.Setup) != m.digest || digest.Of(round.PublicKey) != m.show().Key {
		return c, refusal.New(federation.ReasonParties, "the round's key is not the one that this party vouched for")
	}
	_, ticket, err := s.cfg.Board.Ticket(ctx, signer.Live(), round, digest.Of(signed))
	if err != nil {
		return c, err
	}
	set, _, err := round.Parameters()
	if err != nil {
		return c, err
	}
	return closing{round, digest.Of(ticket), federation.BlockCount(round.Length, set.ValuesPerBlock())}, nil
}

// share has a worker compute the share, signs it, and sends it.
func (s *Service) share(ctx context.Context, m *member, c closing, active []int, secret []*keybuf.Buffer) (err error) {
	blocks, err := os.CreateTemp(s.cfg.Dir, ".share-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, blocks.Close(), os.Remove(blocks.Name())) }()
	err = s.compute(ctx, m, c, active, secret, blocks)
	wipe(secret)
	if err != nil {
		return err
	}
	m.phase("sending the share")
	manifest, err := s.signShare(m, c, active, blocks)
	if err != nil {
		return err
	}
	if err := s.cfg.Board.SendShare(ctx, c.round.ID, m.index, manifest, io.NewSectionReader(blocks, 0, math.MaxInt64)); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status.State = Shared
	return nil
}

// compute has a worker decrypt this party's part of the sum into blocks.
func (s *Service) compute(ctx context.Context, m *member, c closing, active []int, secret []*keybuf.Buffer, blocks *os.File) (err error) {
	spec, err := m.task(func(t *fedtask.Party) { t.Active, t.Blocks = active, c.blocks })
	if err != nil {
		return err
	}
	own, err := worker.NewFeed(write(secret...))
	if err != nil {
		return err
	}
	sum, err := worker.NewFeed(func(w io.Writer) error { return s.cfg.Recounted(ctx, c.round.ID, w) })
	if err != nil {
		return errors.Join(err, own.End())
	}
	limits := s.cfg.Limits
	limits.Output = int64(c.blocks) * params.ShareBlockBytes
	_, err = s.cfg.Pool.Run(ctx, worker.Task{Class: fedtask.ClassPartyShare, Spec: spec, In: []*os.File{own.Reader, sum.Reader}, Out: []*os.File{blocks}, Limits: limits},
		func(p worker.Progress) { m.phase(p.Phase) })
	if cause := errors.Join(own.End(), sum.End()); cause != nil {
		err = cause // the worker saw only that its input ended
	}
	return err
}

func (s *Service) signShare(m *member, c closing, active []int, blocks io.ReaderAt) ([]byte, error) {
	var manifest federation.Manifest
	block := make([]byte, params.ShareBlockBytes)
	for i := range c.blocks {
		if _, err := blocks.ReadAt(block, int64(i)*int64(len(block))); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		manifest.Hashes = append(manifest.Hashes, federation.BlockHash(c.round.ID, i, block))
	}
	signer, err := s.cfg.Sign()
	if err != nil {
		return nil, err
	}
	st := federation.Share{Round: c.round.ID, TicketDigest: c.ticket, Agent: signer.Key.Public().ID(), From: uint32(m.index), Blocks: c.blocks,
		Upload: federation.UploadDigest(c.round.ID, manifest.Hashes), Time: signer.Now}
	for _, a := range active {
		st.Active = append(st.Active, uint32(a))
	}
	if manifest.Signed, err = federation.SignShare(signer.Key, signer.Chain, st); err != nil {
		return nil, err
	}
	return manifest.Marshal()
}
