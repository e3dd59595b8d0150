package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/anchorhold/anchorhold/agent/classify"
	fedassembly "github.com/anchorhold/anchorhold/agent/fed/assembly"
	"github.com/anchorhold/anchorhold/agent/jobs/bounds"
	"github.com/anchorhold/anchorhold/agent/jobs/session"
	"github.com/anchorhold/anchorhold/agent/localapi/oip"
	"github.com/anchorhold/anchorhold/agent/localapi/workapi"
	proveassembly "github.com/anchorhold/anchorhold/agent/prove/assembly"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
)

// classifierMemory bounds all classifiers together; they are small.
const classifierMemory = 64 << 20

// prepareWork makes what answers and works besides the language model. All of it ends with a
// lease.
func (d *daemon) prepareWork() {
	if len(d.Config.Classifiers) > 0 {
		d.classifiers = classify.New(classify.Config{Memory: classifierMemory, AgentKey: d.guest.Key(), Lease: d.tenure.ReceiptLease, Logger: d.Logger})
		d.tenure.AtEnd(d.classifiers.Wipe)
		d.tenure.AtLapse(d.classifiers.Lapse)
	}
	if d.Config.Participates() || d.Config.Proves() {
		d.works = newWorks(fedassembly.Host{Sign: d.sign, Acquire: d.guest.Acquire, Logger: d.Logger}, d.classifiers)
		d.tenure.AtEnd(d.works.sessions.Pause)
	}
}

// granted hands a lease's keys to long work and to the classifiers.
func (d *daemon) granted(g tenure.Grant) error {
	if d.works != nil {
		if err := d.works.begin(g); err != nil {
			return err
		}
	}
	if d.classifiers != nil {
		return g.Adopt(d.classifiers)
	}
	return nil
}

// allow has the secrets of a configuration handed on, and no others. The configuration was checked;
// if its users or groups are gone since, nobody gets anything.
func (d *daemon) allow(cfg settings.Config) {
	if err := d.api.Secrets.Allow(cfg.Secrets); err != nil {
		d.Logger.Error("no secret is handed on", "err", errors.Join(err, d.api.Secrets.Allow(nil)))
	}
}

// work is the long work, or nil.
func (d *daemon) work() func() (workapi.Work, error) {
	if d.works == nil {
		return nil
	}
	return d.works.work
}

// proofs makes proofs, or is why nothing does.
func (d *daemon) proofs() (oip.Proofs, error) {
	if d.works == nil {
		return nil, proveassembly.NotConfigured()
	}
	return d.works.proofs()
}

// sign is who signs under the lease that runs now.
func (d *daemon) sign() (attested.Signer, error) {
	lease, err := d.tenure.Held()
	if err != nil {
		return attested.Signer{}, err
	}
	return d.guest.Signer(lease, time.Now()), nil
}

// works is what the agent does besides answering: federated rounds and proofs, on a queue
// that is open while a lease lasts.
type works struct {
	log        *slog.Logger
	sessions   *session.Sessions[mounted]
	federation *fedassembly.Family
	proving    *proveassembly.Family
	workers    *bounds.Workers // of all sessions; nil before the first. begin's alone
}

// mounted is what works on the queue of a session. A part that is not configured is nil.
type mounted struct {
	workapi.Work
	proofs oip.Proofs
}

// newWorks makes works that have not begun. Classifiers lend what is proven; nil where there
// are none.
func newWorks(host fedassembly.Host, classifiers *classify.Service) *works {
	w := &works{log: host.Logger, sessions: session.New[mounted](host.Logger)}
	host.Session = w.sessions.Err
	w.federation = fedassembly.New(host)
	w.proving = proveassembly.New(proveassembly.Host{Sign: host.Sign, Classifiers: classifiers, Logger: host.Logger})
	return w
}

// begin opens the queue with the key that a lease brought, unless it is open under the same
// key already.
func (w *works) begin(g tenure.Grant) error {
	opening, err := bounds.Opening(g.Config, g.Lease.Keys, w.log)
	if err == nil {
		err = w.sessions.Begin(opening, func(on *session.Opened) (mounted, error) { return w.mount(g.Config, on) })
	}
	if err != nil {
		return fmt.Errorf("job queue: %w", err)
	}
	return nil
}

// mount makes what the configuration asks for, on the queue of a session.
func (w *works) mount(cfg settings.Config, on *session.Opened) (m mounted, err error) {
	m.Queue = on.Queue
	if w.workers == nil {
		if w.workers, err = bounds.NewWorkers(cfg, w.log); err != nil {
			return m, err
		}
	}
	parts := fedassembly.Parts{Workers: w.workers}
	if cfg.Proves() {
		service, err := w.proving.Open(cfg, on, w.workers)
		if err != nil {
			return m, err
		}
		m.proofs, parts.Answers = service, service
	}
	if cfg.Participates() {
		if parts.Ring, err = w.proving.Ring(cfg, w.workers); err != nil {
			return m, err
		}
		sides, err := w.federation.Open(cfg, on, parts)
		if err != nil {
			return m, err
		}
		m.Federation, m.Decryption, m.Party = sides.Participant, sides.Opener, sides.Party
	}
	return m, nil
}

// run works in one session after another until ctx ends, then closes the queue.
func (w *works) run(ctx context.Context) error { return w.sessions.Run(ctx, w.federation.Run) }

// work is the work of the session that runs, or why there is none.
func (w *works) work() (workapi.Work, error) {
	m, err := w.sessions.Work()
	return m.Work, err
}

// proofs makes proofs in the session that runs; else it is why nothing does.
func (w *works) proofs() (oip.Proofs, error) {
	m, err := w.sessions.Work()
	if err == nil && m.proofs == nil {
		err = proveassembly.NotConfigured()
	}
	return m.proofs, err
}
