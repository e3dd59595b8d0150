// Package provetask defines the tasks of proving and verifying that the agent gives to its
// worker processes.
//
// It is the interface between package prove, which is linked into the agent, and package
// provework, which is linked into the worker only. [Run] hands a worker the circuit, the key
// and the witness; [Verification] has proofs verified, because the agent itself links no
// verifier; [Memory] refuses a proof that would need more memory than a worker gets, before a
// worker starts.
package provetask

import "encoding/binary"

// The classes of tasks.
const (
	// ClassInference proves answers of a classifier.
	ClassInference = "prove-inference"
	// ClassGradient proves the bounds of an update.
	ClassGradient = "prove-gradient"
	// ClassVerify verifies a proof: the agent links no verifier.
	ClassVerify = "verify-proof"
)

// Gradient is the task of [ClassGradient]. Input 0 has, by a pipe, the salt and the coordinates, 16 bits
// each, little-endian; inputs 1 and 2 and output 0 are those of Inference.
type Gradient struct {
	Statement []byte `json:"statement"` // statement.Statement, encoded
	Bits      int    `json:"bits"`
}

// Coordinates decodes the coordinates of a Gradient; of an odd number of bytes the last is left
// out. The caller clears them.
func Coordinates(raw []byte) []int16 {
	list := make([]int16, len(raw)/2)
	for i := range list {
		list[i] = int16(binary.LittleEndian.Uint16(raw[2*i:]))
	}
	return list
}

// Inference is the task of [ClassInference]. Input 0 has, by a pipe, the encoded parameters and, for each
// answer, its salt and its quantized input; input 1 is the compiled circuit, input 2
// the proving key. Output 0 takes the proof.
type Inference struct {
	Statement    []byte `json:"statement"`    // statement.Statement, encoded
	Architecture []byte `json:"architecture"` // intnet.Architecture, encoded
	Parameters   int    `json:"parameters"`   // length of the encoded parameters
}

// MaxVerifyingKey bounds a verifying key, of either system.
const MaxVerifyingKey = 768 << 10

// Verify is the task of [ClassVerify]. Input 0 is the verifying key, followed by the envelope in its binary
// form. There is no output: the result says whether it verifies.
type Verify struct {
	Key    int   `json:"key"`    // length of the verifying key
	Millis int64 `json:"millis"` // that the verification may take once the key is read, 1 to MaxVerifyMillis
}

// MaxVerifyMillis is the longest that a verification may take.
const MaxVerifyMillis = 60_000

// Verified is the result of a verification: one of the three is set.
type Verified struct {
	Verified bool   `json:"verified,omitempty"` // the proof proves its statement
	Refused  string `json:"refused,omitempty"`  // why it does not
	TimedOut bool   `json:"timed_out,omitempty"`
}

// Proved is the result of a proof.
type Proved struct {
	Constraints int   `json:"constraints"`
	Bytes       int   `json:"bytes"` // of the proof
	Millis      int64 `json:"millis"`
}
