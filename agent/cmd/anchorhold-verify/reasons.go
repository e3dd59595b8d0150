package main

import (
	"context"
	"errors"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/plonkverify"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// Reasons of a refusal.
const (
	// ReasonMalformed: not the canonical form of an envelope.
	ReasonMalformed refusal.Reason = "envelope-malformed"
	// ReasonKeyUnknown: no file holds the key that the envelope names.
	ReasonKeyUnknown refusal.Reason = "key-unknown"
	// ReasonKeyMalformed: the key's file is not a key, or not the one that its name says.
	ReasonKeyMalformed refusal.Reason = "key-malformed"
	// ReasonKeyUnregistered: no record says what the key is for.
	ReasonKeyUnregistered refusal.Reason = "key-unregistered"
	// ReasonKeyDevelopment: the key's maker could forge proofs.
	ReasonKeyDevelopment refusal.Reason = "key-development"
	// ReasonStatement: the statement is not one that the key's circuit proves.
	ReasonStatement refusal.Reason = "statement-mismatch"
	// ReasonModel: the statement is of another model than the one asked for.
	ReasonModel refusal.Reason = "model-mismatch"
	// ReasonProof: the proof does not prove the statement.
	ReasonProof refusal.Reason = "proof-invalid"
	// ReasonTimeout: the time was over before the answer was known.
	ReasonTimeout refusal.Reason = "timeout"
)

// refused gives an error of a key, a verifier or a statement its reason, and a hint where one
// helps.
func refused(err error) error {
	for _, r := range []struct {
		err    error
		reason refusal.Reason
		hint   string
	}{
		{context.DeadlineExceeded, ReasonTimeout, ""},
		{keyset.ErrUnknown, ReasonKeyUnknown, "; name its file or directory (--vk)"},
		{keyset.ErrChanged, ReasonKeyMalformed, ""}, {keyset.ErrKey, ReasonKeyMalformed, ""},
		{keyset.ErrUnregistered, ReasonKeyUnregistered, "; name its record (--record), or accept the key without one (--allow-unregistered)"},
		{keyset.ErrDevelopment, ReasonKeyDevelopment, ": its maker can forge proofs (--allow-development accepts it)"},
		{keyset.ErrSystem, ReasonMalformed, ""},
		{groth16verify.ErrProof, ReasonProof, ""}, {plonkverify.ErrProof, ReasonProof, ""},
		{groth16verify.ErrMismatch, ReasonStatement, ""}, {plonkverify.ErrMismatch, ReasonStatement, ""}, {statement.ErrMismatch, ReasonStatement, ""},
		{statement.ErrMalformed, ReasonMalformed, ""},
	} {
		if errors.Is(err, r.err) {
			return refusal.New(r.reason, "%w%s", err, r.hint)
		}
	}
	return err
}
