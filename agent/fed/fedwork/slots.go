package fedwork

import (
	"math"

	"github.com/anchorhold/anchorhold/crypto/he/ckks"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

func slotParams(set params.Set) ckks.Params {
	return ckks.Params{LogN: set.LogN, Q: set.Q, P: set.P, LogScale: set.LogScale}
}

// slotCipher encrypts with the library, in the layout of SEAL and TenSEAL.
type slotCipher struct {
	enc    *ckks.Encryptor
	params ckks.Params
	buf    []float64
}

func newSlotCipher(set params.Set, public []byte) (cipher, error) {
	p := slotParams(set)
	enc, err := ckks.NewEncryptor(p, public, ckks.Real)
	if err != nil {
		return nil, taskInvalid("public key: %v", err)
	}
	return &slotCipher{enc, p, make([]float64, p.Values(ckks.Real))}, nil
}

func (c *slotCipher) values() int { return len(c.buf) }
func (c *slotCipher) bytes() int  { return c.params.CiphertextBytes() }
func (c *slotCipher) wipe()       { c.enc.Wipe(); clear(c.buf) }

func (c *slotCipher) encrypt(dst []byte, values []int32) error {
	clear(c.buf[len(values):])
	for i, v := range values {
		c.buf[i] = float64(v) / params.SlotUnit
	}
	return c.enc.Encrypt(dst, c.buf)
}

// slotOpener decrypts and rounds to the grid at once.
type slotOpener struct {
	dec *ckks.Decryptor
	buf []float64
}

func newSlotOpener(set params.Set, public []byte, seed *keybuf.Buffer) (opener, error) {
	p := slotParams(set)
	secret, made, err := ckks.GenerateKey(p, seed)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe()
	if string(made) != string(public) {
		return nil, taskInvalid("the secret key does not belong to the round's public key")
	}
	// A sum is at most one; two leave room for noise, and find another key.
	dec, err := ckks.NewDecryptor(p, secret, ckks.Real, 2)
	return &slotOpener{dec, make([]float64, p.Values(ckks.Real))}, err
}

func (o *slotOpener) wipe() { o.dec.Wipe(); clear(o.buf) }

func (o *slotOpener) open(dst []int32, block []byte) error {
	if err := o.dec.Decrypt(o.buf, block); err != nil {
		return err
	}
	toGrid(dst, o.buf)
	return nil
}

// toGrid rounds what slots hold to the grid.
func toGrid(dst []int32, values []float64) {
	for i, v := range values {
		dst[i] = int32(math.Round(v * params.SlotUnit))
	}
}
