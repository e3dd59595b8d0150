package statedir

import (
	"fmt"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
)

// Keys open a state directory, and name who it is of. Whoever reads them wipes them.
type Keys struct {
	// Layout is the directory.
	Layout Layout
	// Unlock opens the private keys in it.
	Unlock idfile.Unlock
	// Root is the public half of the root identity, after ReadRoot.
	Root identity.Public
	// Audit is the key of the audit log, after OpenAudit.
	Audit *identity.Private
}

// ReadRoot reads the root identity.
func (k *Keys) ReadRoot() (err error) {
	if k.Root, err = identity.ReadPublicFile(k.Layout.RootPublic()); err != nil {
		return fmt.Errorf("root identity: %w", err)
	}
	return nil
}

// OpenAudit opens the audit log's key.
func (k *Keys) OpenAudit() (err error) {
	if k.Audit, err = idfile.Read(k.Layout.AuditKey(), k.Unlock); err != nil {
		return fmt.Errorf("audit key: %w", err)
	}
	return nil
}

// AuditKeys are the keys whose audit log this is.
func (k *Keys) AuditKeys() []identity.Public { return []identity.Public{k.Audit.Public()} }

// OpenKeystore opens the key store.
func (k *Keys) OpenKeystore() (*keystore.Store, error) {
	kek, err := k.Layout.KEK(k.Unlock)
	if err != nil {
		return nil, err
	}
	defer kek.Wipe()
	return keystore.Open(k.Layout.Keystore(), kek)
}

// Wipe erases what was read.
func (k *Keys) Wipe() {
	if k.Audit != nil {
		k.Audit.Wipe()
	}
	for _, b := range []*keybuf.Buffer{k.Unlock.Credential, k.Unlock.Passphrase} {
		b.Wipe()
	}
}
