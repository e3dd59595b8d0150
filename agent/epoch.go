package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// epochFile keeps the highest broker epoch that this guest has seen, so that a
// retired epoch is refused after a restart too. A host that rolls the disk back
// also rolls this file back; then broker.minimum_epoch of the measured image is
// the floor.
type epochFile struct {
	path string

	mu      sync.Mutex
	highest uint64
}

// openEpochFile reads the file; a missing one means epoch 0, a damaged one is an error.
func openEpochFile(dir string) (*epochFile, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	e := &epochFile{path: filepath.Join(dir, "broker-epoch")}
	data, err := os.ReadFile(e.path)
	if errors.Is(err, os.ErrNotExist) {
		return e, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read highest epoch: %w", err)
	}
	e.highest, err = strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("read highest epoch: %s is damaged: %w", e.path, err)
	}
	return e, nil
}

// Highest returns the highest epoch seen.
func (e *epochFile) Highest() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.highest
}

// Raise records an epoch durably if it is higher than all before.
func (e *epochFile) Raise(epoch uint64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if epoch <= e.highest {
		return nil
	}
	if err := writeDurably(e.path, []byte(strconv.FormatUint(epoch, 10)+"\n")); err != nil {
		return fmt.Errorf("record broker epoch %d: %w", epoch, err)
	}
	e.highest = epoch
	return nil
}

// writeDurably replaces a file so that a crash leaves the old or the new one.
func writeDurably(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(data); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
