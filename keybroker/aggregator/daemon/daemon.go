// Package daemon runs an aggregator from its configuration file.
//
// It guarantees that nothing is served before certificate, root identities and the
// state directory were read and checked. It trusts the file modes of its directory
// and of the administrator's socket. It refuses unknown configuration keys and root
// identities of another level. The main of anchorhold-aggregator calls it.
package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/aggregator"
	"github.com/anchorhold/anchorhold/systemd/config"
	"github.com/anchorhold/anchorhold/systemd/deadline"
	"github.com/anchorhold/anchorhold/systemd/listen"
	"github.com/anchorhold/anchorhold/systemd/service"
)

// Settings is the aggregator's whole configuration; this struct is its manual. An
// unknown or duplicate key is an error with line and column.
type Settings struct {
	// StateDir holds rounds, uploads and sums. It needs room for every upload of
	// the rounds that are open: 6.75 bytes a value in the default set.
	StateDir string `yaml:"state_dir"`
	// Listen is the address for participants, host:port.
	Listen string `yaml:"listen"`
	// TLSCertificate and TLSKey are PEM files.
	TLSCertificate string `yaml:"tls_certificate"`
	TLSKey         string `yaml:"tls_key"`
	// Profile is the transport's: "default" or "fips". Empty means default.
	Profile string `yaml:"profile"`
	// RootKeys are the root identities ("ahpub1...") of the brokers whose rounds are
	// taken, or files that hold one each. They need not trust each other.
	RootKeys []string `yaml:"root_keys"`
	// MinEpoch is the lowest epoch that is accepted, of every root; 1. Whatever a root asks
	// for in a statement that comes here is remembered, and counts for that root besides.
	MinEpoch uint64 `yaml:"min_epoch"`
	// LateMinutes is how long after its opening a round may be handed over, and how far
	// this machine's clock and the broker's may be apart; 10.
	LateMinutes uint32 `yaml:"late_minutes"`
	// MaxHours bounds how long a round or set-up may run; 744, which is the most.
	MaxHours uint32 `yaml:"max_hours"`
	// AdminSocket is the administrator's unix socket, mode 0600.
	AdminSocket string `yaml:"admin_socket"`
	// Shard and Shards are the part of every vector that this process holds.
	Shard  int `yaml:"shard"`
	Shards int `yaml:"shards"`
	// Workers add at the same time; 1 by default.
	Workers int `yaml:"workers"`
	// Uploads that send at the same time; 32 by default.
	Uploads int `yaml:"uploads"`
	// Rounds that are held at the same time; 64 by default. RoundsPerModel of one model;
	// three quarters of that.
	Rounds         int `yaml:"rounds"`
	RoundsPerModel int `yaml:"rounds_per_model"`
	// KeptDays is how long a round is held after it closed and its result was published,
	// 30 by default; UnfinishedDays how long without a result, 90.
	KeptDays       int `yaml:"kept_days"`
	UnfinishedDays int `yaml:"unfinished_days"`
	// FreeMB is how much of StateDir's disk stays free, in MiB: below it nothing is taken but
	// tickets, results and other small things that end rounds. 0 is 1024.
	FreeMB int `yaml:"free_mb"`
	// NormKeys is a directory with records and verifying keys of proofs that updates are
	// inside their bounds, for rounds that want such proofs.
	NormKeys string `yaml:"norm_keys"`
	// AllowDevelopmentSetup takes keys whose maker could forge proofs.
	AllowDevelopmentSetup bool `yaml:"allow_development_setup"`
	// VerificationTimeoutMS bounds one verification, in milliseconds; 1000.
	VerificationTimeoutMS int `yaml:"verification_timeout_ms"`
	// Limits of participants' connections and memory; see docs/operations.md.
	Limits listen.Limits `yaml:"limits"`
	// Log level: "debug", "info", "warn" or "error".
	LogLevel string `yaml:"log_level"`
}

const maxSettingsBytes = 1 << 20

// Example is a whole configuration, for people.
const Example = `  state_dir: /var/lib/anchorhold/aggregator
  listen: 0.0.0.0:8444
  tls_certificate: /etc/anchorhold/aggregator.crt
  tls_key: /etc/anchorhold/aggregator.key
  root_keys: [/etc/anchorhold/root.key.pub]
  admin_socket: /run/anchorhold-aggregator/admin.sock
  # optional: profile, min_epoch, late_minutes, max_hours, shard, shards, workers, uploads, rounds, rounds_per_model,
  # kept_days, unfinished_days, free_mb, log_level, limits, norm_keys, allow_development_setup, verification_timeout_ms
`

// LoadSettings reads a configuration file.
func LoadSettings(path string) (Settings, error) {
	data, err := config.ReadFile(path, maxSettingsBytes)
	if err != nil {
		return Settings{}, err
	}
	var s Settings
	if err := config.Decode(data, &s); err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// daemon is an aggregator with what it serves on.
type daemon struct {
	agg         *aggregator.Aggregator
	tls         *tls.Config
	certificate atomic.Pointer[tls.Certificate]
	reloading   service.Reloads
	lock        *os.File // of the state directory
}

// loadCertificate reads the certificate; one that does not load changes nothing, nor one that
// every peer would refuse where another is served.
func (d *daemon) loadCertificate(s Settings) error {
	pair, err := tls.LoadX509KeyPair(s.TLSCertificate, s.TLSKey)
	if err == nil && d.certificate.Load() != nil {
		err = hybridtls.Serves(&pair, time.Now())
	}
	if err != nil {
		return fmt.Errorf("tls_certificate: %w", err)
	}
	d.certificate.Store(&pair)
	return nil
}

// Check opens everything and serves nothing. It fails while an aggregator runs on the same
// state, for opening it removes what an interrupted one left.
func Check(s Settings, log *slog.Logger) error {
	d, err := newDaemon(s, log)
	if errors.Is(err, service.ErrRunning) {
		return fmt.Errorf("%w: an aggregator is running there. All but the state directory was checked and is right; the directory's contents are NOT checked while it is in use", err)
	}
	if err != nil {
		return err
	}
	return d.lock.Close()
}

func newDaemon(s Settings, log *slog.Logger) (*daemon, error) {
	var problems []error // all of them are said at once
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if !filepath.IsAbs(s.StateDir) {
		bad("state_dir: an absolute path is required")
	}
	s.checkSocket(bad)
	if s.FreeMB < 0 || s.FreeMB > 1<<24 {
		bad("free_mb is up to %d", 1<<24)
	}
	if _, _, err := net.SplitHostPort(s.Listen); err != nil {
		bad("listen: %w; want host:port", err)
	}
	var roots []identity.Public
	for _, entry := range s.RootKeys {
		root, err := rootKey(entry)
		if err != nil {
			bad("root_keys: %w", err)
		}
		roots = append(roots, root)
	}
	d := &daemon{reloading: service.Reloads{Asked: make(chan chan<- error)}}
	profile := hybridtls.ProfileDefault
	switch s.Profile {
	case "", "default":
	case "fips":
		profile = hybridtls.ProfileFIPS
	default:
		bad("profile: %q is neither default nor fips", s.Profile)
	}
	norms, err := normKeys(s)
	if err := errors.Join(append(problems, d.loadCertificate(s), err)...); err != nil {
		return nil, err
	}
	if d.tls, err = hybridtls.ServerConfig(*d.certificate.Load(), profile); err != nil {
		return nil, err
	}
	d.tls.Certificates = nil
	d.tls.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return d.certificate.Load(), nil }
	if d.lock, err = service.LockState(s.StateDir); err != nil {
		return nil, fmt.Errorf("state_dir: %w", err)
	}
	// It reads every round that is kept, which takes as long as a starved disk does.
	if told := errors.Join(service.ExtendTimeout(startExtension), service.Status("starting: reading the rounds")); told != nil {
		log.Warn("service manager not told", "err", told)
	}
	if d.agg, err = aggregator.New(aggregator.Config{StateDir: s.StateDir, Roots: roots, Shard: s.Shard, Shards: s.Shards, Workers: s.Workers, Uploads: s.Uploads, Rounds: s.Rounds, RoundsPerModel: s.RoundsPerModel,
		Free: int64(s.FreeMB) << 20, Kept: days(s.KeptDays), Unfinished: days(s.UnfinishedDays),
		MinEpoch: s.MinEpoch, Late: time.Duration(s.LateMinutes) * time.Minute, MaxDuration: time.Duration(s.MaxHours) * time.Hour, NormKeys: norms, Limits: s.Limits, Logger: log}); err != nil {
		return nil, errors.Join(err, d.lock.Close())
	}
	return d, nil
}

// startExtension is how much longer the start may take once the rounds are being read.
const startExtension = 5 * time.Minute

// maxSocketPath is the longest path of a unix socket: sun_path without its end (unix(7)).
const maxSocketPath = 107

// checkSocket finds what would keep the administrator's socket from being made.
func (s Settings) checkSocket(bad func(format string, args ...any)) {
	dir := filepath.Dir(s.AdminSocket)
	switch st, err := os.Stat(dir); {
	case s.AdminSocket == "" || len(s.AdminSocket) > maxSocketPath:
		bad("admin_socket: a path of 1 to %d bytes is required", maxSocketPath)
	case err != nil || !st.IsDir():
		bad("admin_socket: %s is not a directory: create it first, for the users who may open the socket", dir)
	}
}

func days(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }

// normKeys reads the keys that verify proofs of bounds; nil where none are configured.
func normKeys(s Settings) (*keyset.Ring, error) {
	ms := s.VerificationTimeoutMS
	switch {
	case ms < 0 || ms > 60_000:
		return nil, fmt.Errorf("verification_timeout_ms: %d is outside 0 to 60000", ms)
	case s.NormKeys == "" && (ms != 0 || s.AllowDevelopmentSetup):
		return nil, errors.New("norm_keys is missing: a directory that `anchorhold proof setup --gradient` made")
	case s.NormKeys == "":
		return nil, nil
	case ms == 0:
		ms = 1000
	}
	sets, err := keyset.Load(s.NormKeys)
	if err != nil {
		return nil, fmt.Errorf("norm_keys: %w", err)
	}
	if len(sets) == 0 {
		return nil, fmt.Errorf("norm_keys: %s contains no key records", s.NormKeys)
	}
	ring, err := keyset.NewRing(sets, s.AllowDevelopmentSetup, time.Duration(ms)*time.Millisecond, keyset.Parsers{statement.Groth16: keyset.By(groth16verify.ParseKey)})
	if err != nil {
		return nil, fmt.Errorf("norm_keys: %w", err)
	}
	return ring, nil
}

// rootKey takes a root identity from its text or from a file.
func rootKey(entry string) (identity.Public, error) {
	var root identity.Public
	if err := root.UnmarshalText([]byte(entry)); err != nil {
		if root, err = identity.ReadPublicFile(entry); err != nil {
			return root, fmt.Errorf("%.40s is neither a public identity (ahpub1...) nor a file that holds one: %w", entry, err)
		}
	}
	if root.Level() != identity.LevelRoot {
		return root, fmt.Errorf("%.16s... is not a root identity (ML-DSA-87)", entry)
	}
	return root, nil
}

// Run serves until ctx ends. Each value of reload has the certificate read again.
func Run(ctx context.Context, s Settings, log *slog.Logger, reload <-chan os.Signal) error {
	d, err := newDaemon(s, log)
	if err != nil {
		return err
	}
	defer d.lock.Close()
	participants, err := net.Listen("tcp", s.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	admin, err := listenAdmin(s.AdminSocket)
	if err != nil {
		return errors.Join(err, participants.Close())
	}
	log.Info("aggregator serves", "address", participants.Addr().String(), "socket", s.AdminSocket, "shard", s.Shard, "shards", max(s.Shards, 1), "rounds", len(d.agg.Rounds()))
	if err := service.Ready("serving " + participants.Addr().String()); err != nil {
		log.Warn("service manager", "err", err)
	}
	watch, stop := context.WithCancel(ctx)
	defer stop()
	// What fails here ends the aggregator with its reason. Else the service manager would end
	// it later, without one.
	ended := make(chan error, 2)
	beside := func(name string, f func() error) {
		go func() {
			err := f()
			if err != nil {
				err = fmt.Errorf("%s: %w", name, err)
				stop()
			}
			ended <- err
		}()
	}
	beside("watchdog", func() error { return service.RunWatchdog(watch, log, d.healthy) })
	beside("reload socket", func() error { return service.ServeReload(watch, d.reloading.Ask) })
	reloaded := make(chan struct{})
	go func() {
		defer close(reloaded)
		d.reloads(watch, s, log, reload)
	}()
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		deadline.New(log).Run(watch, time.Now, func() []deadline.Date { return deadline.OfTLS(d.certificate.Load()) })
	}()
	err = d.agg.Serve(watch, participants, d.tls, admin)
	stop()
	<-reloaded
	<-looked
	return errors.Join(err, <-ended, <-ended)
}

// reloads reads the certificate again on request until ctx ends.
func (d *daemon) reloads(ctx context.Context, s Settings, log *slog.Logger, reload <-chan os.Signal) {
	for {
		var answer chan<- error
		select {
		case <-ctx.Done():
			return
		case <-reload:
		case answer = <-d.reloading.Asked:
		}
		err := d.reloading.Do(func() error {
			err := d.loadCertificate(s)
			if told := errors.Join(service.Reloading(), service.Ready("serving")); told != nil {
				log.Warn("service manager not told", "err", told)
			}
			return err
		})
		if err != nil {
			log.Error("reload failed; what failed stays as it was", "err", err)
		} else {
			log.Info("certificate read again")
		}
		if answer != nil {
			answer <- err
		}
	}
}

// reloadAfter is far more than reading a certificate takes.
const reloadAfter = 2 * time.Minute

// healthy asks what could hang.
func (d *daemon) healthy(context.Context) error {
	if err := d.reloading.Stuck(reloadAfter); err != nil {
		return err
	}
	d.agg.Rounds()
	return nil
}

// listenAdmin replaces a socket that an earlier run left.
func listenAdmin(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("admin_socket: %s exists and is not a socket", path)
		}
		if c, err := net.Dial("unix", path); err == nil {
			return nil, errors.Join(fmt.Errorf("admin_socket: another process is listening on %s", path), c.Close())
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("admin_socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}
