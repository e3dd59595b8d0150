package assembly

import (
	"errors"
	"io"
	"log/slog"
	"testing"

	"github.com/anchorhold/anchorhold/agent/fed"
	"github.com/anchorhold/anchorhold/agent/fed/decrypt"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// A party has contributions added again in the session that runs, and hears why none does: the
// service of a session that is over has neither key nor queue.
func TestNothingIsRecountedBetweenSessions(t *testing.T) {
	between := refusal.New("lease-expired", "the lease has ended")
	f := New(Host{Session: func() error { return between }, Logger: slog.New(slog.DiscardHandler)})
	f.opener = &decrypt.Service{} // of a session that is over
	err := f.recounted(t.Context(), digest.RoundID{}, io.Discard)
	if reason, _ := refusal.ReasonOf(err); !errors.Is(err, between) || reason != "lease-expired" {
		t.Errorf("between sessions: %v", err)
	}
	f = New(Host{Session: func() error { return nil }, Logger: slog.New(slog.DiscardHandler)})
	if reason, _ := refusal.ReasonOf(f.recounted(t.Context(), digest.RoundID{}, io.Discard)); reason != fed.ReasonNotConfigured {
		t.Errorf("before the first session: %s", reason)
	}
}
