package main

import (
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"

	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/agent/cli/proof"
	"github.com/anchorhold/anchorhold/crypto/zk/circuits"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/classifier"
)

// TestAnswersOfALogisticRegressionAreProven: from the ONNX file to a proof that verifies,
// with keys that the command line made, and that does not for another answer.
func TestAnswersOfALogisticRegressionAreProven(t *testing.T) {
	b := newSealBench(t)
	calibration, _ := b.rowsOf("calibration", 1, 1)
	if _, status, err := b.seal(logistic(), "--calibration", calibration); status != 0 {
		t.Fatal(err)
	}
	sealed, keys := b.path("m1.ahm"), b.path("keys")
	expectRun(t, 0, "constraints", "proof", "setup", sealed, "--key", b.path("key"), "--publisher", b.path("publisher")+".pub", "--out", keys)
	sets, err := keyset.Load(keys)
	if err != nil || len(sets) != 1 {
		t.Fatalf("%d sets, %v", len(sets), err)
	}
	key, err := keyfile.ReadModelKey(b.path("key"))
	if err != nil {
		t.Fatal(err)
	}
	defer key.Wipe()
	publisher, err := identity.ReadPublicFile(b.path("publisher") + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	m, err := classifier.Open(sealed, key, arena.NewBudget(16<<20), classifier.Options{Publisher: publisher})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	d := m.Description()
	err = m.WithParameters(func(p intnet.Parameters) error {
		return proveAnswers(t, sets[0], &intnet.Network{Architecture: d.Architecture, Parameters: p}, d, m.Public().Root)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// proveAnswers proves two answers that logistic gives: the sign of x + 2y - 3z + 0.5.
func proveAnswers(t *testing.T, set keyset.Set, n *intnet.Network, d *classifier.Description, root [32]byte) error {
	circuitFile, err := set.OpenCircuit()
	if err != nil {
		return err
	}
	defer circuitFile.Close()
	circuit, err := circuits.ReadCircuit(circuitFile)
	if err != nil {
		return err
	}
	keyFile, err := set.OpenProvingKey()
	if err != nil {
		return err
	}
	defer keyFile.Close()
	proving, err := circuits.ReadProvingKey(keyFile)
	if err != nil {
		return err
	}
	ring, err := keyset.NewRing([]keyset.Set{set}, true, time.Minute, proof.Verifiers())
	if err != nil {
		return err
	}
	model, err := statement.ModelOf(n, d.QuantizationDigest(), root)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		row  []float64
		want string
	}{{[]float64{0.5, 0.5, -0.5}, "malignant"}, {[]float64{-0.5, -0.5, 0.5}, "benign"}} {
		input := make([]int8, 3)
		if _, err := classifier.Quantize(&d.Quantizer, c.row, input); err != nil {
			return err
		}
		outputs, err := n.Forward(input)
		if err != nil {
			return err
		}
		if got := d.Label(classifier.Answer(outputs)); got != c.want {
			t.Errorf("%v is %s, want %s", c.row, got, c.want)
		}
		salt, err := statement.NewSalt()
		if err != nil {
			return err
		}
		s := statement.Statement{System: statement.Groth16, Circuit: set.Record.Circuit, Inference: &statement.Inference{Model: model,
			Items: []statement.Item{{Receipt: digest.ReceiptID{1}, Input: statement.InputCommitment(salt, input), Outputs: outputs}}}}
		sum, err := s.Digest()
		if err != nil {
			return err
		}
		proof, err := circuits.ProveInference(circuit, circuits.Inference{Architecture: n.Architecture, Batch: 1}, proving,
			circuits.Assignment{Network: n, Items: []circuits.Item{{Salt: salt, Input: input}}, Statement: statement.DigestElement(sum)}, nil)
		if err != nil {
			return err
		}
		envelope := &statement.Envelope{Statement: s, Key: set.Record.VerifyingKey, Proof: proof}
		if _, err := ring.Verify(t.Context(), envelope); err != nil {
			t.Errorf("%v: %v", c.row, err)
		}
		s.Inference.Items[0].Outputs = []int32{outputs[1], outputs[0]}
		if _, err := ring.Verify(t.Context(), &statement.Envelope{Statement: s, Key: set.Record.VerifyingKey, Proof: proof}); err == nil {
			t.Errorf("%v: the other answer is proven too", c.row)
		}
	}
	return nil
}
