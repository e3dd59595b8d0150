package openmodel

import (
	"errors"
	"io/fs"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/servable"
)

// Reasons why no model is served, though a lease is held.
const (
	// ReasonUnavailable: a lease is held but the sealed model did not open.
	ReasonUnavailable refusal.Reason = "model-unavailable"
	// ReasonNotGranted: the key that the lease was granted is for another model than
	// the file holds.
	ReasonNotGranted refusal.Reason = "model-not-granted"
	// ReasonUnsupported: the sealed model has parts that this version would compute
	// otherwise than its file means them. No further key is asked for.
	ReasonUnsupported refusal.Reason = servable.Reason
)

// Lasting says whether an error stays for as long as file and configuration do. A wrong key
// does not: the broker's store may be put right. Nor does a disk that fails.
func Lasting(err error) bool {
	if failure, ok := errors.AsType[*chunkseal.Failure](err); ok {
		return !WrongKey(err) && failure.Err.Reason != chunkseal.ReasonUnreadable
	}
	_, unsupported := errors.AsType[*servable.Error](err)
	_, tooLarge := errors.AsType[*arena.DoesNotFit](err)
	return unsupported || tooLarge || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)
}

// WrongKey says whether another key might open the file.
func WrongKey(err error) bool {
	failure, ok := errors.AsType[*chunkseal.Failure](err)
	return ok && (failure.Err.Reason == chunkseal.ReasonKey || failure.Err.Reason == chunkseal.ReasonModelID)
}

// Unavailable is the refusal of requests for a model that did not open.
func Unavailable(err error) *refusal.Error {
	reason := ReasonUnavailable
	if _, ok := errors.AsType[*servable.Error](err); ok {
		reason = ReasonUnsupported
	} else if why, _ := refusal.ReasonOf(err); why == ReasonNotGranted {
		reason = why
	}
	return &refusal.Error{Reason: reason, Detail: err.Error()}
}
