package oracletest

import "testing"

// TDXDocuments are Intel's documents for one platform, as package tdx of our verifier has them.
type TDXDocuments struct {
	TCBInfo, TCBInfoChain, QEIdentity, QEIdentityChain, PCKCRL, PCKCRLChain, RootCRL []byte
}

// TDXRequest is a quote, judged at a time.
type TDXRequest struct {
	Quote []byte
	// Documents are nil for go-tdx-guest's default way, which asks for none.
	Documents *TDXDocuments
	RootsPEM  []byte // in place of Intel's
	Unix      int64
	Repeat    int
}

// TDXAnswer is empty where go-tdx-guest found nothing wrong. A panic is an error that begins so.
type TDXAnswer struct {
	Err  string
	Cost Cost
}

// TDX is what go-tdx-guest's verification says.
func (o *Oracle) TDX(tb testing.TB, r TDXRequest) (a TDXAnswer) {
	tb.Helper()
	o.ask(tb, Request{TDX: &r}, &a)
	return a
}

// TDXFields are of a quote as go-tdx-guest reads it: the report's bytes (of version 4 alone), and
// what its validation with no options says.
type TDXFields struct {
	Err, Validate string
	Body          []byte
}

// TDXFields parses a quote with go-tdx-guest.
func (o *Oracle) TDXFields(tb testing.TB, quote []byte) (f TDXFields) {
	tb.Helper()
	o.ask(tb, Request{TDXFields: quote}, &f)
	return f
}
