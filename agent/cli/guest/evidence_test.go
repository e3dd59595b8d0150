//go:build !release

package guest

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/guest/emulated"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// TestEvidenceOfEveryKindIsShown: of what was asked for, and refused where it was made for another
// nonce. The challenge is the one that 'evidence verify' takes.
func TestEvidenceOfEveryKindIsShown(t *testing.T) {
	nonce, key := []byte(strings.Repeat("n", 16)), [32]byte{1: 1}
	challenge := evidence.CallerBinding{Nonce: nonce, AgentKeyID: key}.Challenge()
	for kind, says := range map[evidence.Kind][]string{
		evidence.KindTDX:      {"measurement_sha384   sha384:", "tdx-quote ("},
		evidence.KindVTPM:     {"tpm-quote (", "tcg-event-log ("},
		evidence.KindAzureTDX: {"measurement_sha256   sha256:", "hcl-report ("},
	} {
		g, err := emulated.New(t.Context(), emulated.Options{Kind: kind, Dir: t.TempDir(), Measurement: [48]byte{1}})
		if err != nil {
			t.Fatal(err)
		}
		answer := func(made [64]byte) string {
			env, err := g.Collect(t.Context(), made)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := env.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			return clitest.Serve(t, map[string]any{"GET /v1/attestation": map[string]string{
				"nonce": hex.EncodeToString(nonce), "agent_key_id": hex.EncodeToString(key[:]),
				"report_data": fmt.Sprintf("%x", env.ReportData(challenge)), "evidence": base64.StdEncoding.EncodeToString(raw),
			}}).Socket
		}
		socket := answer(challenge)
		for _, text := range append(says, fmt.Sprintf("challenge            %x", challenge)) {
			clitest.Call{Run: (&evidenceOptions{nonce: "00"}).run, Agent: socket, Says: text}.Expect(t, string(kind))
		}
		clitest.Call{Run: (&evidenceOptions{nonce: "00"}).run, Agent: answer([64]byte{9}), Status: cli.StatusRefused, Says: "covers other data"}.Expect(t, string(kind)+" for another challenge")
	}
}
