package main

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/classify/classifytest"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/agent/prove/provetest"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/keybroker/collateral/sourcetest"
	"github.com/anchorhold/anchorhold/keybroker/collateral/store"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
	"github.com/anchorhold/anchorhold/runtime/onnx/onnxtest"
)

// fixtures makes files that scripts take from $FIXTURES, because they are signed or binary:
//
//	small.onnx        a classifier of three features
//	lm.ahm            a sealed language model, without a publisher that is known
//	receipt.json      a receipt of a guest in hardware; root.pub is its broker's root
//	attestation.json  what an agent answers about its evidence, for the nonce 00112233...
//	snp               an agent's evidence.json of a software TEE for the nonce 0707..., its report.bin
//	                  and certificates, and roots.pem
//	audit             an audit log of four decisions about images of a TPM, three of them with inputs
//	round.json        a round that is open; its id is all zeros but for a one at the end
//	closed.json       the same, closed; result.json its result
//	collateral        a directory with Milan's authorities and revocation list, under roots.pem
//	answer.proof.json a proof with its receipt, of a guest in hardware; proof-keys its verifying keys
func fixtures(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	asJSON := func(name string, v any) {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		clitest.Write(t, path(name), string(raw))
	}
	clitest.Write(t, path("small.onnx"), string(onnxtest.Dense().Model()))
	clitest.Write(t, path("roots.pem"), string(collateralFixture(t, path("collateral"))))
	sealed, _ := clitest.SealedModel(t, make([]byte, chunkseal.KeySize))
	raw, err := os.ReadFile(sealed)
	if err != nil {
		t.Fatal(err)
	}
	clitest.Write(t, path("lm.ahm"), string(raw))

	w := federationtest.New(t)
	if err := idfile.WritePublic(path("root.pub"), w.Root.Public()); err != nil {
		t.Fatal(err)
	}
	model := [32]byte{1, 2, 3}
	guest := w.Agent(t, func(c *protocol.LeaseCertificate) { c.SoftwareTEE = false })
	guest.Grant(t, model)
	id, err := receipt.NewID()
	if err != nil {
		t.Fatal(err)
	}
	issued, err := receipt.Issue(guest.Key, receipt.Lease{ID: guest.Lease.Lease, EvidenceDigest: guest.Lease.EvidenceDigest, Chain: guest.Chain, Now: federationtest.Begin.Add(time.Minute)},
		receipt.Answer{ID: id, ModelID: model, ModelName: "demo", ModelVersion: 1})
	if err != nil {
		t.Fatal(err)
	}
	asJSON("receipt.json", issued)

	report := make([]byte, 0x4a0) // of SEV-SNP, all zeros: its signature is not looked at
	envelope, err := evidence.Envelope{Kind: evidence.KindSNP, Parts: []evidence.Part{{Type: evidence.PartSNPReport, Data: report}}}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	asJSON("attestation.json", map[string]any{"nonce": "00112233445566778899aabbccddeeff", "agent_key_id": "3c9d", "report_data": hex.EncodeToString(make([]byte, 64)), "evidence": envelope})

	evidenceFixture(t, path("snp"))
	logFixture(t, path("audit"))

	r, signed, _ := w.Round(t, 3, func(r *federation.Round) { r.ID = digest.RoundID{15: 1} })
	asJSON("round.json", rounds.Status{Round: r, State: rounds.Open, Signed: signed})
	asJSON("closed.json", rounds.Status{Round: r, State: "closed", Signed: signed, Ticket: []byte("ticket")})
	asJSON("result.json", federation.Result{Round: r.ID, Length: 3, Sigma: 2.5})
	asJSON("answer.proof.json", provenAnswer(t, w, path("proof-keys")))
	return dir
}

// provenAnswer is an answer of a small classifier with its proof, whose keys it saves.
func provenAnswer(t *testing.T, w *federationtest.World, dir string) receipt.Bundle {
	t.Helper()
	keys, n, input := provetest.Shared(t), classifytest.Network(1), []int8{1, -2, 3, -128}
	set := keys.Save(t, dir, false)
	architecture, err := n.Architecture.Digest()
	if err != nil {
		t.Fatal(err)
	}
	model := statement.Model{Architecture: architecture, Quantization: digest.Digest{1}, Chunks: digest.Digest{2}, Weights: statement.WeightsCommitment(n)}
	outputs, err := n.Forward(input)
	if err != nil {
		t.Fatal(err)
	}
	salt, err := statement.NewSalt()
	if err != nil {
		t.Fatal(err)
	}
	id, err := receipt.NewID()
	if err != nil {
		t.Fatal(err)
	}
	guest := w.Agent(t, func(c *protocol.LeaseCertificate) { c.SoftwareTEE = false })
	guest.Grant(t, model.ID())
	issued, err := receipt.IssueProvable(guest.Key, receipt.Lease{ID: guest.Lease.Lease, EvidenceDigest: guest.Lease.EvidenceDigest, Chain: guest.Chain, Now: federationtest.Begin.Add(time.Minute)},
		receipt.Answer{ID: id, ModelID: model.ID(), ModelName: "digits", ModelVersion: 3}, statement.InputCommitment(salt, input), salt, outputs)
	if err != nil {
		t.Fatal(err)
	}
	s := keys.Statement(model, id, salt, input, outputs)
	return receipt.Bundle{Receipt: issued.Receipt, OutputSalt: issued.Salts.Output,
		Proof: statement.Envelope{Statement: s, Key: set.Record.VerifyingKey, Proof: keys.Prove(t, s, n, salt, input)}}
}

// collateralFixture makes a directory of collateral and returns the roots that it is under.
func collateralFixture(t *testing.T, dir string) []byte {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Second)
	kds := sourcetest.NewKDS(t, now.Add(-time.Hour))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := collateral.Certificates(kds.Chain("Milan", false))
	if err != nil {
		t.Fatal(err)
	}
	list := kds.List("Milan", 3, now.Add(-time.Hour), now.AddDate(1, 0, 0))
	for name, docs := range map[string][][]byte{"amd-chain/Milan/vcek": chain, "amd-crl/Milan": {list}} {
		k, err := collateral.ParseKey(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(collateral.Item{Key: k, Fetched: now, Documents: docs}); err != nil {
			t.Fatal(err)
		}
	}
	return kds.RootsPEM()
}
