package registry

import (
	"encoding/hex"
	"fmt"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Commitment is what a receipt has of its input or outputs; in JSON hexadecimal.
type Commitment [48]byte

// MarshalText writes lower-case hexadecimal.
func (c Commitment) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, c[:]), nil }

// UnmarshalText reads 96 lower-case hexadecimal digits.
func (c *Commitment) UnmarshalText(text []byte) error {
	if err := digest.Decode(c[:], text); err != nil {
		return fmt.Errorf("a commitment: %w", err)
	}
	return nil
}

// Receipt is what a verified receipt says, with the lease that it was given under.
type Receipt struct {
	ID    digest.ReceiptID `json:"id"`
	Model digest.Digest    `json:"model_id"`
	// Agent is the ID of the attested key that signed it.
	Agent            digest.Digest  `json:"agent"`
	Lease            digest.LeaseID `json:"lease"`
	InputCommitment  Commitment     `json:"input_commitment"`
	OutputCommitment Commitment     `json:"output_commitment"`
	Time             protocol.Time  `json:"time"`
	// Of the lease: the kind and digest of the evidence, the launch measurement in
	// hexadecimal, the image.
	Evidence       string        `json:"evidence"`
	EvidenceDigest digest.Digest `json:"evidence_digest"`
	Measurement    string        `json:"measurement"`
	Image          string        `json:"image"`
	SoftwareTEE    bool          `json:"software_tee"`
}
