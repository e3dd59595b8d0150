package score

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"unicode/utf8"

	"github.com/anchorhold/anchorhold/agent/cli"
)

// maxLine is the longest line: an agent takes no longer body by default.
const maxLine = 1 << 20

// The words of wrong lines and files.
const (
	notAFile      = "%s is not a regular file: score reads its input twice, and again when it is taken up"
	noLines       = "%s has no lines"
	inputChanged  = "%s was changed while its lines were being asked"
	lineLong      = "the line has more than %d bytes"
	lineNoText    = "the line is not UTF-8"
	lineNoObject  = "the line is not a JSON object"
	lineNoKind    = `the line needs one of "messages", "prompt" and "text"`
	lineTextAlone = `%q does not go with "text", of which only the likelihood is told`
	lineModel     = `"model" is %s, but the run is for %q`
	lineStream    = `"stream" cannot be: a record is whole`
)

// Reasons of wrong lines.
const (
	reasonLine    = "line-invalid"
	reasonLong    = "line-too-long"
	reasonChanged = "input-changed"
)

// input is a file of lines.
type input struct {
	file   *os.File
	digest string // of the whole file
	lines  int    // that are not blank
	last   int    // number of the last line
	blocks [][sha256.Size]byte
}

// openInput reads the file once, for its digest, the number of its lines, and what the next reading
// has to find.
func openInput(ctx context.Context, path string) (*input, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	in := &input{file: f}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf(notAFile, path), f.Close())
	}
	sum := sha256.New()
	err = in.each(ctx, &blockReader{in: in, sum: sum}, func(n int, line []byte, long bool) error {
		in.last = n
		if !blank(line) || long {
			in.lines++
		}
		return nil
	})
	in.digest = hexOf(sum)
	if err == nil && in.lines == 0 {
		err = fmt.Errorf(noLines, path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return in, nil
}

func (in *input) close() { _ = in.file.Close() } // it was only read

// again calls f with every line and its number, as they were when the file was opened: what was
// changed since then is refused before f sees it. Of a line that is too long f gets the beginning.
func (in *input) again(ctx context.Context, f func(n int, line []byte, long bool) error) error {
	return in.each(ctx, &blockReader{in: in, check: true}, f)
}

func (in *input) each(ctx context.Context, from *blockReader, f func(n int, line []byte, long bool) error) error {
	if _, err := in.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r := bufio.NewReaderSize(from, 256<<10)
	for n := 1; ; n++ {
		line, long, err := readLine(r)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil && err != io.EOF { // of a last line that was cut short there is nothing to do
			return err
		}
		if len(line) > 0 {
			if err := f(n, bytes.TrimSuffix(line, []byte("\n")), long); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
	}
}

// blockBytes is what is compared at a time.
const blockBytes = 1 << 20

// blockReader reads the file block by block, takes note of their digests, or compares them.
type blockReader struct {
	in    *input
	sum   hash.Hash // of the whole, where digests are noted
	check bool
	block []byte // of which rest is not passed on yet
	rest  []byte
	n     int
}

// Read passes on blocks that are as they were.
func (r *blockReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if r.block == nil {
			r.block = make([]byte, blockBytes)
		}
		got, err := io.ReadFull(r.in.file, r.block)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return 0, err
		}
		if err := r.note(r.block[:got]); err != nil {
			return 0, err
		}
		if got == 0 {
			return 0, io.EOF
		}
		r.rest = r.block[:got]
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// note takes note of the next block, or compares it. An empty one is the end.
func (r *blockReader) note(block []byte) error {
	if !r.check {
		if len(block) > 0 {
			r.sum.Write(block)
			r.in.blocks = append(r.in.blocks, sha256.Sum256(block))
		}
		return nil
	}
	if len(block) == 0 && r.n == len(r.in.blocks) {
		return nil
	}
	if len(block) == 0 || r.n == len(r.in.blocks) || sha256.Sum256(block) != r.in.blocks[r.n] {
		return cli.Named(reasonChanged, fmt.Errorf(inputChanged, r.in.file.Name()))
	}
	r.n++
	return nil
}

func hexOf(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// readLine reads to the end of a line, of which it returns maxLine bytes at most.
func readLine(r *bufio.Reader) (line []byte, long bool, err error) {
	for {
		piece, err := r.ReadSlice('\n')
		if room := maxLine + 1 - len(line); len(piece) > room { // 1 for the end of the line
			piece, long = piece[:room], true
		}
		if line = append(line, piece...); err != bufio.ErrBufferFull {
			return line, long, err
		}
	}
}

// asking is a line as the agent is asked it.
type asking struct {
	line int
	id   json.RawMessage
	path string
	body []byte
	text bool // to be scored
}

// ask makes the request of a line. The error is the line's.
func (o *options) ask(n int, line []byte, long bool, model string) (a asking, err error) {
	a.line = n
	wrong := func(format string, args ...any) (asking, error) {
		return a, cli.Named(reasonLine, fmt.Errorf(format, args...))
	}
	if long {
		return a, cli.Named(reasonLong, fmt.Errorf(lineLong, maxLine))
	}
	if !utf8.Valid(line) { // an agent refuses it, and its id would make the output no text
		return wrong(lineNoText)
	}
	var f map[string]json.RawMessage
	if json.Unmarshal(line, &f) != nil || f == nil {
		return wrong(lineNoObject)
	}
	a.id = f["id"]
	delete(f, "id")
	kinds := 0
	for name, path := range map[string]string{"messages": "/v1/chat/completions", "prompt": "/v1/completions", "text": "/v1/completions"} {
		if _, ok := f[name]; ok {
			a.path = path
			kinds++
		}
	}
	if kinds != 1 {
		return wrong(lineNoKind)
	}
	if _, ok := f["stream"]; ok {
		return wrong(lineStream)
	}
	own, err := json.Marshal(model)
	if err != nil {
		return a, err
	}
	if said, ok := f["model"]; ok && !bytes.Equal(said, own) {
		return wrong(lineModel, said, model)
	}
	f["model"] = own
	if text, ok := f["text"]; ok {
		a.text = true
		for name := range f {
			if name != "text" && name != "model" {
				return wrong(lineTextAlone, name)
			}
		}
		f = map[string]json.RawMessage{"model": own, "prompt": text, "echo": []byte("true"), "max_tokens": []byte("0"), "logprobs": []byte("0")}
	} else if err := o.fill(f); err != nil {
		return a, err
	}
	a.body, err = json.Marshal(f) // keys in order: the same line has the same bytes in every run
	return a, err
}

// fill adds what the flags say and the line does not.
func (o *options) fill(f map[string]json.RawMessage) error {
	for name, v := range map[string]any{"max_tokens": o.maxTokens, "temperature": o.temperature, "seed": o.seed} {
		_, said := f[name]
		if _, newer := f["max_completion_tokens"]; said || newer && name == "max_tokens" {
			continue
		}
		raw, err := json.Marshal(v)
		if err != nil {
			return err
		}
		f[name] = raw
	}
	return nil
}
