package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
		return write(t, filepath.Join(dir, name), string(b))
	}
	good := model("good.gguf", func(m *gguftest.Model) { m.Set("general.sampling.temp", float32(0.7)) })
	bad := model("bad.gguf", func(m *gguftest.Model) {
		m.Set("llama.logit_scale", float32(2))
		m.Vector("blk.0.attn_q_norm.weight", gguftest.HeadSize, 1)
	})
	expectRun(t, 0, "can be served: language model of the architecture llama", "seal", "--check", good)
	expectRun(t, 0, "general.sampling.temp: the publisher's suggestions", "seal", "--check", good)
	expectRun(t, exitRefused, "tensor-unknown            blk.0.attn_q_norm.weight: ", "seal", "--check", bad)
	expectRun(t, exitRefused, "key-value                 llama.logit_scale: is 2", "seal", "--check", bad)
	expectRun(t, exitRefused, "file-format", "seal", "--check", write(t, filepath.Join(dir, "text.gguf"), "no model"))
	expectRun(t, exitFailure, "no such file", "seal", "--check", filepath.Join(dir, "none.gguf"))
	expectRun(t, exitFailure, "not a regular file", "seal", "--check", dir)
	expectRun(t, exitUsage, "--check seals nothing and takes no --out, --name", "seal", "--check", good, "--out", "o", "--name", "n")
	expectRun(t, exitUsage, "one GGUF or ONNX file", "seal", "--check")
	expectRun(t, exitUsage, "one GGUF or ONNX file", "seal", "--check", good, bad)

	out, status, _ := run(t, "seal", "--check", bad, "--json")
	var v sealCheck
	if err := json.Unmarshal([]byte(out), &v); err != nil || status != exitRefused || v.Servable || v.Reason != servable.Reason || len(v.Findings) != 2 || v.Findings[0].Name != "llama.logit_scale" {
		t.Errorf("status %d, %v, %s", status, err, out)
	}
	out, status, _ = run(t, "seal", "--check", good, "--json")
	v = sealCheck{}
	if err := json.Unmarshal([]byte(out), &v); err != nil || status != 0 || !v.Servable || v.Tensors == 0 || !strings.Contains(out, `"findings": []`) {
		t.Errorf("status %d, %v, %s", status, err, out)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("%d files, %v", len(entries), err)
	}
}

// TestSealCheckOfClassifiers: the same for ONNX files.
func TestSealCheckOfClassifiers(t *testing.T) {
	dir := t.TempDir()
	good, _ := smallClassifier(t)
	expectRun(t, 0, "can be served: classifier", "seal", "--check", good)
	expectRun(t, exitRefused, "cannot be served (model-unsupported)", "seal", "--check", write(t, filepath.Join(dir, "bad.onnx"), "no graph"))
	softmax := onnxtest.Dense(onnxtest.Node("Gelu", []string{"h"}, []string{"y"}, nil)).Model()
	expectRun(t, exitRefused, "Gelu", "seal", "--check", write(t, filepath.Join(dir, "gelu.onnx"), string(softmax)))
	expectRun(t, exitFailure, "no such file", "seal", "--check", filepath.Join(dir, "none.onnx"))
}
