package publication

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/signednote"
)

// originPrefix begins every signed statement, and keeps it apart from other notes of the same key.
const originPrefix = "anchorhold/values/"

// Origin returns the name of a publisher: the first line of its statements, and the name on their signature lines.
func Origin(publisher identity.Public) string { return originPrefix + idOf(publisher.ID()) }

// PublisherID is a publisher in the words of its statements: the id of its key, which "anchorhold keygen publisher" prints
// with the key.
func PublisherID(publisher identity.Public) string { return idOf(publisher.ID()) }

// SaysPublisher is the publisher's id in the first line of a file, for people. Nothing is verified.
func SaysPublisher(file []byte) string {
	line, _, _ := bytes.Cut(file, []byte("\n"))
	id := bytes.TrimPrefix(line, []byte(originPrefix))
	return string(id[:min(len(id), hex.EncodedLen(sha256.Size))])
}

// Is says whether a file begins as a signed statement does. Nothing is verified.
func Is(file []byte) bool { return bytes.HasPrefix(file, []byte(originPrefix)) }

// Sign signs a statement.
func Sign(publisher signednote.Signer, s *Statement) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	body, err := s.marshal()
	if err != nil {
		return nil, err
	}
	origin := Origin(publisher.Public())
	signed, err := signednote.Sign(publisher, origin, append([]byte(origin+"\n"), body...))
	if err == nil && len(signed) > MaxBytes {
		err = invalid("the signed file has %d bytes, want at most %d: make several", len(signed), MaxBytes)
	}
	return signed, err
}

// Open verifies a signed statement of the publisher. It returns nothing of one that does not verify.
func Open(signed []byte, publisher identity.Public) (*Statement, error) {
	if len(signed) > MaxBytes {
		return nil, invalid("got %d bytes, want at most %d", len(signed), MaxBytes)
	}
	unverified, err := signednote.Unverified(signed, maxLines)
	if err != nil {
		return nil, invalid("%w", err)
	}
	origin, _, _ := strings.Cut(unverified, "\n")
	switch want := Origin(publisher); {
	case !strings.HasPrefix(origin, originPrefix):
		return nil, invalid("the note is for %q: it is no statement of values", origin)
	case origin != want:
		return nil, refusal.New(ReasonPublisher, "the statement is by %q, want %q", origin, want)
	}
	verified, err := signednote.Open(signed, origin, publisher)
	if err != nil {
		return nil, invalid("%w", err)
	}
	return parse([]byte(strings.TrimPrefix(verified, origin+"\n")))
}
