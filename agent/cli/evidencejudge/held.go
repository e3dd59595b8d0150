package evidencejudge

import (
	"context"
	"slices"

	"github.com/anchorhold/anchorhold/agent/cli/evidencefile"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// relaxation is what is left aside to find out what else holds of evidence that was refused. Whatever the
// verifiers then find, the evidence stays refused.
type relaxation struct {
	freshness bool // its own nonce is taken
	lists     bool // AMD's lists are not asked
	logs      bool // without its event logs
	devices   bool // without its GPUs
	tpm       bool // without the TPM beside its processor, and that one's log
}

// removes reports whether parts are left out, which the binding of our own evidence would miss.
func (r relaxation) removes() bool { return r.logs || r.devices || r.tpm }

// of is the evidence without the parts that are left out.
func (r relaxation) of(e *evidencefile.Evidence) *evidencefile.Evidence {
	if !r.removes() {
		return e
	}
	rest := *e
	rest.Parts = slices.DeleteFunc(slices.Clone(e.Parts), func(p evidence.Part) bool {
		switch p.Type {
		case evidence.PartCCLog:
			return r.logs
		case evidence.PartTCGLog:
			return r.logs || r.tpm
		case evidence.PartGPUReport, evidence.PartGPUChain:
			return r.devices
		case evidence.PartTPMQuote, evidence.EndorsementAK:
			return r.tpm
		}
		return false
	})
	return &rest
}

// without is the relaxation that leaves the failed check aside as well; the same one if it cannot be.
func (j *judgement) without(failed string) relaxation {
	r := j.relaxed
	switch failed {
	case CheckFreshness:
		r.freshness = true
	case CheckRevocation:
		r.lists = true
	case CheckEventLog:
		r.logs = j.evidence.Kind != ""
	case CheckGPU:
		r.devices = j.evidence.Kind != ""
	case CheckTPM:
		r.tpm = j.evidence.Kind.TPMBeside()
	}
	r.freshness = r.freshness || r.removes() && j.evidence.Ours()
	return r
}

// held says of the checks beside the failed one what can be known: it has the same evidence judged with that
// check left aside. Which check failed first follows from the verifiers' order, and would hide the others.
func (j *judgement) held(ctx context.Context, failed string) error {
	r := j.without(failed)
	if r == j.relaxed {
		j.before(failed)
		return nil
	}
	v, err := judgeRelaxed(ctx, j.contents, j.given, r)
	if err != nil {
		return err
	}
	for i := range j.v.Checks {
		c := &j.v.Checks[i]
		at := slices.IndexFunc(v.Checks, func(other Check) bool { return other.Name == c.Name })
		if at < 0 || c.Outcome != NotDecided || c.Name == CheckFreshness && r.freshness {
			continue
		}
		switch found := v.Checks[at]; {
		case found.Outcome == Passed, found.Outcome == Waived, found.Outcome == NotChecked && c.Name != CheckBinding:
			c.Outcome, c.Detail = found.Outcome, found.Detail
		}
	}
	return nil
}

// Words about what held before a check that cannot be left aside.
const (
	wordRead        = "as far as the failed check"
	wordQuoteSigned = "the quote's signatures hold, up to Intel's pinned root; its enclave and module were not compared with Intel's documents"
)

// before says what held according to the verifiers' order: a report is read before anything else, and
// a quote's signatures are verified before its collateral is looked for.
func (j *judgement) before(failed string) {
	kind := j.evidence.Kind
	alone := (kind == evidence.KindSNP || kind == evidence.KindTDX) && bound(j.evidence) == 0
	if alone && (failed == CheckSignature || failed == CheckCollateral || failed == CheckRevocation) {
		j.detail(CheckForm, Passed, wordRead)
	}
	if (kind == evidence.KindTDX || kind == evidence.KindAzureTDX) && (failed == CheckCollateral || failed == CheckRevocation) {
		j.detail(CheckSignature, Passed, wordQuoteSigned)
	}
}
