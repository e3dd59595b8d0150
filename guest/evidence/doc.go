// Package evidence is what both ends say about a guest: the envelope that carries a hardware
// report, the claims that a guest makes about itself, the claims that an appraisal confirmed, the
// value that goes into REPORT_DATA, and the reason codes of refusals.
//
// It does no input or output. Every encoding is canonical (whatever parses encodes again to the
// same bytes, or is refused), every hash covers length-prefixed fields after a label, and a
// caller's own nonce can never yield a REPORT_DATA that the key release protocol would accept. The
// package trusts nothing. It refuses unknown versions, kinds and types, and anything above its
// named limits. Collectors, the broker and its client call it ([Envelope], [GuestClaims],
// [Binding]).
package evidence
