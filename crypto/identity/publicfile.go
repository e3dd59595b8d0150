package identity

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// PrivateFileBegin is the first line of a file that keeps a private key, see idfile.
const PrivateFileBegin = "-----BEGIN ANCHORHOLD PRIVATE KEY-----\n"

// maxPublicFile is more than a file with the largest public identity has.
const maxPublicFile = 64 << 10

// ReadPublicFile reads a file with one identity's printable form, which idfile writes. It is
// here, so that a program that only reads public ones links nothing of private files.
func ReadPublicFile(path string) (Public, error) {
	f, err := os.Open(path)
	if err != nil {
		return Public{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPublicFile))
	if err != nil {
		return Public{}, err
	}
	if bytes.HasPrefix(data, []byte(PrivateFileBegin)) {
		return Public{}, fmt.Errorf("%s holds a private key; its public half is in the file that keygen wrote beside it, usually %[1]s.pub", path)
	}
	var p Public
	if err := p.UnmarshalText(bytes.TrimSuffix(data, []byte("\n"))); err != nil {
		return Public{}, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}
