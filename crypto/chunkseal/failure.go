package chunkseal

import (
	"errors"
	"fmt"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Reasons why a sealed file is refused: stable words, specified in docs/sealed-format.md.
const (
	ReasonNotSealed  refusal.Reason = "not-a-sealed-file"     // no file of this format, or one that was never finished
	ReasonFormat     refusal.Reason = "format-unknown"        // a version or an algorithm that this build does not know
	ReasonMalformed  refusal.Reason = "malformed"             // fields that contradict each other or the limits
	ReasonTruncated  refusal.Reason = "truncated"             // the file ends too early
	ReasonTrailing   refusal.Reason = "trailing-bytes"        // bytes follow the end
	ReasonRoot       refusal.Reason = "manifest-root"         // header, manifest or index were changed
	ReasonPublisher  refusal.Reason = "publisher-not-trusted" // signed by another identity
	ReasonSignature  refusal.Reason = "manifest-signature"    // the signature does not verify
	ReasonName       refusal.Reason = "model-name"            // another model than the one asked for
	ReasonRollback   refusal.Reason = "version-rolled-back"   // older than the minimum version
	ReasonKind       refusal.Reason = "model-kind"            // a classifier where a language model belongs, or the reverse
	ReasonModelID    refusal.Reason = "model-id"              // another root than the one asked for
	ReasonKey        refusal.Reason = "key-commitment"        // another key than the one that sealed the file
	ReasonManifest   refusal.Reason = "manifest-sealed-part"  // the sealed manifest does not authenticate
	ReasonMisplaced  refusal.Reason = "chunk-misplaced"       // a chunk of this file at another place
	ReasonDigest     refusal.Reason = "chunk-digest"          // a chunk's bytes were changed
	ReasonTag        refusal.Reason = "chunk-authentication"  // a chunk does not authenticate under the key
	ReasonPadding    refusal.Reason = "chunk-padding"         // bytes between chunks are not zero
	ReasonUnreadable refusal.Reason = "unreadable"            // the storage returned an error
)

// Failure is a refusal with its place in the sealed file. [refusal.ReasonOf] finds its reason.
type Failure struct {
	// Chunk is the chunk's index in the file, -1 if the failure is not of one chunk.
	Chunk int
	// Tensor is the section that the chunk belongs to, if known.
	Tensor string
	// Err is the refusal; its own Err is the storage's error, if there was one.
	Err *refusal.Error
}

// Error is the place, the reason and the detail.
func (f *Failure) Error() string {
	where := "sealed file"
	if f.Chunk >= 0 {
		where = fmt.Sprintf("sealed file, chunk %d", f.Chunk)
	}
	if f.Tensor != "" {
		where += " of " + f.Tensor
	}
	return where + ": " + f.Err.Error()
}

// Unwrap returns the refusal.
func (f *Failure) Unwrap() error { return f.Err }

// Refuse makes the refusal of a whole file; an argument for %w in the format becomes its cause.
func Refuse(reason refusal.Reason, format string, args ...any) *Failure {
	wrapped := fmt.Errorf(format, args...)
	return &Failure{Chunk: -1, Err: &refusal.Error{Reason: reason, Detail: wrapped.Error(), Err: errors.Unwrap(wrapped)}}
}
