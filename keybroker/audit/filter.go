package audit

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrNotFound means that no record has the id that was asked for.
var ErrNotFound = errors.New("no such record")

// Filter selects records. Its zero value selects all; fields are joined by AND.
type Filter struct {
	// Kind selects one kind; 0 selects all.
	Kind Kind `json:"kind,omitzero"`
	// Since and Until bound the time, Until exclusively.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// Resource selects an exact resource, or a subtree if it ends in "/".
	Resource string `json:"resource,omitempty"`
	// Connection, Grant and Reason select by those.
	Connection string `json:"connection,omitempty"`
	Grant      string `json:"grant,omitempty"`
	Reason     string `json:"reason,omitempty"`
	// From is the first index to look at, To the first one not to; 0 means the end.
	From uint64 `json:"from,omitempty"`
	To   uint64 `json:"to,omitempty"`
	// Last keeps only the last so many that match; 0 keeps all up to MaxShown.
	Last int `json:"last,omitempty"`

	refusal string // the opaque id of a refusal
	reach   uint64 // read back to before this record whatever the times behind it: the clock may have been set back since
}

// MaxShown is the most records that Show returns at once.
const MaxShown = 10_000

// Match reports whether the filter selects e.
func (f Filter) Match(e Entry) bool {
	r := e.Record
	switch {
	case e.Index < f.From,
		f.To != 0 && e.Index >= f.To,
		f.Kind != 0 && r.Kind != f.Kind,
		!f.Since.IsZero() && r.Time.Before(f.Since),
		!f.Until.IsZero() && !r.Time.Before(f.Until),
		f.Connection != "" && r.Connection != f.Connection,
		f.Grant != "" && r.Grant != f.Grant,
		f.refusal != "" && r.RefusalID != f.refusal:
		return false
	}
	if prefix, subtree := strings.CutSuffix(f.Resource, "/"); subtree && !strings.HasPrefix(r.Resource, prefix+"/") {
		return false
	} else if !subtree && f.Resource != "" && r.Resource != f.Resource {
		return false
	}
	return f.Reason == "" || hasReason(r, f.Reason)
}

func hasReason(r Record, code string) bool {
	for _, reason := range r.Reasons {
		if reason.Code == code {
			return true
		}
	}
	return false
}

// clockSlack is how far the times of neighbouring records may be out of order:
// they are taken before the records wait for their commit.
const clockSlack = time.Hour

// Show returns the records of the log in dir that the filter selects, in
// order: the last MaxShown or f.Last of them, whichever is fewer. It reads from
// the end and no further back than it must.
func Show(dir string, f Filter) ([]Entry, error) {
	keep := MaxShown
	if f.Last > 0 && f.Last < keep {
		keep = f.Last
	}
	var out []Entry
	err := backwards(dir, f, keep, func(matched []Entry) bool {
		out = append(matched[max(0, len(matched)-(keep-len(out))):], out...)
		return len(out) >= keep
	})
	return out, err
}

// Explain returns the records that belong to the opaque refusal id that a peer
// was given: the refusal itself and the others of its connection.
func Explain(dir, refusalID string) ([]Entry, error) {
	if refusalID == "" {
		return nil, ErrNotFound
	}
	var found *Entry
	err := backwards(dir, Filter{refusal: refusalID}, 1, func(matched []Entry) bool {
		if len(matched) > 0 {
			found = &matched[0]
		}
		return found != nil
	})
	if err != nil {
		return nil, err
	}
	if found == nil {
		return nil, fmt.Errorf("%w: there is no refusal %q; it may have exceeded the budget for refusals (records %s count those), or its segment was archived", ErrNotFound, clip(refusalID), actionSuppressed)
	}
	r := found.Record
	if r.Connection == "" {
		return []Entry{*found}, nil
	}
	return Show(dir, Filter{Connection: r.Connection, Since: r.Time.Add(-time.Hour), Until: r.Time.Add(time.Hour), reach: found.Index + 1})
}
