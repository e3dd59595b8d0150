// Package oracletest asks verifiers that others wrote what they make of a piece of evidence, so that
// tests can compare them with ours: Google's go-sev-guest, go-tdx-guest and go-eventlog ([Start]),
// and Phala's dcap-qvl ([StartDCAPQVL]).
//
// Each runs in a process of its own, which reads one JSON request a line and writes one JSON answer
// a line. No ordinary test binary links the libraries, which would make the first `go test ./...`
// of a fresh clone a longer wait, and a panic inside one of them ends nothing but its process. The
// program with the libraries is packaging/oracletest/vendors, behind the build tag oracle. Only tests
// and benchmarks may call this package.
package oracletest

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// maxAnswerBytes is far more than any answer has.
const maxAnswerBytes = 1 << 20

// process is a program that answers a line with a line.
type process struct {
	mu  sync.Mutex
	in  io.Writer
	out *bufio.Reader
}

// start runs a command that ends with its standard input, which is when the test does.
func start(tb testing.TB, cmd *exec.Cmd) process {
	tb.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			tb.Errorf("the process of %s: %v", cmd.Path, err)
		}
	})
	return process{in: in, out: bufio.NewReaderSize(out, maxAnswerBytes)}
}

func (p *process) ask(tb testing.TB, request, answer any) {
	tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := json.NewEncoder(p.in).Encode(request); err != nil {
		tb.Fatal(err)
	}
	line, err := p.out.ReadSlice('\n')
	if err != nil {
		tb.Fatalf("the process ended without an answer: %v", err)
	}
	if err := json.Unmarshal(line, answer); err != nil {
		tb.Fatalf("%v in %s", err, line)
	}
}

// Oracle is a running program with Google's libraries. Its methods may be called by several
// goroutines.
type Oracle struct{ process }

// Start builds the program and runs it until the test ends. The test is left out unless all tests
// are to run (package longtest).
func Start(tb testing.TB) *Oracle {
	tb.Helper()
	longtest.Run(tb, "it builds the vendors' libraries")
	// Its own output is all that is of use: a build that fails has said so on standard error.
	return &Oracle{start(tb, exec.Command("go", "run", "-tags", "oracle", "github.com/anchorhold/anchorhold/packaging/oracletest/vendors"))}
}

// Request is one question to the program; exactly one field is set.
type Request struct {
	SNP       *SNPRequest      `json:",omitempty"`
	SNPFields []byte           `json:",omitempty"` // a report
	TDX       *TDXRequest      `json:",omitempty"`
	TDXFields []byte           `json:",omitempty"` // a quote
	EventLog  *EventLogRequest `json:",omitempty"`
}

// Cost is what one verification took if Repeat was set: the mean of so many, in the best of ten
// batches.
type Cost struct{ Nanoseconds, Bytes, Allocations int64 }
