// Package prooftask describes the tasks of proving that the agent hands to its
// workers.
//
// It is the form in which package proofs, which is linked into the agent, and package
// proofwork, which is not, understand each other. It guarantees that what would need more
// memory than a worker may have is refused before a worker starts, and hands a worker circuit, key
// and witness.
package prooftask

// The classes of tasks.
const (
	// ClassInference proves answers of a classifier.
	ClassInference = "prove-inference"
	// ClassGradient proves the bounds of an update.
	ClassGradient = "prove-gradient"
	// ClassVerify verifies a proof whose verifier the agent does not link.
	ClassVerify = "verify-proof"
)

// Gradient is the task. Input 0 has, by a pipe, the salt and the coordinates, 16 bits
// each, little-endian; inputs 1 and 2 and output 0 are those of Inference.
type Gradient struct {
	Statement []byte `json:"statement"` // statement.Statement, encoded
	Bits      int    `json:"bits"`
}

// Inference is the task. Input 0 has, by a pipe, the encoded parameters and, for each
// answer, its salt and its quantized input; input 1 is the compiled circuit, input 2
// the proving key. Output 0 takes the proof.
type Inference struct {
	Statement    []byte `json:"statement"`    // statement.Statement, encoded
	Architecture []byte `json:"architecture"` // intnet.Architecture, encoded
	Parameters   int    `json:"parameters"`   // length of the encoded parameters
}

// Verify is the task. Input 0 is the verifying key, followed by the envelope in its binary
// form. There is no output: the result says whether it verifies.
type Verify struct {
	Key int `json:"key"` // length of the verifying key
}

// Verified is the result of a verification that came to an end; Refused is empty if the
// proof proves its statement.
type Verified struct {
	Refused string `json:"refused,omitempty"`
}

// Proved is the result.
type Proved struct {
	Constraints int   `json:"constraints"`
	Bytes       int   `json:"bytes"` // of the proof
	Millis      int64 `json:"millis"`
}
