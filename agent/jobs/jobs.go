// Package jobs is the guest's queue of long work: durable, encrypted, bounded.
//
// A job that Submit acknowledged is still there after a crash or a reboot. Its result is
// stored at most once, and it is tried at most three times before it becomes a dead letter
// that says why. A job's name is the hash of its content, so submitting it twice is the same
// as submitting it once. Its specification and its result are encrypted at rest.
//
// The queue trusts its key, and relies on one process having the file open (the file is
// locked). It refuses another key; a record that was changed, removed or replaced by an
// earlier one; a file that others may read; work beyond its limits; results from a lease that
// was lost; and, after a failed write, every further change until it is opened again.
//
// BUG: the queue does not notice if the host restores an earlier copy of the whole file; that
// takes a counter outside the file. Removed records are noticed only when the file is opened.
// The hash that names a job is not encrypted, so whoever guesses a specification can confirm
// the guess. The database was not made to withstand a carefully forged file: where the host
// controls the disk, the file belongs on an authenticated volume.
//
// The agent submits and runs jobs; the local API and the command line show them.
package jobs

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Reasons of this package.
const (
	// ReasonFull: the limit of jobs, bytes or journal entries is reached.
	ReasonFull refusal.Reason = "queue-full"
	// ReasonOwner: the limit of jobs or bytes of this owner is reached.
	ReasonOwner refusal.Reason = "queue-owner-full"
	// ReasonUnknown: no job has this id.
	ReasonUnknown refusal.Reason = "job-unknown"
	// ReasonState: the job's state does not allow it.
	ReasonState refusal.Reason = "job-state"
	// ReasonLeaseLost: the job was taken from this worker, or is over.
	ReasonLeaseLost refusal.Reason = "lease-lost"
	// ReasonDamaged: a record is not what was written.
	ReasonDamaged refusal.Reason = "job-record-damaged"
	// ReasonConsumed: another digest is recorded under this name.
	ReasonConsumed refusal.Reason = "already-consumed"
	// ReasonJob: a job, ending, name or option is malformed.
	ReasonJob refusal.Reason = "job-invalid"
	// ReasonWrongKey: the file was sealed under another key.
	ReasonWrongKey refusal.Reason = "wrong-queue-key"
	// ReasonFile: the file cannot be opened, or others may read it.
	ReasonFile refusal.Reason = "queue-file"
	// ReasonStorage: a write failed, now or earlier. What is on disk is unknown until the queue
	// is opened again.
	ReasonStorage refusal.Reason = "queue-storage-failed"
	// ReasonClosed: the queue is closed.
	ReasonClosed refusal.Reason = "queue-closed"
)

// State is where a job stands.
type State string

// The states. Done, dead and cancelled are final, but a dead job can be retried.
const (
	Queued    State = "queued"
	Leased    State = "leased"
	Done      State = "done"
	Dead      State = "dead"
	Cancelled State = "cancelled"
)

// Exit says how a try ended. The names are those of the workers' endings.
type Exit string

// The endings, and what follows from them.
const (
	Ok           Exit = "ok"            // done
	BadInput     Exit = "bad-input"     // dead: it can never succeed
	Refused      Exit = "refused"       // dead: someone who decides said no
	OutOfMemory  Exit = "out-of-memory" // tried again with twice the memory, where the queue allows it
	Crash        Exit = "crash"         // tried again
	TimeOut      Exit = "time-out"      // tried again
	WasCancelled Exit = "cancelled"     // cancelled
)

// MaxTries is how often a job is tried.
const MaxTries = 3

// ID names a job by its content.
type ID [sha256.Size]byte

// String is the ID in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText writes hexadecimal.
func (id ID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText reads hexadecimal in the one spelling that MarshalText writes.
func (id *ID) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(text))
	if err != nil || len(raw) != len(id) || hex.EncodeToString(raw) != string(text) {
		return refusal.New(ReasonUnknown, "a job ID must have %d lower-case hexadecimal digits", 2*len(id))
	}
	copy(id[:], raw)
	return nil
}

// ParseID reads what String writes.
func ParseID(s string) (id ID, err error) { return id, id.UnmarshalText([]byte(s)) }

// Job is work to be done.
type Job struct {
	// Class says who can do it.
	Class string `json:"class"`
	// Owner is the uid that submitted it.
	Owner uint32 `json:"owner"`
	// Priority orders jobs that wait: higher first, then older.
	Priority int8 `json:"priority"`
	// Spec is what the worker needs to know; at most MaxSpecBytes.
	Spec json.RawMessage `json:"spec"`
	// Memory bounds the worker, in bytes; TimeMax bounds one try.
	Memory  int64         `json:"memory"`
	TimeMax time.Duration `json:"time_max"`
}

// Limits of a job.
const (
	MaxSpecBytes   = 256 << 10
	MaxResultBytes = 256 << 10
	maxClassBytes  = 64
	maxDetailBytes = 1 << 10
	maxPhaseBytes  = 64
)

func (j *Job) check() error {
	if !validClass(j.Class) || len(j.Spec) > MaxSpecBytes || !json.Valid(j.Spec) || j.Memory < 0 || j.TimeMax < 0 {
		return refusal.New(ReasonJob, "a job needs a class and a JSON specification of at most %d bytes", MaxSpecBytes)
	}
	return nil
}

// validClass accepts lower-case letters, digits, '-', '.' and '/': a class becomes a
// label of metrics.
func validClass(c string) bool {
	return c != "" && len(c) <= maxClassBytes && strings.Trim(c, "abcdefghijklmnopqrstuvwxyz0123456789-./") == ""
}

// id is the hash of what makes the job this job: not of priority and bounds.
func (j *Job) id() ID {
	h := sha256.New()
	for _, field := range [][]byte{[]byte("anchorhold/job/1"), []byte(j.Class), binary.BigEndian.AppendUint32(nil, j.Owner), j.Spec} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(field))))
		h.Write(field)
	}
	return ID(h.Sum(nil))
}

// Progress is what a worker says about itself.
type Progress struct {
	Phase string `json:"phase"`
	Done  uint64 `json:"done"`
	Total uint64 `json:"total"`
}

// Info is a job as it stands.
type Info struct {
	ID ID `json:"id"`
	Job
	// Seq is the order of submission.
	Seq      uint64          `json:"seq"`
	State    State           `json:"state"`
	Tries    int             `json:"tries"`
	Created  time.Time       `json:"created"`
	Updated  time.Time       `json:"updated"`
	Progress *Progress       `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	// Exit and Detail say how the last try ended; Reason is the code of a refusal. Of a job
	// that was deferred, Reason and Detail say what it waits for.
	Exit   Exit           `json:"exit,omitempty"`
	Reason refusal.Reason `json:"reason,omitempty"`
	Detail string         `json:"detail,omitempty"`
	// Boot is the boot in which the job was last leased.
	Boot string `json:"boot,omitempty"`
	// Grown: it ran out of memory once and has twice as much since.
	Grown bool `json:"grown,omitempty"`
	// Lease is the number of the last lease. No two leases of a queue share one.
	Lease uint64 `json:"lease,omitempty"`
	// Expires is when the lease in force ends without a heartbeat. It is not durable.
	Expires time.Time `json:"expires,omitzero"`
	// NotBefore is when a job that failed is tried again, or one that was deferred goes on.
	NotBefore time.Time `json:"not_before,omitzero"`
}

// Final says whether the job is over.
func (i *Info) Final() bool { return i.State == Done || i.State == Dead || i.State == Cancelled }

// end applies the exit table to a try that ended now.
func (i *Info) end(exit Exit, memoryCeiling int64, now time.Time) {
	i.Exit = exit
	switch exit {
	case Ok:
		i.State = Done
		return
	case WasCancelled:
		i.State = Cancelled
		return
	case OutOfMemory:
		if !i.Grown && i.Memory > 0 && i.Memory <= memoryCeiling/2 && i.Tries < MaxTries {
			i.Memory, i.Grown = 2*i.Memory, true
			i.again(now)
			return
		}
	case Crash, TimeOut:
		if i.Tries < MaxTries {
			i.again(now)
			return
		}
	}
	i.State = Dead
}

// maxBackoff is the longest that a failed job waits.
const maxBackoff = time.Second << (2 * MaxTries)

// again waits a little longer after each try.
func (i *Info) again(now time.Time) {
	i.State, i.NotBefore = Queued, now.Add(time.Second<<(2*i.Tries)).UTC()
}

// wait is how long the job waits yet. A clock that was set back cannot make it longer
// than it can ever have been.
func (i *Info) wait(now time.Time) time.Duration {
	if w := i.NotBefore.Sub(now); w <= maxBackoff {
		return w
	}
	return 0
}

// failed says whether a try can end so. Complete says that it was ok.
func (e Exit) failed() bool {
	switch e {
	case BadInput, Refused, OutOfMemory, Crash, TimeOut, WasCancelled:
		return true
	}
	return false
}

// clip bounds a text for people and takes out what could forge a line or move a
// cursor.
func clip(s string, limit int) string {
	cut := ""
	if len(s) > limit {
		s, cut = s[:limit], fmt.Sprintf("... (%d bytes)", len(s))
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s) + cut
}
