// Package daemon assembles a broker from its configuration and state directory
// and keeps it running.
//
// It guarantees that nothing is served before everything was read and checked:
// keys, the root's statement about the epoch, the audit log since its last
// checkpoint, the policy. It trusts the state directory as far as its signatures and seals
// go, and the systemd credential that opens it. It refuses a state directory
// that others may read, an audit log that is missing or changed, and the root
// of a software TEE in any build but a development build, which says what it is
// at every start.
//
// The broker's main calls Run.
package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/daemon/auditlog"
	"github.com/anchorhold/anchorhold/keybroker/daemon/epochs"
	"github.com/anchorhold/anchorhold/keybroker/daemon/leases"
	"github.com/anchorhold/anchorhold/keybroker/daemon/settings"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/registry/registrar"
	"github.com/anchorhold/anchorhold/keybroker/rounds/assembly"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
	"github.com/anchorhold/anchorhold/systemd/service"
)

// ErrSoftwareTEE means that the configuration names the root of a software TEE
// and this build cannot accept one.
var ErrSoftwareTEE = errors.New("software_tee_root is set, but this build of the broker accepts hardware evidence only; remove the setting, or use a development build (go build -tags softtee) for tests")

// Appraiser judges evidence of the kinds that it names; main makes it, for only main knows the
// build. It may be an [Revocable] and an [Supplied].
type Appraiser = keybroker.KindAppraiser

// Options are what the daemon needs beside its configuration.
type Options struct {
	Config settings.Config
	// ConfigPath is the file that Config was read from, for a reload to compare; optional.
	ConfigPath string
	Logger     *slog.Logger
	// Version and Build name the binary in the status and the audit log.
	Version, Build string
	// Credential reads a systemd credential.
	Credential func(name string) ([]byte, error)
	// NewAppraiser makes the verifier of hardware evidence.
	NewAppraiser func() (Appraiser, error)
	// NewSoftwareAppraiser makes one that accepts a software TEE as well. Only
	// a development build has it.
	NewSoftwareAppraiser func(rootPEM []byte) (Appraiser, error)
	// Reload, when it delivers, has certificate, epochs, policies and revocation lists
	// read again. The files of revocation lists are looked at every minute besides.
	Reload <-chan os.Signal
	// Listener is the socket for guests if something else made it.
	Listener net.Listener
	// Now is the broker's clock; time.Now by default.
	Now func() time.Time
}

// daemon is a broker whose parts are open.
type daemon struct {
	opts    Options
	layout  statedir.Layout
	started time.Time
	keys    statedir.Keys

	certificate certificate
	epochs      *epochs.Set
	log         *auditlog.Log
	secrets     auditlog.Secrets
	policies    *operator.Policies
	grants      *leases.Grants
	rounds      *assembly.Rounds
	registry    *registrar.Registry // of proofs; nil where there is none
	volumes     auditlog.Volumes
	ended       *leases.Ended
	broker      *keybroker.Broker
	operators   *operator.Server
	verifier    Appraiser
	lists       lists // maintain's own once the daemon serves
	address     atomic.Pointer[string]
	reloading   service.Reloads
}

// Run opens everything, serves until ctx ends, and closes everything. It
// returns nil after an orderly stop.
func Run(ctx context.Context, o Options) error {
	service.CollectSeldom()
	d, err := open(o)
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return errors.Join(d.serve(ctx), d.close())
}

// Check opens everything as Run does, serves nothing, and closes it again. It finds every
// fault that does not follow from another, and fails while a broker runs on the same state.
func Check(o Options) error {
	d, err := open(o)
	if err != nil {
		return err
	}
	guests, err := d.listenGuests(context.Background())
	if err == nil {
		err = guests.Close()
	}
	return errors.Join(d.rounds.Unreached(), d.volumes.Apart(), err, d.close())
}

func open(o Options) (d *daemon, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil || o.Credential == nil || o.NewAppraiser == nil {
		return nil, errors.New("a part is missing")
	}
	if err := o.Config.Check(); err != nil {
		return nil, err
	}
	d = &daemon{opts: o, layout: statedir.Layout(o.Config.StateDir), keys: statedir.Keys{Layout: statedir.Layout(o.Config.StateDir)}, started: o.Now().UTC(), reloading: service.Reloads{Asked: make(chan chan<- error)}}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	d.lists.of = o.Config.Appraisal
	d.lists.seen = d.lists.versions() // before they are read
	if err := d.openParts(); err != nil {
		return d, err
	}
	d.step("putting the broker together")
	return d, d.assemble(d.verifier)
}

// openParts opens everything whose own needs are open, so that all that is wrong is said at
// once. Any error is the whole's.
func (d *daemon) openParts() error {
	var errs []error
	try := func(ready bool, doing string, open func() error) bool {
		if !ready {
			return false // its cause is among the errors
		}
		d.step(doing)
		err := statedir.ExplainAccess(open())
		errs = append(errs, err)
		return err == nil
	}
	try(true, "reading the vendors' roots", func() (err error) { d.verifier, err = d.appraiser(); return err })
	try(true, "looking at the operators' socket", d.checkSocket)
	state, unlocked := try(true, "looking at the state directory", d.layout.Check), try(true, "reading the credential", d.openUnlock)
	root, certificate := try(state, "reading the root identity", d.keys.ReadRoot), try(state, "reading the TLS certificate", d.openCertificate)
	try(state, "opening the policies", d.openPolicies)
	key := try(state && unlocked, "unlocking the audit key", d.keys.OpenAudit) // a wrong secret is said once, by it
	epochs := try(root && key, "unlocking the epoch keys", d.openEpochs)
	log, secrets := try(key, "opening the audit log", d.openLog), try(key, "unlocking the key store", d.openSecrets)
	try(log, "holding the clock against the audit log", func() error { return d.log.CheckClock() })
	try(log, "reading the ended leases", func() (err error) {
		d.ended, err = leases.OpenEnded(d.layout, d.log.Log, d.opts.Now)
		return err
	})
	secrets = try(log && secrets, "holding the key store against the audit log", func() error { return d.secrets.Check(d.log) })
	try(epochs && log && secrets, "opening the store of rounds", d.openRounds)
	try(epochs && log && certificate, "opening the registry of proofs", d.openRegistry)
	try(epochs && log && secrets, "opening the store of volumes", func() (err error) {
		d.volumes, err = d.log.OpenVolumes(auditlog.VolumesConfig{File: d.layout.Volumes(), Postgres: d.opts.Config.Volumes.Postgres, Credential: d.opts.Credential,
			Root: d.keys.Root, Signer: d.epochs.Signer, Lowest: d.epochs.Lowest, Keys: d.secrets.Store})
		return err
	})
	return errors.Join(errs...)
}

// checkSocket finds at once what would keep the operators' socket from being made.
func (d *daemon) checkSocket() error {
	dir := filepath.Dir(d.opts.Config.Operator.Socket)
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return fmt.Errorf("operator.socket: %s is not a directory: create it first, for the users who may open the socket", dir)
	}
	return nil
}

// appraiser refuses a software TEE's root unless this is a development build,
// and then says so loudly.
func (d *daemon) appraiser() (Appraiser, error) {
	path := d.opts.Config.SoftwareTEERoot
	if d.opts.NewSoftwareAppraiser == nil {
		if path != "" {
			return nil, ErrSoftwareTEE
		}
		return d.opts.NewAppraiser()
	}
	d.opts.Logger.Warn("DEVELOPMENT BUILD: this broker can be told to accept a SOFTWARE TEE, which protects nothing. Never give it a real key.", "software_tee_root", path)
	if path == "" {
		return d.opts.NewAppraiser()
	}
	root, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("software_tee_root: %w", err)
	}
	return d.opts.NewSoftwareAppraiser(root)
}

func (d *daemon) openUnlock() (err error) {
	d.keys.Unlock, err = d.opts.Config.Unlock.Open(d.opts.Credential)
	return err
}

func (d *daemon) openCertificate() error {
	d.certificate.layout = d.layout
	return d.certificate.load()
}

func (d *daemon) openEpochs() (err error) {
	d.epochs, err = epochs.Open(epochs.Config{Layout: d.layout, Root: d.keys.Root, AuditKey: d.keys.Audit.Public(), Unlock: d.keys.Unlock, Now: d.opts.Now,
		Publish: func(lowest uint64, list []keybroker.Epoch) error { return d.broker.SetEpochs(lowest, list) }})
	return err
}

func (d *daemon) openLog() (err error) {
	c := d.opts.Config
	setBack, err := c.Clock.Instant()
	if err != nil {
		return err
	}
	d.log, err = auditlog.Open(auditlog.Config{Dir: d.layout.Audit(), Key: d.keys.Audit, Now: d.opts.Now, Logger: d.opts.Logger, Progress: d.progress(),
		RefusalBytesPerDay: int64(c.Audit.RefusalMiBPerDay) << 20, RefusalBytesPerSource: int64(c.Audit.RefusalKiBPerSource) << 10,
		InputsKeep: c.Audit.InputsKeep(), InputsBytes: int64(c.Audit.InputsMiB) << 20, Checkpoints: c.Audit.Checkpoints,
		RoundsCheckpoint: c.Rounds.Checkpoint, SetBack: setBack, RestoredStore: c.Secrets.RestoredStore})
	if err != nil {
		return err
	}
	d.grants = leases.NewGrants(d.log.Log)
	if err := d.layout.Sweep(); err != nil { // the log is open, so that no other broker runs here
		d.opts.Logger.Warn("unfinished files of a crash are left in the state directory", "err", err)
	}
	return nil
}

// startExtension is how much longer the start may take after each sign of
// progress; signs come more often than progressEvery says.
const (
	startExtension = 30 * time.Second
	progressEvery  = 2 * time.Second
)

// stepExtension is how much longer the start may take after each step begins: on a starved
// machine a single Argon2id takes seconds. One that hangs asks for no more.
const stepExtension = time.Minute

// step tells the service manager what the start does now, and asks it for time.
func (d *daemon) step(doing string) {
	d.tell(service.ExtendTimeout(stepExtension))
	d.tell(service.Status("starting: " + doing))
}

// progress asks the service manager for more time while the audit log is read: a
// tree or an index that is made anew takes as long as the log is large.
func (d *daemon) progress() func(done, total uint64) {
	var said time.Time
	return func(done, total uint64) {
		now := time.Now()
		if now.Sub(said) < progressEvery {
			return
		}
		said = now
		d.tell(service.ExtendTimeout(startExtension))
		d.tell(service.Status(fmt.Sprintf("reading the audit log: %d of about %d records", done, total)))
	}
}

func (d *daemon) openSecrets() (err error) {
	d.secrets.Store, err = d.keys.OpenKeystore()
	return err
}

func (d *daemon) openPolicies() (err error) {
	d.policies, err = operator.OpenPolicies(d.layout.Policies(), d.opts.Now)
	if err != nil {
		return fmt.Errorf("policies: %w", err)
	}
	return nil
}

// openRounds makes the service of federated rounds, where the configuration allows any.
func (d *daemon) openRounds() (err error) {
	c := d.opts.Config.Rounds
	if c.Privacy.AllowSoftwareTEE && d.opts.NewSoftwareAppraiser == nil {
		return fmt.Errorf("rounds.privacy.allow_software_tee: %w", ErrSoftwareTEE)
	}
	d.rounds, err = c.Open(assembly.Broker{File: d.layout.Rounds(), Credential: d.opts.Credential, Secrets: d.secrets.Store, Signer: d.epochs.Signer, Root: d.keys.Root, Log: d.log.Rounds(),
		Chip: d.grants.Processor, Released: d.grants.Released, Lowest: d.epochs.Lowest, Now: d.opts.Now, Logger: d.opts.Logger})
	return err
}

// openRegistry makes the registry of proofs, where the configuration has one.
func (d *daemon) openRegistry() (err error) {
	d.registry, err = registrar.Open(d.opts.Config.Proofs, registrar.Broker{Path: d.layout.Proofs(), Root: d.keys.Root, Lowest: d.epochs.Lowest, Audit: d.log.Event, Chip: d.grants.ProcessorIfKnown, Logger: d.opts.Logger, Now: d.opts.Now,
		Signer: d.epochs.Signer,
		TLS:    func() (*tls.Config, error) { return d.certificate.serverConfig(d.opts.Config.Profile) }})
	return err
}

func (d *daemon) assemble(appraiser Appraiser) error {
	c := d.opts.Config
	tlsConfig, err := d.certificate.serverConfig(c.Profile)
	if err != nil {
		return err
	}
	d.broker, err = keybroker.New(keybroker.Config{
		Gate: d.rounds.Gate, Ended: d.ended.Check, Processor: d.grants.ProcessorIfKnown, Volumes: d.volumes,
		TLS: tlsConfig, Root: d.keys.Root, Epochs: d.epochs.Certified(), MinEpoch: d.epochs.Lowest(), Kinds: appraiser.Kinds(),
		Appraiser: appraiser, Policy: d.policies.Current, Classes: c.Classes, Secrets: d.secrets.Store, Audit: d.log.Log,
		Now: d.opts.Now, NotEarlier: d.log.NotEarlier(), Logger: d.opts.Logger,
		Limits: keybroker.Limits{Listen: c.Limits.Limits, Kept: c.Limits.Connections(), Verifications: c.Limits.Verifications,
			NonceWindow: time.Duration(c.Limits.NonceWindowSeconds) * time.Second, PerGuest: c.Limits.PerGuest},
	})
	if err != nil {
		return err
	}
	d.operators, err = operator.NewServer(operator.Options{
		Rounds: d.rounds.Service(), Extra: slices.Concat(d.registry.Commands(), d.ended.Commands(), d.volumes.Commands()), Policies: d.policies, Secrets: d.secrets.Store, Audit: d.log.Log, AuditKeys: d.keys.AuditKeys(), Epochs: d.epochs,
		Status: d.status, Metrics: d.metrics, Operators: c.Operator.Operators(), Viewers: c.Operator.ViewerUIDs, Limits: c.Operator.Limits, Now: d.opts.Now, Logger: d.opts.Logger,
	})
	return err
}

func (d *daemon) status() operator.Status {
	st := operator.Status{Version: d.opts.Version, Build: d.opts.Build, Started: d.started, Root: d.keys.Root.String(),
		SoftwareTEE: d.opts.Config.SoftwareTEERoot != "", RefusesUntil: d.broker.ClockBehind()}
	if a := d.address.Load(); a != nil {
		st.Address = *a
	}
	st.RevocationUnchecked = d.opts.Config.Appraisal.RevocationUnchecked()
	st.Ends = map[string]time.Time{}
	for _, date := range d.dates() {
		name := date.Kind
		if date.Name != "" {
			name += " " + date.Name
		}
		st.Ends[name] = date.At.UTC()
	}
	return st
}

// close releases whatever is open, last opened first.
func (d *daemon) close() error {
	var errs []error
	errs = append(errs, d.registry.Close(), d.rounds.Close(), d.volumes.Close())
	if d.secrets.Store != nil {
		errs = append(errs, d.secrets.Close())
	}
	if d.log != nil {
		errs = append(errs, d.log.Close())
	}
	if d.epochs != nil {
		d.epochs.Wipe()
	}
	d.keys.Wipe()
	if s, ok := d.verifier.(Supplied); ok {
		s.Close()
	}
	return errors.Join(errs...)
}
