// Package fedwork is what a worker process does for a federated round: it encrypts one
// contribution, or decrypts one sum, or does one step of a party of the round's key.
//
// A contribution that it encrypts is within the round's norm bounds, whatever the input was.
// The randomness of a ciphertext is drawn in the worker and never leaves it. What it returns
// of a sum is noised and rounded: no raw decryption leaves the process. The same sum under
// the same ticket gives the same values again, so that a retry reveals nothing new.
//
// It trusts the agent that started it to have verified round, ticket and hashes. It refuses
// values that are not finite, and inputs of another length than the round's.
//
// The main of anchorhold-worker hands its handlers to worker.Serve; the agent encodes the
// tasks as package fedtask describes them.
package fedwork

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// Reasons of this package.
const (
	// ReasonTask: the task is not one that this worker knows.
	ReasonTask refusal.Reason = "fed-task-invalid"
	// ReasonSum: the sum's blocks are not what the ticket closes.
	ReasonSum refusal.Reason = "sum-invalid"
)

// Handlers are the classes that this package serves.
func Handlers() map[string]worker.Handler {
	return map[string]worker.Handler{fedtask.ClassContribute: contribute, fedtask.ClassDecrypt: decrypt,
		fedtask.ClassPartyBegin: partyBegin, fedtask.ClassPartyKey: partyKey, fedtask.ClassPartyShare: partyShare}
}

func taskInvalid(format string, args ...any) error {
	return refusal.New(ReasonTask, format, args...)
}

// decode reads a specification strictly.
func decode(spec []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(spec))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return taskInvalid("%v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return taskInvalid("unexpected data after the specification")
	}
	return nil
}

// maxRoundBytes bounds a round in JSON.
const maxRoundBytes = 1 << 20

// readRound reads the round that the agent verified.
func readRound(r io.Reader) (round federation.Round, err error) {
	data, err := io.ReadAll(io.LimitReader(r, maxRoundBytes))
	if err != nil {
		return round, err
	}
	if err := decode(data, &round); err != nil {
		return round, err
	}
	_, _, err = round.Parameters()
	return round, err
}

// grid holds a round against its parameters and returns its grid.
func grid(r federation.Round) (federation.Grid, error) {
	g, err := r.Grid()
	if err != nil {
		return g, fmt.Errorf("round %s: %w", r.ID, err)
	}
	return g, nil
}

func sumInvalid(format string, args ...any) error {
	return refusal.New(ReasonSum, format, args...)
}
