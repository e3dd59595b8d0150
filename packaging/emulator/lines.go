package emulator

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
)

// Lines are those that a guest writes into a file of the host: a serial port's.
type Lines struct {
	at   int64
	rest []byte
}

// Read returns the whole lines that have come since the last time. A file that is not there yet has none.
func (l *Lines) Read(path string) (lines []string, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() // read only
	news, err := io.ReadAll(io.NewSectionReader(f, l.at, 1<<20))
	if err != nil {
		return nil, err
	}
	l.at += int64(len(news))
	l.rest = append(l.rest, news...)
	for {
		line, rest, whole := bytes.Cut(l.rest, []byte("\n"))
		if !whole {
			return lines, nil
		}
		l.rest = rest
		lines = append(lines, strings.TrimRight(string(line), "\r"))
	}
}
