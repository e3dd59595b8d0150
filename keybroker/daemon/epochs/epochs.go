// Package epochs keeps a broker's epoch keys and the root's statements about them.
//
// It takes no statement that the root did not sign or that names another key than the one
// beside it, and gives back no epoch that the root retired, whatever directory is put back.
// The operators' commands of epochs act on it; it tells the broker of every change.
package epochs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// ReasonLastEpoch means that without this epoch the broker would have none that is active.
const ReasonLastEpoch refusal.Reason = "last-active-epoch"

// maxEpochs bounds how many epochs a state directory may hold.
const maxEpochs = 64

// Config says whose epochs they are. All fields are required.
type Config struct {
	Layout   statedir.Layout
	Root     identity.Public
	AuditKey identity.Public
	Unlock   idfile.Unlock
	Now      func() time.Time
	// Publish tells the broker of a change.
	Publish func(lowest uint64, list []keybroker.Epoch) error
}

// Set is the epochs that a broker holds.
type Set struct {
	cfg Config // never changed

	mu    sync.Mutex // owns the rest
	held  []heldEpoch
	floor uint64 // the highest minimum of any statement that was ever held; never lowered
}

// heldEpoch is one key on disk; without a statement it is only requested.
type heldEpoch struct {
	number    uint64
	key       *identity.Private
	signed    []byte
	statement protocol.EpochStatement
}

// Open reads the directory. A statement that the root did not sign, or that
// names another key than the one beside it, is an error.
func Open(cfg Config) (*Set, error) {
	e := &Set{cfg: cfg}
	next, err := e.read()
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.raise(next); err != nil {
		return nil, err
	}
	e.held = next
	return e, nil
}

func (e *Set) read() ([]heldEpoch, error) {
	names, err := filepath.Glob(filepath.Join(e.cfg.Layout.Epochs(), "*.key"))
	if err != nil {
		return nil, err
	}
	if len(names) > maxEpochs {
		return nil, fmt.Errorf("got %d epoch keys, at most %d are allowed; retire old ones", len(names), maxEpochs)
	}
	var out []heldEpoch
	for _, name := range names {
		var n uint64
		if _, err := fmt.Sscanf(filepath.Base(name), "%d.key", &n); err != nil || name != e.cfg.Layout.EpochKey(n) {
			return nil, fmt.Errorf("%s is not the name of an epoch key", name)
		}
		held, err := e.readOne(n)
		if err != nil {
			return nil, fmt.Errorf("epoch %d: %w", n, err)
		}
		out = append(out, held)
	}
	return out, nil
}

func (e *Set) readOne(n uint64) (heldEpoch, error) {
	key, err := idfile.Read(e.cfg.Layout.EpochKey(n), e.cfg.Unlock)
	if err != nil {
		return heldEpoch{}, fmt.Errorf("%w: restore the file from a backup; without one, move it away, which ends the epoch, provided another one is active", err)
	}
	held := heldEpoch{number: n, key: key}
	held.signed, err = os.ReadFile(e.cfg.Layout.EpochStatement(n))
	if errors.Is(err, os.ErrNotExist) {
		return held, nil
	}
	if err != nil {
		return held, err
	}
	if held.statement, err = e.verify(held.signed, n, key.Public()); err != nil {
		return held, fmt.Errorf("%s is not the root's statement about this epoch: %w: restore it from a backup; it is not secret, and the machine with the root key also has the last statement", e.cfg.Layout.EpochStatement(n), err)
	}
	return held, nil
}

// verify checks a statement against the root, the key and the audit key.
func (e *Set) verify(signed []byte, n uint64, key identity.Public) (protocol.EpochStatement, error) {
	st, err := protocol.VerifyEpoch(signed, []identity.Public{e.cfg.Root})
	switch {
	case err != nil:
		return st, err
	case st.Epoch != n:
		return st, fmt.Errorf("the statement is about epoch %d", st.Epoch)
	case !st.Key.Equal(key):
		return st, errors.New("the statement names another key")
	case st.AuditKey != e.cfg.AuditKey.ID():
		return st, errors.New("the statement names another audit key")
	}
	return st, nil
}

// Certified returns the epochs that the broker may use.
func (e *Set) Certified() []keybroker.Epoch {
	e.mu.Lock()
	defer e.mu.Unlock()
	return certified(e.held)
}

func certified(held []heldEpoch) []keybroker.Epoch {
	var out []keybroker.Epoch
	for _, h := range held {
		if h.signed != nil {
			out = append(out, keybroker.Epoch{Statement: h.signed, Key: h.key})
		}
	}
	return out
}

// Reload reads the directory again and tells the broker.
func (e *Set) Reload() error {
	next, err := e.read()
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.raise(next); err != nil {
		return err
	}
	if err := e.cfg.Publish(e.floor, certified(next)); err != nil {
		return err
	}
	// The old keys are not wiped here: an exchange that is under way may still
	// sign with one. They are garbage when the last one ends.
	e.held = next
	return nil
}

// Signer is the active epoch with the highest number.
func (e *Set) Signer() (protocol.ActiveEpoch, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := protocol.TimeOf(e.cfg.Now())
	var best *heldEpoch
	for i, h := range e.held {
		if h.signed != nil && h.number >= e.floor && h.statement.ValidAt(now) && (best == nil || h.number > best.number) {
			best = &e.held[i]
		}
	}
	if best == nil {
		return protocol.ActiveEpoch{}, refusal.New(protocol.ReasonNoActiveEpoch, "no epoch is active; nothing can be signed")
	}
	return protocol.ActiveEpoch{Key: best.key, Statement: best.signed, Broker: best.statement.Broker, Epoch: best.number}, nil
}

// End is when there will be no epoch to serve in, and which is the last one: an epoch that
// another follows without a gap ends nothing. It returns 0 if none is active.
func (e *Set) End() (last uint64, at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.cfg.Now()
	at = now
	for again := true; again; {
		again = false
		for _, h := range e.held {
			begins, ends := h.statement.NotBefore.Time(), h.statement.NotAfter.Time()
			if h.signed != nil && h.number >= e.floor && !begins.After(at) && ends.After(at) {
				last, at, again = h.number, ends, true
			}
		}
	}
	return last, at
}

// List describes the epochs that are held.
func (e *Set) List() []operator.EpochInfo {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := protocol.TimeOf(e.cfg.Now())
	out := []operator.EpochInfo{}
	for _, h := range e.held {
		out = append(out, describeEpoch(h, now, e.floor))
	}
	return out
}

func describeEpoch(h heldEpoch, now protocol.Time, floor uint64) operator.EpochInfo {
	info := operator.EpochInfo{Epoch: h.number, Key: h.key.Public(), State: "requested"}
	if h.signed == nil {
		return info
	}
	info.Statement = h.signed
	info.NotBefore, info.NotAfter = h.statement.NotBefore.Time(), h.statement.NotAfter.Time()
	switch {
	case h.number < floor || now >= h.statement.NotAfter:
		info.State = "retired"
	case now < h.statement.NotBefore:
		info.State = "prepared"
	default:
		info.State = "active"
	}
	return info
}

// Prepare makes the key of the next epoch and returns what the root must sign.
func (e *Set) Prepare(ctx context.Context) (operator.EpochRequest, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.prepare(ctx, 1)
}

// prepare makes a key for the next epoch whose number is at least this one. mu is held.
func (e *Set) prepare(ctx context.Context, least uint64) (operator.EpochRequest, error) {
	used, err := e.lastNumber()
	if err != nil {
		return operator.EpochRequest{}, err
	}
	next := max(least, e.floor, used+1)
	for _, h := range e.held {
		if h.signed == nil {
			// One request at a time: asking again shows the same one.
			if h.number < least {
				return operator.EpochRequest{}, refusal.New(protocol.ReasonEpochNumber, "a key was made for epoch %d; retire it to ask for epoch %d", h.number, least)
			}
			return operator.EpochRequest{Epoch: h.number, Key: h.key.Public(), AuditKey: e.cfg.AuditKey}, ctx.Err()
		}
		next = max(next, h.number+1)
	}
	if len(e.held) >= maxEpochs {
		return operator.EpochRequest{}, fmt.Errorf("%d epochs are held; retire old ones", len(e.held))
	}
	key, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		return operator.EpochRequest{}, err
	}
	if err := idfile.Write(e.cfg.Layout.EpochKey(next), key, e.cfg.Unlock); err != nil {
		key.Wipe()
		return operator.EpochRequest{}, err
	}
	e.held = append(e.held, heldEpoch{number: next, key: key})
	return operator.EpochRequest{Epoch: next, Key: key.Public(), AuditKey: e.cfg.AuditKey}, nil
}

// lastNumber is the highest number of a statement in the directory, also of an epoch that was
// retired: the root signs no number twice.
func (e *Set) lastNumber() (highest uint64, err error) {
	names, err := filepath.Glob(filepath.Join(e.cfg.Layout.Epochs(), "*.statement"))
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		signed, err := os.ReadFile(name)
		if err != nil {
			return 0, err
		}
		st, err := protocol.VerifyEpoch(signed, []identity.Public{e.cfg.Root})
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		highest = max(highest, st.Epoch)
	}
	return highest, nil
}

// Activate installs the root's statement for a requested epoch.
func (e *Set) Activate(ctx context.Context, signed []byte) (operator.EpochInfo, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	st, err := protocol.VerifyEpoch(signed, []identity.Public{e.cfg.Root})
	if err != nil {
		return operator.EpochInfo{}, err
	}
	if err := e.expects(st); err != nil {
		return operator.EpochInfo{}, err
	}
	for i, h := range e.held {
		if h.number != st.Epoch {
			continue
		}
		if st, err = e.verify(signed, h.number, h.key.Public()); err != nil {
			return operator.EpochInfo{}, err
		}
		if err := errors.Join(ctx.Err(), disk.Once(e.cfg.Layout.EpochStatement(h.number), signed)); err != nil {
			return operator.EpochInfo{}, err
		}
		e.held[i].signed, e.held[i].statement = signed, st
		if err := e.raise(e.held); err != nil {
			return operator.EpochInfo{}, err
		}
		return describeEpoch(e.held[i], protocol.TimeOf(e.cfg.Now()), e.floor), e.cfg.Publish(e.floor, certified(e.held))
	}
	return operator.EpochInfo{}, fmt.Errorf("no key was prepared for epoch %d", st.Epoch)
}

// Retire removes an epoch and its key. What its statement retired stays retired. It
// refuses to remove the last epoch that is active.
func (e *Set) Retire(ctx context.Context, number uint64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var rest []heldEpoch
	active, found := 0, false
	for _, h := range e.held {
		if h.number == number {
			found = true
			continue
		}
		rest = append(rest, h)
		if describeEpoch(h, protocol.TimeOf(e.cfg.Now()), e.floor).State == "active" {
			active++
		}
	}
	switch {
	case !found:
		return fmt.Errorf("this broker has no epoch %d; anchorhold epoch list shows those that it has", number)
	case active == 0:
		return refusal.New(ReasonLastEpoch, "epoch %d is the last active one; activate another first", number)
	}
	if err := errors.Join(ctx.Err(), e.cfg.Publish(e.floor, certified(rest))); err != nil {
		return err
	}
	e.held = rest
	// The key goes first: a statement without a key serves nobody. That of the newest epoch
	// stays, so that its number is not asked for again.
	if err := os.Remove(e.cfg.Layout.EpochKey(number)); err != nil {
		return err
	}
	newest := !slices.ContainsFunc(rest, func(h heldEpoch) bool { return h.number > number && h.signed != nil })
	if newest {
		return disk.SyncDir(e.cfg.Layout.Epochs())
	}
	if err := os.Remove(e.cfg.Layout.EpochStatement(number)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return disk.SyncDir(e.cfg.Layout.Epochs())
}

// Wipe erases every key.
func (e *Set) Wipe() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, h := range e.held {
		h.key.Wipe()
	}
	e.held = nil
}
