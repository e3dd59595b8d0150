package eventlog

import "github.com/anchorhold/anchorhold/crypto/refusal"

// Reasons of this package.
const (
	// ReasonMalformed: the log is not in the format, is cut short, or has trailing content.
	ReasonMalformed refusal.Reason = "event-log-malformed"
	// ReasonLimit: the log, one of its events or their number is above a limit.
	ReasonLimit refusal.Reason = "event-log-limit"
	// ReasonUnverified: no verified register value was given that the log could be compared with.
	ReasonUnverified refusal.Reason = "event-log-unverified"
	// ReasonBank: the log has no digests of the algorithm of the verified values.
	ReasonBank refusal.Reason = "event-log-bank"
	// ReasonRegister: the replay of a register does not end at its verified value.
	ReasonRegister refusal.Reason = "event-log-register-mismatch"
	// ReasonType: a type of event that this version does not know.
	ReasonType refusal.Reason = "event-type-unknown"
	// ReasonDigest: the digest of an event does not cover the data beside it, and should.
	ReasonDigest refusal.Reason = "event-digest-mismatch"
	// ReasonSeparator: a separator that reports an error or is one too many, or an event behind
	// it that the firmware measures before it.
	ReasonSeparator refusal.Reason = "event-after-separator"
	// ReasonSecureBoot: the variable SecureBoot is malformed, measured twice, or not bounded by
	// a separator.
	ReasonSecureBoot refusal.Reason = "event-secure-boot"
)
