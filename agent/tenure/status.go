package tenure

import (
	"encoding/hex"
	"errors"
	"time"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/client"
)

// Status is what /v1/status and `anchorhold status` show. It holds no secret.
type Status struct {
	Version     string       `json:"version"`
	State       string       `json:"state"` // "serving" or the reason code why not
	Detail      string       `json:"detail,omitempty"`
	SoftwareTEE bool         `json:"software_tee"`
	AgentKey    string       `json:"agent_key"` // its digest, by which rounds and keys name this agent
	MemoryLimit int64        `json:"memory_limit_bytes"`
	Lease       *LeaseStatus `json:"lease,omitempty"`
	// Ends are the dates on which the broker would grant this guest nothing any more, by
	// what ends then.
	Ends  map[string]time.Time `json:"ends,omitempty"`
	Model *ModelStatus         `json:"model,omitempty"`
	// Models are all by name, where there are several. Model is the first of them.
	Models map[string]OneStatus `json:"models,omitempty"`
	// ModelUpdate says of a file that is to take the place of the model that is served, or
	// has none beside it, that it is being opened, or why it is not served.
	ModelUpdate string `json:"model_update,omitempty"`
	// Secrets are those held for other services of this guest, with their versions at the broker.
	Secrets map[string]uint64 `json:"secrets,omitempty"`
	// LastRefusal is why the last attempt to attest got no lease; nil once one did.
	LastRefusal *RefusalStatus `json:"last_refusal,omitempty"`
}

// OneStatus shows one of several models, which has a lease of its own.
type OneStatus struct {
	State       string       `json:"state"` // "serving" or the reason code why not
	Detail      string       `json:"detail,omitempty"`
	Lease       *LeaseStatus `json:"lease,omitempty"`
	ModelUpdate string       `json:"model_update,omitempty"`
	*ModelStatus
	LastRefusal *RefusalStatus `json:"last_refusal,omitempty"`
}

// One is what the status says of this tenure's model.
func (s Status) One() OneStatus {
	return OneStatus{s.State, s.Detail, s.Lease, s.ModelUpdate, s.Model, s.LastRefusal}
}

// RefusalStatus shows why an attempt to attest failed.
type RefusalStatus struct {
	Reason string    `json:"reason"`       // a stable code (docs/protocol.md 9)
	ID     string    `json:"id,omitempty"` // of a refusal by the broker, whose operator finds the details under it
	Time   time.Time `json:"time"`         // of the guest's clock
}

// attested takes note of what an attempt to attest came to.
func (t *Tenure) attested(err error) {
	var denied *RefusalStatus
	if err != nil {
		denied = &RefusalStatus{Time: time.Now().UTC().Truncate(time.Second)}
		if e, ok := errors.AsType[*client.Error](err); ok {
			denied.Reason, denied.ID = string(e.Reason), e.ID
		} else {
			denied.Reason, _ = Why(err)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.denied = denied
}

// LeaseStatus shows the lease that is held.
type LeaseStatus struct {
	ID               string  `json:"id"`
	Policy           string  `json:"policy"`
	PolicyVersion    uint64  `json:"policy_version"`
	RemainingSeconds float64 `json:"remaining_seconds"`
	TTLSeconds       float64 `json:"ttl_seconds"`
	TLSGroup         string  `json:"tls_group"`
	Broker           string  `json:"broker"`
	Epoch            uint64  `json:"epoch"`
	EvidenceKind     string  `json:"evidence_kind"`
	EvidenceDigest   string  `json:"evidence_digest"`
	AuditIndex       uint64  `json:"audit_index"`
	AuditLeaf        string  `json:"audit_leaf"`
	// Permit is there while the agent runs on a permit; the lease is then the last one, which is over.
	Permit *PermitStatus `json:"permit,omitempty"`
}

// ModelStatus shows the model that is served.
type ModelStatus struct {
	Name       string `json:"name"`
	ID         string `json:"id"`
	Version    uint64 `json:"version"`
	KeyVersion uint64 `json:"key_version"`
	Mode       string `json:"mode"`
	Context    int    `json:"context"`
	Sequences  int    `json:"sequences"` // answers at a time
	Threads    int    `json:"threads"`
	ArenaBytes int64  `json:"arena_bytes"`
	// CacheBytes is the part of it that holds keys and values, which would be SavedByWindows more if layers with a
	// sliding window kept all positions.
	CacheBytes     int64 `json:"cache_bytes"`
	SavedByWindows int64 `json:"saved_by_windows_bytes"`
	// Receipts is "verify", or why receipts of this model's answers do not.
	Receipts string `json:"receipts"`
}

// Status shows what is held and served, with what the caller knows of itself.
func (t *Tenure) Status(version string, softwareTEE bool, limit int64) Status {
	s := Status{Version: version, State: "serving", SoftwareTEE: softwareTEE, MemoryLimit: limit, Ends: t.dates.show()}
	if err := t.Serving(); err != nil {
		s.State, s.Detail = Why(err)
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	s.LastRefusal = t.denied
	if l := t.lease; l != nil {
		s.Lease = &LeaseStatus{ID: l.ID, Policy: l.PolicyID, PolicyVersion: l.PolicyVersion, RemainingSeconds: l.Remaining(time.Now()).Round(time.Millisecond).Seconds(),
			TTLSeconds: l.TTL.Seconds(), TLSGroup: l.TLSGroup, Broker: hex.EncodeToString(l.BrokerID[:]), Epoch: l.Epoch,
			EvidenceKind: string(l.EvidenceKind), EvidenceDigest: hex.EncodeToString(l.EvidenceDigest[:]),
			AuditIndex: l.AuditIndex, AuditLeaf: hex.EncodeToString(l.AuditLeaf[:]), Permit: permitStatus(l, time.Now())}
	}
	switch {
	case t.trouble != nil:
		s.ModelUpdate = "not served; the previous model stays in service while its key is granted: " + t.trouble.Error()
	case t.awaited != nil:
		s.ModelUpdate = "being opened; there is no room for two models, and requests wait"
	case t.opening != nil && t.model != nil:
		s.ModelUpdate = "being opened beside the model that is served"
	}
	if m := t.model; m != nil {
		s.Model = &ModelStatus{Name: m.Name, ID: m.ID(), Version: m.Weights.Public().Version, KeyVersion: m.KeyVersion,
			Mode: m.Weights.Mode().String(), Context: m.ContextSize(), Sequences: m.AtOnce(), Threads: m.Threads, ArenaBytes: m.Memory.Used(), CacheBytes: m.CacheBytes(), SavedByWindows: m.SavedByWindows()}
		if t.lease != nil {
			s.Model.Receipts = m.Receipts(t.lease.Roles[m.Resource])
		}
	}
	return s
}

// AtOnce is how many answers the model of this name makes at a time; 0 if it is not served.
func (t *Tenure) AtOnce(name string) int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.model == nil || t.model.Name != name {
		return 0
	}
	return t.model.AtOnce()
}

// Gauges are the agent's own figures for /metrics.
func (t *Tenure) Gauges() []localapi.Gauge {
	serving := 0.0
	if t.Serving() == nil {
		serving = 1
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	list := []localapi.Gauge{{Name: "anchorhold_serving", Help: "1 while a lease and a model are held.", Value: serving}}
	if t.lease != nil {
		list = append(list, localapi.Gauge{Name: "anchorhold_lease_remaining_seconds", Help: "Time until the lease ends.", Value: t.lease.Remaining(time.Now()).Seconds()})
	}
	list = append(list, permitGauges(t.lease, time.Now())...)
	refused := 0.0
	if t.trouble != nil {
		refused = 1
	}
	list = append(list, localapi.Gauge{Name: "anchorhold_model_update_refused", Help: "1 while the installed file of the model does not open and the one before it is served.", Value: refused})
	if t.model != nil {
		list = append(list, localapi.Gauge{Name: "anchorhold_arena_bytes", Help: "Memory of weights, cache and scratch.", Value: float64(t.model.Memory.Used())})
	}
	return append(list, t.dates.gauges()...)
}

// Why is the reason code of a refusal, and what it says.
func Why(err error) (reason, detail string) {
	if r, ok := errors.AsType[*refusal.Error](err); ok {
		return string(r.Reason), r.Detail
	}
	return "unavailable", err.Error()
}
