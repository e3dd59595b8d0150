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

//go:embed llamacpp.py
var llamaCpp string

// ErrNoLlamaCpp means that .ci/peers has not installed llama.cpp in $ANCHORHOLD_PEERS.
var ErrNoLlamaCpp = errors.New("NOT COMPARED with llama.cpp: set ANCHORHOLD_PEERS to what `make peers` installs")

// Job is what llama.cpp is asked of one file.
type Job struct {
	// File is the path of the model.
	File string `json:"file"`
	// Vocabulary means that the file has no tensors.
	Vocabulary bool `json:"vocabulary,omitempty"`
	// Texts are to be tokenized, with the texts of special tokens taken for these if Special.
	Texts   []string `json:"texts,omitempty"`
	Special bool     `json:"special,omitempty"`
	// Around asks for the tokens that the file puts around a text as well.
	Around bool `json:"around,omitempty"`
	// Ends asks for the tokens that end an answer.
	Ends bool `json:"ends,omitempty"`
	// Tokens are computed one by one, with keys and values in float32, in a context of this
	// size; the logits from position From on are wanted.
	Tokens  []int32 `json:"tokens,omitempty"`
	Context int     `json:"context,omitempty"`
	From    int     `json:"from,omitempty"`
	// Whole means that Tokens are computed in one batch of Context, all at once, and the logits after
	// each are written to this file, as float32.
	Whole string `json:"whole,omitempty"`
	// Embed are the tokens of a text whose vector is wanted.
	Embed []int32 `json:"embed,omitempty"`
}

// Answer is what llama.cpp makes of a Job.
type Answer struct {
	IDs  [][]int32 `json:"ids"`
	Ends []int32   `json:"ends"`
	// Seconds is the processor's time that Texts took to tokenize.
	Seconds float64     `json:"seconds"`
	Logits  [][]float32 `json:"logits"`
	Vector  []float32   `json:"vector"` // before it is scaled to length 1
	// Error says that the file was refused.
	Error string `json:"error"`
}

// AskLlamaCpp runs jobs on llama.cpp's own library.
func AskLlamaCpp(ctx context.Context, jobs []Job) ([]Answer, error) {
	found, err := filepath.Glob(filepath.Join(os.Getenv("ANCHORHOLD_PEERS"), "llamacpp/node_modules/@node-llama-cpp/linux-*/bins/linux-*"))
	if err != nil || os.Getenv("ANCHORHOLD_PEERS") == "" || len(found) != 1 {
		return nil, ErrNoLlamaCpp
	}
	in, err := json.Marshal(jobs)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "python3", "-c", llamaCpp, found[0])
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("llama.cpp: %w", err)
	}
	var answers []Answer
	if err := json.Unmarshal(out, &answers); err != nil {
		return nil, err
	}
	if len(answers) != len(jobs) {
		return nil, fmt.Errorf("llama.cpp: got %d answers to %d jobs", len(answers), len(jobs))
	}
	return answers, nil
}
