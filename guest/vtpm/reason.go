package vtpm

import "github.com/anchorhold/anchorhold/crypto/refusal"

// Reasons of this package; those of package device are the queue's.
const (
	// ReasonNoTPM: this guest has no TPM, or this user may not use it.
	ReasonNoTPM refusal.Reason = "tpm-absent"
	// ReasonDevice: the TPM or the kernel refused, or returned something else than asked for.
	ReasonDevice refusal.Reason = "tpm-failed"
)
