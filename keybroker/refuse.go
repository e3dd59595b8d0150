package keybroker

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

const (
	refusalTimeout = 5 * time.Second // for recording and sending a refusal
	lingerTimeout  = time.Second     // for the peer to read it
)

// refuse ends the exchange: the details go to the audit log under a new opaque
// ID, the code and the ID to the peer (5.8). A log that cannot record changes
// nothing about the refusal.
func (x *exchange) refuse(ctx context.Context, err error) {
	var end *connectionEnd
	if errors.As(err, &end) {
		x.log(ctx, slog.LevelInfo, "connection ended early", slog.Any("err", end.err))
		return
	}
	d := denied(err)
	id := newID[digest.Exchange]()
	x.log(ctx, slog.LevelWarn, "refused", slog.String("reason", string(d.code())), slog.String("refusal", id.String()))

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refusalTimeout)
	defer cancel()
	x.recordRefusal(ctx, id, d)
	frame, err := protocol.Marshal(&protocol.Refusal{Reason: d.code(), ID: id})
	if err != nil { // a collaborator's code that is none: say so, still refuse
		frame, err = protocol.Marshal(&protocol.Refusal{Reason: protocol.ReasonInternal, ID: id})
	}
	if err == nil {
		err = x.write(frame)
	}
	if err == nil {
		err = x.linger()
	}
	if err != nil {
		x.log(ctx, slog.LevelInfo, "refusal not delivered", slog.Any("err", err))
	}
}

// linger reads what the peer still sends, up to one message and for a short
// time: closing a socket with unread bytes would reset the connection and could
// take the refusal with it.
func (x *exchange) linger() error {
	if err := x.conn.CloseWrite(); err != nil {
		return err
	}
	if err := x.conn.SetDeadline(time.Now().Add(lingerTimeout)); err != nil {
		return err
	}
	// How this ends does not matter: the refusal has been sent.
	io.CopyN(io.Discard, x.conn, int64(protocol.TypeAttest.MaxFrame()))
	return nil
}

// recordRefusal writes the details as far as the audit log's budget for this peer
// goes; what is over it is counted there.
func (x *exchange) recordRefusal(ctx context.Context, id digest.ExchangeID, d *denial) {
	r := x.baseRecord(audit.KindRefusal)
	r.Decision, r.Reasons, r.RefusalID = "refused", d.reasons, id.String()
	if len(x.attest.Resources) == 1 {
		r.Resource = x.attest.Resources[0]
	}
	r.Detail = x.describe()
	// Where the policy granted and something else refused, the grant's record names the input.
	if x.grant.LeaseEnd == 0 {
		r.InputDigest = x.keepInput(true)
	}
	proven := x.claims.Kind != ""
	if _, err := x.b.cfg.Audit.AppendBounded(ctx, cmp.Or(x.place.Source(), x.peer), proven, r); err != nil {
		x.log(ctx, slog.LevelError, "refusal not recorded", slog.String("refusal", id.String()), slog.Any("err", err))
	}
}

// describe says in words what the guest asked for and claimed to be.
func (x *exchange) describe() string {
	if len(x.attest.Resources) == 0 {
		return fmt.Sprintf("classes %q", x.hello.Classes)
	}
	return fmt.Sprintf("resources %q, image %q, agent %q, tenant %q", x.attest.Resources, x.guest.ImageID, x.guest.AgentBuild, x.guest.Tenant)
}

func digest32(b []byte) [32]byte { return sha256.Sum256(b) }
