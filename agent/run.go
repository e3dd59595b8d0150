package agent

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/localapi/serving"
	"github.com/anchorhold/anchorhold/agent/localapi/workapi"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/systemd/service"
)

// daemon is one run of the agent. Its parts are made before serve, and only read after; each
// has its own locks.
type daemon struct {
	Options
	tenure *tenure.Tenure
	guest  *attested.Guest
	keeper *tenure.Keeper
	beside *beside // models beside the first
	works  *works  // nil where there is none
	// classifiers are those served; nil where none is configured.
	classifiers *classify.Service
	api         *serving.API
	address     string       // of the socket, for the health check
	passed      bool         // the socket is the service manager's
	handing     net.Listener // where systemd asks for secrets; nil where it does not

	cfg         atomic.Pointer[settings.Config] // in force; a reload puts another there
	unreachable sync.Once                       // says that the socket is not for this user
	removed     sync.Once                       // says that the socket's file is gone
	reloading   service.Reloads
}

// Run attests, serves and renews until the context ends, then drains and wipes.
// It returns after everything that it started has ended.
func Run(ctx context.Context, opt Options) error {
	if err := opt.Config.Check().Runnable(); err != nil {
		return err
	}
	most, known := service.MemoryMax()
	if err := tenure.Fits(opt.Config, most, known); err != nil {
		return err
	}
	if err := tenure.Harden(opt.Config); err != nil {
		return err
	}
	d := &daemon{Options: opt, tenure: tenure.New(opt.Logger), reloading: service.Reloads{Asked: make(chan chan<- error)}}
	d.cfg.Store(&opt.Config)
	lock, err := service.LockState(d.Config.Guest.StateDir)
	if err != nil {
		return fmt.Errorf("guest.state_dir: %w", err)
	}
	defer lock.Close()
	if err := d.prepare(); err != nil {
		return err
	}
	defer d.guest.Close()
	listener, err := d.listen()
	if err != nil {
		return err
	}
	d.address = listener.Addr().String()
	return d.serve(ctx, listener)
}

// prepare makes this guest, with its agent key of this boot, and everything that serves.
func (d *daemon) prepare() (err error) {
	if d.Config, err = tenure.Divided(d.Config, d.Logger); err != nil {
		return err
	}
	d.cfg.Store(&d.Config) // with parts that stay as they are until a reload, whatever becomes of the files
	if d.guest, err = attested.New(d.Config, d.Collector, d.Version); err != nil {
		return err
	}
	if d.Restarts != nil {
		d.guest.SealForRestarts(d.Config, d.Restarts, d.tenure.Withdraw, d.Logger)
	}
	broker, err := d.guest.Client(d.Config)
	if err != nil {
		return err
	}
	d.guest.Use(broker)
	d.prepareWork()
	first, others, err := tenure.Apart(d.Config)
	if err != nil {
		return err
	}
	if d.beside, err = d.newBeside(first, others); err != nil {
		return err
	}
	d.api, err = serving.New(serving.Config{Settings: d.Config, Tenure: d.tenure, TenureOf: d.tenureOf, Tenures: d.tenures, Guest: d.guest, InForce: d.cfg.Load, Classifiers: d.classifiers, Proofs: d.proofs,
		Opened: d.guest.Opened(d.tenure.Held, d.cfg.Load),
		Status: func() any { return d.status() }, Version: d.Version, Logger: d.Logger})
	if err != nil {
		return err
	}
	d.tenure.AtEnd(d.api.Secrets.Wipe)
	d.keeper = tenure.NewKeeper(tenure.Config{Settings: first, Heap: func(n int) { d.beside.open("", n) }, Broker: d.guest.Restartable(broker), Tenure: d.tenure, Logger: d.Logger, Classifiers: d.classifiers, Granted: d.granted, Taken: d.api.Secrets.Take, Serving: d.announce, Refused: d.refused})
	(&workapi.Service{Work: d.work(), Classifiers: d.api.Classifiers}).Mount(d.api.Server)
	return nil
}

// status is the tenure's, and who this agent is.
func (d *daemon) status() tenure.Status {
	s := d.tenure.Status(d.Version, d.SoftwareTEE, d.cfg.Load().MemoryLimit())
	id := d.guest.AgentKeyID()
	if others := d.beside.all(); len(others) > 0 {
		s.Models = map[string]tenure.OneStatus{d.beside.firstName(): s.One()}
		for _, o := range others {
			one := o.tenure.Status("", false, 0).One()
			if s.Models[o.name] = one; s.State == "serving" && one.State != s.State {
				s.State, s.Detail = one.State, fmt.Sprintf("model %s: %s", o.name, one.Detail)
			}
		}
	}
	s.AgentKey = hex.EncodeToString(id[:])
	s.Secrets = d.api.Secrets.Held()
	return s
}

// serve runs the keeper, the API, the watchdog and reloads until the context
// ends or one of them fails, and waits for all.
func (d *daemon) serve(ctx context.Context, l net.Listener) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	// The lease outlives the API's drain: answers under way are finished with it.
	keeping, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	ended := make(chan error, 9)
	run := func(name string, f func() error) {
		go func() {
			err := f()
			if err != nil {
				err = fmt.Errorf("%s: %w", name, err)
				stop(err)
			}
			ended <- err
		}()
	}
	// Ready means that the socket answers, if only with the reason why nothing is
	// served yet: a broker that is away must not make the start time out.
	if err := service.Ready("attesting"); err != nil {
		d.Logger.Warn("service manager", "err", err)
	}
	run("local api", func() error { defer release(); return d.api.Serve(ctx, l) })
	run("lease", func() error { return d.keeper.Run(keeping) })
	d.beside.begin(keeping)
	run("other models", d.beside.run)
	run("credentials", func() error {
		if d.handing == nil {
			return nil
		}
		return d.api.Credentials.Serve(ctx, d.handing)
	})
	run("jobs", func() error {
		if d.works == nil {
			return nil
		}
		return d.works.run(ctx)
	})
	run("dates", func() error { d.tenure.Watch(ctx); return nil })
	run("watchdog", func() error { return service.RunWatchdog(ctx, d.Logger, d.healthy) })
	run("reload", func() error { return d.reloads(ctx) })
	run("reload socket", func() error { return service.ServeReload(ctx, d.reloading.Ask) })
	go func() { // tells the service manager at once, not after the drain
		<-ctx.Done()
		if err := service.Stopping(); err != nil {
			d.Logger.Warn("service manager", "err", err)
		}
	}()
	var errs []error
	for range cap(ended) {
		errs = append(errs, <-ended)
	}
	return errors.Join(errs...)
}

// announce tells that a model is served under a lease, and until when.
func (d *daemon) announce(until time.Time) {
	what := "federated rounds"
	if cfg := d.cfg.Load(); !cfg.Participates() {
		what = "secrets"
	}
	if name := d.beside.firstName(); name != "" {
		what = name
	}
	status := fmt.Sprintf("serving %s until %s", what, until.Format(time.TimeOnly))
	if p := d.tenure.Permit(); p != nil {
		status = fmt.Sprintf("serving %s on a permit, without a broker, until %s at the latest", what, p.Permit.NotAfter.Time().Format(time.DateTime))
	}
	if err := d.tenure.Serving(); err != nil {
		status = notServing(err)
	}
	d.tellStatus(status)
}

// refused tells that the model cannot be opened.
func (d *daemon) refused(err error) { d.tellStatus(notServing(err)) }

func notServing(err error) string {
	reason, _ := tenure.Why(err)
	return fmt.Sprintf("not serving: %s; see anchorhold status", reason)
}

// tellStatus is the line that the service manager shows.
func (d *daemon) tellStatus(status string) {
	if err := service.Status(status); err != nil {
		d.Logger.Warn("service manager", "err", err)
	}
}

// healthy is what the watchdog is fed by: the socket answers a request, whatever
// it says, and neither an attempt of the keeper nor a reload hangs. An agent without a
// lease is healthy: it says so to its clients and tries again.
func (d *daemon) healthy(ctx context.Context) error {
	if d.keeper.Stuck(time.Now()) {
		return fmt.Errorf("an attestation has been under way for %s", tenure.StuckAfter)
	}
	if err := d.beside.stuck(time.Now()); err != nil {
		return err
	}
	if err := d.reloading.Stuck(reloadAfter); err != nil {
		return err
	}
	probe := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", d.address)
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/health", nil)
	if err != nil {
		return err
	}
	resp, err := probe.Do(req)
	if errors.Is(err, fs.ErrNotExist) && d.passed {
		// A restart would be passed the same socket without a file, and cost the keys.
		d.removed.Do(func() {
			d.Logger.Error("the socket's file is gone and nobody can connect; 'systemctl restart anchorhold-agent.socket' creates it again and restarts the agent",
				"socket", d.address, "err", err)
		})
		return d.api.Probe(ctx)
	}
	if errors.Is(err, fs.ErrPermission) {
		// The socket is the service manager's, and of a group that this user is not in. That
		// is no ill health; what can be asked without the socket is.
		d.unreachable.Do(func() {
			d.Logger.Error("the agent's own user may not connect to its socket, so the health check bypasses it; add the user to the socket's group (SocketGroup= in anchorhold-agent.socket)",
				"socket", d.address, "err", err)
		})
		return d.api.Probe(ctx)
	}
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// reloadAfter is longer than a reload takes.
const reloadAfter = 5 * time.Minute

// reloads reads the configuration again at each SIGHUP, and whenever it is asked to. A bad one changes nothing.
func (d *daemon) reloads(ctx context.Context) error {
	for {
		var answer chan<- error
		select {
		case <-ctx.Done():
			return nil
		case <-d.Reload:
		case answer = <-d.reloading.Asked:
		}
		err := d.reloading.Do(func() error { return d.reloadTold(ctx) })
		if answer != nil {
			answer <- err
		}
	}
}

// reloadTold reloads, and tells log and service manager what came of it.
func (d *daemon) reloadTold(ctx context.Context) error {
	if err := service.Reloading(); err != nil {
		d.Logger.Warn("service manager", "err", err)
	}
	err := d.reload(ctx)
	status := "configuration read again"
	if err != nil {
		status = "reload refused, or not done yet"
		d.Logger.Error(status, "err", err)
	}
	if err := service.Ready(status); err != nil {
		d.Logger.Warn("service manager", "err", err)
	}
	return err
}

// reload takes over models, classifiers, broker, lease and memory; what only a restart takes
// up is refused by its name.
func (d *daemon) reload(ctx context.Context) error {
	cfg, findings, err := settings.Read(d.ConfigPath)
	if err != nil {
		return err
	}
	if err := findings.Runnable(); err != nil {
		return err
	}
	most, known := service.MemoryMax()
	if err := tenure.Fits(cfg, most, known); err != nil {
		return err
	}
	if changed := restartOnly(*d.cfg.Load(), cfg, d.classifiers != nil); len(changed) > 0 {
		return refusal.New("reload-needs-restart", "%s changed: restart the agent to apply it", strings.Join(changed, ", "))
	}
	if cfg, err = tenure.Divided(cfg, d.Logger); err != nil {
		return err
	}
	first, others, err := d.apart(cfg)
	if err != nil {
		return err
	}
	broker, err := d.guest.Client(cfg)
	if err != nil {
		return err
	}
	told, err := d.beside.shrink(ctx, others)
	if err != nil {
		return errors.Join(err, told, broker.Close(), d.putBack(ctx))
	}
	smaller := part(first) < part(d.beside.inForce())
	err = d.keeper.Reload(ctx, first, d.guest.Restartable(broker), func() {
		d.beside.take(first)
		d.cfg.Store(&cfg)
		d.guest.Use(broker)
		d.allow(cfg)
	})
	reason, _ := refusal.ReasonOf(err)
	switch taken := d.cfg.Load() == &cfg; {
	case err == nil || taken && !smaller: // what became of the first costs no other
		return errors.Join(err, told, d.beside.grow(ctx, others))
	case taken || reason == tenure.ReasonVerdictUnknown: // it may still have its larger part, or take a new one
		return errors.Join(err, told)
	}
	return errors.Join(err, told, d.putBack(ctx))
}

// restartOnly names the sections that changed and that this process has read for good.
// classifying says whether it can serve classifiers.
func restartOnly(old, now settings.Config, classifying bool) (changed []string) {
	for _, section := range []struct {
		name     string
		old, now any
	}{
		{"compute.tee.provider", old.Compute.TEE.Provider, now.Compute.TEE.Provider},
		{"compute.tee.tpm", old.Compute.TEE.TPM, now.Compute.TEE.TPM},
		{"compute.tee.vmpl", old.Compute.TEE.VMPL, now.Compute.TEE.VMPL},
		{"aggregation", old.Aggregation, now.Aggregation},
		{"verification", old.Verification, now.Verification},
		{"guest", old.Guest, now.Guest},
		{"local_restart", old.LocalRestart, now.LocalRestart},
		{"models[].sequences", false, sequencesChanged(old.Models, now.Models)},
		{"classifiers (there were none)", classifying, classifying || len(now.Classifiers) > 0},
		{"proofs", old.Proofs, now.Proofs},
		{"federation", old.Federation, now.Federation},
		{"workers", old.Workers, now.Workers},
		{"jobs", old.Jobs, now.Jobs},
		{"spool", old.Spool, now.Spool},
		{"credentials", old.Credentials, now.Credentials},
		{"socket", old.Socket, now.Socket},
		{"receipts", old.Receipts, now.Receipts},
		{"log", old.Log, now.Log},
	} {
		if !reflect.DeepEqual(section.old, section.now) {
			changed = append(changed, section.name)
		}
	}
	return changed
}

// sequencesChanged says whether a model that stays has another number of them: the line of requests
// is as long as it was at the start. Models that are added share its places.
func sequencesChanged(old, now []settings.Model) bool {
	for _, m := range now {
		for _, before := range old {
			same := m.Name == before.Name || len(old) == 1 && len(now) == 1
			if same && m.Sequences != before.Sequences {
				return true
			}
		}
	}
	return false
}
