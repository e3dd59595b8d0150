package gguftest

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed minilm.py
var miniLM string

// ErrNoMiniLM means that .ci/peers has not made the embedding model in $ANCHORHOLD_PEERS.
var ErrNoMiniLM = errors.New("NOT COMPARED with all-MiniLM-L6-v2: set ANCHORHOLD_PEERS to what `make peers` installs")

// MiniLMPath is the embedding model all-MiniLM-L6-v2 in GGUF, if `make peers` made it.
func MiniLMPath() (string, error) {
	path := filepath.Join(os.Getenv("ANCHORHOLD_PEERS"), "minilm", "all-MiniLM-L6-v2-f16.gguf")
	if _, err := os.Stat(path); err != nil || os.Getenv("ANCHORHOLD_PEERS") == "" {
		return "", ErrNoMiniLM
	}
	return path, nil
}

// MiniLMJob is what is asked of the published model.
type MiniLMJob struct {
	// Texts are to be tokenized, and the first Embed of them embedded.
	Texts []string `json:"texts"`
	Embed int      `json:"embed"`
	// Normalize are characters, each to be normalized between the letters x and y.
	Normalize []rune `json:"normalize"`
}

// MiniLMAnswer is what Hugging Face's tokenizers and arithmetic in float64 make of a MiniLMJob.
type MiniLMAnswer struct {
	IDs        [][]int32   `json:"ids"`
	Embeddings [][]float64 `json:"embeddings"`
	// Words are those of each of Normalize, with spaces between them.
	Words []string `json:"words"`
}

// AskMiniLM runs a job on the published model.
func AskMiniLM(ctx context.Context, job MiniLMJob) (answer MiniLMAnswer, err error) {
	path, err := MiniLMPath()
	if err != nil {
		return answer, err
	}
	in, err := json.Marshal(job)
	if err != nil {
		return answer, err
	}
	dir := filepath.Dir(path)
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "venv/bin/python"), "-c", miniLM, dir)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return answer, fmt.Errorf("all-MiniLM-L6-v2: %w", err)
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		return answer, err
	}
	if len(answer.IDs) != len(job.Texts) || len(answer.Embeddings) != job.Embed || len(answer.Words) != len(job.Normalize) {
		return answer, errors.New("all-MiniLM-L6-v2: another number of answers than of texts")
	}
	return answer, nil
}
