package collateral

import "github.com/anchorhold/anchorhold/crypto/refusal"

// Reasons of this package and of those below it.
const (
	// ReasonKey: a key names no document that exists: another kind, product, length or form.
	ReasonKey refusal.Reason = "collateral-key"
	// ReasonMalformed: a document, file or answer is not in the form that its kind has.
	ReasonMalformed refusal.Reason = "collateral-malformed"
	// ReasonTooLarge: an answer or a file is larger than its kind may be.
	ReasonTooLarge refusal.Reason = "collateral-too-large"
	// ReasonSource: a URL is not https, carries a user, query or fragment, or redirects to another host.
	ReasonSource refusal.Reason = "collateral-source"
	// ReasonUnavailable: the source did not answer, or answered with an error.
	ReasonUnavailable refusal.Reason = "collateral-unavailable"
	// ReasonUnknown: the source has no such document.
	ReasonUnknown refusal.Reason = "collateral-unknown"
	// ReasonBusy: too many requests wait for the source already.
	ReasonBusy refusal.Reason = "collateral-busy"
	// ReasonMismatch: the document is about another chip, version, product or platform than asked.
	ReasonMismatch refusal.Reason = "collateral-mismatch"
	// ReasonUnverifiable: nobody said how to verify documents of this kind.
	ReasonUnverifiable refusal.Reason = "collateral-unverifiable"
	// ReasonSignature: the document is not signed by the vendor's pinned root.
	ReasonSignature refusal.Reason = "collateral-signature"
	// ReasonRollback: the document is older than the one that is kept.
	ReasonRollback refusal.Reason = "collateral-rollback"
	// ReasonConflict: the document differs from the kept one of the same number and date.
	ReasonConflict refusal.Reason = "collateral-conflict"
	// ReasonStale: the document ended, and no grace is in force.
	ReasonStale refusal.Reason = "collateral-stale"
	// ReasonMissing: the document is not kept, and is not fetched here.
	ReasonMissing refusal.Reason = "collateral-missing"
	// ReasonFull: as many documents are kept as may be.
	ReasonFull refusal.Reason = "collateral-full"
	// ReasonBundle: a bundle is malformed, or its contents are not those of its list.
	ReasonBundle refusal.Reason = "collateral-bundle"
	// ReasonBundleSigner: a bundle is signed by nobody who is trusted to.
	ReasonBundleSigner refusal.Reason = "collateral-bundle-signer"
)
