package depot

import (
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/collateral"
)

// Status is what a depot holds, for metrics and for people.
type Status struct {
	// Certificates is the number of chips' certificates.
	Certificates int `json:"certificates"`
	// Waiting is how many requests wait for a host's turn.
	Waiting int `json:"waiting"`
	// GraceUntil is set while ended documents are accepted.
	GraceUntil  *time.Time `json:"grace_until,omitempty"`
	GraceReason string     `json:"grace_reason,omitempty"`
	// Items are all others that are kept or wanted.
	Items []ItemStatus `json:"items"`
}

// ItemStatus is one item that is renewed.
type ItemStatus struct {
	Key collateral.Key `json:"key"`
	// Missing says that the item is wanted and was never fetched, or is damaged.
	Missing bool `json:"missing,omitempty"`
	// Fetched is when it was fetched last, AgeSeconds how long that is ago.
	Fetched    *time.Time `json:"fetched,omitempty"`
	AgeSeconds int64      `json:"age_seconds,omitempty"`
	// Ends is when its first document ends; Ended says that this is over.
	Ends  *time.Time `json:"ends,omitempty"`
	Ended bool       `json:"ended,omitempty"`
	// Next is when it is fetched again; nil in an offline depot.
	Next *time.Time `json:"next,omitempty"`
	// Documents are its documents by date.
	Documents []DocumentStatus `json:"documents,omitempty"`
	// Reason and Error are of the last attempt, if that failed.
	Reason    string     `json:"reason,omitempty"`
	Error     string     `json:"error,omitempty"`
	Attempted *time.Time `json:"attempted,omitempty"`
	Failures  int        `json:"failures,omitempty"`
}

// DocumentStatus is one dated document.
type DocumentStatus struct {
	Name   string    `json:"name"`
	Number *big.Int  `json:"number,omitempty"`
	Issued time.Time `json:"issued"`
	Ends   time.Time `json:"ends"`
}

// Status describes everything that is kept or wanted, in the order of the keys.
func (d *Depot) Status() (Status, error) {
	keys, err := d.store.Keys()
	if err != nil {
		return Status{}, err
	}
	now, st := d.opts.Now(), Status{Waiting: d.client.Waiting(), Items: []ItemStatus{}}
	for _, k := range keys {
		if k.Kind() == collateral.KindVCEK {
			st.Certificates++
		}
	}
	if d.opts.Grace.inForce(now) {
		st.GraceUntil, st.GraceReason = &d.opts.Grace.Until, d.opts.Grace.Reason
	}
	plans, err := d.plans()
	if err != nil {
		return Status{}, err
	}
	for _, p := range plans {
		st.Items = append(st.Items, p.status(now, d.opts.Offline))
	}
	slices.SortFunc(st.Items, func(a, b ItemStatus) int { return strings.Compare(a.Key.String(), b.Key.String()) })
	return st, nil
}

func (p plan) status(now time.Time, offline bool) ItemStatus {
	s := ItemStatus{Key: p.key, Missing: p.item.Key == (collateral.Key{}), Reason: p.attempt.Reason, Error: p.attempt.Error, Failures: p.attempt.Failures}
	if p.attempt.Failures > 0 {
		s.Attempted = &p.attempt.At
	}
	if !offline {
		s.Next = &p.next
		if p.next.Before(now) {
			s.Next = &now
		}
	}
	if s.Missing {
		return s
	}
	ends := collateral.Ends(p.stamps)
	s.Fetched, s.Ends, s.Ended = &p.item.Fetched, &ends, now.After(ends)
	s.AgeSeconds = int64(now.Sub(p.item.Fetched) / time.Second)
	for _, d := range p.stamps {
		s.Documents = append(s.Documents, DocumentStatus{d.Name, d.Number, d.Issued.UTC(), d.Ends.UTC()})
	}
	return s
}
