// Package receipt makes and checks signed receipts of inference answers.
//
// A receipt guarantees to whoever trusts the broker's root identity that a guest
// which the broker had attested, and whose lease ran at the time and was granted the
// model's key, answered with that model. It carries its whole chain: the root's epoch statement, the
// broker's lease certificate over the agent's key, and the agent's signature
// over the body. Input and output are salted commitments: the receipt tells
// nobody what was asked, and the client, who has the salts, can prove it.
//
// Verify trusts the root identities it is given and nothing else: no clock, no
// network, no field of the receipt. It refuses any other encoding than the one
// that it would write itself, and every refusal has a reason code.
//
// The local API issues and stores receipts; the command line verifies them.
package receipt

import (
	"crypto/rand"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Context is the signing context of receipts.
const Context = "anchorhold/receipt/2"

// Version is the format's version, in every body.
const Version = 2

// Receipts of version 1 are read, and none is made: their leases do not say what was
// granted. Fields and order are those of version 2.
const (
	formerContext = "anchorhold/receipt/1"
	formerVersion = 1
)

// Limits on a receipt.
const (
	maxNameBytes      = 128
	maxSignatureBytes = 8 << 10
	maxChainBytes     = 32 << 10
	// MaxBytes bounds the binary form, MaxJSONBytes the JSON form.
	MaxBytes     = 48 << 10
	MaxJSONBytes = 96 << 10
)

// Reasons of this package.
const (
	// ReasonMalformed: not the canonical encoding of a receipt of this version.
	ReasonMalformed refusal.Reason = "receipt-malformed"
	// ReasonSignature: the attested agent key did not sign this body.
	ReasonSignature refusal.Reason = "receipt-signature"
	// ReasonLease: body and lease certificate name different leases.
	ReasonLease refusal.Reason = "receipt-lease-mismatch"
	// ReasonEvidence: body and lease certificate name different evidence.
	ReasonEvidence refusal.Reason = "receipt-evidence-mismatch"
	// ReasonTime: the answer's time lies outside the lease.
	ReasonTime refusal.Reason = "receipt-outside-lease"
	// ReasonInput and ReasonOutput: the bytes are not the committed ones.
	ReasonInput  refusal.Reason = "receipt-input-mismatch"
	ReasonOutput refusal.Reason = "receipt-output-mismatch"
	// The receipt holds, but is not what was expected of it ([Expect]).
	ReasonMeasurement refusal.Reason = "receipt-measurement-mismatch"
	ReasonImage       refusal.Reason = "receipt-image-mismatch"
	ReasonPolicy      refusal.Reason = "receipt-policy-mismatch"
	ReasonModel       refusal.Reason = "receipt-model-mismatch"
	ReasonTenant      refusal.Reason = "receipt-tenant-mismatch"
)

// Body is what a receipt states and the agent signs.
type Body struct {
	ID               digest.ReceiptID
	ModelID          [32]byte // root of the sealed model's manifest
	ModelName        string   // as served; printable ASCII, 1 to 128 bytes
	ModelVersion     uint64   // of the sealed model
	InputCommitment  Commitment
	OutputCommitment Commitment
	LeaseID          digest.LeaseID
	EvidenceDigest   [32]byte
	PromptTokens     uint32
	CompletionTokens uint32
	Time             protocol.Time // broker time at the end of the answer

	former bool // of version 1: parsed, never signed
}

// Former says whether the body is of version 1, whose leases do not say what they were
// granted.
func (b *Body) Former() bool { return b.former }

// format is the body's signing context and version.
func (b *Body) format() (context string, version uint16) {
	if b.former {
		return formerContext, formerVersion
	}
	return Context, Version
}

// Receipt is a signed body with the chain that makes its key trustworthy.
type Receipt struct {
	Body       Body
	Signature  []byte // by the agent key, over the body's encoding, under Context
	LeaseChain []byte // epoch statement and lease certificate, as protocol.MarshalLeaseChain writes them
}

// Sign signs a body with the attested agent key. The chain must be the one of
// the lease that the body names; Verify would refuse another.
func Sign(agentKey *identity.Private, body Body, leaseChain []byte) (Receipt, error) {
	body.former = false
	msg, err := body.Marshal()
	if err != nil {
		return Receipt{}, err
	}
	if len(leaseChain) == 0 || len(leaseChain) > maxChainBytes {
		return Receipt{}, fmt.Errorf("receipt: lease chain of %d bytes", len(leaseChain))
	}
	sig, err := agentKey.Sign(Context, msg)
	if err != nil {
		return Receipt{}, fmt.Errorf("receipt: %w", err)
	}
	return Receipt{Body: body, Signature: sig, LeaseChain: leaseChain}, nil
}

// Lease is what an agent knows about the lease under which it answers.
type Lease struct {
	ID             digest.LeaseID
	EvidenceDigest [32]byte
	Chain          []byte        // as the broker sent it
	Now            protocol.Time // broker time
}

// NewID returns a random ID, so that an answer can name its receipt before it is
// finished.
func NewID() (digest.ReceiptID, error) {
	var id digest.ReceiptID
	_, err := rand.Read(id[:])
	return id, err
}

// Answer is one finished inference.
type Answer struct {
	ID                             digest.ReceiptID // from NewID
	ModelID                        [32]byte
	ModelName                      string
	ModelVersion                   uint64
	Input, Output                  []byte
	PromptTokens, CompletionTokens uint32
}

// Issued is a fresh receipt with the salts that open its commitments. The salts
// are for the client alone: with them a guess at the input can be confirmed.
type Issued struct {
	Receipt Receipt `json:"receipt"`
	Salts   Salts   `json:"salts"`
}

// Issue commits to an answer under fresh salts and signs its receipt.
func Issue(agentKey *identity.Private, lease Lease, a Answer) (Issued, error) {
	var out Issued
	body := Body{
		ID: a.ID, ModelID: a.ModelID, ModelName: a.ModelName, ModelVersion: a.ModelVersion,
		LeaseID: lease.ID, EvidenceDigest: lease.EvidenceDigest, Time: lease.Now,
		PromptTokens: a.PromptTokens, CompletionTokens: a.CompletionTokens,
	}
	for _, b := range [][]byte{out.Salts.Input[:], out.Salts.Output[:]} {
		if _, err := rand.Read(b); err != nil {
			return Issued{}, fmt.Errorf("receipt: %w", err)
		}
	}
	body.InputCommitment = CommitInput(out.Salts.Input, a.Input)
	body.OutputCommitment = CommitOutput(out.Salts.Output, a.Output)
	var err error
	out.Receipt, err = Sign(agentKey, body, lease.Chain)
	return out, err
}

// valid says whether the body may be encoded: what Parse refuses, Sign never signs.
func (b *Body) valid() bool {
	if len(b.ModelName) == 0 || len(b.ModelName) > maxNameBytes {
		return false
	}
	for i := range len(b.ModelName) {
		if b.ModelName[i] <= ' ' || b.ModelName[i] > '~' {
			return false
		}
	}
	return b.ID != digest.ReceiptID{} && b.Time > 0 && b.Time <= maxTime
}

// maxTime is the last millisecond of the year 9999.
const maxTime = 253402300799999

// Marshal returns the body's canonical encoding, which is what the agent signs.
func (b *Body) Marshal() ([]byte, error) {
	if !b.valid() {
		return nil, errors.New("receipt: the id, the model's name or the time is outside its limits")
	}
	var c cryptobyte.Builder
	context, version := b.format()
	c.AddUint8LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes([]byte(context)) })
	c.AddUint16(version)
	c.AddBytes(b.ID[:])
	c.AddBytes(b.ModelID[:])
	c.AddUint8LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes([]byte(b.ModelName)) })
	c.AddUint64(b.ModelVersion)
	c.AddBytes(b.InputCommitment[:])
	c.AddBytes(b.OutputCommitment[:])
	c.AddBytes(b.LeaseID[:])
	c.AddBytes(b.EvidenceDigest[:])
	c.AddUint32(b.PromptTokens)
	c.AddUint32(b.CompletionTokens)
	c.AddUint64(uint64(b.Time))
	return c.Bytes()
}

// parseBody reads what Marshal writes, of either version.
func parseBody(raw []byte) (Body, error) {
	var b Body
	var label, name cryptobyte.String
	var version uint16
	var at uint64
	s := cryptobyte.String(raw)
	if !s.ReadUint8LengthPrefixed(&label) || !s.ReadUint16(&version) || !b.setFormat(string(label), version) ||
		!s.CopyBytes(b.ID[:]) || !s.CopyBytes(b.ModelID[:]) || !s.ReadUint8LengthPrefixed(&name) || !s.ReadUint64(&b.ModelVersion) ||
		!s.CopyBytes(b.InputCommitment[:]) || !s.CopyBytes(b.OutputCommitment[:]) ||
		!s.CopyBytes(b.LeaseID[:]) || !s.CopyBytes(b.EvidenceDigest[:]) ||
		!s.ReadUint32(&b.PromptTokens) || !s.ReadUint32(&b.CompletionTokens) || !s.ReadUint64(&at) || !s.Empty() {
		return Body{}, refusal.New(ReasonMalformed, "the body is truncated, has trailing bytes or is of another version")
	}
	b.ModelName, b.Time = string(name), protocol.Time(at)
	if !b.valid() {
		return Body{}, refusal.New(ReasonMalformed, "a value in the body is outside its limits")
	}
	return b, nil
}

// setFormat takes over which version a body is of; no when it is unknown.
func (b *Body) setFormat(context string, version uint16) bool {
	b.former = context == formerContext
	knownContext, knownVersion := b.format()
	return context == knownContext && version == knownVersion
}

// Marshal returns the canonical binary form.
func (r Receipt) Marshal() ([]byte, error) {
	body, err := r.Body.Marshal()
	if err != nil {
		return nil, err
	}
	if len(r.Signature) == 0 || len(r.Signature) > maxSignatureBytes || len(r.LeaseChain) == 0 || len(r.LeaseChain) > maxChainBytes {
		return nil, errors.New("receipt: signature or lease chain is missing or too long")
	}
	var c cryptobyte.Builder
	for _, part := range [][]byte{body, r.Signature, r.LeaseChain} {
		c.AddUint16LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes(part) })
	}
	return c.Bytes()
}

// Parse reads the binary form. It checks no signature.
func Parse(raw []byte) (Receipt, error) {
	if len(raw) > MaxBytes {
		return Receipt{}, refusal.New(ReasonMalformed, "%d bytes, the limit is %d", len(raw), MaxBytes)
	}
	var body, sig, chain cryptobyte.String
	s := cryptobyte.String(raw)
	if !s.ReadUint16LengthPrefixed(&body) || !s.ReadUint16LengthPrefixed(&sig) || !s.ReadUint16LengthPrefixed(&chain) || !s.Empty() ||
		len(sig) == 0 || len(sig) > maxSignatureBytes || len(chain) == 0 || len(chain) > maxChainBytes {
		return Receipt{}, refusal.New(ReasonMalformed, "truncated, followed by other bytes or over a limit")
	}
	b, err := parseBody(body)
	if err != nil {
		return Receipt{}, err
	}
	return Receipt{Body: b, Signature: append([]byte(nil), sig...), LeaseChain: append([]byte(nil), chain...)}, nil
}
