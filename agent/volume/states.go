package volume

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/keybroker/generation"
	"github.com/anchorhold/anchorhold/keybroker/strictjson"
	"github.com/anchorhold/anchorhold/systemd/disk"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// statesFile is the file at the top of a volume with its states; root alone reads it.
const statesFile = ".anchorhold-generation"

// maxStates bounds the file.
const maxStates = 4 << 10

// states are what a volume holds: see [generation.Opening].
type states struct {
	Format      int              `json:"format"`
	Confirmed   generation.State `json:"confirmed"`
	Unconfirmed generation.State `json:"unconfirmed"`
}

const statesFormat = 1

// readStates reads the file. A volume without one was never confirmed. The top of a volume may belong to a service, which can put
// anything in the file's place: a link that leads out of the volume, or a pipe that nobody writes to.
func readStates(root string) (s states, err error) {
	f, err := os.OpenFile(filepath.Join(root, statesFile), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return states{}, nil
	}
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
		return s, refusal.New(ReasonGeneration, "%s is no ordinary file: %w", statesFile, err)
	}
	if err != nil {
		return s, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return s, errors.Join(refusal.New(ReasonGeneration, "%s is no ordinary file", statesFile), err, f.Close())
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxStates))
	if err := errors.Join(err, f.Close()); err != nil {
		return s, err
	}
	if err := strictjson.Decode(raw, strictjson.Limits{Values: 16, List: 4}, &s); err != nil || s.Format != statesFormat {
		return states{}, refusal.New(ReasonGeneration, "%s is damaged, or of another version than %d: %v", statesFile, statesFormat, err)
	}
	return s, nil
}

// writeStates replaces the file, durably.
func writeStates(root string, s states) error {
	s.Format = statesFormat
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return disk.Write(filepath.Join(root, statesFile), append(raw, '\n'))
}

// writePrivate writes a file for its owner, root, and for a group to read.
func writePrivate(path string, raw []byte, gid int) error {
	if err := disk.Write(path, raw); err != nil {
		return err
	}
	if err := os.Chown(path, -1, gid); err != nil {
		return err
	}
	return os.Chmod(path, 0o640)
}
