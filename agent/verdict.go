package agent

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/servable"
)

// ReasonModelUnsupported says that the sealed model has parts that this version would compute
// otherwise than its file means them. No further key is asked for.
const ReasonModelUnsupported refusal.Reason = servable.Reason

// lookAgain is how often the file of a model that cannot be opened is looked at.
const lookAgain = 15 * time.Second

// verdict is that a model cannot be opened, whatever key there is, until its file or the
// configuration is another one.
type verdict struct {
	file stamp
	why  error // an *refusal.Error
}

// known is an error that was said, and that waits for something else than another try.
type known struct{ error }

// Unwrap returns it.
func (k known) Unwrap() error { return k.error }

// lasting says whether an error stays for as long as file and configuration do. A wrong key
// does not: the broker's store may be put right. Nor does a disk that fails.
func lasting(err error) bool {
	if failure, ok := errors.AsType[*chunkseal.Failure](err); ok {
		return !wrongKey(err) && failure.Err.Reason != chunkseal.ReasonUnreadable
	}
	_, unsupported := errors.AsType[*servable.Error](err)
	_, tooLarge := errors.AsType[*arena.DoesNotFit](err)
	return unsupported || tooLarge || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)
}

// wrongKey says whether another key might open the file.
func wrongKey(err error) bool {
	failure, ok := errors.AsType[*chunkseal.Failure](err)
	return ok && (failure.Err.Reason == chunkseal.ReasonKey || failure.Err.Reason == chunkseal.ReasonModelID)
}

// unavailable is the refusal of requests for a model that did not open.
func unavailable(err error) *refusal.Error {
	reason := ReasonModelUnavailable
	if _, ok := errors.AsType[*servable.Error](err); ok {
		reason = ReasonModelUnsupported
	} else if why, _ := refusal.ReasonOf(err); why == ReasonModelNotGranted {
		reason = why
	}
	return &refusal.Error{Reason: reason, Detail: err.Error()}
}

// standing returns why the configured model cannot be opened, as far as that is known before
// a key is asked for: from the last attempt, or from what is public in its file. A model
// that is served goes on, whatever is installed.
func (k *keeper) standing(ctx context.Context, open []opened) error {
	if len(k.cfg.Models) == 0 || k.tenure.serves() {
		k.unbar()
		return nil
	}
	m := k.cfg.Models[0]
	list := k.files.look(ctx, k.cfg, graceWith(open))
	i := slices.IndexFunc(list, func(o opened) bool { return o.path == m.Path && o.resource == m.Resource })
	switch {
	case i < 0: // the disk hangs, and says nothing new
		if k.barred != nil {
			return k.barred.why
		}
		return nil
	case k.barred != nil && list[i].stamp == k.barred.file:
		return k.barred.why
	case k.barred != nil:
		k.log.Info("another file is in the place of the one that could not be opened", "model", m.Name)
		k.unbar()
	}
	k.file = list[i].stamp
	if unfit := list[i].unfit; unfit != nil && lasting(unfit) {
		return k.bar(unfit)
	}
	return nil
}

// bar remembers that the model cannot be opened, says so once, and returns the refusal.
func (k *keeper) bar(err error) error {
	m := k.cfg.Models[0]
	why := unavailable(err)
	k.barred = &verdict{file: k.file, why: why}
	k.tenure.bar(why)
	k.log.Error("model cannot be opened; it is tried again when its file or the configuration changes", "model", m.Name, "reason", string(why.Reason), "err", err)
	if k.refused != nil {
		k.refused(why)
	}
	return why
}

// unbar forgets it.
func (k *keeper) unbar() {
	k.barred = nil
	k.tenure.bar(nil)
}

// needed are the keys to ask for: of a model that cannot be opened none, unless something
// else is under the same one.
func (k *keeper) needed(barred bool) []string {
	cfg := k.cfg
	if barred {
		cfg.Models = nil
	}
	return cfg.Resources()
}
