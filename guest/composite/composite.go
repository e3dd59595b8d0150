// Package composite makes evidence out of what several devices of one guest show: a composite
// attester in the words of RFC 9334, section 3.3.
//
// [Alone] is a guest whose TPM is all that it has, [Paravised] one under Azure's paravisor, whose
// TPM's quote is fresh and whose processor vouches for the TPM's key, and [Beside] one whose
// processor's report covers a TPM's quote. Each binds all parts to the one challenge: the log is
// read first, and the quote or report that covers it is made last. The package trusts its devices
// no more than the broker does, which appraises everything (keybroker/appraise/kinds). The agent
// makes one of these; without a TPM the collector of the processor is enough.
package composite

import (
	"context"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/azure"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/vtpm"
)

// TPM quotes registers. A [vtpm.Collector] is one. It keeps its callers' deadlines and may be used
// by several goroutines.
type TPM interface {
	// Collect quotes over a nonce of at most [vtpm.MaxNonceBytes] bytes.
	Collect(ctx context.Context, nonce []byte) (vtpm.Evidence, error)
	// EventLog is the log that leads to the registers.
	EventLog(ctx context.Context) ([]byte, error)
}

// Quotes say what a TPM contributes to evidence.
type Quotes struct {
	// TPM is required.
	TPM TPM
	// WithoutLog leaves the event log out: policies can then require registers' values alone.
	WithoutLog bool
}

// log is the event log as a part; nothing if it is left out.
func (q Quotes) log(ctx context.Context) ([]evidence.Part, error) {
	if q.WithoutLog {
		return nil, nil
	}
	log, err := q.TPM.EventLog(ctx)
	if err != nil {
		return nil, err
	}
	return []evidence.Part{{Type: evidence.PartTCGLog, Data: log}}, nil
}

// quote is a quote that answers a challenge, with its key's certificate if it has one.
func (q Quotes) quote(ctx context.Context, challenge [64]byte) (evidence.Signed, error) {
	nonce := evidence.Nonce(evidence.PartTPMQuote, challenge)
	made, err := q.TPM.Collect(ctx, nonce[:])
	signed := evidence.Signed{Primary: made.Quote}
	if made.Certificate != nil {
		signed.Endorsements = []evidence.Part{{Type: evidence.EndorsementAK, Data: made.Certificate}}
	}
	return signed, err
}

// Alone is a guest that shows a TPM's quote and nothing of a processor.
type Alone struct{ Quotes }

// Kinds are the kinds of evidence that Collect makes.
func (Alone) Kinds() []evidence.Kind { return []evidence.Kind{evidence.KindVTPM} }

// Collect returns evidence for a challenge.
func (a Alone) Collect(ctx context.Context, challenge [64]byte) (evidence.Envelope, error) {
	bound, err := a.log(ctx)
	if err != nil {
		return evidence.Envelope{}, err
	}
	return evidence.Assemble(evidence.KindVTPM, challenge, bound, func(reportData [64]byte) (evidence.Signed, error) {
		return a.quote(ctx, reportData)
	})
}

// Reports are the paravisor's. An [azure.Collector] makes them.
type Reports interface {
	Collect(ctx context.Context) (azure.Evidence, error)
}

// Paravised is a guest under Azure's paravisor.
type Paravised struct {
	Quotes
	// Kind is KindAzureSNP or KindAzureTDX: what the report said when it was first read.
	Kind evidence.Kind
	// Reports are required.
	Reports Reports
}

// Kinds are the kinds of evidence that Collect makes.
func (p Paravised) Kinds() []evidence.Kind { return []evidence.Kind{p.Kind} }

// Collect returns evidence for a challenge. A chip whose certificates the metadata service does not
// hand out attests without them: the broker may have them elsewhere, and says so if it has not.
func (p Paravised) Collect(ctx context.Context, challenge [64]byte) (evidence.Envelope, error) {
	found, err := p.Reports.Collect(ctx)
	if err != nil {
		return evidence.Envelope{}, err
	}
	if found.Kind != p.Kind {
		return evidence.Envelope{}, refusal.New(azure.ReasonReport, "the report is of kind %q and was of kind %q", found.Kind, p.Kind)
	}
	bound, err := p.log(ctx)
	if err != nil {
		return evidence.Envelope{}, err
	}
	bound = append(bound, evidence.Part{Type: evidence.PartHCLReport, Data: found.HCL})
	if found.Quote != nil {
		bound = append(bound, evidence.Part{Type: evidence.PartTDXQuote, Data: found.Quote})
	}
	return evidence.Assemble(p.Kind, challenge, bound, func(reportData [64]byte) (evidence.Signed, error) {
		signed, err := p.quote(ctx, reportData)
		// The processor vouches for the key; a certificate would be one reason more than is needed.
		signed.Endorsements = found.Endorsements
		return signed, err
	})
}

// Processor makes reports or quotes over REPORT_DATA. The collectors of packages snp and tdx do.
type Processor interface {
	Kind() evidence.Kind
	// Bound are the parts that its evidence has besides.
	Bound(ctx context.Context) ([]evidence.Part, error)
	// Sign makes the primary part.
	Sign(ctx context.Context, reportData [64]byte) (evidence.Signed, error)
}

// Beside is a guest whose processor's report covers a TPM's quote. That says nothing about who
// made the quote: the broker believes its key by certificate or by enrolment.
type Beside struct {
	Quotes
	// Processor is required.
	Processor Processor
}

// Kinds are the kinds of evidence that Collect makes.
func (b Beside) Kinds() []evidence.Kind { return []evidence.Kind{b.Processor.Kind()} }

// Collect returns evidence for a challenge, with the TPM's log beside that of a trust domain.
func (b Beside) Collect(ctx context.Context, challenge [64]byte) (evidence.Envelope, error) {
	parts, err := b.log(ctx)
	if err != nil {
		return evidence.Envelope{}, err
	}
	own, err := b.Processor.Bound(ctx)
	if err != nil {
		return evidence.Envelope{}, err
	}
	parts = append(parts, own...)
	made, err := b.quote(ctx, challenge)
	if err != nil {
		return evidence.Envelope{}, err
	}
	parts = append(parts, evidence.Part{Type: evidence.PartTPMQuote, Data: made.Primary})
	return evidence.Assemble(b.Processor.Kind(), challenge, parts, func(reportData [64]byte) (evidence.Signed, error) {
		signed, err := b.Processor.Sign(ctx, reportData)
		signed.Endorsements = append(made.Endorsements, signed.Endorsements...)
		return signed, err
	})
}
