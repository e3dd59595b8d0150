package valuefile

import "github.com/anchorhold/anchorhold/crypto/refusal"

// Reasons of this package.
const (
	// ReasonForm: the bytes are of no form that this version knows.
	ReasonForm refusal.Reason = "value-file-unknown"
	// ReasonMalformed: the form is known, and the bytes are not in it.
	ReasonMalformed refusal.Reason = "value-file-malformed"
	// ReasonSize: the file, or a number of things in it, is above a limit.
	ReasonSize refusal.Reason = "value-file-too-large"
	// ReasonUnsupported: the file depends on something that this version does not know.
	ReasonUnsupported refusal.Reason = "value-file-unsupported"
	// ReasonUnsigned: the file is not signed, and nobody accepted that in writing.
	ReasonUnsigned refusal.Reason = "value-file-unsigned"
	// ReasonSigner: the file is signed, and by none of the keys or roots that were given.
	ReasonSigner refusal.Reason = "value-file-signer"
	// ReasonSignature: the signature does not verify.
	ReasonSignature refusal.Reason = "value-file-signature"
	// ReasonPeriod: the file is not valid yet, or not any more.
	ReasonPeriod refusal.Reason = "value-file-not-valid"
	// ReasonEmpty: the file holds no measurement of a kind of evidence that is judged here.
	ReasonEmpty refusal.Reason = "value-file-empty"
)
