// Package evidence is what both ends say about a guest: the envelope that
// carries a hardware report, the claims that a guest makes of itself, the
// claims that an appraisal found true, the value that goes into REPORT_DATA,
// and the reason codes of refusals.
//
// It does no input or output. It guarantees that every encoding is canonical
// (what parses re-encodes to the same bytes, or is refused), that every hash
// covers length-prefixed fields behind a label, and that a caller's own nonce
// can never yield a REPORT_DATA that the key release protocol would accept. It
// trusts nothing. It refuses unknown versions, kinds and types, and anything
// over its named limits. Collectors, the broker and its client call it.
package evidence
