package fedwork

import (
	"fmt"

	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/he/rlwe"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

func dataInvalid(format string, args ...any) error {
	return refusal.New(fedtask.ReasonVector, format, args...)
}

// cipher encrypts blocks under a round's public key.
type cipher interface {
	values() int // in one block
	bytes() int  // of one block
	encrypt(dst []byte, values []int32) error
	wipe()
}

// opener decrypts blocks of a sum.
type opener interface {
	open(dst []int32, block []byte) error
	wipe()
}

// newCipher draws the randomness of one contribution here, and nowhere else.
func newCipher(r federation.Round) (cipher, error) {
	set, _, err := r.Parameters()
	if err != nil {
		return nil, err
	}
	switch set.ID {
	case params.Default:
		key, err := rlwe.ParsePublicKey(r.PublicKey)
		if err != nil {
			return nil, taskInvalid("public key: %v", err)
		}
		seed, err := keybuf.Random(rlwe.SeedSize)
		if err != nil {
			return nil, err
		}
		defer seed.Wipe()
		enc, err := rlwe.NewEncryptor(key, seed)
		return leanCipher{enc}, err
	case params.Template, params.Threshold:
		return newSlotCipher(set, r.PublicKey)
	}
	return nil, fmt.Errorf("no cipher for parameter set %s", set.ID)
}

// newOpener makes the round's secret key from its seed.
func newOpener(r federation.Round, seed *keybuf.Buffer) (opener, error) {
	set, _, err := r.Parameters()
	if err != nil {
		return nil, err
	}
	switch set.ID {
	case params.Default:
		sk, pk, err := rlwe.Generate(seed)
		if err != nil {
			return nil, err
		}
		if string(pk.Bytes()) != string(r.PublicKey) {
			sk.Wipe()
			return nil, taskInvalid("the secret key does not belong to the round's public key")
		}
		return leanOpener{sk, rlwe.NewDecryptor(sk)}, nil
	case params.Template:
		return newSlotOpener(set, r.PublicKey, seed)
	}
	return nil, fmt.Errorf("no opener for parameter set %s", set.ID)
}

// leanCipher is the default set: integers stand in the coefficients.
type leanCipher struct{ *rlwe.Encryptor }

func (leanCipher) values() int                                { return rlwe.BlockValues }
func (leanCipher) bytes() int                                 { return rlwe.BlockBytes }
func (c leanCipher) encrypt(dst []byte, values []int32) error { return c.Encrypt(dst, values) }
func (c leanCipher) wipe()                                    { c.Wipe() }

type leanOpener struct {
	key *rlwe.SecretKey
	dec *rlwe.Decryptor
}

func (o leanOpener) open(dst []int32, block []byte) error { return o.dec.Decrypt(dst, block) }
func (o leanOpener) wipe()                                { o.key.Wipe() }
