package model

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/daemon"
	"github.com/anchorhold/anchorhold/keybroker/daemon/settings"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
)

// tick is the model's unit of time: a lease lives for two, and is of the shortest that a
// policy may give.
const tick = 5 * time.Minute

// clock is real time and what the trail has moved it by.
type clock struct {
	mu     sync.Mutex
	offset time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

// hardware is a guest's, by its image and processor. Evidence is not in the model, so the
// report says what an appraisal would find out.
type hardware struct{ image, chip byte }

// Collect puts the image behind the report data, and the chip where SEV-SNP has it.
func (h hardware) Collect(_ context.Context, data [64]byte) (evidence.Envelope, error) {
	report := append(data[:], h.image)
	report = append(report, make([]byte, 0x1a0-len(report))...)
	return evidence.Envelope{Kind: evidence.KindSNP, Parts: []evidence.Part{{Type: evidence.PartSNPReport, Data: append(report, bytes.Repeat([]byte{h.chip}, 64)...)}}}, nil
}

// measurement is the launch measurement of an image.
func measurement(image byte) []byte { return bytes.Repeat([]byte{image}, 48) }

// appraiser believes hardware.
type appraiser struct{}

// Kinds are those of hardware.
func (appraiser) Kinds() []evidence.Kind { return []evidence.Kind{evidence.KindSNP} }

// Appraise finds out image and processor.
func (appraiser) Appraise(_ context.Context, env evidence.Envelope, want [64]byte, _ time.Time) (evidence.Claims, error) {
	if len(env.Primary()) != 0x1e0 || subtle.ConstantTimeCompare(env.Primary()[:64], want[:]) != 1 {
		return evidence.Claims{}, refusal.New("report-data-mismatch", "the report was made for something else")
	}
	return evidence.Claims{Kind: evidence.KindSNP, Platform: "Genoa", Challenge: want[:],
		Registers: []evidence.Measured{evidence.LaunchRegister(measurement(env.Primary()[64]))}, SNP: &evidence.SNPClaims{ChipID: env.Chip()}}, nil
}

// broker is a broker's daemon on a state directory.
type broker struct {
	t         *testing.T
	root      *identity.Private
	publisher *identity.Private // of the models whose privacy is charged
	made      statedir.Made
	options   daemon.Options
	op        *operator.Client
	address   string
	stop      func()
}

var credential = bytes.Repeat([]byte{0x42}, 32) // a constant of the tests

func key(t *testing.T, level identity.Level) *identity.Private {
	t.Helper()
	k, err := identity.Generate(level)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

func secret(t *testing.T, b []byte) *keybuf.Buffer {
	t.Helper()
	buf, err := keybuf.Take(bytes.Clone(b))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(buf.Wipe)
	return buf
}

// newBroker makes a broker whose first epoch lasts for two ticks, and starts it.
func newBroker(t *testing.T, c *clock) *broker {
	t.Helper()
	b := &broker{t: t, root: key(t, identity.LevelRoot), publisher: key(t, identity.LevelEpoch)}
	dir := t.TempDir()
	var err error
	b.made, err = statedir.Make(t.Context(), statedir.Options{Dir: filepath.Join(dir, "state"), Root: b.root, Unlock: b.unlock(),
		Hosts: []string{"127.0.0.1", "localhost"}, EpochValidity: 2 * tick, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	config := settings.Config{StateDir: string(b.made.Layout), Listen: "127.0.0.1:0", Unlock: settings.Unlock{Credential: "kek"},
		Operator: settings.Operator{Socket: filepath.Join(dir, "op")}}
	config.Rounds.Privacy = rounds.Policy{MaxEpsilon: 1.2, Delta: 1e-5}
	publisher, err := b.publisher.Public().MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	config.Rounds.DatasetPublishers = []string{string(publisher)}
	config.Rounds.Checkpoint = filepath.Join(t.TempDir(), "checkpoint")
	b.options = daemon.Options{Config: config, Logger: slog.New(slog.DiscardHandler), Version: "v1", Build: "test", Now: c.now,
		Credential:   func(string) ([]byte, error) { return bytes.Clone(credential), nil },
		NewAppraiser: func() (daemon.Appraiser, error) { return appraiser{}, nil }}
	b.start()
	b.furnish()
	return b
}

func (b *broker) unlock() idfile.Unlock {
	return idfile.Unlock{Credential: secret(b.t, credential)}
}

// start runs the daemon and waits until it serves.
func (b *broker) start() {
	b.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	o := b.options
	o.Listener = listener
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- daemon.Run(ctx, o) }()
	b.op, b.address = operator.NewClient(o.Config.Operator.Socket), listener.Addr().String()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	})
	b.t.Cleanup(b.stop)
	ask := time.NewTicker(2 * time.Millisecond)
	defer ask.Stop()
	limit := time.After(30 * time.Second)
	for {
		if _, err := b.op.Status(b.t.Context()); err == nil {
			return
		}
		select {
		case err := <-done:
			done <- err
			b.t.Fatalf("the daemon ended: %v", err)
		case <-limit:
			b.t.Fatal("the daemon does not serve")
		case <-ask.C:
		}
	}
}

// furnish gives the broker its policy, the keys of both models, and what members prove
// themselves with; and begins the checkpoint that is kept elsewhere.
func (b *broker) furnish() {
	b.t.Helper()
	ctx := b.t.Context()
	for name, subject := range map[string]keystore.Subject{"one/model-1": modelID(1), "two/model-2": modelID(2), "one/member": {}, "two/member": {}} {
		if _, err := b.op.PutSecret(ctx, name, secret(b.t, credential), keystore.Meta{Subject: subject}, operator.PutNext); err != nil {
			b.t.Fatal(err)
		}
	}
	if _, err := b.op.ImportPolicy(ctx, policyText()); err != nil {
		b.t.Fatal(err)
	}
	var values bytes.Buffer
	values.WriteString("format: 1\nreference_values:\n")
	for _, g := range []guest{alice, bob, eve} {
		fmt.Fprintf(&values, "  - {id: %s, measurement: \"%x\"}\n", g.name, measurement(g.image))
	}
	if _, err := b.op.ImportReferenceValues(ctx, values.Bytes(), false); err != nil {
		b.t.Fatal(err)
	}
	checkpoint, err := b.op.Checkpoint(ctx)
	if err == nil {
		err = os.WriteFile(b.options.Config.Rounds.Checkpoint, []byte(checkpoint.Note), 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// modelID is what the key store says that a model's key is for.
func modelID(model int) (id [32]byte) {
	id[0] = byte(model)
	return id
}

// policyText gives roles by what a guest asks for. Keys of rounds have names that nobody
// knows before, so every guest may ask for every one: the round says who gets it.
func policyText() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `format: 2
id: two-tenants
version: 1
not_before: 2020-01-01T00:00:00Z
not_after: 2099-01-01T00:00:00Z
attestation_ttl_seconds: %d
require: {kinds: [sev-snp], sev_snp: {products: [Genoa], vmpl: 0}, reference_values: [alice, bob, eve], tenants: [one, two]}
rules:
  - {resources: [one/model-1], roles: [serve, contribute], require: {reference_values: [alice], tenants: [one]}}
  - {resources: [one/member], roles: [contribute], require: {reference_values: [alice, bob], tenants: [one]}}
  - {resources: [two/model-2, two/member], roles: [serve, contribute, decrypt], require: {reference_values: [eve], tenants: [two]}}
  - {resources: [fed/*], roles: [decrypt]}
waive:
`, int(2*tick/time.Second))
	configured := []string{"reference-values", "products", "vmpl", "tenant"}
	for _, c := range policy.ChecksOf(evidence.KindSNP) {
		if c.Waivable && !slices.Contains(configured, c.Name) {
			fmt.Fprintf(&b, "  - {check: %s, reason: not in the model}\n", c.Name)
		}
	}
	return b.Bytes()
}

// copyState copies a directory, as somebody with the disk would.
func copyState(from, to string) error {
	return filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		data, err := os.ReadFile(name)
		return errors.Join(err, os.WriteFile(filepath.Join(to, rel), data, 0o600))
	})
}
