// Package settings is the broker's configuration: one YAML file, decoded strictly and checked
// whole before anything is opened. [Config] is its manual.
package settings

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/registry"
	"github.com/anchorhold/anchorhold/keybroker/rounds/assembly"
	"github.com/anchorhold/anchorhold/systemd/config"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

const (
	maxConfigBytes = 1 << 20
	maxRefusalMiB  = 1 << 20 // a day
	maxInputsMiB   = 1 << 20
	maxInputsDays  = 36500
	defaultKept    = 1024
	maxKept        = 1 << 20
)

// ReasonRestart means that a changed configuration is in force after a restart.
const ReasonRestart refusal.Reason = "reload-needs-restart"

// Config is the broker's whole configuration; this struct is its manual. An
// unknown or duplicate key is an error with line and column.
type Config struct {
	// StateDir holds everything that the broker keeps; see package statedir.
	StateDir string `yaml:"state_dir"`
	// Listen is the address for guests, host:port.
	Listen string `yaml:"listen"`
	// Profile is the transport's: "default" or "fips". Empty means default.
	Profile string `yaml:"profile"`
	// Unlock names the systemd credential that opens the keys at rest.
	Unlock Unlock `yaml:"unlock"`
	// Operator is the operators' socket.
	Operator Operator `yaml:"operator"`
	// Classes are the classes of resources to serve; empty means all.
	Classes []string `yaml:"classes"`
	// SoftwareTEERoot is a PEM file with the root certificates of software TEEs, of SEV-SNP (RSA)
	// and of TDX (ECDSA). Only a development build accepts it.
	SoftwareTEERoot string `yaml:"software_tee_root"`
	// Appraisal says which kinds of evidence are judged, and with what.
	Appraisal Appraisal `yaml:"appraisal"`
	// Limits bound what guests can make the broker do.
	Limits Limits `yaml:"limits"`
	// Audit bounds the audit log and says what it must extend.
	Audit AuditLog `yaml:"audit"`
	// Clock says what to do about a clock that was ahead.
	Clock Clock `yaml:"clock"`
	// Secrets says what to do about a key store that was put back from a copy.
	Secrets Secrets `yaml:"secrets"`
	// Rounds says what federated rounds may be opened; by default none.
	Rounds assembly.Config `yaml:"rounds"`
	// Volumes says where generations of encrypted volumes are kept.
	Volumes Volumes `yaml:"volumes"`
	// Proofs makes the broker a registry of proving keys and proofs; by default it is
	// none.
	Proofs registry.Settings `yaml:"proofs"`
	// Log sets the log's verbosity.
	Log Log `yaml:"log"`
}

// Volumes says where generations of encrypted volumes are kept.
type Volumes struct {
	// Postgres names a systemd credential that holds the connection string of the
	// database that a fleet of brokers shares; without it they are kept in the
	// state directory alone.
	Postgres string `yaml:"postgres"`
}

// Unlock says what opens the keys at rest. Exactly one field is set. The
// secret itself comes from the credentials directory and nowhere else.
type Unlock struct {
	// Credential names a credential of at least 32 random bytes.
	Credential string `yaml:"credential"`
	// Passphrase names a credential that holds a passphrase.
	Passphrase string `yaml:"passphrase"`
}

// Open reads the credential; the caller wipes it.
func (u Unlock) Open(credential func(name string) ([]byte, error)) (open idfile.Unlock, err error) {
	b, err := credential(u.Credential + u.Passphrase) // exactly one is set
	if err != nil {
		return open, fmt.Errorf("unlock: %w", err)
	}
	if u.Passphrase != "" {
		b = bytes.TrimSuffix(b, []byte("\n")) // a file's end, not a passphrase's
	}
	buf, err := keybuf.Take(b)
	if err != nil {
		return open, fmt.Errorf("unlock: %w", err)
	}
	if u.Credential != "" {
		return idfile.Unlock{Credential: buf}, nil
	}
	return idfile.Unlock{Passphrase: buf}, nil
}

// Operator is the operators' socket.
type Operator struct {
	// Socket is its path.
	Socket string `yaml:"socket"`
	// Group opens the socket to its group (mode 0660); without it, 0600.
	Group bool `yaml:"group"`
	// OperatorUIDs may change things; by default root and the broker's own
	// uid. ViewerUIDs may look.
	OperatorUIDs []uint32 `yaml:"operator_uids"`
	ViewerUIDs   []uint32 `yaml:"viewer_uids"`
	// Limits of their connections and memory.
	Limits listen.Limits `yaml:"limits"`
}

// Limits bound what guests can make the broker do; 0 means the default.
type Limits struct {
	// Limits of connections and memory: connections, unproven, per_source,
	// ipv4_prefix, ipv6_prefix, balancers, body_mib.
	listen.Limits `yaml:",inline"`
	// Kept is how many connections of attested guests are kept for their renewals, 1024 by
	// default; 0 keeps none. They use what is left of connections and body_mib, 24 KiB each,
	// and are ended before any other.
	Kept *int `yaml:"kept"`
	// Verifications at the same time.
	Verifications int `yaml:"verifications"`
	// NonceWindowSeconds bounds the wait for evidence.
	NonceWindowSeconds int `yaml:"nonce_window_seconds"`
	// PerGuest is how many keys one guest may ask for in ten minutes, 120 by default: each
	// is a record in the audit log.
	PerGuest int `yaml:"per_guest"`
	// CheckpointSeconds is how often the audit log is signed if it grew; 60
	// by default.
	CheckpointSeconds int `yaml:"checkpoint_seconds"`
}

// AuditLog bounds what refusals add to the audit log; 0 means the default. Grants,
// releases and what operators do are recorded whatever they add.
type AuditLog struct {
	// RefusalMiBPerDay is what all strangers together may add in a day, and once
	// more what guests may whose evidence holds; 64 by default. A twenty-fourth of
	// it is for each hour. What is over it is counted in a record.
	RefusalMiBPerDay int `yaml:"refusal_mib_per_day"`
	// RefusalKiBPerSource is what one source may add in a day: an IPv4 address, or
	// a prefix of 64 bits of IPv6; by default a sixteenth of the day's.
	RefusalKiBPerSource int `yaml:"refusal_kib_per_source"`
	// InputsDays is for how many days what decisions were made on is kept beside the log, for
	// anchorhold policy replay; 365 by default. With 0 nothing of it is kept, and what is there is
	// deleted.
	InputsDays *int `yaml:"inputs_days"`
	// InputsMiB is what it takes on disk at most; 2048 by default. The oldest makes room.
	InputsMiB int `yaml:"inputs_mib"`
	// Checkpoints are files with checkpoints of the log that were kept elsewhere.
	// The broker serves only with a log that extends each of them.
	Checkpoints []string `yaml:"checkpoints"`
}

// InputsKeep is how long what decisions were made on is kept: 0 for the default, negative for not at all.
func (a AuditLog) InputsKeep() time.Duration {
	switch {
	case a.InputsDays == nil:
		return 0
	case *a.InputsDays == 0:
		return -1
	}
	return time.Duration(*a.InputsDays) * 24 * time.Hour
}

// Clock says what to do about a clock that was ahead.
type Clock struct {
	// SetBack is the exact time of the audit log's last record, in RFC 3339, from which the log
	// may go on at an earlier time, once: a broker whose clock was ahead and was set right need
	// not wait. Its log at the start says the value, and so does the refusal of another one.
	SetBack string `yaml:"set_back"`
}

// Instant is SetBack; zero if there is none.
func (c Clock) Instant() (time.Time, error) {
	if c.SetBack == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, c.SetBack)
	if err != nil {
		return t, fmt.Errorf("%q is not an RFC 3339 time; the broker logs the expected one when it starts", c.SetBack)
	}
	return t, nil
}

// Secrets says what to do about a key store that is not what the audit log says.
type Secrets struct {
	// RestoredStore is the reason, in writing, to serve with a key store that was put back
	// from a copy which is older than the audit log. What it lacks is lost, and what was
	// retired or destroyed since is there again: retire it anew.
	RestoredStore string `yaml:"restored_store"`
}

// Log sets verbosity and form.
type Log struct {
	// Level is "debug", "info", "warn" or "error". Empty means info.
	Level string `yaml:"level"`
	// Format is "text" or "json". Empty means the journal's own fields where the service
	// manager connected standard error to the journal, else text.
	Format string `yaml:"format"`
}

// Load reads and checks a configuration file.
func Load(path string) (Config, error) {
	b, err := config.ReadFile(path, maxConfigBytes)
	if err != nil {
		return Config{}, err
	}
	c, err := Parse(b)
	if err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Parse reads and checks a configuration.
func Parse(data []byte) (Config, error) {
	var c Config
	if err := config.Decode(data, &c); err != nil {
		return Config{}, err
	}
	return c, c.Check()
}

// Check finds everything that is wrong with the configuration.
func (c Config) Check() error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if !filepath.IsAbs(c.StateDir) {
		bad("state_dir: an absolute path is required")
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		bad("listen: %w; want host:port", err)
	}
	if err := c.Proofs.Check(); err != nil {
		bad("%w", err)
	}
	if c.Profile != "" && c.Profile != "default" && c.Profile != "fips" {
		bad("profile: %q is neither default nor fips", c.Profile)
	}
	if (c.Unlock.Credential == "") == (c.Unlock.Passphrase == "") {
		bad("unlock: set exactly one of credential and passphrase")
	}
	if !filepath.IsAbs(c.Operator.Socket) {
		bad("operator.socket: an absolute path is required")
	} else if n := len(c.Operator.Socket); n > operator.MaxPath {
		bad("operator.socket: the path must have at most %d bytes, got %d", operator.MaxPath, n)
	}
	if _, err := c.Clock.Instant(); err != nil {
		bad("clock.set_back: %w", err)
	}
	if err := c.Appraisal.Check(); err != nil {
		bad("%w", err)
	}
	if err := c.Limits.Limits.Check(); err != nil {
		bad("limits: %w", err)
	}
	if err := c.Operator.Limits.Check(); err != nil {
		bad("operator.limits: %w", err)
	}
	if l := c.Limits; l.Verifications < 0 || l.NonceWindowSeconds < 0 || l.CheckpointSeconds < 0 || l.PerGuest < 0 {
		bad("limits: a negative limit")
	}
	if k := c.Limits.Connections(); k < 0 || k > maxKept {
		bad("limits: kept: %d is not between 0 and %d", k, maxKept)
	}
	if a := c.Audit; a.RefusalMiBPerDay < 0 || a.RefusalMiBPerDay > maxRefusalMiB || a.RefusalKiBPerSource < 0 || a.RefusalKiBPerSource > maxRefusalMiB<<10 {
		bad("audit: a budget is negative or above %d MiB", maxRefusalMiB)
	}
	if a := c.Audit; a.InputsMiB < 0 || a.InputsMiB > maxInputsMiB || a.InputsDays != nil && (*a.InputsDays < 0 || *a.InputsDays > maxInputsDays) {
		bad("audit: inputs_mib is negative or above %d, or inputs_days is negative or above %d", maxInputsMiB, maxInputsDays)
	}
	switch c.Log.Level {
	case "", "debug", "info", "warn", "error":
	default:
		bad("log.level: %q is unknown", c.Log.Level)
	}
	switch c.Log.Format {
	case "", "text", "json":
	default:
		bad("log.format: %q is unknown", c.Log.Format)
	}
	return errors.Join(problems...)
}

// Connections is how many connections to keep for renewals.
func (l Limits) Connections() int {
	if l.Kept == nil {
		return defaultKept
	}
	return *l.Kept
}

// CheckpointEvery is how often the audit log is signed if it grew.
func (c Config) CheckpointEvery() time.Duration {
	if c.Limits.CheckpointSeconds == 0 {
		return time.Minute
	}
	return time.Duration(c.Limits.CheckpointSeconds) * time.Second
}

// Operators are the users who may change things.
func (o Operator) Operators() []uint32 {
	if o.OperatorUIDs != nil {
		return o.OperatorUIDs
	}
	return []uint32{0, uint32(os.Getuid())}
}

// Changed says what is wrong with the configuration file, or that it says something else than
// this process was started with: it is read at the start alone.
func (c Config) Changed(path string) error {
	if path == "" {
		return nil
	}
	now, err := Load(path)
	if err == nil && !reflect.DeepEqual(now, c) {
		err = refusal.New(ReasonRestart, "%s has changed and is read only when the broker starts; restart the broker. The files it names were reloaded", path)
	}
	return err
}
