package fedwork

import (
	"errors"

	"github.com/anchorhold/anchorhold/crypto/heparams"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

func newSlotCipher(heparams.Set, []byte) (cipher, error) {
	return nil, errors.New("not yet")
}

func newSlotOpener(heparams.Set, []byte, *keybuf.Buffer) (opener, error) {
	return nil, errors.New("not yet")
}
