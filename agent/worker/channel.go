package worker

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// channel is one end of the connection of agent and worker: a SOCK_SEQPACKET
// unix socket, so that a record is a message and descriptors belong to it.
type channel struct{ conn *net.UnixConn }

// newChannel takes the file over; anything but a connected SOCK_SEQPACKET unix
// socket is refused.
func newChannel(f *os.File) (channel, error) {
	conn, err := net.FileConn(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return channel{}, refusal.New(ReasonPeer, "the connection is not a socket: %w", err)
	}
	u, ok := conn.(*net.UnixConn)
	if !ok || u.LocalAddr().Network() != "unixpacket" {
		return channel{}, errors.Join(refusal.New(ReasonPeer, "the connection is not a unix socket of type SOCK_SEQPACKET"), conn.Close())
	}
	return channel{conn: u}, nil
}

// sendHeader sends one record with the descriptors of the files, within the
// deadline.
func (c channel) sendHeader(data []byte, files []*os.File, deadline time.Time) error {
	fds, err := duplicates(files)
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	if err != nil {
		return err
	}
	if err := c.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	_, _, err = c.conn.WriteMsgUnix(data, unix.UnixRights(fds...), nil)
	return err
}

// sendReply sends one record with a plain write: a worker may not call sendmsg,
// which could pass descriptors on.
func (c channel) sendReply(r *reply) error {
	data, err := encode(r)
	if err != nil {
		return err
	}
	if err := c.conn.SetWriteDeadline(time.Now().Add(maxHandover)); err != nil {
		return err
	}
	_, err = c.conn.Write(data)
	return err
}

// duplicates keeps each descriptor alive while it is sent, without touching the
// mode of the caller's file as Fd could.
func duplicates(files []*os.File) (fds []int, err error) {
	for _, f := range files {
		if err := control(f, func(from uintptr) error {
			fd, err := unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0)
			if err == nil {
				fds = append(fds, fd)
			}
			return err
		}); err != nil {
			return fds, fmt.Errorf("duplicate the descriptor of %s: %w", f.Name(), err)
		}
	}
	return fds, nil
}

// receiveHeader reads the first record and its descriptors, named after what
// they are for. On an error no descriptor is left open.
func (c channel) receiveHeader(deadline time.Time) (h *header, stderr *os.File, in, out []*os.File, err error) {
	data := make([]byte, maxMessage)
	rights := make([]byte, unix.CmsgSpace(4*(1+2*maxDescriptors)))
	if err := c.conn.SetReadDeadline(deadline); err != nil {
		return nil, nil, nil, nil, err
	}
	n, rn, _, _, err := c.conn.ReadMsgUnix(data, rights)
	if err != nil {
		return nil, nil, nil, nil, fmt.Errorf("wait for the header: %w", err)
	}
	fds, err := descriptors(rights[:rn])
	files := make([]*os.File, len(fds))
	for i, fd := range fds {
		files[i] = os.NewFile(uintptr(fd), "passed-"+strconv.Itoa(i))
	}
	if err == nil {
		h, err = parseHeader(data[:n])
	}
	// A record that was cut off is no header, and descriptors that were cut off
	// are fewer than it lists.
	if err == nil && len(files) != 1+h.In+h.Out {
		err = refusal.New(ReasonHeader, "got %d descriptors, want the %d that the header lists", len(files), 1+h.In+h.Out)
	}
	if err != nil {
		for _, f := range files {
			_ = f.Close() // a refused task uses none
		}
		return nil, nil, nil, nil, err
	}
	return h, files[0], files[1 : 1+h.In : 1+h.In], files[1+h.In:], c.conn.SetReadDeadline(time.Time{})
}

func descriptors(rights []byte) (fds []int, err error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, refusal.New(ReasonHeader, "control data: %w", err)
	}
	for _, m := range messages {
		more, err := unix.ParseUnixRights(&m)
		if err != nil {
			return fds, refusal.New(ReasonHeader, "the control data is not a list of descriptors: %w", err)
		}
		fds = append(fds, more...)
	}
	return fds, nil
}

// receiveReply reads one reply; io.EOF when the worker's end is closed, and before
// that, once, errUnread if it was closed with the header in it.
func (c channel) receiveReply(buffer []byte) (*reply, error) {
	n, rn, flags, _, err := c.conn.ReadMsgUnix(buffer, nil)
	if errors.Is(err, unix.ECONNRESET) {
		return nil, errUnread
	}
	if err != nil {
		return nil, err
	}
	if rn != 0 || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		return nil, refusal.New(ReasonReply, "got a record of more than %d bytes, or one with descriptors", maxMessage)
	}
	return parseReply(buffer[:n])
}
