package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/daemon/auditlog"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
)

// BeginLog puts an audit log of the first version away and begins one in its place, as
// audit.BeginAnew does. It fails while a broker runs on the same state. What the old log
// knew of rounds is not in the new one: those that are open can be given up, not closed.
func BeginLog(ctx context.Context, o Options) (err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := o.Config.Check(); err != nil {
		return err
	}
	d := &daemon{opts: o, layout: statedir.Layout(o.Config.StateDir), keys: statedir.Keys{Layout: statedir.Layout(o.Config.StateDir)}}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.layout.Check(); err != nil {
		return err
	}
	if err := d.openUnlock(); err != nil {
		return err
	}
	if err := d.keys.OpenAudit(); err != nil {
		return err
	}
	return auditlog.Begin(ctx, auditlog.Config{Dir: d.layout.Audit(), Key: d.keys.Audit, Now: o.Now, Logger: o.Logger})
}
