package tdx

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// judgement is how current platform, module and quoting enclave are, by one TEE_TCB_SVN.
type judgement struct {
	platform, module, qe evidence.TCBStatus
	date                 time.Time // the oldest of the levels that matched
	matched              bool      // at least one level did
	advisories           []string
}

// judge finds the levels that match (Intel QVL, EvaluateTcb.cpp, tdxEvaluateTCB; PCS API
// version 4, "TDX TCB evaluation"). What no level matches is TCBUnmatched.
func (c *Collateral) judge(p *platform, svn tcbSVN, qeSVN uint16) judgement {
	var j judgement
	j.platform = j.take(c.tcb.platformLevel(p, svn))
	j.module = j.platform // its versions are components of the platform's level
	if svn.major() > 0 {
		j.module = evidence.TCBUnmatched
		if m := c.tcb.moduleIdentity(svn); m != nil {
			j.module = j.take(firstLevel(m.levels, uint16(svn.minor())))
		}
	}
	j.qe = j.take(firstLevel(c.qe.levels, qeSVN))
	return j
}

// take adds a level to the judgement and returns its status.
func (j *judgement) take(l *level) evidence.TCBStatus {
	if l == nil {
		return evidence.TCBUnmatched
	}
	if !j.matched || l.date.Before(j.date) {
		j.date = l.date
	}
	j.matched = true
	j.advisories = append(j.advisories, l.advisories...)
	return l.status
}

// platformLevel is the highest level of which the platform reaches every component. With a module
// of major version 1 or later, its own identity judges components 0 and 1.
func (t *tcbInfo) platformLevel(p *platform, svn tcbSVN) *level {
	first := 0
	if svn.major() > 0 {
		first = 2
	}
	for i := range t.levels {
		l := &t.levels[i]
		if reaches(p.components[:], l.sgx[:]) && p.pceSVN >= l.pceSVN && reaches(svn[first:], l.tdx[first:]) {
			return l
		}
	}
	return nil
}

// reaches says whether no component is below what is wanted.
func reaches(have, want []uint8) bool {
	for i, w := range want {
		if have[i] < w {
			return false
		}
	}
	return true
}

func firstLevel(levels []level, svn uint16) *level {
	for i := range levels {
		if svn >= levels[i].svn {
			return &levels[i]
		}
	}
	return nil
}

// moduleIdentity is the identity of the module's major version, or nil.
func (t *tcbInfo) moduleIdentity(svn tcbSVN) *identity {
	id := fmt.Sprintf("TDX_%02X", svn.major())
	for i := range t.modules {
		if t.modules[i].id == id {
			return &t.modules[i]
		}
	}
	return nil
}

// checkModule compares the module's signer and attributes with its identity: of its major version
// if there is one, else of version 0 (QVL, QuoteVerifier.cpp, 4.1.2.4.11).
func (t *tcbInfo) checkModule(b *body) error {
	want := &t.module
	if b.svn.major() > 0 {
		if m := t.moduleIdentity(b.svn); m != nil {
			want = m
		}
	}
	attributes := binary.LittleEndian.AppendUint64(nil, b.seamAttributes)
	switch {
	case !bytes.Equal(b.mrSignerSEAM, want.signer):
		return refusal.New(ReasonModule, "the TDX module is signed by %x, want %x", b.mrSignerSEAM, want.signer)
	case !underMask(attributes, want.attributes, want.mask):
		return refusal.New(ReasonModule, "the TDX module has attributes %x, want %x under mask %x", attributes, want.attributes, want.mask)
	}
	return nil
}

// check compares the quoting enclave with its identity (QVL, EnclaveReportVerifier.cpp). Its
// version is judged by level.
func (q *qeIdentity) check(r *qeReport) error {
	switch {
	case !underMask(r.miscSelect, q.miscSelect, q.miscMask):
		return refusal.New(ReasonQEIdentity, "MISCSELECT %x, want %x under mask %x", r.miscSelect, q.miscSelect, q.miscMask)
	case !underMask(r.attributes, q.attributes, q.mask):
		return refusal.New(ReasonQEIdentity, "attributes %x, want %x under mask %x", r.attributes, q.attributes, q.mask)
	case !bytes.Equal(r.mrSigner, q.signer):
		return refusal.New(ReasonQEIdentity, "signed by %x, want %x", r.mrSigner, q.signer)
	case r.productID != q.productID:
		return refusal.New(ReasonQEIdentity, "product %d, want %d", r.productID, q.productID)
	}
	return nil
}

// status joins the three.
func (j *judgement) status() evidence.TCBStatus { return converge(j.platform, j.module, j.qe) }

// What a status says of a platform.
const (
	hardening = 1 << iota
	configuration
	outOfDate
)

func traits(s evidence.TCBStatus) (t int, ok bool) {
	switch s {
	case evidence.TCBUpToDate:
		return 0, true
	case evidence.TCBSWHardeningNeeded:
		return hardening, true
	case evidence.TCBConfigurationNeeded:
		return configuration, true
	case evidence.TCBConfigurationAndSWHardeningNeeded:
		return configuration | hardening, true
	case evidence.TCBOutOfDate:
		return outOfDate, true
	case evidence.TCBOutOfDateConfigurationNeeded:
		return outOfDate | configuration, true
	}
	return 0, false // Revoked, Unmatched and what is unknown join with nothing
}

// converge joins statuses: all that one of them says holds for the whole. Where Intel's QVL
// (convergeTcbStatuses) says something, the result is the same; a quoting enclave or module that
// needs configuration, which the QVL passes over, counts here.
func converge(statuses ...evidence.TCBStatus) evidence.TCBStatus {
	all := 0
	worst := evidence.TCBUpToDate
	for _, s := range statuses {
		t, ok := traits(s)
		if all |= t; !ok && (s.Worse(worst)) {
			worst = s
		}
	}
	switch {
	case worst != evidence.TCBUpToDate:
		return worst
	case all&outOfDate != 0 && all&configuration != 0:
		return evidence.TCBOutOfDateConfigurationNeeded
	case all&outOfDate != 0:
		return evidence.TCBOutOfDate
	case all&configuration != 0 && all&hardening != 0:
		return evidence.TCBConfigurationAndSWHardeningNeeded
	case all&configuration != 0:
		return evidence.TCBConfigurationNeeded
	case all&hardening != 0:
		return evidence.TCBSWHardeningNeeded
	}
	return evidence.TCBUpToDate
}

// relaunch joins the status by the module at launch and by the module that runs now. A guest that
// was launched on a module out of date by now, and runs on one that is not, should be launched
// anew (QVL, TDRelaunchCheck.cpp). Otherwise the worse of the two holds; the QVL keeps the
// launch's, and would not say that the module was rolled back under a running guest.
func relaunch(launch, current evidence.TCBStatus) evidence.TCBStatus {
	atLaunch, ok := traits(launch)
	now, okNow := traits(current)
	if ok && okNow && atLaunch&outOfDate != 0 && now&outOfDate == 0 {
		if (atLaunch|now)&configuration != 0 {
			return evidence.TCBRelaunchAdvisedConfigurationNeeded
		}
		return evidence.TCBRelaunchAdvised
	}
	if current.Worse(launch) {
		return current
	}
	return launch
}

// tcb judges the quote's platform.
func (c *Collateral) claim(q *Quote, p *platform) evidence.TDXTCB {
	j := c.judge(p, q.body.svn, q.auth.report.svn)
	_, until := c.Window()
	t := evidence.TDXTCB{
		Status: j.status(), Platform: j.platform, Module: j.module, QE: j.qe,
		EvaluationNumber: c.EvaluationNumber(), CPUSVN: p.cpuSVN[:], PCESVN: p.pceSVN,
		QESVN: q.auth.report.svn, CollateralUntil: until,
	}
	if q.body.typ >= bodyTD15 {
		now := c.judge(p, q.body.currentSVN, q.auth.report.svn)
		t.Current = now.status()
		t.Status = relaunch(t.Status, t.Current)
		j.join(&now)
	}
	if j.matched {
		t.Date = j.date
	}
	slices.Sort(j.advisories)
	t.Advisories = slices.Compact(j.advisories)
	return t
}

// join adds the date and the advisories of another judgement.
func (j *judgement) join(other *judgement) {
	if other.matched && (!j.matched || other.date.Before(j.date)) {
		j.date, j.matched = other.date, true
	}
	j.advisories = append(j.advisories, other.advisories...)
}
