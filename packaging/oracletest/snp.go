package oracletest

import "testing"

// SNPRequest is evidence of SEV-SNP, judged at a time.
type SNPRequest struct {
	Report, VCEK, VLEK, ASK, ASVK, ARK []byte
	// Product and Roots replace AMD's authorities by those of a platform that a test made: the
	// product line's name, and in Roots that ASK, ASVK and ARK of this request are its roots.
	Product string
	Roots   bool
	// RootCRL asks for revocation to be checked against this list: fetched, or found in the cache
	// of the roots while there is no network.
	RootCRL   []byte
	CachedCRL bool
	Unix      int64 // 0: the time is left out
	Repeat    int
}

// SNPAnswer has an empty string for each step of go-sev-guest's that found nothing wrong. A panic
// is an error that begins so.
type SNPAnswer struct {
	Parse, Signature, Verify, Validate string
	TCB                                uint64 // of the VCEK, in Milan's and Genoa's layout
	HWID                               []byte
	Cost                               Cost
}

// Accepts needs both of its halves, verification and validation.
func (a SNPAnswer) Accepts() bool { return a.Verify == "" && a.Validate == "" }

// SNP is what go-sev-guest says.
func (o *Oracle) SNP(tb testing.TB, r SNPRequest) (a SNPAnswer) {
	tb.Helper()
	o.ask(tb, Request{SNP: &r}, &a)
	return a
}

// SNPFields are those of a report, as go-sev-guest reads them.
type SNPFields struct {
	Err                                                                    string
	GuestSVN, VMPL                                                         uint32
	Policy, Current, PlatformInfo, Reported, Committed, Launch             uint64
	FamilyID, ImageID, ReportData, Measurement, HostData                   []byte
	IDKeyDigest, AuthorKeyDigest, ReportID, ReportIDMigrationAgent, ChipID []byte
}

// SNPFields parses a report with go-sev-guest.
func (o *Oracle) SNPFields(tb testing.TB, report []byte) (f SNPFields) {
	tb.Helper()
	o.ask(tb, Request{SNPFields: report}, &f)
	return f
}
