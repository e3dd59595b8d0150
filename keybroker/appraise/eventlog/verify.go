package eventlog

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"maps"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Verify checks that the log leads to the verified values of registers, by PCR or RTMR number,
// and returns what its events then prove. The values must be of one size, which tells the bank:
// 32 bytes for SHA-256, 48 for SHA-384; RTMRs have 48. Registers that are not wanted stay
// unjudged, and nothing is claimed of them: leave out those that the running system extends
// without an entry in the firmware's log, such as PCR 10 (IMA) and PCRs 11 to 13 and 15
// (systemd). A refusal is an *refusal.Error.
func Verify(log []byte, format Format, want Registers) (evidence.EventLogClaims, error) {
	return VerifyReached(log, format, want, nil)
}

// VerifyReached is [Verify], and judges in the same way those of the other verified values to which the log
// leads. The others of them stay unjudged: a running system may have extended their registers later.
func VerifyReached(log []byte, format Format, want, others Registers) (evidence.EventLogClaims, error) {
	none := evidence.EventLogClaims{}
	bank, err := bankOf(format, want)
	if err != nil {
		return none, err
	}
	want = maps.Clone(want)
	r, err := newReader(log, format, bank)
	if err != nil {
		return none, err
	}
	first := r // behind the header
	var state registers
	if err := state.replay(&r); err != nil {
		return none, err
	}
	if err := state.compare(&r, want); err != nil {
		return none, err
	}
	for n, value := range others {
		if n >= 0 && n < pcrs && subtle.ConstantTimeCompare(state.reached(&r, n), value) == 1 {
			want[n] = value
		}
	}
	digest := sha256.Sum256(log[:r.at])
	j := judge{format: format, bank: bank, want: want}
	j.zeros, _ = hash(bank, []byte{0, 0, 0, 0})
	j.ones, _ = hash(bank, []byte{0xff, 0xff, 0xff, 0xff})
	if err := j.judge(first); err != nil {
		return none, err
	}
	c := evidence.EventLogClaims{Format: string(format), Digest: digest[:], Events: r.events, SecureBoot: j.secureBoot, Boot: j.boot}
	for _, n := range slices.Sorted(maps.Keys(want)) {
		c.Registers = append(c.Registers, format.name(n))
	}
	return c, nil
}

// bankOf checks the wanted registers and finds their bank by the size of their values.
func bankOf(format Format, want Registers) (bank uint16, err error) {
	if len(want) == 0 {
		return 0, refusal.New(ReasonUnverified, "no verified register to compare the log with")
	}
	limit, size := int(format.registers()), 0
	if format == CCEL {
		limit-- // MRTD is no register that a log leads to
	}
	for n, value := range want {
		if n < 0 || n >= limit {
			return 0, refusal.New(ReasonUnverified, "a log of format %q has no register %d", string(format), n)
		}
		if size == 0 {
			size = len(value)
		}
		if len(value) != size {
			return 0, refusal.New(ReasonUnverified, "the verified values are of several banks")
		}
	}
	switch {
	case size == digestBytes(algSHA384):
		return algSHA384, nil
	case size == digestBytes(algSHA256) && format == TCG:
		return algSHA256, nil
	}
	return 0, refusal.New(ReasonUnverified, "verified values of %d bytes", size)
}

// exitedBootServices is the action with which the firmware hands over (section 10.4.4).
const exitedBootServices = "Exit Boot Services Returned with Success"

// judge reads events whose registers were verified.
type judge struct {
	format     Format
	bank       uint16
	want       Registers
	zeros      [maxDigest]byte // digests of the two separators
	ones       [maxDigest]byte
	separators [pcrs]int
	left       [pcrs]bool // the system took over, and the firmware measures nothing more
	secureBoot *bool
	boot       []evidence.BootEvent
}

func (j *judge) judge(r reader) error {
	var e event
	for {
		more, err := r.next(&e)
		if err != nil {
			return err
		}
		if !more {
			break
		}
		if e.typ == evNoAction {
			continue // extended into nothing, so nothing that it says is proven
		}
		n, err := number(j.format, e.index)
		if err != nil {
			return err
		}
		if _, verified := j.want[n]; !verified {
			continue
		}
		if err := j.event(&e, n, r.events); err != nil {
			return err
		}
	}
	if j.secureBoot != nil && j.separators[j.secureBootRegister()] == 0 {
		return refusal.New(ReasonSecureBoot, "no separator ends the firmware's part of %s", j.format.name(j.secureBootRegister()))
	}
	return nil
}

// event judges one event, the at-th of the log.
func (j *judge) event(e *event, register, at int) error {
	where := func() string { return j.format.name(register) }
	if e.typ.name() == "" {
		return refusal.New(ReasonType, "event %d in %s: %s", at, where(), e.typ)
	}
	if e.typ.covered() && !j.covers(e) {
		return refusal.New(ReasonDigest, "event %d in %s: the digest of %s is not that of its data", at, where(), e.typ)
	}
	// Types are not measured: under another one, a separator or a variable would go unseen. Of
	// PCR 0 nothing is claimed, and some firmware measures the same four bytes there as contents.
	if e.typ != evSeparator && maxSeparators(j.format, register) < MaxEvents && !(j.format == TCG && register == 0) && j.isSeparator(e) {
		return refusal.New(ReasonSeparator, "event %d in %s: a separator's digest under the name of %s", at, where(), e.typ)
	}
	if j.format == TCG && register == secureBootPCR && !e.typ.covered() {
		return refusal.New(ReasonType, "event %d: %s is not measured into %s", at, e.typ, where())
	}
	if j.separators[register] > 0 && !e.typ.mayFollow(j.format, register) {
		return refusal.New(ReasonSeparator, "event %d in %s: %s follows the separator", at, where(), e.typ)
	}
	if j.left[register] {
		return refusal.New(ReasonSeparator, "event %d in %s: %s follows the end of the firmware's boot services", at, where(), e.typ)
	}
	switch e.typ {
	case evSeparator:
		if err := j.separator(e, register, at); err != nil || j.isSeparator(e) {
			return err
		}
	case evEFIAction:
		j.left[register] = string(e.data) == exitedBootServices && maxSeparators(j.format, register) < MaxEvents
	case evVariableDriverConfig:
		if err := j.variable(e, register, at); err != nil {
			return err
		}
	}
	return j.addBoot(e, register, at)
}

// covers says whether the event's digest is that of its data.
func (j *judge) covers(e *event) bool {
	if j.is(e, e.data) {
		return true
	}
	// Shim before version 15.5 logged one byte more than it measured. Nothing is read from this
	// type of event.
	return e.typ == evVariableAuthority && len(e.data) > 0 && j.is(e, e.data[:len(e.data)-1])
}

// is says whether the event's digest is that of the data.
func (j *judge) is(e *event, data []byte) bool {
	sum, size := hash(j.bank, data)
	return bytes.Equal(sum[:size], e.digest)
}

// isSeparator says whether the digest is that of a separator, whatever the event is called.
func (j *judge) isSeparator(e *event) bool {
	return bytes.Equal(e.digest, j.zeros[:len(e.digest)]) || bytes.Equal(e.digest, j.ones[:len(e.digest)])
}

// separator counts separators. In the firmware's registers their data is zero or all ones;
// 1 reports that the firmware failed (section 3.3.2.2).
func (j *judge) separator(e *event, register, at int) error {
	j.separators[register]++
	limit := maxSeparators(j.format, register)
	if j.separators[register] > limit {
		return refusal.New(ReasonSeparator, "event %d: separator %d in %s, which may have %d", at, j.separators[register], j.format.name(register), limit)
	}
	if limit < MaxEvents && (len(e.data) != 4 || !zero(e.data) && !ones(e.data)) {
		return refusal.New(ReasonSeparator, "event %d: the separator in %s reports an error: %x", at, j.format.name(register), e.data[:min(len(e.data), 8)])
	}
	return nil
}
