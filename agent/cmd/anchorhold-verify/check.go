package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// MaxFileBytes bounds a file with a proof: an envelope in JSON, with a receipt.
const MaxFileBytes = statement.MaxEnvelopeJSON + 128<<10

// checker verifies envelopes with the keys of a ring.
type checker struct {
	ring  *keyset.Ring
	model *digest.Digest // that statements must be of; nil is any
}

// admit finds the key of an envelope and checks all but the proof.
func (c *checker) admit(e *statement.Envelope) (keyset.Verifier, statement.Record, error) {
	fail := func(err error) (keyset.Verifier, statement.Record, error) { return nil, statement.Record{}, err }
	if err := e.Check(); err != nil {
		return fail(refused(err))
	}
	if c.model != nil {
		f := e.Statement.Inference
		if f == nil {
			return fail(refusal.New(ReasonModel, "the statement is about a gradient, not about a model"))
		}
		if id := f.Model.ID(); id != *c.model {
			return fail(refusal.New(ReasonModel, "the statement is about model %s", id))
		}
	}
	key, record, err := c.ring.Admit(e)
	return key, record, refused(err)
}

// Input is one envelope with the name under which it is reported.
type Input struct {
	Name string
	Raw  []byte
}

// Finding is what became of one input.
type Finding struct {
	Name     string         `json:"file"`
	Verified bool           `json:"verified"`
	Reason   refusal.Reason `json:"reason,omitempty"` // why not
	Detail   string         `json:"detail,omitempty"`

	// What the statement says, whether it is proven or not.
	Statement *digest.Digest      `json:"statement,omitempty"`
	System    string              `json:"system,omitempty"`
	Circuit   *digest.Digest      `json:"circuit,omitempty"`
	Key       *digest.Digest      `json:"verifying_key,omitempty"`
	Model     *digest.Digest      `json:"model,omitempty"`
	Items     []statement.Item    `json:"items,omitempty"`
	Gradient  *statement.Gradient `json:"gradient,omitempty"`

	// Registered is whether a record says what the key is for; Development that its maker
	// could forge proofs.
	Registered  bool `json:"registered"`
	Development bool `json:"development"`
	// ReceiptIgnored is whether the file holds a receipt, which is not checked here.
	ReceiptIgnored bool `json:"receipt_not_checked,omitempty"`
}

// Check verifies many envelopes; proofs of one Groth16 key together. The findings are in
// the inputs' order. An error is the context's when it was cancelled; when its time is
// over, findings without an answer have ReasonTimeout.
func (c *checker) Check(ctx context.Context, inputs []Input) ([]Finding, error) {
	findings := make([]Finding, len(inputs))
	envelopes := make([]*statement.Envelope, len(inputs))
	groups := map[keyset.Verifier][]int{}
	var order []keyset.Verifier
	for i, in := range inputs {
		if err := ctx.Err(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
		f := &findings[i]
		f.Name = in.Name
		e, withReceipt, err := Open(in.Raw)
		if err != nil {
			f.refuse(err)
			continue
		}
		envelopes[i], f.ReceiptIgnored = e, withReceipt
		f.describe(e)
		key, record, err := c.admit(e)
		if err != nil {
			f.refuse(err)
			continue
		}
		f.Registered, f.Development = record.System != 0, record.Development
		if groups[key] == nil {
			order = append(order, key)
		}
		groups[key] = append(groups[key], i)
	}
	for _, key := range order {
		if err := verifyGroup(ctx, key, groups[key], envelopes, findings); err != nil {
			return nil, err
		}
	}
	return findings, nil
}

// verifyGroup verifies the envelopes of one key.
func verifyGroup(ctx context.Context, key keyset.Verifier, group []int, envelopes []*statement.Envelope, findings []Finding) error {
	settle := func(i int, err error) error {
		if err == nil {
			findings[i].Verified = true
			return nil
		}
		if err = refused(err); errors.Is(err, context.Canceled) {
			return err
		}
		findings[i].refuse(err)
		return nil
	}
	together, ok := key.(*groth16verify.Key)
	if !ok || len(group) == 1 || len(group) > groth16verify.MaxBatch {
		for _, i := range group {
			if err := settle(i, key.VerifyEnvelope(ctx, envelopes[i])); err != nil {
				return err
			}
		}
		return nil
	}
	list := make([]*statement.Envelope, len(group))
	for at, i := range group {
		list[at] = envelopes[i]
	}
	err := together.VerifyEnvelopes(ctx, list)
	failed := map[int]error{}
	if bad, some := errors.AsType[*groth16verify.BatchError](err); some {
		for _, f := range bad.Failed {
			failed[f.Index] = f.Err
		}
		err = nil
	}
	for at, i := range group {
		one := err // of all, such as the end of the time
		if one == nil {
			one = failed[at]
		}
		if err := settle(i, one); err != nil {
			return err
		}
	}
	return nil
}

func (f *Finding) refuse(err error) {
	reason, known := refusal.ReasonOf(err)
	if !known {
		reason = ReasonProof // whatever is not understood is not proven
	}
	f.Verified, f.Reason, f.Detail = false, reason, err.Error()
}

func (f *Finding) describe(e *statement.Envelope) {
	s := &e.Statement
	if d, err := s.Digest(); err == nil {
		f.Statement = &d
	}
	f.System, f.Circuit, f.Key, f.Gradient = s.System.String(), &s.Circuit, &e.Key, s.Gradient
	if s.Inference != nil {
		id := s.Inference.Model.ID()
		f.Model, f.Items = &id, s.Inference.Items
	}
}

// Open reads an envelope in either form, or the one in a file that holds a proof with its
// receipt, which is not looked at. An error is an *refusal.Error.
func Open(raw []byte) (e *statement.Envelope, withReceipt bool, err error) {
	raw, withReceipt, err = unwrap(raw)
	if err != nil {
		return nil, false, refusal.New(ReasonMalformed, "%w", err)
	}
	e, err = statement.Open(raw)
	return e, withReceipt, refused(err)
}

// unwrap finds the proof in a proof with its receipt.
func unwrap(raw []byte) (proof []byte, withReceipt bool, err error) {
	if len(raw) > MaxFileBytes {
		return nil, false, fmt.Errorf("the file has more than %d bytes", MaxFileBytes)
	}
	if !bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), []byte("{")) {
		return raw, false, nil
	}
	return bundled(raw)
}

// bundled finds the proof in the JSON form of an keybroker/receipt bundle; anything else
// is returned as it is.
func bundled(raw []byte) (proof []byte, withReceipt bool, err error) {
	var outer struct {
		Receipt json.RawMessage `json:"receipt"`
		Salt    json.RawMessage `json:"output_salt"`
		Proof   json.RawMessage `json:"proof"`
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if d.Decode(&outer) != nil || outer.Receipt == nil || outer.Proof == nil {
		return raw, false, nil
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, false, errors.New("there is data after the proof and its receipt")
	}
	return outer.Proof, true, nil
}
