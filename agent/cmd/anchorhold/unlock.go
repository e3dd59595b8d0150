package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// minPassphrase is the fewest characters of a new passphrase. Whoever takes the file
// guesses offline, so it is what NIST SP 800-63B-4, 3.1.1.2, asks of a password alone.
const minPassphrase = 15

// unlockFlags say what protects a key file at rest.
type unlockFlags struct{ passphraseFile, credentialFile string }

func (u *unlockFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&u.passphraseFile, "passphrase-file", "", "file with the passphrase that protects the key at rest, of 15 characters or more for a new key (asked for at a terminal without)")
	c.Flags().StringVar(&u.credentialFile, "credential-file", "", "file with 32 random bytes or more that protect the key at rest, as systemd-creds would hand out")
}

// open reads the secret that the flags name, or asks for a passphrase.
func (u *unlockFlags) open(c *cobra.Command) (identity.Unlock, error) {
	switch {
	case u.passphraseFile != "" && u.credentialFile != "":
		return identity.Unlock{}, usageError{errors.New("give --passphrase-file or --credential-file, not both")}
	case u.credentialFile != "":
		secret, err := readSecretFile(u.credentialFile, false)
		if n := secret.Len(); err == nil && n < identity.MinCredentialBytes {
			secret.Wipe()
			return identity.Unlock{}, fmt.Errorf("%s holds %d bytes; a credential has %d random bytes or more (anchorhold keygen credential makes one)", u.credentialFile, n, identity.MinCredentialBytes)
		}
		return identity.Unlock{Credential: secret}, err
	case u.passphraseFile != "":
		secret, err := readSecretFile(u.passphraseFile, true)
		return identity.Unlock{Passphrase: secret}, err
	}
	secret, err := askPassphrase(c.ErrOrStderr())
	return identity.Unlock{Passphrase: secret}, err
}

// choose is open for a secret that will protect a new key: a passphrase that is soon
// guessed is refused. What protects an existing key is not judged.
func (u *unlockFlags) choose(c *cobra.Command) (identity.Unlock, error) {
	secret, err := u.open(c)
	if err != nil || secret.Passphrase == nil {
		return secret, err
	}
	if n := utf8.RuneCount(secret.Passphrase.Bytes()); n < minPassphrase {
		wipeUnlock(secret)
		return identity.Unlock{}, usageError{fmt.Errorf("a passphrase of %d characters is soon guessed: take %d or more, such as five random words, or --credential-file", n, minPassphrase)}
	}
	return secret, nil
}

// readModelKey reads a model key, and says which file is none.
func readModelKey(path string) (*keybuf.Buffer, error) {
	key, err := readSecretFile(path, false)
	if err != nil {
		return nil, err
	}
	if n := key.Len(); n != chunkseal.KeySize {
		key.Wipe()
		return nil, fmt.Errorf("%s holds %d bytes and is no model key: a model key has %d (anchorhold keygen model makes one)", path, n, chunkseal.KeySize)
	}
	return key, nil
}

// readSecretFile reads a small secret into locked memory; of text, without the
// line's end.
func readSecretFile(path string, text bool) (*keybuf.Buffer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return nil, err
	}
	defer keybuf.Wipe(data)
	if text {
		data = []byte(strings.TrimRight(string(data), "\r\n"))
	}
	if len(data) == 0 {
		return nil, fmt.Errorf("%s is empty", path)
	}
	return keybuf.Take(data)
}

func askPassphrase(prompt io.Writer) (*keybuf.Buffer, error) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return nil, usageError{errors.New("there is no terminal to ask for a passphrase: give --passphrase-file or --credential-file")}
	}
	fmt.Fprint(prompt, "Passphrase: ")
	data, err := term.ReadPassword(fd)
	fmt.Fprintln(prompt)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 {
		return nil, errors.New("an empty passphrase protects nothing")
	}
	return keybuf.Take(data)
}

func wipeUnlock(u identity.Unlock) {
	u.Passphrase.Wipe()
	u.Credential.Wipe()
}
