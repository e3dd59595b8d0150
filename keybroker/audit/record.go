package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/digest"
)

// Limits of one record.
const (
	maxRecordBytes = 32 << 10
	maxFieldBytes  = 4 << 10
	maxReasons     = 64
)

// Versions of a record's encoding. A record that names the input of a decision has the second;
// all others keep the first, so that what was written before is what is written now.
const (
	recordVersion      = 1
	recordVersionInput = 2
)

// ErrRecord means that a record is not one this log can hold.
var ErrRecord = errors.New("malformed audit record")

// Kind says what a record reports.
type Kind uint8

// The kinds of records. Their numbers are part of the format.
const (
	KindService  Kind = 1 // the broker started, stopped or reloaded
	KindGrant    Kind = 2 // evidence was appraised and a lease granted
	KindRelease  Kind = 3 // a key is about to leave; written before it does
	KindReceipt  Kind = 4 // the guest confirmed what it received
	KindRefusal  Kind = 5 // an exchange ended without a release
	KindOperator Kind = 6 // an operator did something, or tried to
	KindAnomaly  Kind = 7 // something an operator should look at
	KindVolume   Kind = 8 // a guest opened a volume, or an operator lets it open another state of it
)

var errKind = errors.New("unknown kind of record")

// String returns the kind's stable name.
func (k Kind) String() string {
	switch k {
	case KindService:
		return "service"
	case KindGrant:
		return "grant"
	case KindRelease:
		return "release"
	case KindReceipt:
		return "receipt"
	case KindRefusal:
		return "refusal"
	case KindOperator:
		return "operator"
	case KindAnomaly:
		return "anomaly"
	case KindVolume:
		return "volume"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// ParseKind reads a kind's name.
func ParseKind(s string) (Kind, error) {
	for k := KindService; k <= KindVolume; k++ {
		if k.String() == s {
			return k, nil
		}
	}
	return 0, fmt.Errorf("%w %q; there are %s", errKind, s, strings.Join(Kinds(), ", "))
}

// Kinds returns the names of all kinds.
func Kinds() (names []string) {
	for k := KindService; k <= KindVolume; k++ {
		names = append(names, k.String())
	}
	return names
}

// MarshalText writes the kind's name.
func (k Kind) MarshalText() ([]byte, error) {
	if k < KindService || k > KindVolume {
		return nil, errKind
	}
	return []byte(k.String()), nil
}

// UnmarshalText reads the kind's name.
func (k *Kind) UnmarshalText(b []byte) error {
	v, err := ParseKind(string(b))
	if err == nil {
		*k = v
	}
	return err
}

// Reason is one cause of a refusal: a stable code and what an operator should
// know. Remote peers see the code, never the detail.
type Reason struct {
	Code   string `json:"code"`
	Detail string `json:"detail,omitempty"`
}

// Record is one entry of the log. Evidence, keys and chips appear by digest;
// no field may hold a secret. Fields that do not apply stay zero.
type Record struct {
	Kind Kind `json:"kind"`
	// Time is the broker's clock.
	Time time.Time `json:"time"`
	// Connection identifies the exchange within this broker; a connection that is kept
	// has several.
	Connection string `json:"connection,omitempty"`
	// Peer is the remote address.
	Peer string `json:"peer,omitempty"`
	// RefusalID is the opaque id that the peer was given.
	RefusalID string `json:"refusal_id,omitempty"`
	// Grant is the lease's id.
	Grant string `json:"grant,omitempty"`
	// Actor is the operator ("uid 1000") or empty.
	Actor string `json:"actor,omitempty"`
	// Action names an operator's action or a service event.
	Action string `json:"action,omitempty"`
	// Resource is the name of the key that was asked for or changed.
	Resource string `json:"resource,omitempty"`
	// ResourceVersion is its version; of a volume, the generation.
	ResourceVersion uint64 `json:"resource_version,omitempty"`
	// Decision is "allowed" or "refused", or empty where nothing was decided.
	Decision string `json:"decision,omitempty"`
	// Reasons are the causes of a refusal.
	Reasons []Reason `json:"reasons,omitempty"`
	// Waived are the checks that the policy waives in writing.
	Waived []string `json:"waived,omitempty"`
	// PolicyID, PolicyVersion and PolicyDigest name the policy that decided.
	PolicyID      string        `json:"policy_id,omitempty"`
	PolicyVersion uint64        `json:"policy_version,omitempty"`
	PolicyDigest  digest.Digest `json:"policy_digest,omitzero"`
	// EvidenceKind is the kind of evidence, for example "sev-snp".
	EvidenceKind string `json:"evidence_kind,omitempty"`
	// EvidenceDigest is the digest of the evidence envelope.
	EvidenceDigest digest.Digest `json:"evidence_digest,omitzero"`
	// ClaimsDigest is the digest of what appraisal found true.
	ClaimsDigest digest.Digest `json:"claims_digest,omitzero"`
	// AgentKey is the id of the attested agent key.
	AgentKey digest.Digest `json:"agent_key,omitzero"`
	// ChipDigest is the SHA-256 of the chip id.
	ChipDigest digest.Digest `json:"chip_digest,omitzero"`
	// Measurement is the first register of the image in hexadecimal: SEV-SNP's launch measurement.
	Measurement string `json:"measurement,omitempty"`
	// MessageDigest is the digest of the protocol message concerned; of a volume, the mark of its generation.
	MessageDigest digest.Digest `json:"message_digest,omitzero"`
	// InputDigest is the digest of everything that the policy decided on: the document that
	// package inputs keeps beside the log. It is zero where no policy was asked.
	InputDigest digest.Digest `json:"input_digest,omitzero"`
	// Epoch is the broker's epoch.
	Epoch uint64 `json:"epoch,omitempty"`
	// Expiry is the end of the lease.
	Expiry time.Time `json:"expiry,omitzero"`
	// Detail is anything else an operator should know.
	Detail string `json:"detail,omitempty"`
}

// texts lists the text fields in the order of the encoding.
func (r *Record) texts() []*string {
	return []*string{&r.Connection, &r.Peer, &r.RefusalID, &r.Grant, &r.Actor, &r.Action, &r.Resource,
		&r.Decision, &r.PolicyID, &r.EvidenceKind, &r.Measurement, &r.Detail}
}

// digests lists the digests that a version of the encoding has.
func (r *Record) digests(version uint8) []*digest.Digest {
	all := []*digest.Digest{&r.PolicyDigest, &r.EvidenceDigest, &r.ClaimsDigest, &r.AgentKey, &r.ChipDigest, &r.MessageDigest, &r.InputDigest}
	if version == recordVersionInput {
		return all
	}
	return all[:len(all)-1]
}

// version is the one version in which the record is encoded.
func (r *Record) version() uint8 {
	if r.InputDigest.IsZero() {
		return recordVersion
	}
	return recordVersionInput
}

func (r *Record) numbers() []*uint64 {
	return []*uint64{&r.ResourceVersion, &r.PolicyVersion, &r.Epoch}
}

// Marshal encodes the record in its one canonical form: version, kind, times
// in nanoseconds, numbers, digests, then length-prefixed text in fixed order.
func (r Record) Marshal() ([]byte, error) {
	if r.Kind < KindService || r.Kind > KindVolume {
		return nil, fmt.Errorf("%w: %w %d", ErrRecord, errKind, r.Kind)
	}
	if r.Time.IsZero() {
		return nil, fmt.Errorf("%w: no time", ErrRecord)
	}
	if len(r.Reasons) > maxReasons || len(r.Waived) > maxReasons {
		return nil, fmt.Errorf("%w: more than %d reasons", ErrRecord, maxReasons)
	}
	for _, s := range r.texts() {
		if len(*s) > maxFieldBytes {
			return nil, fmt.Errorf("%w: a field has %d bytes (at most %d)", ErrRecord, len(*s), maxFieldBytes)
		}
	}
	out := make([]byte, 0, r.size())
	version := r.version()
	out = append(out, version, byte(r.Kind))
	out = binary.BigEndian.AppendUint64(out, nanoseconds(r.Time))
	out = binary.BigEndian.AppendUint64(out, nanoseconds(r.Expiry))
	for _, n := range r.numbers() {
		out = binary.BigEndian.AppendUint64(out, *n)
	}
	for _, d := range r.digests(version) {
		out = append(out, d[:]...)
	}
	for _, s := range r.texts() {
		out = appendText(out, *s)
	}
	out = append(out, byte(len(r.Reasons)))
	for _, reason := range r.Reasons {
		out = appendText(appendText(out, clip(reason.Code)), clip(reason.Detail))
	}
	out = append(out, byte(len(r.Waived)))
	for _, w := range r.Waived {
		out = appendText(out, clip(w))
	}
	if len(out) > maxRecordBytes {
		return nil, fmt.Errorf("%w: %d bytes (at most %d)", ErrRecord, len(out), maxRecordBytes)
	}
	return out, nil
}

// clip bounds a reason's text: a refusal must be recordable however long its
// explanation is.
func clip(s string) string {
	const maxReasonBytes = 240
	if len(s) > maxReasonBytes {
		return s[:maxReasonBytes]
	}
	return s
}

func nanoseconds(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixNano())
}

func fromNanoseconds(n uint64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(n)).UTC()
}

// size is at least what the record's encoding takes.
func (r *Record) size() int {
	n := 288 + 2*len(r.texts())
	for _, s := range r.texts() {
		n += len(*s)
	}
	for _, reason := range r.Reasons {
		n += 4 + len(clip(reason.Code)) + len(clip(reason.Detail))
	}
	for _, w := range r.Waived {
		n += 2 + len(clip(w))
	}
	return n
}

// appendText appends a text of at most maxFieldBytes behind its length.
func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func readText(s *cryptobyte.String, out *string) bool {
	var v cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&v) || len(v) > maxFieldBytes {
		return false
	}
	*out = string(v)
	return true
}

// ParseRecord reads a record. Whatever parses encodes to the same bytes again.
func ParseRecord(b []byte) (Record, error) {
	var r Record
	if len(b) > maxRecordBytes {
		return r, fmt.Errorf("%w: %d bytes", ErrRecord, len(b))
	}
	s := cryptobyte.String(b)
	if !r.readFixed(&s) || !r.readLists(&s) || !s.Empty() {
		return Record{}, fmt.Errorf("%w: wrong structure", ErrRecord)
	}
	again, err := r.Marshal()
	if err != nil {
		return Record{}, err
	}
	if string(again) != string(b) {
		return Record{}, fmt.Errorf("%w: not in canonical form", ErrRecord)
	}
	return r, nil
}

func (r *Record) readFixed(s *cryptobyte.String) bool {
	var version, kind uint8
	var when, expiry uint64
	if !s.ReadUint8(&version) || version != recordVersion && version != recordVersionInput || !s.ReadUint8(&kind) || !s.ReadUint64(&when) || !s.ReadUint64(&expiry) {
		return false
	}
	r.Kind, r.Time, r.Expiry = Kind(kind), fromNanoseconds(when), fromNanoseconds(expiry)
	for _, n := range r.numbers() {
		if !s.ReadUint64(n) {
			return false
		}
	}
	for _, d := range r.digests(version) {
		if !s.CopyBytes(d[:]) {
			return false
		}
	}
	for _, t := range r.texts() {
		if !readText(s, t) {
			return false
		}
	}
	return true
}

func (r *Record) readLists(s *cryptobyte.String) bool {
	var n uint8
	if !s.ReadUint8(&n) || n > maxReasons {
		return false
	}
	for range n {
		var reason Reason
		if !readText(s, &reason.Code) || !readText(s, &reason.Detail) {
			return false
		}
		r.Reasons = append(r.Reasons, reason)
	}
	if !s.ReadUint8(&n) || n > maxReasons {
		return false
	}
	for range n {
		var w string
		if !readText(s, &w) {
			return false
		}
		r.Waived = append(r.Waived, w)
	}
	return true
}
