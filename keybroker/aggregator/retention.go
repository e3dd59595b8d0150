package aggregator

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// ReasonModel means that as many rounds of one model are held as may be.
const ReasonModel refusal.Reason = "rounds-of-model"

// expireEvery is how often rounds that are over are looked for.
const expireEvery = time.Hour

// roomForModel refuses one more round of a model than there may be. a.mu is held.
func (a *Aggregator) roomForModel(model string) error {
	n := 0
	for _, r := range a.rounds {
		if r.def.Model == model {
			n++
		}
	}
	if n >= a.cfg.RoundsPerModel {
		return refusal.New(ReasonModel, "%d rounds of the model %q are held; remove a finished one, or raise rounds_per_model", n, model)
	}
	return nil
}

// Expire removes the rounds and set-ups that are over for longer than their retention: it
// counts from when they closed by their own terms, and is longer where the result has not
// been published, for then the sum may be the only copy of it. It returns their number.
// None comes back: a round whose time to contribute is over is not taken again.
func (a *Aggregator) Expire(ctx context.Context) (gone int, err error) {
	entries, err := os.ReadDir(filepath.Join(a.cfg.StateDir, "rounds"))
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		id, perr := digest.ParseID[digest.Round](e.Name())
		if perr != nil {
			continue
		}
		over, oerr := a.over(a.roundDir(id))
		if oerr == nil && over {
			if oerr = a.Remove(ctx, id); oerr == nil {
				a.cfg.Logger.Info("round removed: its retention is over", "round", id.String())
				gone++
			}
		}
		err = errors.Join(err, oerr)
	}
	setups, serr := a.board.Expire(a.ago(a.cfg.Unfinished), func(id digest.RoundID) bool { return disk.Exists(a.roundDir(id)) })
	return gone + setups, errors.Join(err, serr)
}

// over says whether the retention of the round in a directory is over. The round need not
// be one that is served still.
func (a *Aggregator) over(dir string) (bool, error) {
	signed, err := os.ReadFile(filepath.Join(dir, fileRound))
	if errors.Is(err, fs.ErrNotExist) { // interrupted before the round was taken
		return false, nil
	}
	if err != nil {
		return false, err
	}
	def, err := federation.VerifyRound(signed, a.cfg.Roots, protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1)))
	if err != nil {
		return false, err
	}
	retention := a.cfg.Unfinished
	if disk.Exists(filepath.Join(dir, fileResult)) && disk.Exists(filepath.Join(dir, fileValues)) {
		retention = a.cfg.Kept
	}
	return def.Closes < a.ago(retention), nil
}

// ago is the time that was so long ago; of a clock that does not go back so far, zero.
func (a *Aggregator) ago(age time.Duration) protocol.Time {
	now := protocol.Time(a.now())
	if now <= protocol.Time(age.Milliseconds()) {
		return 0
	}
	return now.Add(-age)
}

// expire removes what is over until ctx ends.
func (a *Aggregator) expire(ctx context.Context) {
	t := time.NewTicker(expireEvery)
	defer t.Stop()
	for {
		if _, err := a.Expire(ctx); err != nil {
			a.cfg.Logger.Error("rounds that are over were not removed", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}
