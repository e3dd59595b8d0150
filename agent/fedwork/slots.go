package fedwork

import (
	"math"

	"github.com/anchorhold/anchorhold/crypto/fedagg"
	"github.com/anchorhold/anchorhold/crypto/heparams"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

func slotParams(set heparams.Set) fedagg.Params {
	return fedagg.Params{LogN: set.LogN, Q: set.Q, P: set.P, LogScale: set.LogScale}
}

// slotCipher encrypts with the library, in the layout of SEAL and TenSEAL.
type slotCipher struct {
	enc    *fedagg.Encryptor
	params fedagg.Params
	buf    []float64
}

func newSlotCipher(set heparams.Set, public []byte) (cipher, error) {
	p := slotParams(set)
	enc, err := fedagg.NewEncryptor(p, public, fedagg.Real)
	if err != nil {
		return nil, taskInvalid("public key: %v", err)
	}
	return &slotCipher{enc, p, make([]float64, p.Values(fedagg.Real))}, nil
}

func (c *slotCipher) values() int { return len(c.buf) }
func (c *slotCipher) bytes() int  { return c.params.CiphertextBytes() }
func (c *slotCipher) wipe()       { c.enc.Wipe(); clear(c.buf) }

func (c *slotCipher) encrypt(dst []byte, values []int32) error {
	clear(c.buf[len(values):])
	for i, v := range values {
		c.buf[i] = float64(v) / heparams.SlotUnit
	}
	return c.enc.Encrypt(dst, c.buf)
}

// slotOpener decrypts and rounds to the grid at once.
type slotOpener struct {
	dec *fedagg.Decryptor
	buf []float64
}

func newSlotOpener(set heparams.Set, public []byte, seed *keybuf.Buffer) (opener, error) {
	p := slotParams(set)
	secret, made, err := fedagg.GenerateKey(p, seed)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe()
	if string(made) != string(public) {
		return nil, taskInvalid("the key is not this round's")
	}
	// A sum is at most one; two leave room for noise, and find another key.
	dec, err := fedagg.NewDecryptor(p, secret, fedagg.Real, 2)
	return &slotOpener{dec, make([]float64, p.Values(fedagg.Real))}, err
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
		dst[i] = int32(math.Round(v * heparams.SlotUnit))
	}
}
