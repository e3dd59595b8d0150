// Package scalars hands field elements to gnark-crypto, for provers and verifiers, which compute
// with that library's own type. Code that only commits and makes statements, such as the agent's,
// does not import it.
package scalars

import (
	"fmt"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"

	"github.com/anchorhold/anchorhold/crypto/zk/poseidon2"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// Of returns the same numbers, in the same order.
func Of(list []poseidon2.Element) ([]fr.Element, error) {
	out := make([]fr.Element, len(list))
	for i, e := range list {
		b := e.Bytes()
		if err := out[i].SetBytesCanonical(b[:]); err != nil {
			return nil, fmt.Errorf("scalars: %w", err) // the moduli differ
		}
	}
	return out, nil
}

// Public returns a statement's public inputs.
func Public(s *statement.Statement) ([]fr.Element, error) {
	list, err := s.PublicInputs()
	if err != nil {
		return nil, err
	}
	return Of(list)
}
