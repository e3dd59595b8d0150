package oracletest

import (
	"testing"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// EventLogRequest is a log with the registers that a quote has.
type EventLogRequest struct {
	Log       []byte
	CCEL      bool // registers are RTMRs; otherwise PCRs
	SHA256    bool // the bank of PCRs; otherwise SHA-384
	Registers map[int]evidence.Hex
}

// EventLogAnswer is what go-eventlog reads. Each error is empty if there is none; no claims are
// read from a log that does not lead to the registers.
type EventLogAnswer struct {
	Replay, SecureBootErr, AppsErr string
	SecureBoot                     bool
	Apps                           [][]byte // digests of the programs that firmware started
}

// EventLog is what go-eventlog says.
func (o *Oracle) EventLog(tb testing.TB, r EventLogRequest) (a EventLogAnswer) {
	tb.Helper()
	o.ask(tb, Request{EventLog: &r}, &a)
	return a
}
