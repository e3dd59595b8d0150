package chunkseal

import (
	"errors"
	"fmt"
)

// Reasons of a Failure: stable words, specified in docs/sealed-format.md.
const (
	ReasonNotSealed  = "not-a-sealed-file"     // no file of this format, or one that was never finished
	ReasonFormat     = "format-unknown"        // a version or an algorithm that this build does not know
	ReasonMalformed  = "malformed"             // fields that contradict each other or the limits
	ReasonTruncated  = "truncated"             // the file ends too early
	ReasonTrailing   = "trailing-bytes"        // bytes follow the end
	ReasonRoot       = "manifest-root"         // header, manifest or index were changed
	ReasonPublisher  = "publisher-not-trusted" // signed by another identity
	ReasonSignature  = "manifest-signature"    // the signature does not verify
	ReasonName       = "model-name"            // another model than the one asked for
	ReasonRollback   = "version-rolled-back"   // older than the minimum version
	ReasonKind       = "model-kind"            // a classifier where a language model belongs, or the reverse
	ReasonModelID    = "model-id"              // another root than the one asked for
	ReasonKey        = "key-commitment"        // another key than the one that sealed the file
	ReasonManifest   = "manifest-sealed-part"  // the sealed manifest does not authenticate
	ReasonMisplaced  = "chunk-misplaced"       // a chunk of this file at another place
	ReasonDigest     = "chunk-digest"          // a chunk's bytes were changed
	ReasonTag        = "chunk-authentication"  // a chunk does not authenticate under the key
	ReasonPadding    = "chunk-padding"         // bytes between chunks are not zero
	ReasonUnreadable = "unreadable"            // the storage returned an error
)

// Failure is the refusal of a sealed file or of one chunk of it.
type Failure struct {
	Reason string
	Chunk  int    // index in the file, -1 if the failure is not of one chunk
	Tensor string // whose chunk, if known
	Detail string
	Err    error // what the storage said, if it did
}

// Error is the reason, the place and the detail.
func (f *Failure) Error() string {
	where := "sealed file"
	if f.Chunk >= 0 {
		where = fmt.Sprintf("sealed file, chunk %d", f.Chunk)
	}
	if f.Tensor != "" {
		where += " of " + f.Tensor
	}
	msg := where + ": " + f.Reason + ": " + f.Detail
	if f.Err != nil {
		msg += ": " + f.Err.Error()
	}
	return msg
}

// Unwrap returns the storage's error.
func (f *Failure) Unwrap() error { return f.Err }

// ReasonOf returns the reason of a Failure in err's chain.
func ReasonOf(err error) (string, bool) {
	f, ok := errors.AsType[*Failure](err)
	if !ok {
		return "", false
	}
	return f.Reason, true
}

func fail(reason, format string, args ...any) *Failure {
	return &Failure{Reason: reason, Chunk: -1, Detail: fmt.Sprintf(format, args...)}
}
