package aggregator

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/durable"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// fileLowest holds the highest minimum of epochs that any statement asked for.
const fileLowest = "min-epoch"

// lowest is the lowest epoch of the broker that is accepted. It only rises, and what it
// rose to is durable before anything is accepted by it: an epoch that the root retired
// does not come back with a restart.
type lowest struct {
	path string

	mu   sync.Mutex
	seen uint64
}

func openLowest(path string, least uint64) (*lowest, error) {
	l := &lowest{path: path, seen: max(least, 1)}
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return l, os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(string(raw), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%s is not a number of an epoch: %w", path, err)
	}
	l.seen = max(l.seen, n)
	return l, nil
}

func (l *lowest) epoch() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen
}

// raise notes a minimum that the root signed.
func (l *lowest) raise(epoch uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if epoch <= l.seen {
		return nil
	}
	if err := durable.Write(l.path, strconv.AppendUint(nil, epoch, 10)); err != nil {
		return err
	}
	l.seen = epoch
	return nil
}

// learn notes the minimum in the epoch statement that a verified statement of the broker
// carries.
func (l *lowest) learn(signed []byte, roots []identity.Public) error {
	st, err := federation.EpochOf(signed, roots)
	if err != nil {
		return err
	}
	return l.raise(st.MinEpoch)
}
