// Package operator is how an operator commands a running broker: HTTP and JSON
// over the broker's own unix socket, and the client of it.
//
// It guarantees that every request comes from a local user whom the kernel
// names and the configuration lists, that a role is checked for every route,
// that a change is in the audit log before it is made, and that no answer
// carries a secret: secrets go in, never out, and no metric is labelled with a
// name.
//
// It trusts the kernel's peer credentials and the broker's stores. It refuses
// everyone who is not listed, bodies over a named limit, and every change while
// the audit log cannot record it.
//
// The daemon serves it; the command line is its client.
package operator

import (
	"context"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/policy"
)

// Role is what a local user may do. The zero value may do nothing.
type Role int

// The roles. Each includes the ones before it.
const (
	RoleNone     Role = iota
	RoleViewer        // read status, metrics, policy, names of secrets, the audit log
	RoleOperator      // change policy, secrets, epochs
)

// Status is the broker at a glance.
type Status struct {
	Version     string      `json:"version"`
	Build       string      `json:"build"`
	Started     time.Time   `json:"started"`
	Address     string      `json:"address"`
	SoftwareTEE bool        `json:"software_tee"`
	Root        string      `json:"root"`
	Policy      *PolicyInfo `json:"policy,omitempty"`
	Secrets     int         `json:"secrets"`
	Epochs      []EpochInfo `json:"epochs"`
	// Ends are all dates on which the broker would stop to serve, by what ends then.
	Ends map[string]time.Time `json:"ends,omitempty"`
	// RevocationUnchecked are the certificates of which no list is asked whether they were revoked.
	RevocationUnchecked []string `json:"revocation_unchecked,omitempty"`
	// RefusesUntil is until when every guest is refused because the clock was set back; zero
	// if it was not.
	RefusesUntil  time.Time `json:"refuses_until,omitzero"`
	AuditRecords  uint64    `json:"audit_records"`
	AuditUnsigned uint64    `json:"audit_unsigned"`
	// AuditSuppressed is how many refusals were over the log's budget since the
	// broker started; they are counted in the log.
	AuditSuppressed uint64         `json:"audit_suppressed"`
	AuditError      string         `json:"audit_error,omitempty"`
	Counters        map[string]int `json:"counters,omitempty"`
}

// PolicyInfo describes a policy.
type PolicyInfo struct {
	ID        string        `json:"id"`
	Version   uint64        `json:"version"`
	Digest    digest.Digest `json:"digest"`
	NotBefore time.Time     `json:"not_before"`
	NotAfter  time.Time     `json:"not_after"`
	Imported  time.Time     `json:"imported,omitzero"`
	Active    bool          `json:"active"`
	Waived    []string      `json:"waived,omitempty"`
	// Warnings, of the policy in force, say what it accepts that its operator may not have meant.
	Warnings        []string                `json:"warnings,omitempty"`
	Source          string                  `json:"source,omitempty"`
	Explanation     string                  `json:"explanation,omitempty"`
	ReferenceValues []policy.ReferenceValue `json:"reference_values,omitempty"`
	// Unmatched, in the answer to an import, are names and subtrees of reference values that
	// no value has: guests that must have one of them are refused.
	Unmatched []string `json:"unmatched,omitempty"`
	// File and Unreadable are what a list says of a file that is no policy that this broker
	// reads: its path in the state directory, and what is wrong with it. ID and Version are
	// then what it states, if it does.
	File       string `json:"file,omitempty"`
	Unreadable string `json:"unreadable,omitempty"`
}

// TestRequest asks what a policy would decide.
type TestRequest struct {
	// Source is the policy to test; empty means the one in force.
	Source   string               `json:"source,omitempty"`
	Claims   evidence.Claims      `json:"claims"`
	Guest    evidence.GuestClaims `json:"guest"`
	Resource string               `json:"resource"`
	// Now is the time to test at; zero means the broker's.
	Now time.Time `json:"now,omitzero"`
}

// EpochInfo describes one epoch of the broker.
type EpochInfo struct {
	Epoch     uint64          `json:"epoch"`
	State     string          `json:"state"` // "requested", "prepared", "active", "retired"
	Key       identity.Public `json:"key"`
	NotBefore time.Time       `json:"not_before,omitzero"`
	NotAfter  time.Time       `json:"not_after,omitzero"`
	// Statement is what the root signed about it; none while it is requested.
	Statement []byte `json:"statement,omitempty"`
}

// EpochRequest is what the offline root needs to certify a new epoch.
type EpochRequest struct {
	Epoch    uint64          `json:"epoch"`
	Key      identity.Public `json:"key"`
	AuditKey identity.Public `json:"audit_key"`
}

// EpochAsk is what a broker asks its offline root for.
type EpochAsk struct {
	// Number is the epoch's; 0 is the next. A higher one is for a broker that lost epochs
	// which the root has signed.
	Number uint64 `json:"number,omitempty"`
	// MinEpoch retires all epochs below it; 0 keeps the minimum.
	MinEpoch  uint64    `json:"min_epoch,omitempty"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	// PolicyPin is the digest of the only policy that may decide; zero leaves the choice.
	PolicyPin digest.Digest `json:"policy_pin"`
}

// SignedEpochRequest is a protocol.EpochRequest, signed by the current epoch.
type SignedEpochRequest struct {
	Request []byte `json:"request"`
}

// Epochs is what the daemon does about epochs. Every change is durable when
// the method returns.
type Epochs interface {
	// List describes the epochs that are held.
	List() []EpochInfo
	// Prepare makes a new epoch key and returns what the root must sign.
	Prepare(ctx context.Context) (EpochRequest, error)
	// Request does what Prepare does, and asks for the root's signature in writing.
	Request(ctx context.Context, ask EpochAsk) (SignedEpochRequest, error)
	// Activate installs the root's signed statement for a prepared key.
	Activate(ctx context.Context, statement []byte) (EpochInfo, error)
	// Retire forgets an epoch and its key. The last active one is refused.
	Retire(ctx context.Context, epoch uint64) error
}

// ValuesImported is what an import of reference values did.
type ValuesImported struct {
	// Imported is how many values the file had, Total how many there are now.
	Imported int `json:"imported"`
	Total    int `json:"total"`
	// Unmatched are names and subtrees in the policy in force that no value has.
	Unmatched []string `json:"unmatched,omitempty"`
	// PolicyDigest is the policy's new one; zero if it did not change. An epoch that pins
	// the old one allows nothing any more.
	PolicyDigest digest.Digest `json:"policy_digest,omitzero"`
}

// ValueRemoved is what the removal of a reference value did.
type ValueRemoved struct {
	ID string `json:"id"`
	// Total is how many values are left.
	Total int `json:"total"`
	// Accepted says that the policy in force accepted guests with this measurement: they are
	// refused from now on, and their leases run to their end.
	Accepted bool `json:"accepted"`
	// Unmatched are names and subtrees in the policy that no value has any more.
	Unmatched []string `json:"unmatched,omitempty"`
	// PolicyDigest is the policy's new one; zero if none is in force. An epoch that pins
	// the old one allows nothing any more.
	PolicyDigest digest.Digest `json:"policy_digest,omitzero"`
}

// Lease is a lease that runs, by the audit log: every key that left is recorded there first.
type Lease struct {
	Lease string `json:"lease"`
	// Agent is the ID of the agent key, Processor the SHA-256 of the chip's id.
	Agent     digest.Digest `json:"agent"`
	Processor digest.Digest `json:"processor"`
	// Image is the digest of what was started; ImageID is what the guest says of itself.
	Image   string `json:"image"`
	ImageID string `json:"image_id,omitempty"`
	Tenant  string `json:"tenant,omitempty"`
	// Resources are the keys that were released, with their versions.
	Resources map[string]uint64 `json:"resources"`
	Policy    string            `json:"policy"`
	Peer      string            `json:"peer"`
	Granted   time.Time         `json:"granted"`
	Ends      time.Time         `json:"ends"`
}

// LeaseList is what runs and what was ended.
type LeaseList struct {
	Leases []Lease `json:"leases"`
	// More says that others run, which are not in the list.
	More  bool          `json:"more,omitempty"`
	Ended []LeasesEnded `json:"ended,omitempty"`
}

// LeasesEnded is an agent or a processor that gets no key any more.
type LeasesEnded struct {
	// Who is "agent/ID" or "processor/DIGEST".
	Who string    `json:"who"`
	At  time.Time `json:"at"`
	// Running are its leases that cannot be called back, LastEnds when the last one's
	// certificate ends; zero if none runs.
	Running  []Lease   `json:"running,omitempty"`
	LastEnds time.Time `json:"last_certificate_ends,omitzero"`
}

// SecretList is a part of the key store's contents.
type SecretList struct {
	Secrets []keystore.Info `json:"secrets"`
	More    bool            `json:"more,omitempty"`
}

// SecretVersion names one version of a secret.
type SecretVersion struct {
	Name    string `json:"name"`
	Version uint64 `json:"version"`
}

// PutMode says what to do when a name exists.
type PutMode string

// The modes of PutSecret.
const (
	PutNext   PutMode = "put"    // a new name, or the next version beside the others
	PutCreate PutMode = "create" // the name must be new
	PutRotate PutMode = "rotate" // the name must exist; its active versions are retired
)

// Inclusion proves that a record is in the log that a checkpoint signs.
type Inclusion struct {
	Leaf       audit.Leaf       `json:"leaf"`
	Proof      audit.Proof      `json:"proof"`
	Checkpoint audit.Checkpoint `json:"checkpoint"`
}

// Error is a refusal by the broker.
type Error struct {
	// Status is the HTTP status.
	Status int `json:"-"`
	// Code is stable.
	Code string `json:"code"`
	// Message is for people.
	Message string `json:"message"`
}

// Error returns code and message.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

type errorBody struct {
	Error *Error `json:"error"`
}
