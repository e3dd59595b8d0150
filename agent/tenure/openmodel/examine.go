package openmodel

import (
	"context"
	"errors"
	"fmt"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/infer"
	"github.com/anchorhold/anchorhold/runtime/weights"
)

// Examine says whether a model fits into the memory limit beside what is taken, in the way
// in which it would be opened alone. If it does not, all of the file was checked: against
// its signature, chunk by chunk, and that the key opens it and the limit has room for it
// alone. What is open is closed only for a file that will open.
func Examine(ctx context.Context, cfg settings.Config, m settings.Model, held *Custody, taken int64) (fits bool, err error) {
	publisher, err := settings.Identity(m.Publisher)
	if err != nil {
		return false, fmt.Errorf("model %s: publisher: %w", m.Name, err)
	}
	o := &Model{Model: m, Custody: held, Threads: threads(m)}
	limit := room(cfg, m)
	least, most, err := o.need(publisher, limit, limit-taken)
	_, unknown := errors.AsType[*arena.DoesNotFit](err)
	switch {
	case unknown: // not even its header has room beside the other
	case err != nil:
		return false, fmt.Errorf("model %s: %w", m.Name, held.notGranted(m, err))
	case least > limit:
		return false, doesNotFit(cfg, m, 0, &arena.DoesNotFit{For: "model " + m.Name, Need: least, Available: limit, Limit: limit})
	case most <= limit-taken:
		return true, nil
	}
	want := o.options(publisher, weights.Streamed, 0)
	if err := chunkseal.VerifyFile(ctx, o.Path, o.Key, chunkseal.OpenOptions{Publisher: publisher, Name: want.Name, MinVersion: want.MinVersion, ModelID: want.ModelID}); err != nil {
		return false, fmt.Errorf("model %s: %w", m.Name, held.notGranted(m, err))
	}
	return false, nil
}

// need returns what opening takes at least and at most, in the first way that the limit has
// room for; of several ways that it has none for, the least. It reads the header in the room
// that it is given.
func (o *Model) need(publisher identity.Public, limit, room int64) (least, most int64, err error) {
	w, err := weights.Open(o.Path, o.Key, o.Budget(room), o.options(publisher, weights.Streamed, 0))
	if err != nil {
		return 0, 0, err
	}
	defer w.Close() // wipes what was read only to look at it
	header, err := gguf.ParseHeader(w.Header())
	if err != nil {
		return 0, 0, err
	}
	heap := vocabularyBeyondReserve(header)
	for _, try := range attempts(o.Model) {
		engine, err := infer.Memory(o.engineConfig(header, try.context))
		if err != nil {
			return 0, 0, err
		}
		kept, peak := w.Memory(try.mode, o.Threads)
		kept, peak = kept+heap, peak+heap
		need := max(kept+engine, peak)
		if need <= limit {
			return need, max(kept+engine+engineRounding, peak), nil
		}
		if least == 0 || need < least {
			least = need
		}
	}
	return least, least, nil
}

// engineRounding is what an engine's regions take beyond their bytes: a few of them, each
// rounded up to pages and guarded.
const engineRounding = 64 << 10
