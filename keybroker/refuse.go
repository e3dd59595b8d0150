package keybroker

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

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
	id := newID()
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

// recordRefusal writes the details, unless strangers are filling the log.
func (x *exchange) recordRefusal(ctx context.Context, id protocol.ID, d *denial) {
	skipped, ok := x.b.refusals.take(x.b.cfg.Now())
	if !ok {
		return
	}
	r := x.baseRecord(audit.KindRefusal)
	r.Decision, r.Reasons, r.RefusalID = "refused", d.reasons, id.String()
	if len(x.attest.Resources) == 1 {
		r.Resource = x.attest.Resources[0]
	}
	r.Detail = x.describe()
	if skipped > 0 {
		r.Detail += fmt.Sprintf("; %d refusals before this one were not recorded", skipped)
	}
	if _, err := x.b.cfg.Audit.Append(ctx, r); err != nil {
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

// refusalBudget is a bucket of one second's refusal records.
type refusalBudget struct {
	perSecond int

	mu      sync.Mutex
	second  int64 // guarded by mu
	used    int   // guarded by mu
	skipped int   // guarded by mu
}

// take reports whether one more refusal may be recorded, and how many were not
// since the last one that was.
func (b *refusalBudget) take(now time.Time) (skipped int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := now.Unix(); s != b.second {
		b.second, b.used = s, 0
	}
	if b.used >= b.perSecond {
		b.skipped++
		return 0, false
	}
	b.used++
	skipped, b.skipped = b.skipped, 0
	return skipped, true
}

func digest32(b []byte) [32]byte { return sha256.Sum256(b) }
