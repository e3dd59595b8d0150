package longwork_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/fed"
	"github.com/anchorhold/anchorhold/agent/longwork"
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
		w := longwork.New(longwork.Agent{Classifiers: b.classes, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Sign:     func() (fed.Signer, error) { return fed.Signer{}, context.Canceled },
			RoundKey: func(context.Context, string) (fed.Released, error) { return fed.Released{}, context.Canceled }})
		if err := w.Begin(b.cfg, lease(nil)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		text := log.String() // nothing else runs yet
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
		if n := strings.Count(text, "reason=proof-memory"); n != want || want > 0 && !strings.Contains(text, "proofs.memory_mb to 52") {
			t.Errorf("%d MiB: %d lines, want %d: %s", mb, n, want, text)
		}
	}
}
