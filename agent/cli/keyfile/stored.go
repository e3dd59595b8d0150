package keyfile

import (
	"fmt"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// The words of secrets that are stored at a broker.
const (
	storedTooLong = "%s holds %d bytes; what a guest is sent has at most %d"
	storedNoModel = "%s is for no model: what is below secrets/ and volumes/ is handed on to other services of a guest"
)

// Kinds of secrets: those that open models, and those that agents hand on to other services.
const (
	KindModelKey      = "model-key"
	KindServiceSecret = "service-secret"
)

// Stored says what is to be stored at a broker.
type Stored struct {
	// Name is the resource's.
	Name string
	// Kind is stated, or empty and follows from the name.
	Kind string
	// ForModel says that a model is named beside it, and Opens that its sealed file is, which
	// a model key alone can open.
	ForModel, Opens bool
}

// Read reads it from a file, and returns its kind, also with an error of the file.
func (s Stored) Read(path string) (secret *keybuf.Buffer, kind string, err error) {
	handed := protocol.ForServices(s.Name)
	switch {
	case handed && s.ForModel:
		return nil, "", cli.Usage(fmt.Errorf(storedNoModel, s.Name))
	case s.Kind == "" && handed:
		s.Kind = KindServiceSecret
	case s.Kind == "":
		s.Kind = KindModelKey
	}
	if s.Opens || s.Kind == KindModelKey {
		secret, err = ReadModelKey(path)
		return secret, s.Kind, err
	}
	if secret, err = ReadSecret(path, false); err != nil {
		return nil, s.Kind, err
	}
	if n := secret.Len(); n > protocol.MaxKeyBytes {
		secret.Wipe()
		return nil, s.Kind, fmt.Errorf(storedTooLong, path, n, protocol.MaxKeyBytes)
	}
	return secret, s.Kind, nil
}
