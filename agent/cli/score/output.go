package score

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
)

// format is the version of the output.
const format = 1

// syncEach is how much work a loss of power may cost.
const syncEach = time.Second

// The words of outputs that are not taken up.
const (
	outputBusy    = "%s is being written by another process"
	outputForeign = "%s is not an output of score: name another file"
	outputOther   = "%s is of another %s than this run (%s, not %s): name another file, or give the same input and flags"
	outputDamaged = "line %d of %s is not a record: the file was changed or damaged; name another one"
	outputMended  = "the last line of %s was torn and is removed; %d of %d lines have their record\n"
)

// Reasons of outputs that are not taken up.
const (
	reasonBusy    = "output-busy"
	reasonOther   = "output-mismatch"
	reasonDamaged = "output-damaged"
)

// header is the first line of the output.
type header struct {
	Format  int    `json:"anchorhold_score"`
	Input   string `json:"input_sha256"`
	Lines   int    `json:"lines"`
	Model   string `json:"model"`
	ModelID string `json:"model_id"`
	Options flags  `json:"options"`
}

// output is the file of the records. Its methods are for use by several goroutines.
type output struct {
	path string
	last int // number of the input's last line

	mu     sync.Mutex
	file   *os.File
	end    int64 // of the last whole line
	done   lines // that have a record
	failed int   // of them, errors
	synced time.Time
	broken error // of a write: nothing follows it
}

// lines is a set of numbers of lines from 1, a bit for each up to the largest.
type lines struct {
	set   []uint64
	count int
}

func (l *lines) has(n int) bool {
	return n/64 < len(l.set) && l.set[n/64]>>(n%64)&1 != 0
}

func (l *lines) add(n int) (added bool) {
	if l.has(n) {
		return false
	}
	if more := n/64 + 1 - len(l.set); more > 0 {
		l.set = append(l.set, make([]uint64, more)...)
	}
	l.set[n/64] |= 1 << (n % 64)
	l.count++
	return true
}

// openOutput makes the file, or takes up one of the same run: it removes a torn last line, and
// knows which lines have their record.
func openOutput(path string, last int, want header, told io.Writer) (_ *output, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, cli.ExplainNew(path, err)
	}
	out := &output{path: path, last: last, file: f, synced: time.Now()}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, cli.Named(reasonOther, fmt.Errorf(outputForeign, path))
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, cli.Named(reasonBusy, fmt.Errorf(outputBusy, path))
	} else if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	first, err := json.Marshal(want)
	if err != nil {
		return nil, err
	}
	first = append(first, '\n')
	torn, err := out.read(first, want)
	if err != nil {
		return nil, err
	}
	if torn {
		if err := f.Truncate(out.end); err != nil {
			return nil, err
		}
		fmt.Fprintf(told, outputMended, path, out.done.count, want.Lines)
	}
	if out.end == 0 {
		if err := out.write(first); err != nil {
			return nil, err
		}
		if err := errors.Join(f.Sync(), syncDirectory(filepath.Dir(path))); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// read reads what is there, up to a last line that is torn.
func (out *output) read(first []byte, want header) (torn bool, err error) {
	r := bufio.NewReaderSize(out.file, 256<<10)
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			if n == 1 && len(line) > 0 && !bytes.HasPrefix(first, line) {
				return false, cli.Named(reasonOther, fmt.Errorf(outputForeign, out.path))
			}
			return len(line) > 0, nil
		}
		if err != nil {
			return false, err
		}
		if n == 1 {
			err = out.isFirst(line, want)
		} else {
			err = out.isRecord(n, line)
		}
		if err != nil {
			return false, err
		}
		out.end += int64(len(line))
	}
}

// isFirst refuses the first line of another run.
func (out *output) isFirst(line []byte, want header) error {
	var is header
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if d.Decode(&is) != nil || is.Format == 0 {
		return cli.Named(reasonOther, fmt.Errorf(outputForeign, out.path))
	}
	if is.ModelID == "" || want.ModelID == "" { // the agent does not say now, or did not then
		is.ModelID = want.ModelID
	}
	for _, c := range []struct {
		what     string
		is, want any
	}{
		{"version", is.Format, want.Format}, {"input", is.Input, want.Input}, {"number of lines", is.Lines, want.Lines},
		{"model", is.Model, want.Model}, {"model", is.ModelID, want.ModelID}, {"set of flags", is.Options, want.Options},
	} {
		if c.is != c.want {
			return cli.Named(reasonOther, fmt.Errorf(outputOther, out.path, c.what, show(c.is), show(c.want)))
		}
	}
	return nil
}

func show(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(raw)
}

func (out *output) isRecord(n int, line []byte) error {
	var is struct {
		Line  int
		Error *struct{}
	}
	if json.Unmarshal(line, &is) != nil || is.Line < 1 || is.Line > out.last || !out.done.add(is.Line) {
		return cli.Named(reasonDamaged, fmt.Errorf(outputDamaged, n, out.path))
	}
	if is.Error != nil {
		out.failed++
	}
	return nil
}

// has says whether a line has its record.
func (out *output) has(n int) bool {
	out.mu.Lock()
	defer out.mu.Unlock()
	return out.done.has(n)
}

// add appends a record.
func (out *output) add(r record) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	out.mu.Lock()
	defer out.mu.Unlock()
	if err := out.write(append(raw, '\n')); err != nil {
		return err
	}
	out.done.add(r.Line)
	if r.Error != nil {
		out.failed++
	}
	if time.Since(out.synced) < syncEach {
		return nil
	}
	out.broken, out.synced = out.file.Sync(), time.Now()
	return out.broken
}

// write appends a whole line or nothing. After a write that failed there is none: what it left is
// removed now, or when the file is taken up.
func (out *output) write(line []byte) error {
	if out.broken != nil {
		return out.broken
	}
	if _, err := out.file.WriteAt(line, out.end); err != nil {
		out.broken = errors.Join(err, out.file.Truncate(out.end))
		return out.broken
	}
	out.end += int64(len(line))
	return nil
}

// counts are how many lines have a record, and how many of those are errors.
func (out *output) counts() (done, failed int) {
	out.mu.Lock()
	defer out.mu.Unlock()
	return out.done.count, out.failed
}

// close keeps what was written, and returns its digest.
func (out *output) close() (digest string, err error) {
	sum := sha256.New()
	_, err = io.Copy(sum, io.NewSectionReader(out.file, 0, out.end))
	return hexOf(sum), errors.Join(err, out.file.Sync(), out.file.Close())
}
