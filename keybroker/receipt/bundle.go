package receipt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Reasons of this package.
const (
	// ReasonMalformed: not a bundle of this version.
	ReasonBundleMalformed refusal.Reason = "proof-bundle-malformed"
	// ReasonMismatch: receipt and proof are not about the same answer.
	ReasonProofMismatch refusal.Reason = "proof-receipt-mismatch"
)

// MaxBundleBytes bounds a bundle.
const MaxBundleBytes = MaxJSONBytes + statement.MaxEnvelopeJSON + 1<<10

// Bundle is a receipt with the proof of its answer. One that verifies says: this output, from
// this version of this model, in this attested guest, at this time; and the proof is of exactly
// the answer that the receipt was given for. Agents make bundles; the command line and auditors
// verify them, with the broker's root and registered verifying keys.
type Bundle struct {
	Receipt Receipt `json:"receipt"`
	// OutputSalt opens the receipt's commitment to the outputs, which the statement has
	// in the clear.
	OutputSalt Salt               `json:"output_salt"`
	Proof      statement.Envelope `json:"proof"`
}

// ParseBundle reads a bundle; it verifies nothing.
func ParseBundle(raw []byte) (Bundle, error) {
	var b Bundle
	if len(raw) > MaxBundleBytes {
		return b, refusal.New(ReasonBundleMalformed, "%d bytes, the limit is %d", len(raw), MaxBundleBytes)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		return b, refusal.New(ReasonBundleMalformed, "%v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return b, refusal.New(ReasonBundleMalformed, "something follows the bundle")
	}
	return b, nil
}

// Keys verifies an envelope with a registered key, and returns the key's record.
type Keys interface {
	Verify(ctx context.Context, e *statement.Envelope) (statement.Record, error)
}

// ProvenGuest is an attested guest, as its lease certificate describes it.
type ProvenGuest struct {
	Guest
	SoftwareTEE bool `json:"software_tee"`
}

// BundleView is what a verified bundle says.
type BundleView struct {
	Receipt      string        `json:"receipt"`
	Model        string        `json:"model"`
	ModelVersion uint64        `json:"model_version"`
	ModelID      digest.Digest `json:"model_id"`
	Outputs      []int32       `json:"outputs"`
	Time         time.Time     `json:"time"`
	// Guest is where the answer was computed, and what its lease was granted.
	Guest ProvenGuest `json:"guest"`
	// Links is the receipt's chain, NotChecked what was not asked or cannot be said.
	Links             []Link      `json:"links"`
	AuthorityRecorded bool        `json:"authority_recorded"`
	NotChecked        []Unchecked `json:"not_checked"`
	// Proof is by which key the answer was proven.
	Proof struct {
		System      string        `json:"system"`
		Circuit     digest.Digest `json:"circuit"`
		Key         digest.Digest `json:"verifying_key"`
		Development bool          `json:"development_setup"`
		Ceremony    digest.Digest `json:"ceremony"`
		Bytes       int           `json:"bytes"`
	} `json:"proof"`
}

// Matches says whether the proof's statement is about the receipt's answer, and which
// of its answers that is. It verifies neither.
func (b *Bundle) Matches() (statement.Item, error) {
	f := b.Proof.Statement.Inference
	if f == nil {
		return statement.Item{}, refusal.New(ReasonProofMismatch, "the proof is not of an inference")
	}
	body := &b.Receipt.Body
	i := slices.IndexFunc(f.Items, func(item statement.Item) bool { return item.Receipt == body.ID })
	if i < 0 {
		return statement.Item{}, refusal.New(ReasonProofMismatch, "the proof does not name receipt %s", body.ID)
	}
	item := f.Items[i]
	switch {
	case f.Model.ID() != body.ModelID:
		return item, refusal.New(ReasonProofMismatch, "the proof is for model %s, the receipt for %x", f.Model.ID(), body.ModelID)
	case body.InputCommitment != Provable(item.Input):
		return item, refusal.New(ReasonProofMismatch, "proof and receipt are for different inputs")
	case body.OutputCommitment != CommitOutput(b.OutputSalt, EncodeOutputs(item.Outputs)):
		return item, refusal.New(ReasonProofMismatch, "proof and receipt are for different outputs")
	}
	return item, nil
}

// Verify verifies everything with the root identities and the registered keys, and holds
// the receipt against what is expected of it. If all else holds of a receipt of version 1,
// the view is returned beside the refusal [protocol.ReasonAuthorityNotRecorded].
func (b *Bundle) Verify(ctx context.Context, roots []identity.Public, keys Keys, expect Expect) (BundleView, error) {
	report, unrecorded := Verify(b.Receipt, roots, Options{Expect: expect})
	if reason, _ := refusal.ReasonOf(unrecorded); unrecorded != nil && reason != protocol.ReasonAuthorityNotRecorded {
		return BundleView{}, unrecorded
	}
	item, err := b.Matches()
	if err != nil {
		return BundleView{}, err
	}
	record, err := keys.Verify(ctx, &b.Proof)
	if err != nil {
		return BundleView{}, err
	}
	v := viewOf(&report)
	v.Outputs = item.Outputs
	v.Proof.System, v.Proof.Circuit, v.Proof.Key = b.Proof.Statement.System.String(), b.Proof.Statement.Circuit, b.Proof.Key
	v.Proof.Development, v.Proof.Ceremony, v.Proof.Bytes = record.Development, record.Ceremony, len(b.Proof.Proof)
	return v, unrecorded
}

func viewOf(r *Report) BundleView {
	body := &r.Body
	v := BundleView{Receipt: body.ID.String(), Model: body.ModelName, ModelVersion: body.ModelVersion, ModelID: body.ModelID, Time: body.Time.Time(),
		Guest: ProvenGuest{r.Guest, r.SoftwareTEE}, Links: r.Links, AuthorityRecorded: r.AuthorityRecorded}
	// The statement has the outputs in the clear, and they open the receipt's commitment.
	v.NotChecked = slices.DeleteFunc(r.NotChecked, func(u Unchecked) bool { return u.Name == "output" })
	return v
}
