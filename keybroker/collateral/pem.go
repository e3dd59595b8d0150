package collateral

import (
	"bytes"
	"encoding/pem"
	"unicode"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// maxChainLength is how many certificates a vendor's chain has at most.
const maxChainLength = 3

// Certificates reads a chain in PEM, one to three certificates and nothing else. Line ends and
// the zero byte with which some caches end it do not count.
func Certificates(text []byte) (list [][]byte, err error) {
	var read []byte
	for rest := text; len(list) <= maxChainLength; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		list = append(list, block.Bytes)
		read = append(read, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes})...)
	}
	// The decoder passes over text between the blocks.
	if len(list) == 0 || len(list) > maxChainLength || !bytes.Equal(squeeze(read), squeeze(bytes.TrimRight(text, "\x00"))) {
		return nil, refusal.New(ReasonMalformed, "want one to %d certificates in PEM and nothing else", maxChainLength)
	}
	return list, nil
}

// squeeze drops white space.
func squeeze(text []byte) []byte {
	return bytes.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, text)
}
