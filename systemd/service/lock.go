package service

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lockFile is in a state directory.
const lockFile = "lock"

// ErrRunning means that another process is using the state directory.
var ErrRunning = errors.New("another process is using it; stop that process first")

// LockState locks a state directory, which it creates if needed, for this process until the file
// is closed or the process ends. Without the lock, a second process would take the first one's
// work for the remains of an earlier run and remove it. It returns ErrRunning at once if another
// process holds the lock.
func LockState(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// It is not removed: whoever waits for a removed file's lock and one who makes it anew
	// would both have it.
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("%s: %w", dir, ErrRunning)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
