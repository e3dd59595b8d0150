package aggregator

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// setPartyResult takes what one party of the round's key signed about the values. Its first
// word stays. When as many as the threshold say the same, that is the round's result.
func (a *Aggregator) setPartyResult(r *round, signed []byte, shown *federation.Reader) error {
	res, by, err := a.partyResult(r, a.floor(), signed)
	if err == nil {
		err = a.mayRestate(&by, shown)
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if joined, err := os.ReadFile(r.path(fileResult)); err == nil {
		if held, _, err := a.result(r, a.floor().Kept(), joined); err != nil || !held.Agrees(res) {
			return refusal.New(ReasonPublished, "round %s already has a result, which is final", r.def.ID)
		}
		return nil
	}
	held, _, err := a.heldResult(r, res.Agent)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := errors.Join(os.MkdirAll(r.path(dirResults), 0o700), disk.Write(r.path(dirResults, res.Agent.String()), signed), disk.SyncDir(r.dir)); err != nil {
			return err
		}
	case err != nil:
		return err
	case !held.Agrees(res):
		return refusal.New(ReasonPublished, "party %s already signed different values, and the first signature is final", res.Agent)
	}
	return a.agree(r, res)
}

// agree makes the round's result, once as many parties as the threshold signed these values.
func (a *Aggregator) agree(r *round, res federation.Result) error {
	var list [][]byte
	for _, agent := range r.def.Parties.Agents {
		other, signed, err := a.heldResult(r, agent)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if other.Agrees(res) && len(list) < int(r.def.Parties.Threshold) {
			list = append(list, signed)
		}
	}
	if len(list) < int(r.def.Parties.Threshold) {
		return nil
	}
	joined, err := federation.JoinResults(list)
	if err != nil {
		return err
	}
	return disk.Once(r.path(fileResult), joined)
}

// dropFormer deletes what one party published by its own word under an earlier version, with
// its values: it verifies for nobody, and would keep out what the threshold agrees on.
func (r *round) dropFormer(log *slog.Logger) error {
	if r.def.Parties == nil {
		return nil
	}
	result, err := os.ReadFile(r.path(fileResult))
	if errors.Is(err, fs.ErrNotExist) || err == nil && federation.Agreed(result) {
		return nil
	}
	if err != nil {
		return err
	}
	log.Warn("the word of one party, which an earlier version took for the result, is deleted; the parties publish again", "round", r.def.ID.String())
	// The values go first: without the result, nobody would know that they are of it.
	if err := os.Remove(r.path(fileValues)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(disk.SyncDir(r.dir), os.Remove(r.path(fileResult)), disk.SyncDir(r.dir))
}

// heldResult is what a party signed before. What does not verify any more, its epoch was
// retired, is as if it were not there.
func (a *Aggregator) heldResult(r *round, agent digest.Digest) (federation.Result, []byte, error) {
	signed, err := os.ReadFile(r.path(dirResults, agent.String()))
	if err != nil {
		return federation.Result{}, nil, err
	}
	res, _, err := a.partyResult(r, a.floor().Kept(), signed)
	if _, refused := refusal.ReasonOf(err); refused {
		err = fs.ErrNotExist
	}
	return res, signed, err
}

func (a *Aggregator) partyResult(r *round, floor protocol.Floor, signed []byte) (federation.Result, protocol.Authority, error) {
	raw, t, err := a.ticket(r)
	if err != nil {
		return federation.Result{}, protocol.Authority{}, err
	}
	res, by, err := federation.VerifyPartyResult(signed, a.cfg.Roots, floor, r.def, t, digest.Of(raw))
	if err == nil && res.Length != r.def.Length {
		err = refusal.New(federation.ReasonWrongRound, "the length of the result differs from the round's")
	}
	return res, by, err
}
