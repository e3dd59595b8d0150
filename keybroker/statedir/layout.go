// Package statedir makes a broker's state directory and names the files in it.
//
// Make replaces nothing and leaves the private half of the root key to its caller. Check
// refuses a directory that others may read. The broker's daemon runs on the directory;
// "anchorhold keygen broker" makes it without linking the daemon.
package statedir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// Layout names the files of a state directory. Only what is marked public may
// be read by others; the directory has mode 0700.
type Layout string

// RootPublic is the public half of the root identity. The private half is not here.
func (l Layout) RootPublic() string { return filepath.Join(string(l), "root.pub") }

// AuditKey is the key that signs the audit log's checkpoints.
func (l Layout) AuditKey() string { return filepath.Join(string(l), "audit.key") }

// AuditPublic is its public half.
func (l Layout) AuditPublic() string { return filepath.Join(string(l), "audit.pub") }

// Certificate is the TLS certificate (PEM), TLSKey its private key.
func (l Layout) Certificate() string { return filepath.Join(string(l), "tls.crt") }

// TLSKey is the private key of Certificate (PEM).
func (l Layout) TLSKey() string { return filepath.Join(string(l), "tls.key") }

// Epochs holds an encrypted key and a signed statement for each epoch.
func (l Layout) Epochs() string { return filepath.Join(string(l), "epochs") }

// EpochFloor is the statement with the highest minimum of all that were ever held.
func (l Layout) EpochFloor() string { return filepath.Join(string(l), "epoch.floor") }

// Keystore holds the secrets, sealed.
func (l Layout) Keystore() string { return filepath.Join(string(l), "keystore.db") }

// Rounds holds the federated rounds and their privacy ledger.
func (l Layout) Rounds() string { return filepath.Join(string(l), "rounds.db") }

// Proofs holds registered keys, announced receipts, challenges and proofs.
func (l Layout) Proofs() string { return filepath.Join(string(l), "proofs.db") }

// Volumes is the store of volumes' generations.
func (l Layout) Volumes() string { return filepath.Join(string(l), "volumes.db") }

// Ended names the agents and processors that get no key any more.
func (l Layout) Ended() string { return filepath.Join(string(l), "ended.json") }

// Salt belongs to the passphrase from which the key-encryption key is derived.
func (l Layout) Salt() string { return filepath.Join(string(l), "keystore.kdf") }

// Audit is the directory of the audit log.
func (l Layout) Audit() string { return filepath.Join(string(l), "audit") }

// Policies is the directory of policies and reference values.
func (l Layout) Policies() string { return filepath.Join(string(l), "policies") }

// EpochKey is the encrypted key of an epoch.
func (l Layout) EpochKey(n uint64) string {
	return filepath.Join(l.Epochs(), fmt.Sprintf("%08d.key", n))
}

// EpochStatement is what the root signed about an epoch.
func (l Layout) EpochStatement(n uint64) string {
	return filepath.Join(l.Epochs(), fmt.Sprintf("%08d.statement", n))
}

// Check refuses a state directory that others may look into.
func (l Layout) Check() error {
	st, err := os.Stat(string(l))
	if err != nil {
		return err
	}
	if !st.IsDir() || st.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("state directory %s has mode %#o; only its owner may have access (0700)", l, st.Mode().Perm())
	}
	return nil
}

// KEK derives the key-encryption key of the key store.
func (l Layout) KEK(u idfile.Unlock) (*keybuf.Buffer, error) {
	switch {
	case u.Credential != nil && u.Passphrase == nil:
		return keystore.CredentialKEK(u.Credential)
	case u.Passphrase != nil && u.Credential == nil:
		return keystore.PassphraseKEK(l.Salt(), u.Passphrase)
	}
	return nil, errors.New("exactly one of passphrase and credential is required to unlock the keys")
}

// Sweep deletes the unfinished files that a crash left, those of earlier versions among them.
// It runs while no other broker does on this state, and before anything is written.
func (l Layout) Sweep() error {
	errs := []error{disk.Sweep(string(l), l.Epochs(), l.Policies(), filepath.Join(l.Policies(), "*"))}
	for _, path := range []string{l.Ended(), l.EpochFloor()} {
		if err := os.Remove(path + ".new"); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
