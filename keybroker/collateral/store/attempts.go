package store

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/collateral"
)

// attemptsFile says when what was tried last. It is for people and for the schedule; without it,
// everything is tried anew.
const attemptsFile = "attempts.json"

// Limits of the file.
const (
	maxAttempts      = 4096
	maxAttemptsBytes = 4 << 20
)

// Attempt is the last attempt to fetch an item that did not bring it.
type Attempt struct {
	At time.Time `json:"at"`
	// Failures is how many failed in a row.
	Failures int `json:"failures"`
	// Reason and Error say why.
	Reason string `json:"reason"`
	Error  string `json:"error"`
}

// Attempts are the last failed attempts by key.
func (s *Store) Attempts() map[string]Attempt {
	list := map[string]Attempt{}
	path := filepath.Join(s.dir, attemptsFile)
	if st, err := os.Stat(path); err != nil || st.Size() > maxAttemptsBytes {
		return list
	}
	data, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(data, &list) != nil || list == nil {
		return map[string]Attempt{}
	}
	return list
}

// Attempted notes a failed attempt, or with the zero value that the last one did not fail.
func (s *Store) Attempted(k collateral.Key, a Attempt) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	list := s.Attempts()
	if _, noted := list[k.String()]; a == (Attempt{}) && !noted {
		return nil
	}
	delete(list, k.String())
	if a != (Attempt{}) && len(list) < maxAttempts {
		list[k.String()] = a
	}
	path := filepath.Join(s.dir, attemptsFile)
	if len(list) == 0 {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	data, err := json.Marshal(list)
	if err != nil {
		return err
	}
	// It is not synced: after a crash everything may be tried anew.
	unfinished := filepath.Join(s.dir, ".new-attempts")
	if err := os.WriteFile(unfinished, data, fileMode); err != nil {
		return errors.Join(err, os.Remove(unfinished))
	}
	return os.Rename(unfinished, path)
}
