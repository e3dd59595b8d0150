//go:build !release

package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
)

// evidenceFixture makes a directory with evidence of a software TEE, as an agent answers and apart.
func evidenceFixture(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	tee, nonce, key := brokertest.TEE(t), bytes.Repeat([]byte{7}, 16), [32]byte{1: 1}
	challenge := evidence.CallerBinding{Nonce: nonce, AgentKeyID: key}.Challenge()
	env, err := tee.Collect(t.Context(), challenge)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := env.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := json.Marshal(map[string]any{"kind": env.Kind, "nonce": hex.EncodeToString(nonce), "agent_key_id": hex.EncodeToString(key[:]),
		"report_data": hex.EncodeToString(challenge[:]), "evidence": raw})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"evidence.json": answer, "evidence.bin": raw, "report.bin": env.Primary(), "vcek.der": env.Part(evidence.EndorsementVCEK), "roots.pem": tee.RootsPEM()} {
		clitest.Write(t, filepath.Join(dir, name), string(data))
	}
}
