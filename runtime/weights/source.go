package weights

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// source is the sealed file. Ciphertext that passes through it does not stay in
// the page cache, which would count against the same memory limit.
type source struct {
	f      *os.File
	size   int64
	direct atomic.Bool  // O_DIRECT: the page cache is bypassed
	total  atomic.Int64 // bytes that read has read
	ended  func() bool  // whether what is read may not be decrypted any more
}

func openSource(path string, ended func() bool) (*source, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("weights: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("weights: %s: %w", path, err), f.Close())
	}
	return &source{f: f, size: info.Size(), ended: ended}, nil
}

// ReadAt reads through the page cache, without the alignment that read needs.
func (s *source) ReadAt(b []byte, offset int64) (int, error) {
	n, err := s.f.ReadAt(b, offset)
	if s.ended() { // while the disk hung
		return 0, ErrClosed
	}
	return n, err
}

// bypassCache switches to direct reads where the file system has them, and
// drops what the manifest's reading left in the cache.
func (s *source) bypassCache() {
	fd := int(s.f.Fd())
	_ = unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED) // advice
	flags, err := unix.FcntlInt(s.f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return
	}
	_, err = unix.FcntlInt(s.f.Fd(), unix.F_SETFL, flags|unix.O_DIRECT)
	s.direct.Store(err == nil)
}

// read fills b from offset. Both, and b's address, are multiples of 4096.
func (s *source) read(b []byte, offset int64) error {
	n, err := s.f.ReadAt(b, offset)
	if errors.Is(err, unix.EINVAL) && s.direct.Load() {
		// The file system took the flag and then wants another alignment.
		if flags, err := unix.FcntlInt(s.f.Fd(), unix.F_GETFL, 0); err == nil {
			_, _ = unix.FcntlInt(s.f.Fd(), unix.F_SETFL, flags&^unix.O_DIRECT) // the read below tells
		}
		s.direct.Store(false)
		n, err = s.f.ReadAt(b, offset)
	}
	if s.ended() { // while the disk hung
		return ErrClosed
	}
	if n == len(b) {
		s.total.Add(int64(n))
		if !s.direct.Load() {
			_ = unix.Fadvise(int(s.f.Fd()), offset, int64(n), unix.FADV_DONTNEED) // advice
		}
		return nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// readRun fills several buffers, as read does one, with what lies behind offset without a gap, in one
// request. After any error the caller reads each by itself, which tells what is wrong.
func (s *source) readRun(list [][]byte, offset int64) error {
	want := 0
	for _, b := range list {
		want += len(b)
	}
	n, err := unix.Preadv(int(s.f.Fd()), list, offset)
	runtime.KeepAlive(s.f)
	switch {
	case s.ended():
		return ErrClosed
	case err != nil:
		return err
	case n != want:
		return io.ErrUnexpectedEOF
	}
	s.total.Add(int64(n))
	if !s.direct.Load() {
		_ = unix.Fadvise(int(s.f.Fd()), offset, int64(n), unix.FADV_DONTNEED) // advice
	}
	return nil
}

func (s *source) close() error { return s.f.Close() }
