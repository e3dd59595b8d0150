package evidencefile

import "github.com/anchorhold/anchorhold/crypto/refusal"

// Reasons of this package.
const (
	// ReasonForm: the bytes are of no form that this version knows.
	ReasonForm refusal.Reason = "evidence-form-unknown"
	// ReasonMalformed: the form is known, and the bytes are not in it.
	ReasonMalformed refusal.Reason = "evidence-file-malformed"
	// ReasonSize: a file, or a number of files, is above a limit.
	ReasonSize refusal.Reason = "evidence-file-too-large"
	// ReasonNone: no file holds evidence.
	ReasonNone refusal.Reason = "evidence-missing"
	// ReasonSeveral: the files hold evidence of more than one guest, or parts that do not go together.
	ReasonSeveral refusal.Reason = "evidence-ambiguous"
)
