package aggregator

import (
	"crypto/sha256"
	"errors"
	"io"
	"os"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// SetTicket takes the broker's ticket for a cohort whose sum is here. From then on
// the sum may be fetched, and no contribution is taken. Only the bearer of a ticket for
// the round is told whether the round is here.
func (a *Aggregator) SetTicket(id digest.RoundID, signed []byte) error {
	if err := federation.VerifyTicketNames(id, signed, a.cfg.Roots, a.floor()); err != nil {
		return err
	}
	r, err := a.round(id)
	if err != nil {
		return err
	}
	t, err := federation.VerifyTicket(signed, a.cfg.Roots, a.floor(), r.def, r.digest)
	if err != nil {
		return err
	}
	if err := a.learn(signed); err != nil {
		return err
	}
	if _, err := r.readSum(t.Cohort); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	held, err := os.ReadFile(r.path(fileTicket))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return disk.Write(r.path(fileTicket), signed)
	case err != nil:
		return err
	case string(held) != string(signed):
		return refusal.New(ReasonRoundOver, "the round already has a different ticket")
	}
	return nil
}

// ticket returns the ticket, as signed and verified.
func (a *Aggregator) ticket(r *round) ([]byte, federation.Ticket, error) {
	signed, err := os.ReadFile(r.path(fileTicket))
	if errors.Is(err, os.ErrNotExist) {
		return nil, federation.Ticket{}, refusal.New(ReasonNoTicket, "round %s is not closed", r.def.ID)
	}
	if err != nil {
		return nil, federation.Ticket{}, err
	}
	t, err := federation.VerifyTicket(signed, a.cfg.Roots, a.floor().Kept(), r.def, r.digest)
	return signed, t, err
}

// SetResult takes the signed result of a guest that the round lets decrypt, and whose lease
// runs. There is one: the same bytes again are fine, others never take its place. Where
// parties hold the round's key it takes the result of each, and makes the round's of them
// when as many as the threshold agree.
func (a *Aggregator) SetResult(id digest.RoundID, signed []byte) error {
	return a.setResult(id, signed, nil)
}

// setResult is SetResult of whoever is at the other end of a connection.
func (a *Aggregator) setResult(id digest.RoundID, signed []byte, shown *federation.Reader) error {
	r, err := a.round(id)
	if err != nil {
		return err
	}
	if r.def.Parties != nil {
		return a.setPartyResult(r, signed, shown)
	}
	_, by, err := a.result(r, a.floor(), signed)
	if err == nil {
		err = a.mayRestate(&by, shown)
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	err = disk.Once(r.path(fileResult), signed)
	if errors.Is(err, disk.ErrOther) {
		return refusal.New(ReasonPublished, "round %s already has a result, which is final", id)
	}
	return err
}

func (a *Aggregator) result(r *round, floor protocol.Floor, signed []byte) (federation.Result, protocol.Authority, error) {
	raw, t, err := a.ticket(r)
	if err != nil {
		return federation.Result{}, protocol.Authority{}, err
	}
	res, by, err := federation.VerifyResult(signed, a.cfg.Roots, floor, r.def, t, digest.Of(raw))
	if err == nil && res.Length != r.def.Length {
		err = refusal.New(federation.ReasonWrongRound, "the length of the result differs from the round's")
	}
	return res, by, err
}

// SetValues takes the values of the result that is here. Those that are here already
// stay, and nothing is read.
func (a *Aggregator) SetValues(id digest.RoundID, body io.Reader) error {
	r, err := a.round(id)
	if err != nil {
		return err
	}
	signed, err := os.ReadFile(r.path(fileResult))
	if err != nil {
		return refusal.New(ReasonNoResult, "send the signed result before its values")
	}
	res, _, err := a.result(r, a.floor().Kept(), signed)
	if err != nil {
		return err
	}
	release, err := a.alone(r.path(fileValues))
	if err != nil {
		return err
	}
	defer release()
	if disk.Exists(r.path(fileValues)) {
		return nil
	}
	room, err := a.disk.claim(int64(res.Length) * 8)
	if err != nil {
		return err
	}
	defer room.release()
	return disk.Stream(r.path(fileValues), func(w io.Writer) error {
		h, size := sha256.New(), int64(res.Length)*8
		n, err := io.Copy(io.MultiWriter(w, h), io.LimitReader(body, size+1))
		if err == nil && (n != size || digest.Sum(h) != res.Values) {
			err = refusal.New(federation.ReasonUpload, "the values differ from the signed ones")
		}
		return err
	})
}

// alone lets one request at a time write a file whose content comes piece by piece, and may
// come slowly: more of them would each hold the whole of it on the disk.
func (a *Aggregator) alone(path string) (release func(), err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.written[path] {
		return nil, refusal.New(ReasonBusy, "another connection is sending this; try again later")
	}
	a.written[path] = true
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.written, path)
	}, nil
}
