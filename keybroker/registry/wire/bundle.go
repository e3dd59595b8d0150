package wire

import (
	"bytes"
	"encoding/json"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/strictjson"
)

// Bundle is a proof with what opens the receipts' commitments to its outputs.
type Bundle struct {
	Envelope statement.Envelope `json:"proof"`
	// OutputSalts are those of the statement's items, in their order.
	OutputSalts []Salt `json:"output_salts"`
}

// MaxBundleBytes bounds a bundle.
const MaxBundleBytes = statement.MaxEnvelopeJSON + statement.MaxItems*64 + 1<<10

// Check holds the bundle against its limits. It does not verify the proof.
func (b *Bundle) Check() error {
	if err := b.Envelope.Check(); err != nil {
		return refusal.New(ReasonBundle, "%w", err)
	}
	f := b.Envelope.Statement.Inference
	if f == nil {
		return refusal.New(ReasonBundle, "the proof is not of inferences")
	}
	if len(b.OutputSalts) != len(f.Items) {
		return refusal.New(ReasonBundle, "%d salts for %d inferences", len(b.OutputSalts), len(f.Items))
	}
	seen := make(map[digest.ReceiptID]bool, len(f.Items))
	for _, item := range f.Items {
		if seen[item.Receipt] {
			return refusal.New(ReasonBundle, "receipt %s is named twice", item.Receipt)
		}
		seen[item.Receipt] = true
	}
	return nil
}

// plainBundle is Bundle without methods.
type plainBundle Bundle

// Marshal is the bundle's one form: JSON.
func (b *Bundle) Marshal() ([]byte, error) {
	if err := b.Check(); err != nil {
		return nil, err
	}
	return json.Marshal((*plainBundle)(b))
}

// ParseBundle reads what Marshal writes, and nothing else.
func ParseBundle(raw []byte) (*Bundle, error) {
	if len(raw) > MaxBundleBytes {
		return nil, refusal.New(ReasonBundle, "%d bytes, the limit is %d", len(raw), MaxBundleBytes)
	}
	var b Bundle
	if err := strictjson.Decode(raw, bundleLimits, (*plainBundle)(&b)); err != nil {
		return nil, refusal.New(ReasonBundle, "%w", err)
	}
	again, err := b.Marshal()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, raw) {
		return nil, refusal.New(ReasonBundle, "not the canonical encoding")
	}
	return &b, nil
}
