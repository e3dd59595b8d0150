package statedir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// Options say how to make a state directory.
type Options struct {
	// Dir is the state directory; it must be missing or empty, and what it is in exist.
	Dir string
	// Root signs the first epoch. It stays the caller's: neither half of the
	// private key is written here.
	Root *identity.Private
	// Unlock protects the keys at rest; the broker needs the same at each start.
	Unlock idfile.Unlock
	// Hosts are the names and addresses in the TLS certificate.
	Hosts []string
	// EpochValidity is how long the first epoch lasts; 60 days by default.
	EpochValidity time.Duration
	// CertificateValidity is how long the TLS certificate lasts; one year by default.
	CertificateValidity time.Duration
	// PinPolicy, if set, is the digest of the only policy that may decide in
	// the first epoch. Without it the operator chooses the policy.
	PinPolicy [32]byte
	// Now is the time of creation; time.Now by default.
	Now func() time.Time
}

// Made is what others need to know of a new broker.
type Made struct {
	Layout         Layout
	Root           identity.Public
	AuditKey       identity.Public
	Epoch          uint64
	CertificatePEM []byte
	// Statement is what the root signed about the first epoch.
	Statement []byte
}

// Make makes a state directory with which the daemon runs: epoch key and statement,
// audit key and empty log, TLS certificate, empty key store. It replaces
// nothing; after an error the directory is incomplete and should be removed.
func Make(ctx context.Context, o Options) (Made, error) {
	if err := o.complete(); err != nil {
		return Made{}, fmt.Errorf("create broker state: %w", err)
	}
	l := Layout(o.Dir)
	r := Made{Layout: l, Root: o.Root.Public(), Epoch: 1}
	for _, dir := range []string{o.Dir, l.Epochs(), l.Audit(), l.Policies()} {
		// None above it: those would be closed to the broker's user where root runs this.
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return r, fmt.Errorf("create broker state: %w", err)
		}
	}
	for _, step := range []func() error{
		func() error { return idfile.WritePublic(l.RootPublic(), r.Root) },
		func() error { return o.makeAudit(l, &r) },
		func() error { return o.makeEpoch(l, &r) },
		func() error { return o.makeCertificate(l, &r) },
		func() error { return o.makeKeystore(l) },
	} {
		if err := errors.Join(ctx.Err(), step()); err != nil {
			return r, fmt.Errorf("create broker state: %w", err)
		}
	}
	return r, nil
}

func (o *Options) complete() error {
	if o.Root == nil || o.Root.Public().Level() != identity.LevelRoot {
		return errors.New("a root identity is required")
	}
	if len(o.Hosts) == 0 {
		return errors.New("the TLS certificate needs a host name or address")
	}
	if o.EpochValidity <= 0 {
		o.EpochValidity = 60 * 24 * time.Hour
	}
	if o.CertificateValidity <= 0 {
		o.CertificateValidity = 365 * 24 * time.Hour
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	entries, err := os.ReadDir(o.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s is not empty", o.Dir)
	}
	return nil
}

func (o *Options) makeAudit(l Layout, r *Made) error {
	key, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		return err
	}
	defer key.Wipe()
	r.AuditKey = key.Public()
	if err := idfile.Write(l.AuditKey(), key, o.Unlock); err != nil {
		return err
	}
	if err := idfile.WritePublic(l.AuditPublic(), r.AuditKey); err != nil {
		return err
	}
	log, err := audit.Open(l.Audit(), key, audit.Options{Now: o.Now})
	if err != nil {
		return err
	}
	_, err = log.Append(context.Background(), audit.Record{Kind: audit.KindService, Time: o.Now(), Action: "created"})
	return errors.Join(err, log.Close())
}

func (o *Options) makeEpoch(l Layout, r *Made) error {
	key, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		return err
	}
	defer key.Wipe()
	if err := idfile.Write(l.EpochKey(1), key, o.Unlock); err != nil {
		return err
	}
	now := o.Now()
	signed, err := CertifyEpoch(o.Root, Certificate{Epoch: 1, MinEpoch: 1, Key: key.Public(), AuditKey: r.AuditKey,
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(o.EpochValidity), PinPolicy: o.PinPolicy})
	if err != nil {
		return err
	}
	r.Statement = signed
	return disk.Once(l.EpochStatement(1), signed)
}

// Certificate is what the root says about an epoch.
type Certificate struct {
	Epoch, MinEpoch     uint64
	Key, AuditKey       identity.Public
	NotBefore, NotAfter time.Time
	// PinPolicy is the digest of the only policy that may decide; zero leaves
	// the choice to the operator.
	PinPolicy [32]byte
}

// CertifyEpoch signs an epoch statement with the root key. It is what the
// owner of the offline root does with an operator.EpochRequest.
func CertifyEpoch(root *identity.Private, c Certificate) ([]byte, error) {
	return protocol.SignEpoch(root, protocol.EpochStatement{
		Broker: root.Public().ID(), Epoch: c.Epoch, MinEpoch: c.MinEpoch, Key: c.Key,
		NotBefore: protocol.TimeOf(c.NotBefore), NotAfter: protocol.TimeOf(c.NotAfter),
		AnyPolicy: c.PinPolicy == [32]byte{}, PolicyDigest: c.PinPolicy, AuditKey: c.AuditKey.ID(),
	})
}

func (o *Options) makeCertificate(l Layout, r *Made) error {
	cert, key, err := hybridtls.NewCertificate(o.Hosts, o.CertificateValidity)
	if err != nil {
		return err
	}
	r.CertificatePEM = cert
	return errors.Join(disk.Once(l.TLSKey(), key), disk.Once(l.Certificate(), cert), os.Chmod(l.Certificate(), 0o644))
}

func (o *Options) makeKeystore(l Layout) error {
	kek, err := l.KEK(o.Unlock)
	if err != nil {
		return err
	}
	defer kek.Wipe()
	store, err := keystore.Open(l.Keystore(), kek)
	if err != nil {
		return err
	}
	return store.Close()
}
