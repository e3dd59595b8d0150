package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/agent/cli/seal"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
	"github.com/anchorhold/anchorhold/runtime/onnx/onnxtest"
	"github.com/anchorhold/anchorhold/runtime/servable"
)

// TestSealCheckSaysWhatCanBeServed with the exit status that the help names, in text and in
// JSON, without a key, and without a file beside the model.
func TestSealCheckSaysWhatCanBeServed(t *testing.T) {
	dir := t.TempDir()
	model := func(name string, edit func(*gguftest.Model)) string {
		b, err := gguftest.Variant{Edit: edit}.File(1)
		if err != nil {
			t.Fatal(err)
		}
		return clitest.Write(t, filepath.Join(dir, name), string(b))
	}
	good := model("good.gguf", func(m *gguftest.Model) { m.Set("general.sampling.temp", float32(0.7)) })
	bad := model("bad.gguf", func(m *gguftest.Model) {
		m.Set("llama.logit_scale", float32(2))
		m.Vector("blk.0.attn_q_norm.weight", gguftest.HeadSize, 1)
	})
	expectRun(t, 0, "can be served: language model of the architecture llama", "seal", "--check", good)
	vectors := model("bert.gguf", func(m *gguftest.Model) { *m = *gguftest.Of("bert", 1) })
	expectRun(t, 0, "can be served: embedding model of the architecture bert", "seal", "--check", vectors)
	expectRun(t, 0, "general.sampling.temp: the publisher's suggestions", "seal", "--check", good)
	expectRun(t, cli.StatusRefused, "tensor-unknown            blk.0.attn_q_norm.weight: ", "seal", "--check", bad)
	expectRun(t, cli.StatusRefused, "key-value                 llama.logit_scale: is 2", "seal", "--check", bad)
	expectRun(t, cli.StatusRefused, "file-format", "seal", "--check", clitest.Write(t, filepath.Join(dir, "text.gguf"), "no model"))
	expectRun(t, cli.StatusFailed, "no such file", "seal", "--check", filepath.Join(dir, "none.gguf"))
	expectRun(t, cli.StatusFailed, "not a regular file", "seal", "--check", dir)
	expectRun(t, cli.StatusUsage, "--check seals nothing and takes no --out, --name", "seal", "--check", good, "--out", "o", "--name", "n")
	expectRun(t, cli.StatusUsage, "one GGUF or ONNX file", "seal", "--check")
	expectRun(t, cli.StatusUsage, "one GGUF or ONNX file", "seal", "--check", good, bad)

	out, status, _ := run(t, "seal", "--check", bad, "--json")
	var v seal.Verdict
	if err := json.Unmarshal([]byte(out), &v); err != nil || status != cli.StatusRefused || v.Servable || v.Reason != servable.Reason || len(v.Findings) != 2 || v.Findings[0].Name != "llama.logit_scale" {
		t.Errorf("status %d, %v, %s", status, err, out)
	}
	out, status, _ = run(t, "seal", "--check", good, "--json")
	v = seal.Verdict{}
	if err := json.Unmarshal([]byte(out), &v); err != nil || status != 0 || !v.Servable || v.Tensors == 0 || !strings.Contains(out, `"findings": []`) {
		t.Errorf("status %d, %v, %s", status, err, out)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 4 {
		t.Errorf("%d files, %v", len(entries), err)
	}
}

// TestSealCheckOfClassifiers: the same for ONNX files.
func TestSealCheckOfClassifiers(t *testing.T) {
	dir := t.TempDir()
	good, _ := clitest.SmallClassifier(t)
	expectRun(t, 0, "can be served: classifier", "seal", "--check", good)
	expectRun(t, cli.StatusRefused, "cannot be served (model-unsupported)", "seal", "--check", clitest.Write(t, filepath.Join(dir, "bad.onnx"), "no graph"))
	softmax := onnxtest.Dense(onnxtest.Node("Gelu", []string{"h"}, []string{"y"}, nil)).Model()
	expectRun(t, cli.StatusRefused, "Gelu", "seal", "--check", clitest.Write(t, filepath.Join(dir, "gelu.onnx"), string(softmax)))
	expectRun(t, cli.StatusFailed, "no such file", "seal", "--check", filepath.Join(dir, "none.onnx"))
}
