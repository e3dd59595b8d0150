// Package epochfile remembers, across restarts, an epoch of each broker root: the highest
// that an agent has seen, or the lowest that an aggregator still accepts. An epoch that was
// retired does not come back with a restart.
//
// Each root has a number of its own, and only what that root's broker says moves it: roots
// that are configured together need not trust each other. Numbers only rise, and a number
// is durable before anything follows from it. What is known of a root stays when the root
// is taken out of the configuration, for it may be put back.
//
// It trusts its disk: whoever can put back an old file lowers the numbers to those in it,
// which is why a measured minimum stands beside it. It refuses a file that it does not
// understand whole. The agent and the aggregator keep one each.
package epochfile

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

const (
	// header begins the file; a line for each root follows, its ID and its epoch. Version 1
	// had no header: it was one number, for all roots.
	header = "anchorhold/epochs/2"
	// maxRoots bounds the roots that a file remembers, and with them its size.
	maxRoots = 256
	maxBytes = len(header) + 1 + maxRoots*(2*32+1+20+1)
)

// File is the numbers and the file that keeps them. It may be used by several goroutines.
type File struct {
	path  string
	least uint64

	mu     sync.Mutex
	epochs map[[32]byte]uint64
	lowest protocol.Lowest
}

// Open reads the file, and makes its directory; without a file no epoch was seen. least is
// the caller's own minimum, for every root. A file of version 1 holds one number, which
// counts for each of the roots that are configured now; it is rewritten at once, so that it
// does not count for roots that are added later.
func Open(path string, roots []identity.Public, least uint64) (*File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("open the directory of seen epochs: %w", err)
	}
	f := &File{path: path, least: least, epochs: map[[32]byte]uint64{}}
	raw, err := read(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		f.derive()
		return f, nil
	case err != nil:
		return nil, fmt.Errorf("read the epochs seen: %w", err)
	}
	former, err := f.parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s is damaged: %w; restore it from a backup", path, err)
	}
	if former > 0 {
		for _, root := range roots {
			f.epochs[root.ID()] = former
		}
		if err := disk.Write(path, f.marshal()); err != nil {
			return nil, fmt.Errorf("rewrite the seen epochs with their roots: %w", err)
		}
	}
	f.derive()
	return f, nil
}

// read is the file, or a little more than the longest that there is.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(f, int64(maxBytes)+1))
	return raw, errors.Join(err, f.Close())
}

// Lowest is what is kept, as a verifier's floor: not below the caller's minimum.
func (f *File) Lowest() protocol.Lowest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lowest
}

// Highest is the highest epoch of a root's broker that was seen, not below the caller's
// minimum.
func (f *File) Highest(root [32]byte) uint64 { return f.Lowest().Of(root) }

// Raise records an epoch of a root's broker durably, if it is higher than all before. It
// moves no other root's number.
func (f *File) Raise(root [32]byte, epoch uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	was, known := f.epochs[root]
	if epoch <= f.lowest.Of(root) {
		return nil
	}
	if !known && len(f.epochs) >= maxRoots {
		return fmt.Errorf("record epoch %d of broker %x: %s already has %d roots; remove the lines of roots that are no longer used", epoch, root[:8], f.path, maxRoots)
	}
	f.epochs[root] = epoch
	if err := disk.Write(f.path, f.marshal()); err != nil {
		if f.epochs[root] = was; !known {
			delete(f.epochs, root)
		}
		return fmt.Errorf("record epoch %d of broker %x: %w", epoch, root[:8], err)
	}
	f.derive()
	return nil
}

// derive makes lowest of epochs; the caller holds mu, or is alone.
func (f *File) derive() {
	f.lowest = protocol.AtLeast(f.least)
	for root, epoch := range f.epochs {
		f.lowest = f.lowest.Raised(root, epoch)
	}
}

func (f *File) marshal() []byte {
	lines := make([]string, 0, len(f.epochs))
	for root, epoch := range f.epochs {
		lines = append(lines, fmt.Sprintf("%x %d\n", root, epoch))
	}
	slices.Sort(lines) // by root: all are of one length
	return []byte(header + "\n" + strings.Join(lines, ""))
}

// parse reads either version; former is the number of version 1.
func (f *File) parse(raw []byte) (former uint64, err error) {
	if len(raw) > maxBytes {
		return 0, fmt.Errorf("more than %d bytes", maxBytes)
	}
	text, versioned := strings.CutPrefix(string(raw), header+"\n")
	if !versioned {
		former, err = strconv.ParseUint(strings.TrimSpace(text), 10, 64)
		return former, err
	}
	for line := range strings.Lines(text) {
		id, number, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		root, err := hex.DecodeString(id)
		if err != nil || len(root) != 32 {
			return 0, fmt.Errorf("%q is no root's ID", id)
		}
		epoch, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			return 0, err
		}
		f.epochs[[32]byte(root)] = epoch
	}
	if len(f.epochs) > maxRoots || !bytes.Equal(f.marshal(), raw) {
		return 0, errors.New("not as it was written")
	}
	return 0, nil
}
