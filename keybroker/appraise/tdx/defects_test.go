//go:build !release

package tdx

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/tdxsim"
)

// What go-tdx-guest gets wrong at the version of go.mod, as cases that are judged right here.
// TestEmulatedQuotesBesideGoTDXGuest shows that it does.

// TestEmulatedQuotesAreJudged: our column of the table.
func TestEmulatedQuotesAreJudged(t *testing.T) {
	for name, tc := range comparisons() {
		s := emulate(t, tc.o)
		c, err := s.verify()
		if (err != nil) != (tc.ours == "") || err == nil && c.TCB.Status != tc.ours {
			t.Errorf("%s: %s, %v, want %q", name, c.TCB.Status, err, tc.ours)
		}
	}
}

// contradicting are quotes of every kind with sizes that contradict each other, by what was changed.
func contradicting(tb testing.TB) map[string][]byte {
	type field struct{ at, bytes int }
	mutants, raw := map[string][]byte{}, map[string][]byte{}
	for _, g := range kinds {
		raw[fmt.Sprintf("version %d, body %d", g.Version, g.BodyType)] = emulate(tb, tdxsim.Options{Guest: g}).quote
	}
	for name, quote := range raw {
		end := 632
		fields := []field{}
		if binary.LittleEndian.Uint16(quote) == version5 {
			end += descriptorBytes + int(binary.LittleEndian.Uint32(quote[50:])) - 584
			fields = append(fields, field{50, 4})
		}
		certification := end + 4 + signatureBytes + rawKeyBytes
		inner := certification + 6 + qeReportBytes + signatureBytes
		fields = append(fields, field{end, 4}, field{certification, 2}, field{certification + 2, 4}, field{inner, 2}, field{inner + 2 + 32, 2}, field{inner + 2 + 32 + 2, 4})
		for _, f := range fields {
			for _, v := range []uint32{0, 1, 2, 7, 100, 0x7f, 0xff, 0xffff, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff} {
				mutant := bytes.Clone(quote)
				if f.bytes == 2 {
					binary.LittleEndian.PutUint16(mutant[f.at:], uint16(v))
				} else {
					binary.LittleEndian.PutUint32(mutant[f.at:], v)
				}
				if !bytes.Equal(mutant, quote) {
					mutants[fmt.Sprintf("%s: %#x in the %d bytes at %d", name, v, f.bytes, f.at)] = mutant
				}
			}
		}
	}
	return mutants
}

// D2: go-tdx-guest panics at some of them, which is an outage of whoever serves its verdicts.
func TestContradictingSizesAreRefused(t *testing.T) {
	mutants := contradicting(t)
	for name, quote := range mutants {
		if _, err := Parse(quote); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if len(mutants) < 200 {
		t.Errorf("%d mutants", len(mutants))
	}
}

// revokedDebug is a guest that nobody should believe.
func revokedDebug(attributes *uint64) tdxsim.Options {
	return tdxsim.Options{Guest: tdxsim.Guest{Attributes: attributes}, TCBInfo: tdxsim.TCBInfo{Levels: []tdxsim.Level{{Status: "Revoked"}}}}
}

// D3: without collateral go-tdx-guest accepts whatever is signed; here there is no such way.
func TestNothingIsAcceptedWithoutCollateral(t *testing.T) {
	debug := uint64(evidence.TDAttributeDebug)
	s := emulate(t, revokedDebug(&debug))
	q, err := Parse(s.quote)
	if err != nil {
		t.Fatal(err)
	}
	v, err := New(Options{MinimumEvaluationNumber: 1, Roots: s.roots})
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.Verify(q, nil, bound, s.now)
	wantReason(t, err, ReasonUnconfigured)
	_, err = v.Verify(q, NewSet(), bound, s.now)
	wantReason(t, err, ReasonCollateralMissing)
}

// oldRecovery has documents of an old TCB recovery.
func oldRecovery() tdxsim.Options {
	return tdxsim.Options{TCBInfo: tdxsim.TCBInfo{Document: tdxsim.Document{EvaluationNumber: 1}}}
}

// D4: go-tdx-guest knows no minimum.
func TestOldRecoveriesAreRefused(t *testing.T) {
	s := emulate(t, oldRecovery())
	s.minimum = 18
	_, err := s.verify()
	wantReason(t, err, ReasonEvaluationNumber)
}

// D8: go-tdx-guest's validation refuses a bit that it does not know, here it is a claim, so that a
// policy may name it; of version 5 it refuses every quote (D6).
func TestUnknownAttributesAreClaims(t *testing.T) {
	for _, bit := range []uint{27, 29, 40} {
		attributes := uint64(1)<<bit | evidence.TDAttributeSEPTVEDisable
		s := emulate(t, tdxsim.Options{Guest: tdxsim.Guest{Attributes: &attributes}})
		if got := s.claims(t).TDAttributes; got != attributes {
			t.Errorf("attributes %#x, want %#x", got, attributes)
		}
	}
}
