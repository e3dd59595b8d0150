package party

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/keywrap"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// Limits on what a worker writes into a pipe.
const (
	maxPublicBytes = 512 << 10 // a public share, or the public key
	seedBytes      = 32
)

// setUp goes through the stages: commit, public and deals, ready.
func (s *Service) setUp(ctx context.Context, m *member) error {
	// The time that is left, by the broker's clock.
	signer, err := s.cfg.Sign()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, m.setup.Closes.Time().Sub(signer.Now.Time()))
	defer cancel()
	seed, err := keybuf.Random(seedBytes)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.seed = seed
	m.mu.Unlock()
	m.phase("drawing")
	public, deals, err := s.draw(ctx, m, seed)
	defer wipe(deals)
	if err != nil {
		return err
	}
	recipient, err := keywrap.NewRecipient()
	if err != nil {
		return err
	}
	defer recipient.Erase()
	hash := sha256.Sum256(public)
	if err := s.send(ctx, m, federation.PartyMessage{Kind: federation.PartyCommit, Payload: append(hash[:], recipient.PublicKey()...)}); err != nil {
		return err
	}
	commits, signedCommits, err := s.gather(ctx, m, federation.PartyCommit, 0)
	if err != nil {
		return err
	}
	promised, err := readCommitments(commits)
	if err != nil {
		return err
	}
	view := federation.ViewOf(signedCommits...)
	if err := s.sendShares(ctx, m, view, public, deals, promised); err != nil {
		return err
	}
	publics, signedPublics, err := s.gather(ctx, m, federation.PartyPublic, 0)
	if err != nil {
		return err
	}
	for i, p := range publics {
		if p.View != view || sha256.Sum256(p.Payload) != promised[i].share {
			return refusal.New(federation.ReasonParties, "the public share of party %d does not match its commitment, or it saw different commitments", i+1)
		}
		if len(p.Payload) != len(public) {
			return refusal.New(federation.ReasonParties, "the public share of party %d has %d bytes, want %d", i+1, len(p.Payload), len(public))
		}
	}
	if err := s.receive(ctx, m, view, recipient, deals[0].Len()); err != nil {
		return err
	}
	m.phase("computing the key")
	key, err := s.combine(ctx, m, publics)
	if err != nil {
		return err
	}
	digest := sha256.Sum256(key)
	if err := s.send(ctx, m, federation.PartyMessage{Kind: federation.PartyReady, View: federation.ViewOf(append(signedCommits, signedPublics...)...), Payload: digest[:]}); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status.State, m.status.Key = Ready, digest
	return nil
}

// commitment is what a party promised before it saw another's share.
type commitment struct {
	share [sha256.Size]byte // digest of its public share
	key   []byte            // the KEM key that what is dealt to it is sealed for
}

// readCommitments takes the commitments of all parties apart.
func readCommitments(commits []federation.PartyMessage) ([]commitment, error) {
	list := make([]commitment, 0, len(commits))
	for i, c := range commits {
		if len(c.Payload) != federation.CommitBytes {
			return nil, refusal.New(federation.ReasonParties, "the commitment of party %d has %d bytes, want %d", i+1, len(c.Payload), federation.CommitBytes)
		}
		list = append(list, commitment{[sha256.Size]byte(c.Payload[:sha256.Size]), c.Payload[sha256.Size:]})
	}
	return list, nil
}

// send signs a message and leaves it on the board.
func (s *Service) send(ctx context.Context, m *member, msg federation.PartyMessage) error {
	signer, err := s.cfg.Sign()
	if err != nil {
		return err
	}
	msg.Round, msg.Setup, msg.From, msg.Agent, msg.Time = m.setup.Round, m.digest, uint32(m.index), signer.Key.Public().ID(), signer.Now
	signed, err := federation.SignPartyMessage(signer.Key, signer.Chain, msg)
	if err != nil {
		return err
	}
	return s.cfg.Board.AddPartyMessage(ctx, m.setup.Round, signed)
}

// gather waits for a message of every party; of deals, of every other.
func (s *Service) gather(ctx context.Context, m *member, kind federation.Kind, to int) (list []federation.PartyMessage, signed [][]byte, err error) {
	signer, err := s.cfg.Sign()
	if err != nil {
		return nil, nil, err
	}
	tick := time.NewTicker(s.cfg.Poll)
	defer tick.Stop()
	for from := 1; from <= len(m.setup.Agents); {
		if from == to {
			list, signed = append(list, federation.PartyMessage{}), append(signed, nil)
			from++
			continue
		}
		m.phase(fmt.Sprintf("waiting for the %s of party %d", kind, from))
		msg, raw, err := s.cfg.Board.PartyMessage(ctx, signer.Live(), m.setup, m.digest, kind, from, to)
		switch reason, _ := refusal.ReasonOf(err); {
		case err == nil:
			list, signed = append(list, msg), append(signed, raw)
			from++
			continue
		case ctx.Err() == nil && reason != "party-message-missing":
			return nil, nil, err
		}
		select {
		case <-ctx.Done():
			return nil, nil, refusal.New(ReasonTimeout, "party %d sent no %s in time", from, kind)
		case <-tick.C:
		}
	}
	return list, signed, nil
}

// task is the worker's task for this party.
func (m *member) task(change func(*fedtask.Party)) ([]byte, error) {
	t := fedtask.Party{Round: m.setup.Round, Set: m.setup.Set, Parties: len(m.setup.Agents), Threshold: int(m.setup.Threshold), Index: m.index}
	if change != nil {
		change(&t)
	}
	return json.Marshal(t)
}

// draw makes the party in a worker: its public share, and what it deals.
func (s *Service) draw(ctx context.Context, m *member, seed *keybuf.Buffer) (public []byte, deals []*keybuf.Buffer, err error) {
	spec, err := m.task(nil)
	if err != nil {
		return nil, nil, err
	}
	in, err := worker.NewFeed(write(seed))
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, in.End()) }()
	others := len(m.setup.Agents) - 1
	task := worker.Task{Class: fedtask.ClassPartyBegin, Spec: spec, In: []*os.File{in.Reader}, Limits: s.cfg.Limits}
	outputs, err := s.run(ctx, task, maxPublicBytes, others*maxPublicBytes)
	public, dealt := outputs[0], outputs[1]
	defer keybuf.Wipe(dealt)
	if err == nil && (len(public) == 0 || len(dealt) == 0 || len(dealt)%others != 0) {
		err = errors.New("the worker wrote incomplete shares")
	}
	if err != nil {
		return nil, nil, err
	}
	size := len(dealt) / others
	for i := range others {
		b, err := keybuf.New(size)
		if err != nil {
			wipe(deals)
			return nil, nil, err
		}
		copy(b.Bytes(), dealt[i*size:])
		deals = append(deals, b)
	}
	return public, deals, nil
}

// write is a worker's input that gets secrets, one after the other.
func write(secrets ...*keybuf.Buffer) func(io.Writer) error {
	return func(w io.Writer) error {
		for _, s := range secrets {
			if _, err := w.Write(s.Bytes()); err != nil {
				return err
			}
		}
		return nil
	}
}

// sendShares leaves the public share for all, and each deal sealed for one.
func (s *Service) sendShares(ctx context.Context, m *member, view digest.Digest, public []byte, deals []*keybuf.Buffer, promised []commitment) error {
	m.phase("sending shares")
	if err := s.send(ctx, m, federation.PartyMessage{Kind: federation.PartyPublic, View: view, Payload: public}); err != nil {
		return err
	}
	next := 0
	for to := 1; to <= len(promised); to++ {
		if to == m.index {
			continue
		}
		payload, err := sealDeal(promised[to-1].key, dealInfo(m.digest, view, m.index, to), deals[next])
		if errors.Is(err, keywrap.ErrPublicKey) {
			return refusal.New(federation.ReasonParties, "the commitment of party %d contains no valid KEM key", to)
		}
		if err != nil {
			return fmt.Errorf("deal for party %d: %w", to, err)
		}
		if err := s.send(ctx, m, federation.PartyMessage{Kind: federation.PartyDeal, To: uint32(to), View: view, Payload: payload}); err != nil {
			return err
		}
		next++
	}
	return nil
}

const dealLabel = "anchorhold/fed/deal/1"

func dealInfo(setup, view digest.Digest, from, to int) []byte {
	return fmt.Appendf(nil, "%s %s %s %d %d", dealLabel, setup, view, from, to)
}

// sealDeal is enc, a wrapped key for this deal alone, and the deal under it.
func sealDeal(public, info []byte, deal *keybuf.Buffer) ([]byte, error) {
	key, err := keybuf.Random(32)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	enc, wrapped, err := keywrap.Seal(public, info, key)
	if err != nil {
		return nil, err
	}
	blob, err := chunkseal.SealBlob(key, dealLabel, info, deal.Bytes())
	if err != nil {
		return nil, err
	}
	return append(append(enc, wrapped...), blob...), nil
}

// receive opens what the others dealt to this party: size bytes each, as it dealt itself.
// The worker reads them from one pipe, so that a longer one would stand for the next.
func (s *Service) receive(ctx context.Context, m *member, view digest.Digest, recipient *keywrap.Recipient, size int) error {
	list, _, err := s.gather(ctx, m, federation.PartyDeal, m.index)
	if err != nil {
		return err
	}
	var wrapped []keywrap.Sealed
	var blobs, infos [][]byte
	for i, d := range list {
		if i+1 == m.index {
			continue
		}
		if d.View != view || len(d.Payload) <= federation.DealKeyBytes {
			return refusal.New(federation.ReasonParties, "the deal of party %d is too short, or it saw different commitments", i+1)
		}
		info := dealInfo(m.digest, view, i+1, m.index)
		wrapped = append(wrapped, keywrap.Sealed{Info: info, Enc: d.Payload[:keywrap.EncSize], Ciphertext: d.Payload[keywrap.EncSize:federation.DealKeyBytes]})
		blobs, infos = append(blobs, d.Payload[federation.DealKeyBytes:]), append(infos, info)
	}
	keys, err := recipient.OpenAll(wrapped)
	if err != nil {
		return refusal.New(federation.ReasonParties, "cannot open a deal: %v", err)
	}
	defer wipe(keys)
	var dealt []*keybuf.Buffer
	for i, k := range keys {
		plain, err := chunkseal.OpenBlob(k, dealLabel, infos[i], blobs[i])
		if err != nil {
			wipe(dealt)
			return refusal.New(federation.ReasonParties, "cannot open a deal: %v", err)
		}
		if len(plain) != size {
			keybuf.Wipe(plain)
			wipe(dealt)
			return refusal.New(federation.ReasonParties, "a deal has %d bytes, want %d", len(plain), size)
		}
		b, err := keybuf.Take(plain)
		if err != nil {
			wipe(dealt)
			return err
		}
		dealt = append(dealt, b)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dealt = dealt
	return nil
}

// combine computes the public key.
func (s *Service) combine(ctx context.Context, m *member, publics []federation.PartyMessage) (key []byte, err error) {
	spec, err := m.task(nil)
	if err != nil {
		return nil, err
	}
	var all []byte
	for _, m := range publics {
		all = append(all, m.Payload...)
	}
	in, err := worker.Sealed("shares", all)
	if err != nil {
		return nil, err
	}
	defer in.Close() // memory
	outputs, err := s.run(ctx, worker.Task{Class: fedtask.ClassPartyKey, Spec: spec, In: []*os.File{in}, Limits: s.cfg.Limits}, maxPublicBytes)
	if err == nil && len(outputs[0]) == 0 {
		err = errors.New("the worker wrote no key")
	}
	return outputs[0], err
}

// run has a worker do a task and returns its outputs, one for each limit, which is in bytes.
// They are complete only if there is no error; the caller wipes those that are secret either way.
func (s *Service) run(ctx context.Context, task worker.Task, limits ...int) (outputs [][]byte, err error) {
	outputs = make([][]byte, len(limits))
	drains := make([]*worker.Drain, 0, len(limits))
	for _, limit := range limits {
		d, e := worker.NewDrain(int64(limit) + 1)
		if err = e; err != nil {
			break
		}
		drains, task.Out = append(drains, d), append(task.Out, d.Writer)
	}
	if err == nil {
		_, err = s.cfg.Pool.Run(ctx, task, nil)
	}
	failed := err != nil
	for i, d := range drains {
		if failed {
			d.Stop() // a worker that did not heed may still hold it
		}
		if outputs[i] = d.End(); len(outputs[i]) > limits[i] {
			err = errors.Join(err, errors.New("the worker wrote more than its limit"))
		}
	}
	return outputs, err
}
