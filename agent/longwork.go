package agent

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/anchorhold/anchorhold/agent/classify"
	fedassembly "github.com/anchorhold/anchorhold/agent/fed/assembly"
	"github.com/anchorhold/anchorhold/agent/jobs/bounds"
	"github.com/anchorhold/anchorhold/agent/jobs/session"
	"github.com/anchorhold/anchorhold/agent/localapi/oip"
	"github.com/anchorhold/anchorhold/agent/localapi/workapi"
	proveassembly "github.com/anchorhold/anchorhold/agent/prove/assembly"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/keybroker/client"
)

// worksHost is what long work needs of the agent.
type worksHost struct {
	// sign is who signs under the lease that runs now, or why nobody may.
	sign func() (attested.Signer, error)
	// acquire asks the broker for a closed round's key.
	acquire func(ctx context.Context, resources []string) (*client.Lease, error)
	// classifiers lend what is proven; nil where there are none.
	classifiers *classify.Service
	log         *slog.Logger
}

// works is what the agent does besides answering: federated rounds and proofs, on a queue
// that is open while a lease lasts.
type works struct {
	log        *slog.Logger
	sessions   *session.Sessions[mounted]
	federation *fedassembly.Family
	proving    *proveassembly.Family
	workers    *bounds.Workers // of all sessions; nil before the first. begin's alone, which is called for one lease at a time
}

// mounted is what works on the queue of a session. A part that is not configured is nil.
type mounted struct {
	workapi.Work
	proofs oip.Proofs
}

// newWorks makes works that have not begun.
func newWorks(host worksHost) *works {
	w := &works{log: host.log, sessions: session.New[mounted](host.log)}
	w.federation = fedassembly.New(fedassembly.Host{Sign: host.sign, Acquire: host.acquire, Session: w.sessions.Err, Logger: host.log})
	w.proving = proveassembly.New(proveassembly.Host{Sign: host.sign, Classifiers: host.classifiers, Logger: host.log})
	return w
}

// begin opens the queue with the key that a lease brought, unless it is open under the same
// key already.
func (w *works) begin(cfg settings.Config, lease *client.Lease) error {
	opening, err := bounds.Opening(cfg, lease.Keys, w.log)
	if err == nil {
		err = w.sessions.Begin(opening, func(on *session.Opened) (mounted, error) { return w.mount(cfg, on) })
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
