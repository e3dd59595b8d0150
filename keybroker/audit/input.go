package audit

import (
	"path/filepath"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/audit/inputs"
)

// KeepInput keeps what a decision is made on, and returns the digest that its record names
// (Record.InputDigest). It returns at once: the document is durable within a second, or lost, logged
// and counted. refused says that nothing was granted; such documents have a share of their own.
//
// A release does not wait for this, and is not refused for want of it: the record says whose
// evidence was accepted, under which policy, and what was given, and it is durable. The document lets an
// operator ask what another policy would have said, which nobody's security rests on.
func (l *Log) KeepInput(at time.Time, document []byte, refused bool) digest.Digest {
	return l.inputs.Keep(at, document, refused)
}

// Inputs says how many decision inputs were kept and lost since the log was opened.
func (l *Log) Inputs() inputs.Stats { return l.inputs.Stats() }

// inputDirs are the directories in which the inputs of a log's decisions are.
func inputDirs(dir string, archives []string) []string {
	return append([]string{dir, filepath.Join(dir, ArchiveName)}, archives...)
}

// OpenInputs finds the inputs of the decisions of the log in dir, with what was archived.
func OpenInputs(dir string, archives ...string) (*inputs.Reader, error) {
	return inputs.Open(inputDirs(dir, archives)...)
}

// verifyInputs checks the store beside the log: every document has its digest, so that what the
// records name can be told from what somebody put there.
func (v *verification) verifyInputs() (err error) {
	if v.inputs, err = inputs.OpenIn(v.fs, inputDirs(v.dir, v.Archives)...); err != nil {
		return err
	}
	return v.inputs.Verify()
}

// countInput counts whether the input of a decision is kept.
func (v *verification) countInput(r *Record) {
	switch {
	case r.InputDigest.IsZero():
	case v.inputs.Has(r.InputDigest):
		v.report.InputsKept++
	default:
		if v.report.InputsMissing++; len(v.missed) < maxMissed {
			v.missed = append(v.missed, r.InputDigest)
		}
	}
}

// maxMissed bounds the inputs that are looked for once more: those that a running broker wrote since
// the store was listed.
const maxMissed = 1 << 16

// recountInputs looks once more for what was missing.
func (v *verification) recountInputs() error {
	if len(v.missed) == 0 {
		return nil
	}
	again, err := inputs.OpenIn(v.fs, inputDirs(v.dir, v.Archives)...)
	if err != nil {
		return err
	}
	for _, d := range v.missed {
		if again.Has(d) {
			v.report.InputsKept++
			v.report.InputsMissing--
		}
	}
	return nil
}
