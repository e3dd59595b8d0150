package tenure

import (
	"context"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/agent/tenure/openmodel"
)

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

// standing returns why the configured model cannot be opened, as far as that is known before
// a key is asked for: from the last attempt, or from what is public in its file. A model
// that is served goes on, whatever is installed.
func (k *Keeper) standing(ctx context.Context, open []opened) error {
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
		k.log.Info("the file that could not be opened was replaced", "model", m.Name)
		k.unbar()
	}
	k.file = list[i].stamp
	if unfit := list[i].unfit; unfit != nil && openmodel.Lasting(unfit) {
		return k.bar(unfit)
	}
	return nil
}

// bar remembers that the model cannot be opened, says so once, and returns the refusal.
func (k *Keeper) bar(err error) error {
	m := k.cfg.Models[0]
	why := openmodel.Unavailable(err)
	k.barred = &verdict{file: k.file, why: why}
	k.tenure.bar(why)
	k.log.Error("model cannot be opened; it is tried again when its file or the configuration changes", "model", m.Name, "reason", string(why.Reason), "err", err)
	if k.refused != nil {
		k.refused(why)
	}
	return why
}

// unbar forgets it.
func (k *Keeper) unbar() {
	k.barred = nil
	k.tenure.bar(nil)
}

// needed are the keys to ask for: of a model that cannot be opened none, unless something
// else is under the same one.
func (k *Keeper) needed(barred bool) []string {
	cfg := k.cfg
	if barred {
		cfg.Models = nil
	}
	return cfg.Resources()
}
