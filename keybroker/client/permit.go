package client

import (
	"context"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// permitAnswer bounds the wait for M9: the lease is here already, and its owner waits for it.
const permitAnswer = 5 * time.Second

// PermitAsk is what M8 says (docs/protocol.md 5.12): a request for a permit, a report of
// restarts on an earlier one, or both.
type PermitAsk struct {
	// Sealing is what the guest seals with, RestartKey the key made for this permit; both are
	// zero to ask for none.
	Sealing    protocol.Sealing
	RestartKey identity.Public
	// Report is the permit's chain, Restarts its signed restarts.
	Report   []byte
	Restarts [][]byte
}

// PermitAnswer is what became of it.
type PermitAnswer struct {
	// Chain is a verified permit with the lease that it came from; zero if none was asked for or given.
	Chain protocol.PermitChain
	// Permit is what it says.
	Permit protocol.Permit
	// Reported says that the broker has recorded the restarts.
	Reported bool
	// Refused is the broker's reason for giving none.
	Refused refusal.Reason
	// Err is why there is no answer; the lease is none the worse.
	Err error
}

// askPermit sends M8 and reads M9, if there is something to say.
func (x *exchange) askPermit(ctx context.Context, lease *Lease) *PermitAnswer {
	if x.client.cfg.Permit == nil || lease.Unsent != nil {
		return nil
	}
	ask := x.client.cfg.Permit(lease)
	if ask == nil {
		return nil
	}
	limit := time.AfterFunc(permitAnswer, func() { x.conn.SetDeadline(time.Unix(1, 0)) })
	out := &PermitAnswer{}
	out.Err = x.permit(ctx, ask, lease, out)
	if !limit.Stop() && out.Err == nil { // the connection is as good as closed, the answer is not
		lease.Unsent = &Error{Reason: protocol.ReasonDeadline}
	}
	return out
}

func (x *exchange) permit(ctx context.Context, ask *PermitAsk, lease *Lease, out *PermitAnswer) error {
	m8 := &protocol.PermitRequest{Release: x.hashM6, Sealing: ask.Sealing, RestartKey: ask.RestartKey, Report: ask.Report, Restarts: ask.Restarts}
	if err := m8.Sign(x.client.cfg.AgentKey, x.ekm); err != nil {
		return err
	}
	if _, err := x.send(ctx, m8); err != nil {
		return err
	}
	var m9 protocol.PermitAnswer
	if _, err := x.read(ctx, &m9); err != nil {
		return err
	}
	out.Reported, out.Refused = len(ask.Restarts) > 0, m9.Reason
	if len(m9.Permit) == 0 {
		return nil
	}
	chain, err := protocol.PermitOf(lease.Certificate, m9.Permit)
	if err != nil {
		return err
	}
	a, err := chain.VerifyPermit(x.client.cfg.Roots)
	if err != nil {
		return err
	}
	p := a.Permit.Permit
	if p.Sealing != ask.Sealing || !p.RestartKey.Equal(ask.RestartKey) {
		return refusal.New(protocol.ReasonPermit, "the permit is for another key, or another way to seal")
	}
	out.Chain, out.Permit = chain, p
	return nil
}
