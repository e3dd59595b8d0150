package kinds

import "github.com/anchorhold/anchorhold/crypto/refusal"

// Reasons of this package; the others are those of the verifiers.
const (
	// ReasonKind: evidence of this kind, or a part of it, cannot be judged with this configuration.
	ReasonKind refusal.Reason = "evidence-kind-not-configured"
	// ReasonGPUParts: there are not as many GPU chains as GPU reports.
	ReasonGPUParts refusal.Reason = "gpu-chain-missing"
	// ReasonLogWithoutQuote: there is an event log, and nothing verified that it could lead to.
	ReasonLogWithoutQuote refusal.Reason = "event-log-without-quote"
)
