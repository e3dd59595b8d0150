package policy

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/strictjson"
)

// Limits of a request in its document.
const (
	requestFormat    = 1
	maxRequestBytes  = 256 << 10
	maxRequestValues = 64 << 10
	maxRequestList   = 16 << 10
)

// Request is what a guest asked for in one exchange, and everything that the decision depended on
// but the policy. The broker keeps it beside its audit log as a document, so that another policy can be
// asked later what it would have said. It holds nothing secret: claims, names and a time.
type Request struct {
	// Now is the broker's time at the decision.
	Now time.Time
	// Resources are the names that were asked for, in their order.
	Resources []string
	// Claims and Guest are as in Input.
	Claims evidence.Claims
	Guest  evidence.GuestClaims
}

// requestDocument is the canonical form of a request.
type requestDocument struct {
	Format    int             `json:"format"`
	Time      time.Time       `json:"time"`
	Resources []string        `json:"resources"`
	Guest     guestDocument   `json:"guest"`
	Claims    evidence.Claims `json:"claims"`
}

// guestDocument is what a guest states of itself.
type guestDocument struct {
	EventLogDigest digest.Digest        `json:"event_log_digest,omitzero"`
	ImageID        string               `json:"image_id"`
	AgentBuild     string               `json:"agent_build"`
	Tenant         string               `json:"tenant"`
	MemoryLimit    uint64               `json:"memory_limit"`
	ClockSource    evidence.ClockSource `json:"clock_source"`
}

// Document is the request in the form that is kept (docs/audit-log.md, "Decision inputs"): JSON with the
// fields in one order, no space between tokens, and the claims in their canonical form. Its SHA-256 stands in
// the record of the decision.
func (r Request) Document() ([]byte, error) {
	g := r.Guest
	return json.Marshal(requestDocument{requestFormat, r.Now.UTC(), r.Resources,
		guestDocument{g.EventLogDigest, g.ImageID, g.AgentBuild, g.Tenant, g.MemoryLimit, g.ClockSource}, r.Claims})
}

// ParseRequest reads a request's document. Whatever parses has the same document again.
func ParseRequest(data []byte) (Request, error) {
	if len(data) > maxRequestBytes {
		return Request{}, fmt.Errorf("decision input: got %d bytes, want at most %d", len(data), maxRequestBytes)
	}
	var d requestDocument
	if err := strictjson.Decode(data, strictjson.Limits{Values: maxRequestValues, List: maxRequestList}, &d); err != nil {
		return Request{}, fmt.Errorf("decision input: %w", err)
	}
	if d.Format != requestFormat {
		return Request{}, fmt.Errorf("decision input: format: got %d, want %d", d.Format, requestFormat)
	}
	g := d.Guest
	r := Request{d.Time, d.Resources, d.Claims, evidence.GuestClaims{EventLogDigest: g.EventLogDigest, ImageID: g.ImageID, AgentBuild: g.AgentBuild,
		Tenant: g.Tenant, MemoryLimit: g.MemoryLimit, ClockSource: g.ClockSource}}
	if again, err := r.Document(); err != nil || string(again) != string(data) {
		return Request{}, fmt.Errorf("decision input: not in canonical form")
	}
	return r, nil
}

// Ruling is the outcome for a whole request. The zero value refuses.
type Ruling struct {
	// Allowed is true only if every resource is.
	Allowed bool
	// Refused is the first resource that was refused, and Reasons say why.
	Refused string
	Reasons []Failure
	// Decisions are those on the resources up to the first that was refused.
	Decisions []Decision
	// LeaseTTL is the shortest of them.
	LeaseTTL time.Duration
}

// Decide asks a policy for each resource. One refused resource refuses the request: an agent asks for
// what it needs, and half of that would only fail later and less clearly (protocol 5.4).
func (r Request) Decide(p *Policy) Ruling {
	var out Ruling
	if len(r.Resources) == 0 {
		out.Reasons = []Failure{{ReasonResource, "no resource was asked for"}}
		return out
	}
	for i, name := range r.Resources {
		d := Decide(p, Input{Claims: r.Claims, Guest: r.Guest, Resource: name, Now: r.Now})
		out.Decisions = append(out.Decisions, d)
		if !d.Allowed {
			out.Refused, out.Reasons, out.LeaseTTL = name, d.Reasons, 0
			return out
		}
		if i == 0 || d.LeaseTTL < out.LeaseTTL {
			out.LeaseTTL = d.LeaseTTL
		}
	}
	if out.LeaseTTL = out.LeaseTTL.Truncate(time.Millisecond); out.LeaseTTL <= 0 {
		out.LeaseTTL, out.Reasons = 0, []Failure{{protocol.ReasonNoLease, "the policy grants no lease time"}}
		return out
	}
	out.Allowed = true
	return out
}

// WithoutLife returns the policy without its bounds of time: it counts always. A policy that is to come
// is asked with it about the past. What the checks themselves say of time, such as a grace, stays.
func (p *Policy) WithoutLife() *Policy {
	if p == nil {
		return nil
	}
	q := *p
	q.notBefore, q.notAfter = time.Time{}, time.Unix(1<<33, 0) // the year 2242
	return &q
}
