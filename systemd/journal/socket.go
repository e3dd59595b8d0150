package journal

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// patience is how long a line waits for a journal whose queue is full. Those after
// one that waited in vain wait a hundredth of it.
const patience = time.Second

// socket is the journal's. It is connected: the kernel then says when there is
// room in the journal's queue, and a wait for it has a deadline.
type socket struct {
	path string
	wait time.Duration // patience

	mu      sync.Mutex
	conn    *net.UnixConn // guarded by mu; nil until needed, and after an error
	stalled bool          // guarded by mu; the last line waited in vain
	lost    int           // guarded by mu; records since one was taken
}

// send hands one record over, which is told how many were lost before it. A record for
// which there was no room in time is lost. Any other failure is an error: the
// journal cannot be reached.
func (s *socket) send(record func(lost int) []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, fresh := record(s.lost), s.conn == nil
	err := s.write(data)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !fresh {
		err = s.write(data) // over a new connection
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.stalled = true
		s.lost++
		return nil
	}
	s.stalled = false
	if err == nil {
		s.lost = 0
	}
	return err
}

// write connects if need be. After an error there is no connection.
func (s *socket) write(record []byte) error {
	if s.conn == nil {
		conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.path, Net: "unixgram"})
		if err != nil {
			return err
		}
		s.conn = conn
	}
	wait := s.wait
	if s.stalled {
		wait /= 100
	}
	err := s.conn.SetWriteDeadline(time.Now().Add(wait))
	if err == nil {
		_, err = s.conn.Write(record)
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		err = errors.Join(err, s.conn.Close())
		s.conn = nil
	}
	return err
}
