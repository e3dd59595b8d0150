package partykey

import (
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
)

// TestAKeyIsCollectedOnlyFromWhatTheRootSigned: each refusal has the reason of whoever found it,
// and a root that is none is no refusal.
func TestAKeyIsCollectedOnlyFromWhatTheRootSigned(t *testing.T) {
	w, stranger := federationtest.New(t), federationtest.New(t)
	text := func(w *federationtest.World) []string {
		root, err := w.Root.Public().MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		return []string{string(root)}
	}
	setup, signed := w.Setup(t, 2, w.Agent(t, nil), w.Agent(t, nil), w.Agent(t, nil))
	id := setup.Round
	board := clitest.Serve(t, map[string]any{"GET /v1/setups/" + id.String(): string(signed)}).Socket
	wrong := clitest.Serve(t, map[string]any{"GET /v1/setups/" + digest.RoundID{9}.String(): string(signed)}).Socket
	for name, c := range map[string]struct {
		socket string
		roots  []string
		id     digest.RoundID
		status int
		reason string
	}{
		"no aggregator":          {filepath.Join(t.TempDir(), "away"), text(w), id, cli.StatusRefused, "aggregator-unreachable"},
		"no such key":            {board, text(w), digest.RoundID{9}, cli.StatusRefused, "not-now"},
		"another root's":         {board, text(stranger), id, cli.StatusRefused, "broker-unknown"},
		"another round's":        {wrong, text(w), digest.RoundID{9}, cli.StatusRefused, string(federation.ReasonWrongRound)},
		"no party has said it":   {board, text(w), id, cli.StatusRefused, "not-now"},
		"a root that is no file": {board, []string{"none.pub"}, id, cli.StatusFailed, "failed"},
	} {
		key, err := Collect(t.Context(), c.socket, c.roots, c.id)
		if f := cli.FailureOf(err); key != nil || cli.StatusOf(err) != c.status || f.Reason != c.reason {
			t.Errorf("%s: status %d, %+v, want %d for %s", name, cli.StatusOf(err), f, c.status, c.reason)
		}
	}
}
