package registry

import (
	"context"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
)

// Show is Audit for whoever asks, guest, client or operator: outputs, and what could confirm
// a guess of them, are left out unless salt is that of the receipt's output commitment, in
// the text form of [wire.Salt].
func (s *Service) Show(ctx context.Context, id digest.ReceiptID, salt string) (wire.Answer, error) {
	a, err := s.Audit(ctx, id)
	if err != nil {
		return wire.Answer{}, err
	}
	redact(&a, salt)
	return a, nil
}

// Audit joins what is known of one receipt: this output, from this version of a model,
// in this attested guest, at this time. It has the outputs; what leaves the broker is
// Show's.
func (s *Service) Audit(_ context.Context, id digest.ReceiptID) (wire.Answer, error) {
	held, err := s.receipt(id)
	if err != nil {
		return wire.Answer{}, err
	}
	r := &held.Receipt
	a := wire.Answer{
		Receipt: wire.ReceiptView{ID: r.ID, Digest: digest.Of(held.Raw), Agent: r.Agent, Model: r.Model, Time: r.Time.Time(), Announced: held.Announced.Time()},
		Guest: wire.GuestView{Lease: r.Lease, Evidence: r.Evidence, EvidenceDigest: r.EvidenceDigest, Measurement: r.Measurement,
			Image: r.Image, SoftwareTEE: r.SoftwareTEE},
		Documents: wire.Documents{Receipt: held.Raw},
	}
	sum, found, err := s.cfg.Store.ChallengeOf(id)
	if err != nil {
		return wire.Answer{}, err
	}
	if found {
		c, err := s.cfg.Store.Challenge(sum)
		if err != nil {
			return wire.Answer{}, err
		}
		v, err := s.view(c)
		if err != nil {
			return wire.Answer{}, err
		}
		a.Challenge, a.Documents.Challenge = &v, c.Signed
	}
	if sum, found, err = s.cfg.Store.ProofOf(id); !found || err != nil {
		return a, err
	}
	return a, s.addProof(&a, sum)
}

// addProof completes an answer with the proof.
func (s *Service) addProof(a *wire.Answer, sum digest.Digest) error {
	held, found, err := s.cfg.Store.Proof(sum)
	if err != nil {
		return err
	}
	if !found {
		return Damaged("proof %s is not there", sum)
	}
	b, err := wire.ParseBundle(held.Bundle)
	if err != nil {
		return Damaged("proof %s: %v", sum, err)
	}
	entry, found, err := s.cfg.Store.Record(b.Envelope.Key)
	if err != nil {
		return err
	}
	if !found {
		return Damaged("the record of key %s is not there", b.Envelope.Key)
	}
	record, err := wire.ParseRecord(entry.Signed)
	if err != nil {
		return Damaged("record of key %s: %v", b.Envelope.Key, err)
	}
	subject, err := b.Envelope.Statement.Digest()
	if err != nil {
		return err
	}
	a.Proof = &wire.ProofView{Digest: sum, Statement: subject, System: b.Envelope.Statement.System, Circuit: b.Envelope.Statement.Circuit, Key: b.Envelope.Key,
		Development: record.Record.Development, Ceremony: record.Record.Ceremony, VerifiedAt: held.Verified.Time()}
	for _, item := range b.Envelope.Statement.Inference.Items {
		if item.Receipt == a.Receipt.ID {
			a.Proof.Outputs = item.Outputs
		}
	}
	a.Documents.Record, a.Documents.Bundle = entry.Signed, held.Bundle
	return nil
}

// Status is how the registry stands.
type Status struct {
	Counts
	// Unanswered counts the challenges without all proofs, Overdue those of them whose
	// deadline went by; Challenges has the first 64, the overdue ones first.
	Unanswered int                  `json:"unanswered"`
	Overdue    int                  `json:"overdue"`
	Challenges []wire.ChallengeView `json:"challenges"`
	Time       time.Time            `json:"time"`
}

// Status sums up.
func (s *Service) Status(context.Context) (Status, error) {
	var out Status
	var err error
	if out.Counts, err = s.cfg.Store.Counts(); err != nil {
		return out, err
	}
	list, err := s.cfg.Store.Unanswered(nil)
	if err != nil {
		return out, err
	}
	now := s.now()
	out.Time, out.Unanswered, out.Challenges = now.Time(), len(list), []wire.ChallengeView{}
	pending, overdue := split(list, now)
	out.Overdue = len(overdue)
	list = append(overdue, pending...)
	for _, ref := range list[:min(len(list), maxShown)] {
		c, err := s.cfg.Store.Challenge(ref.Digest)
		if err != nil {
			return out, err
		}
		v, err := s.view(c)
		if err != nil {
			return out, err
		}
		out.Challenges = append(out.Challenges, v)
	}
	return out, nil
}
