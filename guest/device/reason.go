package device

import "github.com/anchorhold/anchorhold/crypto/refusal"

// Reasons of the collectors of evidence.
const (
	// ReasonAbsent: this is not a guest of the wanted TEE, or its kernel does not offer its reports.
	ReasonAbsent refusal.Reason = "tee-absent"
	// ReasonFailed: the kernel, the firmware or the host could not make a report.
	ReasonFailed refusal.Reason = "tee-failed"
	// ReasonUnresponsive: a call into the kernel has not returned, and no other is made before
	// it does.
	ReasonUnresponsive refusal.Reason = "tee-unresponsive"
)
