// Package leases is what the audit log says of leases: which of them run, on whose processor
// each was granted, and which agents and processors an operator ended. A restart forgets none
// of it.
package leases

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// ReasonEndedUnknown means that the audit log says that leases were ended or allowed again,
// and what it said has been taken away.
const ReasonEndedUnknown refusal.Reason = "ended-leases-unknown"

const (
	// actionLeases and aboutLeases are what the log's records of ended leases are found by.
	actionLeases = "leases-changed"
	aboutLeases  = "leases"
	maxEnded     = 1 << 16
	ofProcessor  = "processor/"
	verbEnd      = "end"
	verbAllow    = "allow"
)

// Ended are the agents and processors that an operator ended. The audit log says so first;
// the file spares reading all of it, and a file that is put back from a copy is brought up
// to date by it.
type Ended struct {
	layout statedir.Layout // never changed, as log and now
	log    *audit.Log
	now    func() time.Time

	changing sync.Mutex // held by one change at a time, to its end
	mu       sync.RWMutex
	state    endedFile // owned by mu; of changes, by whoever holds changing as well
}

// endedFile is the file: who was ended, by what the log said before record Through.
type endedFile struct {
	Format  int                  `json:"format"`
	Through uint64               `json:"through"`
	Who     map[string]time.Time `json:"who"` // "agent/ID", "processor/DIGEST"
}

// OpenEnded reads who was ended from the file, and from what the log says since.
func OpenEnded(layout statedir.Layout, log *audit.Log, now func() time.Time) (*Ended, error) {
	e := &Ended{layout: layout, log: log, now: now}
	if err := e.load(); err != nil {
		return nil, fmt.Errorf("ended leases: %w", err)
	}
	return e, nil
}

func (e *Ended) load() error {
	e.state = endedFile{Format: 1, Who: map[string]time.Time{}}
	b, err := os.ReadFile(e.layout.Ended())
	if err == nil {
		strict := json.NewDecoder(bytes.NewReader(b))
		strict.DisallowUnknownFields()
		err = strict.Decode(&e.state)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if _, unread := errors.AsType[*fs.PathError](err); err != nil && !unread {
		return fmt.Errorf("%s is truncated or malformed: %w: restore any copy of it, since the audit log has what came later; or move it away if all segments of the log are here", e.layout.Ended(), err)
	}
	if err != nil {
		return err
	}
	if e.state.Format != 1 || e.state.Who == nil {
		return fmt.Errorf("%s has format %d, want format 1", e.layout.Ended(), e.state.Format)
	}
	if e.state.Through > e.log.Size() { // a log that was begun anew
		e.state.Through = 0
	}
	found, err := e.log.Find(audit.Query{Kind: audit.KindService, Action: actionLeases, Resource: aboutLeases, From: e.state.Through})
	if err != nil {
		return err
	}
	for _, f := range found {
		if f.Record == nil {
			return refusal.New(ReasonEndedUnknown, "record %d ended or allowed leases, its segment was archived, and %s is older: restore the newer file or the segment", f.Index, e.layout.Ended())
		}
		e.apply(f.Index, *f.Record)
	}
	return nil
}

func (e *Ended) apply(index uint64, r audit.Record) {
	switch verb, who, _ := strings.Cut(r.Detail, " "); verb {
	case verbEnd:
		e.state.Who[who] = r.Time.UTC()
	case verbAllow:
		delete(e.state.Who, who)
	}
	e.state.Through = index + 1
}

// Check implements keybroker.Config.Ended. Nobody on an unknown processor is let through while some processor is ended.
func (e *Ended) Check(agent, chip digest.Digest) (done func(), err error) {
	e.mu.RLock()
	if chip.IsZero() && e.anyProcessor() {
		e.mu.RUnlock()
		return nil, refusal.New(protocol.ReasonEnded, "the leases of a processor were ended, and the log does not say on which one this lease is (see anchorhold leases list)")
	}
	for _, who := range []string{agentName(agent), processorName(chip)} {
		if at, ok := e.state.Who[who]; ok {
			e.mu.RUnlock()
			return nil, refusal.New(protocol.ReasonEnded, "the leases of %s were ended at %s (see anchorhold leases list)", who, at.Format(time.RFC3339))
		}
	}
	return e.mu.RUnlock, nil
}

// anyProcessor says whether some processor was ended; mu is held.
func (e *Ended) anyProcessor() bool {
	for who := range e.state.Who {
		if strings.HasPrefix(who, ofProcessor) {
			return true
		}
	}
	return false
}

func agentName(id digest.Digest) string       { return "agent/" + id.String() }
func processorName(chip digest.Digest) string { return ofProcessor + chip.String() }
func (e *Ended) is(l operator.Lease, who string) bool {
	return agentName(l.Agent) == who || processorName(l.Processor) == who
}

// Commands are the operators'.
func (e *Ended) Commands() []operator.Extra {
	type decoder = func(any) error
	change := func(verb string) func(context.Context, *http.Request, decoder) (any, error) {
		return func(ctx context.Context, r *http.Request, _ decoder) (any, error) {
			who, err := e.who(r.PathValue("name"))
			if err != nil {
				return nil, err
			}
			return e.change(ctx, verb, who)
		}
	}
	return []operator.Extra{
		{Method: "GET", Path: "/v1/leases", Action: "lease-list", Do: func(context.Context, *http.Request, decoder) (any, error) { return e.list() }},
		{Method: "POST", Path: "/v1/leases/end/{name...}", Action: "lease-end", Mutates: true, Do: change(verbEnd)},
		{Method: "POST", Path: "/v1/leases/allow/{name...}", Action: "lease-allow", Mutates: true, Do: change(verbAllow)},
	}
}

// who reads "agent/ID", "processor/DIGEST" or "lease/ID"; a lease is its agent's, for its
// renewal is another lease of that agent.
func (e *Ended) who(name string) (string, error) {
	kind, text, _ := strings.Cut(name, "/")
	switch kind {
	case "agent", "processor":
		var d digest.Digest
		if err := d.UnmarshalText([]byte(text)); err != nil {
			return "", &operator.Error{Status: http.StatusBadRequest, Code: "lease-name", Message: fmt.Sprintf("%s %q: %v", kind, text, err)}
		}
		return kind + "/" + d.String(), nil
	case "lease":
		found, err := e.log.Find(audit.Query{Kind: audit.KindGrant, Grant: text})
		if err != nil {
			return "", err
		}
		for _, f := range found {
			if f.Record != nil && f.Record.Grant == text {
				return agentName(f.Record.AgentKey), nil
			}
		}
		return "", &operator.Error{Status: http.StatusNotFound, Code: "not-found", Message: fmt.Sprintf("the audit log has no lease %q; anchorhold leases list shows those that run", text)}
	}
	return "", &operator.Error{Status: http.StatusBadRequest, Code: "lease-name", Message: "name a lease, an agent or a processor"}
}

// Keep writes the file. What the log has so far need not be read again.
func (e *Ended) Keep() error {
	e.changing.Lock()
	defer e.changing.Unlock()
	e.mu.Lock()
	e.state.Through = e.log.Size()
	e.mu.Unlock()
	return e.write()
}

func (e *Ended) write() error {
	e.mu.RLock()
	b, err := json.Marshal(e.state)
	e.mu.RUnlock()
	if err != nil {
		return err
	}
	return disk.Write(e.layout.Ended(), append(b, '\n'))
}

// change has the log say it, durably, before anything else. An exchange whose release is
// being recorded ends first, so that what is said to run still is all of it.
func (e *Ended) change(ctx context.Context, verb, who string) (operator.LeasesEnded, error) {
	e.changing.Lock()
	defer e.changing.Unlock()
	e.mu.RLock()
	_, is := e.state.Who[who]
	full := len(e.state.Who) >= maxEnded
	e.mu.RUnlock()
	switch {
	case verb == verbAllow && !is:
		return operator.LeasesEnded{}, &operator.Error{Status: http.StatusNotFound, Code: "not-found", Message: who + " was not ended; anchorhold leases list shows who was"}
	case verb == verbEnd && !is && full:
		return operator.LeasesEnded{}, &operator.Error{Status: http.StatusConflict, Code: "too-many-ended", Message: fmt.Sprintf("%d agents and processors are ended; allow some again that are gone for good, or remove their image's reference value", maxEnded)}
	}
	r := audit.Record{Kind: audit.KindService, Time: e.now(), Action: actionLeases, Resource: aboutLeases, Detail: verb + " " + who}
	leaf, err := e.log.Append(ctx, r)
	if err != nil {
		return operator.LeasesEnded{}, err
	}
	e.mu.Lock()
	e.apply(leaf.Index, r)
	e.mu.Unlock()
	if err := e.write(); err != nil {
		return operator.LeasesEnded{}, fmt.Errorf("the change is in force and in the log, but not in %s: %w", e.layout.Ended(), err)
	}
	out := operator.LeasesEnded{Who: who, At: r.Time.UTC()}
	running, err := e.list()
	for _, l := range running.Leases {
		if e.is(l, who) {
			out.Running = append(out.Running, l)
		}
		if e.is(l, who) && l.Ends.After(out.LastEnds) {
			out.LastEnds = l.Ends
		}
	}
	if running.More { // one of those that are not listed may be later
		out.LastEnds = e.now().UTC().Add(protocol.MaxLease)
	}
	return out, err
}

// maxListed bounds the releases that one list reads.
const maxListed = 1 << 17

// list reads the leases that run from the audit log, newest first.
func (e *Ended) list() (operator.LeaseList, error) {
	now := e.now()
	running, more, err := Running(e.layout.Audit(), now, maxListed)
	out := operator.LeaseList{Leases: running, More: more}
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, who := range slices.Sorted(maps.Keys(e.state.Who)) {
		out.Ended = append(out.Ended, operator.LeasesEnded{Who: who, At: e.state.Who[who]})
	}
	return out, err
}
