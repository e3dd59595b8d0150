package tdx

import (
	"bytes"
	"encoding/hex"
	"path/filepath"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
)

// Short names of statuses in tables.
const (
	ok   = evidence.TCBUpToDate
	sw   = evidence.TCBSWHardeningNeeded
	conf = evidence.TCBConfigurationNeeded
	csw  = evidence.TCBConfigurationAndSWHardeningNeeded
	ood  = evidence.TCBOutOfDate
	oodc = evidence.TCBOutOfDateConfigurationNeeded
	unm  = evidence.TCBUnmatched
	rev  = evidence.TCBRevoked
	rel  = evidence.TCBRelaunchAdvised
	relc = evidence.TCBRelaunchAdvisedConfigurationNeeded
)

// sample is a real quote, and what it proves with the collateral that is at hand.
type sample struct {
	name      string
	quote     []byte
	documents *Documents // nil where none is at hand for the platform
	now       time.Time
	fmspc     string
	want      evidence.TDXTCB // Date and Advisories left out
	debug     bool
}

func samples(tb testing.TB) []sample {
	dir := evidencetest.Dir(tb)
	read := func(elem ...string) []byte { return readFile(tb, filepath.Join(append([]string{dir}, elem...)...)) }
	phala, tinfoil, module := phalaDocuments(tb), tinfoilDocuments(tb, "90c06f000000"), moduleDocuments(tb)
	july25, january26, february26, june23 := day(2025, time.July, 1), day(2026, time.January, 20), day(2026, time.February, 1), day(2023, time.July, 1)
	current := func(t evidence.TDXTCB) evidence.TDXTCB { t.Current = t.Status; return t }
	all := func(s evidence.TCBStatus) evidence.TDXTCB {
		return evidence.TDXTCB{Status: s, Platform: s, Module: ok, QE: ok}
	}
	return []sample{
		{"02-v5-google", read("tdx", "02-v5-google", "quote.bin"), &tinfoil, february26, "90c06f000000", current(all(ok)), false},
		{"03-v4-gcp-cos113", read("tdx", "03-v4-gcp-cos113", "quote.bin"), nil, july25, "00806f050000", evidence.TDXTCB{}, false},
		{"04-v4-phala", read("tdx", "04-v4-phala", "quote.bin"), &phala, july25, "b0c06f000000", all(ok), false},
		{"07-v4-debug-trustee", read("tdx", "07-v4-debug-trustee", "quote.bin"), &module, june23, "50806f000000", all(ok), true},
		{"17-v4-entropy 1", read("tdx", "17-v4-entropy", "quote1.bin"), &phala, july25, "b0c06f000000", all(unm), false},
		{"17-v4-entropy 2", read("tdx", "17-v4-entropy", "quote2.bin"), &phala, july25, "b0c06f000000", all(unm), false},
		{"azure/openpcc-tdx", read("azure", "openpcc-tdx", "quote.bin"), &tinfoil, january26, "90c06f000000", all(ok), false},
		{"go-tdx-guest, SPR E4", withoutTestText(moduleFile(tb, "tdx_prod_quote_SPR_E4.dat")), &module, june23, "50806f000000", evidence.TDXTCB{Status: unm, Platform: unm, Module: unm, QE: ok}, false},
	}
}

// withoutTestText takes a line off go-tdx-guest's sample that says to be for tests only.
func withoutTestText(quote []byte) []byte {
	before, _, _ := bytes.Cut(quote, []byte("\nextra bytes(only for testing purpose)"))
	return before
}

// readByTheGuest is the platform by which a guest expects its lease to name its processor.
func readByTheGuest(quote []byte) []byte {
	return evidence.Envelope{Kind: evidence.KindTDX, Parts: []evidence.Part{{Type: evidence.PartTDXQuote, Data: quote}}}.Chip()
}

func TestSamplesAreJudged(t *testing.T) {
	for _, s := range samples(t) {
		q, err := Parse(s.quote)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		v := intelVerifier(t)
		chain, id, err := v.chainOf(q.auth.chain)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		if own := readByTheGuest(s.quote); !bytes.Equal(own, chain.platform.instance) {
			t.Errorf("%s: the guest reads the platform %x, the broker %x", s.name, own, chain.platform.instance)
		}
		if got := hex.EncodeToString(chain.platform.fmspc[:]); got != s.fmspc {
			t.Errorf("%s: FMSPC %s, want %s", s.name, got, s.fmspc)
		}
		if s.documents == nil {
			// No document for this platform: all that is signed without one.
			t.Logf("%s: no collateral for its FMSPC %s at hand; chain, QE report and quote verify: %v", s.name, s.fmspc, v.checkSignatures(q, chain, id))
			wantReason(t, v.checkSignatures(q, chain, id), "")
			_, err = v.Verify(q, NewSet(), q.ReportData(), s.now)
			wantReason(t, err, ReasonCollateralMissing)
			continue
		}
		set := NewSet(mustCollateral(t, *s.documents, Roots{}))
		c, err := v.Verify(q, set, q.ReportData(), s.now)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		tcb := c.TCB
		t.Logf("%s: version %d, body %d, FMSPC %s, %s (platform %s, module %s, QE %s), of %s, number %d, %v", s.name, c.QuoteVersion, c.BodyType, c.FMSPC,
			tcb.Status, tcb.Platform, tcb.Module, tcb.QE, tcb.Date.Format(time.DateOnly), tcb.EvaluationNumber, tcb.Advisories)
		got := evidence.TDXTCB{Status: tcb.Status, Platform: tcb.Platform, Module: tcb.Module, QE: tcb.QE, Current: tcb.Current}
		if got.Status != s.want.Status || got.Platform != s.want.Platform || got.Module != s.want.Module || got.QE != s.want.QE || got.Current != s.want.Current {
			t.Errorf("%s: %+v, want %+v", s.name, got, s.want)
		}
		if debug := c.TDAttributes&evidence.TDAttributeDebug != 0; debug != s.debug || c.SoftwareTEE {
			t.Errorf("%s: debug %v, software %v", s.name, debug, c.SoftwareTEE)
		}
		for _, months := range []int{-1, 1} {
			if _, err := v.Verify(q, set, q.ReportData(), s.now.AddDate(0, months, 0)); err == nil {
				t.Errorf("%s: accepted %d months later", s.name, months)
			}
		}
		other := q.ReportData()
		other[63] ^= 1
		_, err = v.Verify(q, set, other, s.now)
		wantReason(t, err, ReasonReportData)
	}
}

func TestQuotesOfEnclavesAreRefusedByName(t *testing.T) {
	_, err := Parse(readFile(t, evidencetest.Dir(t), "tdx", "neg-sgx-v3", "quote.bin"))
	wantReason(t, err, ReasonTEEType)
}

// The sample of go-tdx-guest has a line of text behind it.
func TestTextBehindAQuoteIsRefused(t *testing.T) {
	_, err := Parse(moduleFile(t, "tdx_prod_quote_SPR_E4.dat"))
	wantReason(t, err, ReasonTrailing)
}

func TestSamplesDoNotDependOnTheirPadding(t *testing.T) {
	for _, s := range samples(t) {
		q, err := Parse(s.quote)
		if err != nil {
			t.Fatal(err)
		}
		bare, err := Parse(q.raw)
		if err != nil || bare.Digest() != q.Digest() {
			t.Errorf("%s: %v", s.name, err)
		}
		padding := len(s.quote) - len(q.raw)
		if padding > 0 {
			dirty := bytes.Clone(s.quote)
			dirty[len(q.raw)+padding/2] = 1
			_, err = Parse(dirty)
			wantReason(t, err, ReasonTrailing)
		}
	}
}

// PCS documents as they were served: both platforms and both authorities.
func TestRealCollateralIsVerified(t *testing.T) {
	for name, d := range map[string]Documents{"90c06f000000": tinfoilDocuments(t, "90c06f000000"), "00a06d080000": tinfoilDocuments(t, "00a06d080000"),
		"b0c06f000000": phalaDocuments(t), "50806f000000": moduleDocuments(t)} {
		c := mustCollateral(t, d, Roots{})
		if f := c.FMSPC(); hex.EncodeToString(f[:]) != name || c.CA() != PlatformCA {
			t.Errorf("%s: %x of the %s CA", name, f, c.CA())
		}
	}
	d := tinfoilDocuments(t, "90c06f000000")
	d.PCKCRL, d.PCKCRLChain = readFile(t, evidencetest.Dir(t), "tdx", "collateral-tinfoil", "pck_crl_processor.crl"), readFile(t, evidencetest.Dir(t), "tdx", "collateral-tinfoil", "pck_crl_processor_chain.txt")
	if c := mustCollateral(t, d, Roots{}); c.CA() != ProcessorCA {
		t.Errorf("the %s CA", c.CA())
	}
	d.PCKCRL = tinfoilDocuments(t, "90c06f000000").PCKCRL
	_, err := ParseCollateral(d, Roots{})
	wantReason(t, err, ReasonCollateralSignature)
}
