// Package keyfile reads the secrets and identities that a command line names: passphrases,
// credentials, model keys and public keys.
//
// Secrets are read from files or a terminal into locked memory, never from the command line
// itself; the caller wipes them.
package keyfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/spf13/cobra"
)

// The words of the flags that name secrets.
const (
	flagPassphraseFile     = "file with the passphrase that protects the key at rest, at least 15 characters for a new key (prompts if omitted)"
	flagCredentialFile     = "file with at least 32 random bytes that protect the key at rest, such as a systemd credential"
	unlockTwice            = "give --passphrase-file or --credential-file, not both"
	credentialTooShort     = "%s holds %d bytes; a credential has at least %d random bytes (anchorhold keygen credential makes one)"
	passphraseTooShort     = "the passphrase is too easy to guess: length %d, want at least %d characters; use five random words, or --credential-file"
	flagRootPassphraseFile = "file with a separate passphrase for the root key"
	flagRootCredentialFile = "file with a separate credential for the root key"
	flagRootPassphrase     = "prompt for a separate passphrase for the root key"
	rootUnlockTwice        = "give --root-passphrase or a file, not both"
	rootPrompt             = "Root key. "
	rootUnlockFailed       = "the root key's separate protection: %w"
	rootUnlockShared       = "the root key's passphrase or credential is the same as the broker's: whoever has one opens both"
	modelKeyWrongSize      = "%s holds %d bytes and is not a model key: a model key has %d bytes (anchorhold keygen model makes one)"
	secretEmpty            = "%s is empty"
	secretTooLong          = "%s is too long for a secret: the limit is %d bytes"
)

// maxSecretBytes is what the broker's key store takes.
const maxSecretBytes = 64 << 10

// MinPassphrase is the fewest characters of a new passphrase. Whoever takes the file
// guesses offline, so it is what NIST SP 800-63B-4, 3.1.1.2, asks of a password alone.
const MinPassphrase = 15

// Unlock holds the flags that say what protects a key file at rest.
type Unlock struct{ passphraseFile, credentialFile string }

// Add adds the flags.
func (u *Unlock) Add(c *cobra.Command) {
	c.Flags().StringVar(&u.passphraseFile, "passphrase-file", "", flagPassphraseFile)
	c.Flags().StringVar(&u.credentialFile, "credential-file", "", flagCredentialFile)
}

// Open reads the secret that the flags name, or asks for a passphrase.
func (u *Unlock) Open(ctx context.Context, prompt io.Writer) (idfile.Unlock, error) {
	switch {
	case u.passphraseFile != "" && u.credentialFile != "":
		return idfile.Unlock{}, cli.Usage(errors.New(unlockTwice))
	case u.credentialFile != "":
		secret, err := ReadSecret(u.credentialFile, false)
		if n := secret.Len(); err == nil && n < idfile.MinCredentialBytes {
			secret.Wipe()
			return idfile.Unlock{}, fmt.Errorf(credentialTooShort, u.credentialFile, n, idfile.MinCredentialBytes)
		}
		return idfile.Unlock{Credential: secret}, err
	case u.passphraseFile != "":
		secret, err := ReadSecret(u.passphraseFile, true)
		return idfile.Unlock{Passphrase: secret}, err
	}
	secret, err := askPassphrase(ctx, prompt)
	return idfile.Unlock{Passphrase: secret}, err
}

// Choose is [Unlock.Open] for the secret of a new key: a passphrase that is too easy to guess
// is refused. The secret of an existing key is not judged.
func (u *Unlock) Choose(ctx context.Context, prompt io.Writer) (idfile.Unlock, error) {
	secret, err := u.Open(ctx, prompt)
	if err != nil || secret.Passphrase == nil {
		return secret, err
	}
	if n := utf8.RuneCount(secret.Passphrase.Bytes()); n < MinPassphrase {
		Wipe(secret)
		return idfile.Unlock{}, cli.Usage(fmt.Errorf(passphraseTooShort, n, MinPassphrase))
	}
	return secret, nil
}

// RootUnlock says what protects a root key apart from the broker's keys.
type RootUnlock struct {
	files Unlock
	ask   bool
}

// Add adds the flags.
func (r *RootUnlock) Add(c *cobra.Command) {
	c.Flags().StringVar(&r.files.passphraseFile, "root-passphrase-file", "", flagRootPassphraseFile)
	c.Flags().StringVar(&r.files.credentialFile, "root-credential-file", "", flagRootCredentialFile)
	c.Flags().BoolVar(&r.ask, "root-passphrase", false, flagRootPassphrase)
}

// Choose is what protects the root key; apart says whether that is not the broker's.
func (r *RootUnlock) Choose(ctx context.Context, prompt io.Writer, broker idfile.Unlock) (u idfile.Unlock, apart bool, err error) {
	named := r.files != Unlock{}
	switch {
	case named && r.ask:
		return u, false, cli.Usage(errors.New(rootUnlockTwice))
	case !named && !r.ask:
		return broker, false, nil
	case r.ask:
		fmt.Fprint(prompt, rootPrompt)
	}
	if u, err = r.files.Choose(ctx, prompt); err != nil {
		return u, false, fmt.Errorf(rootUnlockFailed, err)
	}
	if opens := secretOf(u); opens.Equal(secretOf(broker)) {
		Wipe(u)
		return idfile.Unlock{}, false, cli.Usage(errors.New(rootUnlockShared))
	}
	return u, true, nil
}

// secretOf is the one secret of the two.
func secretOf(u idfile.Unlock) *keybuf.Buffer {
	if u.Passphrase != nil {
		return u.Passphrase
	}
	return u.Credential
}

// ReadModelKey reads a model key; the error of a file that is not one names it.
func ReadModelKey(path string) (*keybuf.Buffer, error) {
	key, err := ReadSecret(path, false)
	if err != nil {
		return nil, err
	}
	if n := key.Len(); n != chunkseal.KeySize {
		key.Wipe()
		return nil, fmt.Errorf(modelKeyWrongSize, path, n, chunkseal.KeySize)
	}
	return key, nil
}

// ReadSecret reads a small secret into locked memory; of text, without the
// line's end.
func ReadSecret(path string, text bool) (*keybuf.Buffer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	if err != nil {
		return nil, err
	}
	defer keybuf.Wipe(data)
	if len(data) > maxSecretBytes { // a part of a secret is another secret
		return nil, fmt.Errorf(secretTooLong, path, maxSecretBytes)
	}
	if text {
		data = []byte(strings.TrimRight(string(data), "\r\n"))
	}
	if len(data) == 0 {
		return nil, fmt.Errorf(secretEmpty, path)
	}
	return keybuf.Take(data)
}

// Wipe wipes whichever secret is there.
func Wipe(u idfile.Unlock) {
	u.Passphrase.Wipe()
	u.Credential.Wipe()
}
