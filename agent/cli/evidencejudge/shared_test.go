package evidencejudge

import (
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli/evidencefile"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

func day(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 12, 0, 0, 0, time.UTC) }

// judge reads files and judges them.
func judge(tb testing.TB, o Options, collateral string, paths ...string) Verdict {
	tb.Helper()
	c, err := evidencefile.Open(paths, collateral)
	if err != nil {
		tb.Fatal(err)
	}
	v, err := Judge(tb.Context(), c, o)
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

// outcome is what became of a check; empty if it is not listed.
func (v Verdict) outcome(name string) Outcome {
	for _, c := range v.Checks {
		if c.Name == name {
			return c.Outcome
		}
	}
	return ""
}

// wantRefusal checks that exactly one check failed, for a reason, and that nothing was claimed.
func wantRefusal(tb testing.TB, v Verdict, check string, reason refusal.Reason) {
	tb.Helper()
	failed := 0
	for _, c := range v.Checks {
		if c.Outcome == Failed {
			failed++
		}
	}
	if v.Verified || v.Fresh || v.Claims != nil || v.Error == nil || v.Error.Reason != reason || v.outcome(check) != Failed || failed != 1 {
		tb.Errorf("got %+v, want a refusal %q of %s", v, reason, check)
	}
	if got, _ := refusal.ReasonOf(v.Refusal()); got != reason {
		tb.Errorf("the verdict's error is %v", v.Refusal())
	}
}
