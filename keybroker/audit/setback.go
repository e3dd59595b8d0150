package audit

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Why a record's time is refused.
const (
	// ReasonSetBack means that a step back does not begin at the last record, or is none.
	ReasonSetBack refusal.Reason = "clock-set-back-refused"
	// ReasonTimeWentBack means that a record is earlier than the one before it, and is not
	// itself the record of that step.
	ReasonTimeWentBack refusal.Reason = "audit-time-went-back"
)

// ActionSetBack is the action of the one record that may be earlier than the one before it.
// It names that one's time as its resource.
const ActionSetBack = "clock-set-back"

// Instant is how a record's time is written where it must be exact.
func Instant(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// timeAt is where a record's encoding has its time.
const timeAt = 2

// hold keeps the times of an entry's records from being earlier than the one before them, in
// the order of their commit: the last record says what time it has been, which a restarted
// broker's clock must not be before. Only a step back begins anew.
func (l *Log) hold(e *entry) {
	for _, body := range e.bodies {
		at := body[timeAt : timeAt+8]
		t := int64(binary.BigEndian.Uint64(at))
		if t < l.stands && !e.stepsBack {
			binary.BigEndian.PutUint64(at, uint64(l.stands))
			continue
		}
		l.stands = t
	}
}

// SetBack has the log go on from a time before its last record: a record of the step is the
// first of the new time. from must be exactly the last record's time, so that a step that was
// made cannot be made again; else, or if to is not before it, it is refused with ReasonSetBack.
// It returns as Append does.
func (l *Log) SetBack(ctx context.Context, from, to time.Time, detail string) (Leaf, error) {
	r := Record{Kind: KindService, Time: to, Action: ActionSetBack, Resource: Instant(from), Detail: detail}
	body, err := r.Marshal()
	if err != nil {
		return Leaf{}, err
	}
	e := &entry{bodies: [][]byte{body}, keys: []key{keyOf(&r)}, bytes: 4 + len(body), stepsBack: true, done: make(chan struct{})}
	if err := l.command(ctx, func() error {
		l.commitAll()
		if last := time.Unix(0, l.stands); l.tree.size == 0 || !last.Equal(from) || !to.Before(from) {
			return refusal.New(ReasonSetBack, "got a step back from %s to %s, but the last record is of %s", Instant(from), Instant(to), Instant(last))
		}
		l.commit([]*entry{e})
		return e.err
	}); err != nil {
		return Leaf{}, err
	}
	return e.leaves[0], nil
}

// SetBackFrom says whether the log has the record of a step back from that time.
func (l *Log) SetBackFrom(from time.Time) (bool, error) {
	found, err := l.Find(Query{Kind: KindService, Action: ActionSetBack, Resource: Instant(from)})
	return len(found) > 0, err
}

// slack is how much earlier than another a record behind it may be: earlier versions of the
// broker took the times before records waited for their commit (docs/protocol.md 7.1).
const slack = 2 * time.Second

// order checks the times of records that are read one behind the other.
type order struct {
	last, latest time.Time // of the record before, and the latest since the last step
	steps        uint64    // records of steps back
}

// next refuses a record that is earlier than those before it and does not say so itself.
func (o *order) next(index uint64, r *Record) error {
	if r.Kind == KindService && r.Action == ActionSetBack && r.Time.Before(o.last) && r.Resource == Instant(o.last) {
		o.steps++
		o.latest = r.Time
	} else if r.Time.Add(slack).Before(o.latest) {
		return refusal.New(ReasonTimeWentBack, "record %d is of %s, but an earlier one is of %s, and the log records no step back of the clock", index, Instant(r.Time), Instant(o.latest))
	}
	o.last = r.Time
	if r.Time.After(o.latest) {
		o.latest = r.Time
	}
	return nil
}

// unknown forgets the times of records that were not read.
func (o *order) unknown() { o.last, o.latest = time.Time{}, time.Time{} }
