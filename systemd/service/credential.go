package service

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// MaxCredentialBytes bounds one credential; the service manager's own limit.
const MaxCredentialBytes = 1 << 20

const maxCredentialName = 64

// ErrNoCredential means that there is no credential of that name, or none at all.
var ErrNoCredential = errors.New("no such systemd credential")

// Credential reads a credential of this service from $CREDENTIALS_DIRECTORY. It reads only a
// regular file directly in it, not a link or a pipe. The caller wipes the result.
func Credential(name string) ([]byte, error) {
	if !plainName(name) {
		return nil, fmt.Errorf("credential name %q is refused: want letters, digits, dots, hyphens and underscores, at most %d, and no leading dot", name, maxCredentialName)
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return nil, fmt.Errorf("%w: %s (this process has no credentials: under systemd, set LoadCredentialEncrypted= in the unit; by hand, set CREDENTIALS_DIRECTORY to the directory that holds it)", ErrNoCredential, name)
	}
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("the credentials directory %q is not an absolute path", dir)
	}
	// O_NONBLOCK: a pipe in the place of a file must not hold the daemon.
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNoCredential, name)
	}
	if err != nil {
		return nil, fmt.Errorf("read credential %s: %w", name, err)
	}
	defer f.Close()
	return readCredential(f, name)
}

func readCredential(f *os.File, name string) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read credential %s: %w", name, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("credential %s is not a regular file", name)
	}
	if info.Size() < 1 || info.Size() > MaxCredentialBytes {
		return nil, fmt.Errorf("credential %s has %d bytes; want 1 to %d", name, info.Size(), MaxCredentialBytes)
	}
	// One buffer of the right size: growing would leave copies behind.
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		clear(data)
		return nil, fmt.Errorf("read credential %s: %w", name, err)
	}
	return data, nil
}

func plainName(name string) bool {
	if name == "" || len(name) > maxCredentialName || name[0] == '.' {
		return false
	}
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}
