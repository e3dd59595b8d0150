//go:build !release

package tdx

import (
	"bytes"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/tdxsim"
	"github.com/anchorhold/anchorhold/packaging/oracletest"
)

// asked is a quote as a question to go-tdx-guest: with everything that it can check, or without
// documents in its default way.
func asked(quote []byte, d *Documents, rootsPEM []byte, now time.Time) oracletest.TDXRequest {
	return oracletest.TDXRequest{Quote: quote, Documents: (*oracletest.TDXDocuments)(d), RootsPEM: rootsPEM, Unix: now.Unix()}
}

// On real quotes go-tdx-guest agrees, but for those that it refuses because no level matches: here
// that is a claim.
func TestSamplesBesideGoTDXGuest(t *testing.T) {
	o := oracletest.Start(t)
	for _, s := range samples(t) {
		theirs := o.TDX(t, asked(s.quote, s.documents, nil, s.now)).Err
		t.Logf("%s: go-tdx-guest says %q", s.name, theirs)
		if accepted := s.documents == nil || s.want.Status == ok; accepted != (theirs == "") {
			t.Errorf("%s: go-tdx-guest says %q, we say %s", s.name, theirs, s.want.Status)
		}
	}
}

// On emulated quotes: what each says, and why they disagree.
func TestEmulatedQuotesBesideGoTDXGuest(t *testing.T) {
	o := oracletest.Start(t)
	for name, tc := range comparisons() {
		s := emulate(t, tc.o)
		theirs := o.TDX(t, asked(s.quote, &s.documents, s.rootsPEM, s.now)).Err
		if (theirs == "") != tc.google {
			t.Errorf("%s: go-tdx-guest says %q, want that it accepts it: %t", name, theirs, tc.google)
		}
		if agreed := tc.google == (tc.ours == ok); agreed != (tc.why == "") && !strings.HasPrefix(tc.why, "claim: ") {
			t.Errorf("%s: agreed is %v, and the table says %q", name, agreed, tc.why)
		}
		t.Logf("%s: theirs %q, ours %q (%s)", name, theirs, tc.ours, tc.why)
	}
}

// D2: it panics at some of the mutants that TestContradictingSizesAreRefused has.
func TestGoTDXGuestPanicsAtSizes(t *testing.T) {
	o, panics, mutants := oracletest.Start(t), 0, contradicting(t)
	for _, quote := range mutants {
		if strings.HasPrefix(o.TDX(t, asked(quote, nil, nil, simNow)).Err, "panic") {
			panics++
		}
	}
	if t.Logf("go-tdx-guest panics at %d of %d mutants", panics, len(mutants)); panics == 0 {
		t.Error("the row of the table of defects is out of date")
	}
}

// D3 and D4: what it accepts without collateral, or with that of an old recovery.
func TestGoTDXGuestAcceptsWhatIsSigned(t *testing.T) {
	o, debug := oracletest.Start(t), uint64(evidence.TDAttributeDebug)
	s := emulate(t, revokedDebug(&debug))
	if theirs := o.TDX(t, asked(s.quote, nil, s.rootsPEM, s.now)); theirs.Err != "" {
		t.Errorf("go-tdx-guest says %q", theirs.Err)
	}
	s = emulate(t, oldRecovery())
	if theirs := o.TDX(t, asked(s.quote, &s.documents, s.rootsPEM, s.now)); theirs.Err != "" {
		t.Errorf("go-tdx-guest says %q", theirs.Err)
	}
}

// D6 and D8: its validation knows no quote of version 5, and no attribute that is new.
func TestGoTDXGuestValidatesLess(t *testing.T) {
	o := oracletest.Start(t)
	for _, bit := range []uint{27, 29, 40} {
		attributes := uint64(1)<<bit | evidence.TDAttributeSEPTVEDisable
		if f := o.TDXFields(t, emulate(t, tdxsim.Options{Guest: tdxsim.Guest{Attributes: &attributes}}).quote); f.Err != "" || f.Validate == "" {
			t.Errorf("go-tdx-guest takes bit %d, %q", bit, f.Err)
		}
	}
	if f := o.TDXFields(t, emulate(t, tdxsim.Options{Guest: kinds[2]}).quote); !strings.Contains(f.Validate, "unsupported") {
		t.Errorf("go-tdx-guest says %q of version 5", f.Validate)
	}
}

// Fields mean the same to both.
func TestFieldsBesideGoTDXGuest(t *testing.T) {
	o := oracletest.Start(t)
	for _, s := range samples(t) {
		if strings.HasPrefix(s.name, "02-") { // another type there
			continue
		}
		q, err := Parse(s.quote)
		if err != nil {
			t.Fatal(err)
		}
		if theirs := o.TDXFields(t, s.quote); theirs.Err != "" || !bytes.Equal(theirs.Body, q.Body()) {
			t.Errorf("%s: %q", s.name, theirs.Err)
		}
	}
}

// disagreement is what dcap-qvl says where we say something else, and why: a part of its error, or
// its status.
type disagreement struct{ says, why string }

// sampleDisagreements are those on real quotes.
func sampleDisagreements() map[string]disagreement {
	return map[string]disagreement{
		"07-v4-debug-trustee":  {"Debug mode is enabled", "claim: its verification has a policy of its own"},
		"17-v4-entropy 1":      {"No matching TCB level", "claim: no level matches is a status, which no policy accepts unless it says so"},
		"17-v4-entropy 2":      {"No matching TCB level", "claim: the same"},
		"go-tdx-guest, SPR E4": {"No matching TCB level", "claim: the same"},
	}
}

// quoteDisagreements are those on emulated quotes.
func quoteDisagreements() map[string]disagreement {
	return map[string]disagreement{
		"D3, D6: debug, v4":              {"Debug mode is enabled", "claim: its verification has a policy of its own"},
		"D6: debug, v5":                  {"Debug mode is enabled", "claim: the same"},
		"D6: service trust domain":       {"Invalid MR service TD", "claim: the same"},
		"D7: without SEPT_VE_DISABLE":    {"SEPT_VE_DISABLE", "claim: the same"},
		"D1: platform revoked":           {"TCB status is invalid: Revoked", "claim: the status is for the policy to judge, and none can accept it"},
		"D6: module rolled back":         {"below minimum", "claim: no level matches is a status, which no policy accepts unless it says so"},
		"D4: lists from the future":      {"UpToDate", "it does not look at thisUpdate"},
		"QE report with a reserved byte": {"UpToDate", "it does not read reserved bytes"},
		"text behind the quote":          {"UpToDate", "it leaves what follows a quote unread, whatever that is"},
	}
}

// agrees compares a status of ours, "" for a refusal, with dcap-qvl's answer.
func agrees(t *testing.T, name string, ours evidence.TCBStatus, theirs oracletest.DCAPQVLAnswer, except map[string]disagreement) {
	t.Helper()
	t.Logf("%s: dcap-qvl says %s %q, we say %q (%s)", name, theirs.Status, theirs.Err, ours, except[name].why)
	d, disagree := except[name]
	switch same := theirs.Status == string(ours); {
	case !disagree && !same:
		t.Errorf("%s: dcap-qvl says %s %q, we say %q", name, theirs.Status, theirs.Err, ours)
	case disagree && (same || d.says != theirs.Status && (theirs.Err == "" || !strings.Contains(theirs.Err, d.says))):
		t.Errorf("%s: dcap-qvl says %s %q, the table says %q", name, theirs.Status, theirs.Err, d.says)
	}
}

// askedOfDCAPQVL is an emulated quote as a question, with the emulator's root.
func askedOfDCAPQVL(s scene) oracletest.DCAPQVLRequest {
	root, _ := pem.Decode(s.rootsPEM)
	return oracletest.DCAPQVLRequest{Quote: s.quote, RootDER: root.Bytes, Documents: oracletest.TDXDocuments(s.documents), Unix: s.now.Unix()}
}

func TestSamplesBesideDCAPQVL(t *testing.T) {
	list := samples(t)
	p := oracletest.StartDCAPQVL(t)
	for _, s := range list {
		if s.documents == nil {
			continue // it has no way to go without
		}
		agrees(t, s.name, s.want.Status, p.TDX(t, oracletest.DCAPQVLRequest{Quote: s.quote, Documents: oracletest.TDXDocuments(*s.documents), Unix: s.now.Unix()}), sampleDisagreements())
	}
}

func TestEmulatedQuotesBesideDCAPQVL(t *testing.T) {
	p := oracletest.StartDCAPQVL(t)
	for name, tc := range comparisons() {
		s := emulate(t, tc.o)
		agrees(t, name, tc.ours, p.TDX(t, askedOfDCAPQVL(s)), quoteDisagreements())
	}
}
