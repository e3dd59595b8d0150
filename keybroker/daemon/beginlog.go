package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/audit"
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
	former, err := audit.BeginAnew(ctx, d.layout.Audit(), d.keys.Audit, audit.Options{Now: o.Now, Logger: o.Logger})
	if err != nil {
		return err
	}
	o.Logger.Info("an audit log was begun; the old one is kept as it was", "former", former.Directory, "records", former.Records, "chain", former.Chain)
	return nil
}
