package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// unlockFlags say what protects a key file at rest.
type unlockFlags struct{ passphraseFile, credentialFile string }

func (u *unlockFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&u.passphraseFile, "passphrase-file", "", "file with the passphrase that protects the key at rest (asked for at a terminal without)")
	c.Flags().StringVar(&u.credentialFile, "credential-file", "", "file with 32 random bytes or more that protect the key at rest, as systemd-creds would hand out")
}

// open reads the secret that the flags name, or asks for a passphrase.
func (u *unlockFlags) open(c *cobra.Command) (identity.Unlock, error) {
	switch {
	case u.passphraseFile != "" && u.credentialFile != "":
		return identity.Unlock{}, usageError{errors.New("give --passphrase-file or --credential-file, not both")}
	case u.credentialFile != "":
		secret, err := readSecretFile(u.credentialFile, false)
		return identity.Unlock{Credential: secret}, err
	case u.passphraseFile != "":
		secret, err := readSecretFile(u.passphraseFile, true)
		return identity.Unlock{Passphrase: secret}, err
	}
	secret, err := askPassphrase(c.ErrOrStderr())
	return identity.Unlock{Passphrase: secret}, err
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

// writeNew writes a file that must not exist yet.
func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}
