package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
)

// connect is what the emulator starts for each connection of the guest: its network reaches nothing else. With a file to count in, it
// is the network that fails while a guest says for the second time what its volume holds: the broker does not hear it.
func connect(address, asked string) error {
	var first []byte
	if asked != "" {
		var err error
		if first, err = hello(os.Stdin); err != nil {
			return err
		}
		if n, err := count(asked, first); err != nil || n > 1 {
			_, gone := io.Copy(io.Discard, os.Stdin) // until the machine is off
			return errors.Join(err, gone)
		}
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(c, io.MultiReader(bytes.NewReader(first), os.Stdin)) // the guest's end shows as the connection's
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(os.Stdout, c)
	return err
}

// hello reads the first record of a TLS connection, in which the protocol's name is in the clear.
func hello(from io.Reader) ([]byte, error) {
	const head, length = 5, 3 // a record's head, and where its length is
	record := make([]byte, head)
	if _, err := io.ReadFull(from, record); err != nil {
		return nil, err
	}
	record = append(record, make([]byte, binary.BigEndian.Uint16(record[length:]))...)
	_, err := io.ReadFull(from, record[head:])
	return record, err
}

// count adds a byte to the file if a connection is about a volume, and returns how many there are. For others it is 0.
func count(file string, hello []byte) (n int64, err error) {
	if !bytes.Contains(hello, []byte(hybridtls.ALPNVolumes)) {
		return 0, nil
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	_, err = f.WriteString("x")
	info, serr := f.Stat()
	if serr == nil {
		n = info.Size()
	}
	return n, errors.Join(err, serr, f.Close())
}
