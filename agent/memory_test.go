package agent

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	fedassembly "github.com/anchorhold/anchorhold/agent/fed/assembly"
	"github.com/anchorhold/anchorhold/agent/tenure"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/keybroker/client"
)

// An operator whose limit is too low for a key reads so in the log when the agent begins,
// once, and not from the first client.
func TestAKeyThatNeedsTooMuchMemoryIsLogged(t *testing.T) {
	for mb, want := range map[int]int{40: 1, 128: 0, 0: 0} {
		b := newBench(t)
		b.proves()
		b.participates()
		b.cfg.Proofs.MemoryMB = mb
		var log bytes.Buffer
		w := newWorks(fedassembly.Host{Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Sign:    func() (attested.Signer, error) { return attested.Signer{}, context.Canceled },
			Acquire: func(context.Context, []string) (*client.Lease, error) { return nil, context.Canceled }}, b.classes)
		if err := w.begin(tenure.Grant{Config: b.cfg, Lease: lease(nil)}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		text := log.String() // nothing else runs yet
		if err := w.run(ctx); err != nil {
			t.Error(err)
		}
		if n := strings.Count(text, "reason=proof-memory"); n != want || want > 0 && !strings.Contains(text, "proofs.memory_mb to at least 52") {
			t.Errorf("%d MiB: %d lines, want %d: %s", mb, n, want, text)
		}
	}
}
