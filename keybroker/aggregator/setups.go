package aggregator

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// Reasons of this package.
const (
	ReasonUnknownSetup refusal.Reason = "setup-unknown"
	ReasonSetupOver    refusal.Reason = "setup-over"
	ReasonSetupsFull   refusal.Reason = "setups-full"
	ReasonNoMessage    refusal.Reason = "party-message-missing"
	ReasonTwice        refusal.Reason = "party-message-twice"
	ReasonNoShare      refusal.Reason = "share-missing"
	ReasonShareBytes   refusal.Reason = "share-bytes"
)

// The files of a set-up, in a directory named by its round, are the signed set-up and
// one for each message; those of a share are the manifest and the blocks.
const (
	fileSetup    = "setup"
	FileManifest = "manifest" // of a share
	FileBlocks   = "blocks"   // of a share
)

// Board keeps the set-ups of keys that parties hold together: it is where parties leave their
// signed messages for each other, and their shares of a decryption. Everything there was signed
// by a party that the broker's signed set-up or round names, and is written once. Nobody has to
// trust it: the parties check every signature anew.
type Board struct {
	dir   string
	roots []identity.Public
	most  int
	times Times

	mu sync.Mutex // one write at a time
}

// Times is how the board tells what is said now from what is over.
type Times struct {
	// Floor is what is accepted of what is said now.
	Floor func() protocol.Floor
	// Fresh refuses a set-up that was opened long ago or runs too long.
	Fresh func(opened, closes protocol.Time) error
	// Now is the time.
	Now func() protocol.Time
}

// NewBoard is a board in a directory that may not exist yet, for at most so many set-ups.
func NewBoard(dir string, roots []identity.Public, most int, times Times) *Board {
	return &Board{dir: dir, roots: roots, most: most, times: times}
}

// Sweep deletes what a crash left of files that were being written. It is for the start,
// when nothing is written yet.
func (b *Board) Sweep() error { return disk.Sweep(filepath.Join(b.dir, "*")) }

func (b *Board) path(id digest.RoundID, name ...string) string {
	return filepath.Join(append([]string{b.dir, id.String()}, name...)...)
}

// once writes a file that never changes.
func (b *Board) once(path string, data []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := disk.Once(path, data)
	if errors.Is(err, disk.ErrOther) {
		return refusal.New(ReasonTwice, "%v", err)
	}
	return err
}

// AddSetup takes a set-up that the broker signed. The same again is fine.
func (b *Board) AddSetup(signed []byte) error {
	s, err := federation.VerifySetup(signed, b.roots, protocol.AnyBroker(), b.times.Floor())
	if err != nil {
		return err
	}
	if b.times.Now() >= s.Closes {
		return refusal.New(ReasonSetupOver, "the set-up ended at %s", s.Closes.Time())
	}
	if err := b.times.Fresh(s.Opened, s.Closes); err != nil {
		return err
	}
	held, err := filepath.Glob(filepath.Join(b.dir, "*"))
	if err != nil {
		return err
	}
	if len(held) >= b.most && !disk.Exists(b.path(s.Round)) {
		return refusal.New(ReasonSetupsFull, "%d setups are held; remove finished rounds", len(held))
	}
	if err := os.MkdirAll(b.path(s.Round), 0o700); err != nil {
		return err
	}
	return b.once(b.SetupPath(s.Round), signed)
}

// Setup is a set-up that is held.
func (b *Board) Setup(id digest.RoundID) (federation.Setup, error) {
	raw, err := os.ReadFile(b.SetupPath(id))
	if errors.Is(err, os.ErrNotExist) {
		return federation.Setup{}, refusal.New(ReasonUnknownSetup, "no key of round %s is being set up here", id)
	}
	if err != nil {
		return federation.Setup{}, err
	}
	return federation.VerifySetup(raw, b.roots, protocol.AnyBroker(), b.times.Floor().Kept())
}

// SetupPath is the file of a signed set-up.
func (b *Board) SetupPath(id digest.RoundID) string { return b.path(id, fileSetup) }

// AddMessage takes a message of a party, if may says that this agent speaks now.
func (b *Board) AddMessage(id digest.RoundID, signed []byte, may func(agent digest.Digest) error) error {
	raw, err := os.ReadFile(b.SetupPath(id))
	if errors.Is(err, os.ErrNotExist) {
		return refusal.New(ReasonUnknownSetup, "no key of round %s is being set up here", id)
	}
	if err != nil {
		return err
	}
	floor := b.times.Floor()
	s, err := federation.VerifySetup(raw, b.roots, protocol.AnyBroker(), floor)
	if err != nil {
		return err
	}
	m, err := federation.VerifyPartyMessage(signed, b.roots, floor, s, digest.Of(raw))
	if err == nil {
		err = may(m.Agent)
	}
	if err != nil {
		return err
	}
	return b.once(b.path(id, messageName(m.Kind, uint64(m.From), uint64(m.To))), signed)
}

func messageName(kind federation.Kind, from, to uint64) string {
	return fmt.Sprintf("%s-%d-%d", kind, from, to)
}

// MessagePath is the file of a message, by the words of a request.
func (b *Board) MessagePath(id digest.RoundID, kind, from, to string) (string, error) {
	f, err := party(from)
	if err != nil {
		return "", err
	}
	t, err := party(to)
	if err != nil {
		return "", err
	}
	switch k := federation.Kind(kind); k {
	case federation.PartyCommit, federation.PartyPublic, federation.PartyDeal, federation.PartyReady:
		return b.path(id, messageName(k, f, t)), nil
	}
	return "", refusal.New(ReasonNoMessage, "unknown message kind %q", kind)
}

func party(word string) (uint64, error) {
	n, err := strconv.ParseUint(word, 10, 8)
	if err != nil || n > federation.MaxParties {
		return 0, refusal.New(ReasonNoMessage, "%q is no party's number", word)
	}
	return n, nil
}

// Remove forgets a set-up.
func (b *Board) Remove(id digest.RoundID) error { return os.RemoveAll(b.path(id)) }

// Expire removes the set-ups that closed before a time and whose rounds nobody has, and
// returns their number.
func (b *Board) Expire(before protocol.Time, has func(digest.RoundID) bool) (gone int, err error) {
	entries, err := os.ReadDir(b.dir)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	for _, e := range entries {
		id, perr := digest.ParseID[digest.Round](e.Name())
		if perr != nil || has(id) {
			continue
		}
		raw, rerr := os.ReadFile(b.SetupPath(id))
		if rerr == nil {
			var s federation.Setup
			if s, rerr = federation.VerifySetup(raw, b.roots, protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1))); rerr == nil && s.Closes < before {
				rerr = b.Remove(id)
				gone++
			}
		} else if errors.Is(rerr, os.ErrNotExist) {
			rerr = nil // it is being taken
		}
		err = errors.Join(err, rerr)
	}
	return gone, err
}

// ShareDir is where a party's share of a round lies, by the word of a request; dir is
// the round's.
func ShareDir(dir, from string) (string, error) {
	n, err := party(from)
	return filepath.Join(dir, "shares", strconv.FormatUint(n, 10)), err
}

// BeginShare takes a share that a party signed about a closed round, with the hashes
// of its blocks, for a directory of ShareDir, if may says that this agent speaks now.
func (b *Board) BeginShare(dir string, r federation.Round, ticket digest.Digest, manifest []byte, may func(agent digest.Digest) error) error {
	m, err := federation.ParseManifest(manifest)
	if err != nil {
		return err
	}
	s, err := federation.VerifyShare(m.Signed, b.roots, b.times.Floor(), r, ticket)
	if err != nil {
		return err
	}
	set, _, err := r.Parameters()
	if err != nil {
		return err
	}
	if want := federation.BlockCount(r.Length, set.ValuesPerBlock()); filepath.Base(dir) != strconv.FormatUint(uint64(s.From), 10) || s.Blocks != want {
		return refusal.New(federation.ReasonParties, "the share of party %d has %d blocks, the round's vector has %d", s.From, s.Blocks, want)
	}
	if err := errors.Join(m.MatchesShare(s), may(s.Agent)); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return b.once(filepath.Join(dir, FileManifest), manifest)
}

// ReceiveShare takes the blocks of a share whose manifest is there, all or none. Those
// that are there already stay, and nothing is read. The caller lets no two of it run at a
// time in one directory.
func ReceiveShare(dir string, id digest.RoundID, body io.Reader) error {
	raw, err := os.ReadFile(filepath.Join(dir, FileManifest))
	if errors.Is(err, os.ErrNotExist) {
		return refusal.New(ReasonNoShare, "send the signed share before its blocks")
	}
	if err != nil {
		return err
	}
	if disk.Exists(filepath.Join(dir, FileBlocks)) {
		return nil
	}
	m, err := federation.ParseManifest(raw)
	if err != nil {
		return err
	}
	return disk.Stream(filepath.Join(dir, FileBlocks), func(w io.Writer) error { return copyBlocks(w, body, id, m) })
}

func copyBlocks(w io.Writer, r io.Reader, id digest.RoundID, m federation.Manifest) error {
	block := make([]byte, params.ShareBlockBytes)
	for i := range m.Hashes {
		_, err := io.ReadFull(r, block)
		if _, refused := refusal.ReasonOf(err); refused { // it creeps
			return err
		}
		if err != nil {
			return refusal.New(ReasonShareBytes, "the share ends at block %d of %d", i, len(m.Hashes))
		}
		if err := m.CheckBlock(id, uint64(i), block); err != nil {
			return err
		}
		if _, err := w.Write(block); err != nil {
			return err
		}
	}
	if n, err := io.ReadFull(r, block[:1]); n != 0 || !errors.Is(err, io.EOF) {
		return refusal.New(ReasonShareBytes, "trailing bytes after the share's last block")
	}
	return nil
}
