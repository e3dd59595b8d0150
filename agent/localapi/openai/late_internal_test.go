package openai

import (
	"context"
	"errors"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/runtime/infer"
)

// TestNoReceiptAfterTheLease: the lease ends between the last word and the
// signature; the client must not get an answer that looks finished.
func TestNoReceiptAfterTheLease(t *testing.T) {
	expired := refusal.New("lease-expired", "the lease has ended")
	c := &completion{service: &Service{}, request: &Request{Model: "tiny"}, full: true, answers: []*answer{{}},
		session: Session{Issue: func(receipt.Answer) (receipt.Issued, error) { return receipt.Issued{}, expired }}}
	if reason, _ := refusal.ReasonOf(c.sign(t.Context())); reason != "lease-expired" || c.issued != nil {
		t.Error(reason, c.issued)
	}
}

// deafEngine finishes although the lease ended while it computed.
type deafEngine struct {
	Engine
	during func()
}

func (e *deafEngine) Generate(context.Context, infer.Request, func(string) error) (infer.Result, error) {
	e.during()
	return infer.Result{FinishReason: "stop"}, nil
}

func TestEngineThatFinishesAfterItsTimeIsNotBelieved(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	late := errors.New("too late")
	c := &completion{service: &Service{}, request: &Request{}, session: Session{Engine: &deafEngine{during: func() { cancel(late) }}}}
	if err := c.generate(ctx, nil); !errors.Is(err, late) {
		t.Error(err)
	}
}
