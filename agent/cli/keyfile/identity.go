package keyfile

import (
	"github.com/anchorhold/anchorhold/crypto/identity"
)

// LastEpoch ends the name of the file beside a root key that holds the last statement
// which it signed.
const LastEpoch = ".epoch"

// Publics reads identities that are given as text or by files.
func Publics(list []string) ([]identity.Public, error) {
	var out []identity.Public
	for _, r := range list {
		pub, err := Public(r)
		if err != nil {
			return nil, err
		}
		out = append(out, pub)
	}
	return out, nil
}

// Public reads an identity from its text form or from a file.
func Public(value string) (identity.Public, error) {
	var pub identity.Public
	if pub.UnmarshalText([]byte(value)) == nil {
		return pub, nil
	}
	return identity.ReadPublicFile(value)
}
