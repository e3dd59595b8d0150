package scalars

import (
	"errors"
	"math/big"
	"slices"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"

	"github.com/anchorhold/anchorhold/crypto/zk/poseidon2"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

func TestNumbersStayTheSame(t *testing.T) {
	last := fr.Element{}
	last.SetBigInt(new(big.Int).Sub(fr.Modulus(), big.NewInt(1)))
	want := []fr.Element{fr.NewElement(0), fr.NewElement(1), fr.NewElement(1<<64 - 1), last}
	got, err := Of([]poseidon2.Element{{}, poseidon2.FromUint64(1), poseidon2.FromUint64(1<<64 - 1), poseidon2.FromInt64(-1)})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
}

func TestPublicInputsOfAStatement(t *testing.T) {
	s := &statement.Statement{System: statement.Groth16, Gradient: &statement.Gradient{Coordinates: 3, LInf: 5, SquaredL2: 75}}
	got, err := Public(s)
	if err != nil || len(got) != 4 || got[1] != fr.NewElement(5) || got[2] != fr.NewElement(75) {
		t.Errorf("got %v (%v)", got, err)
	}
	s.Gradient.LInf = 0
	if _, err := Public(s); !errors.Is(err, statement.ErrMalformed) {
		t.Errorf("of a malformed statement: %v", err)
	}
}
