package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

func validHeader() header {
	return header{Version: protocolVersion, Class: "sum", Spec: []byte{}, MemoryMax: minMemory, TimeMaxMS: 1, OutputMax: 1, In: 1, Out: 1}
}

// Each case differs from a valid header in one thing.
func TestHeaderRefusals(t *testing.T) {
	valid, err := encode(new(validHeader()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseHeader(valid); err != nil {
		t.Fatalf("the valid header: %v", err)
	}
	changed := func(change func(*header)) string {
		h := validHeader()
		change(&h)
		data, err := encode(&h)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	text := string(valid)
	for name, data := range map[string]string{
		"empty":            "",
		"null":             "null",
		"array":            "[]",
		"no version":       strings.Replace(text, `"version":2,`, "", 1),
		"negative output":  changed(func(h *header) { h.OutputMax = -1 }),
		"too much output":  changed(func(h *header) { h.OutputMax = maxOutput + 1 }),
		"unknown field":    strings.Replace(text, `"in":1`, `"in":1,"path":"/etc"`, 1),
		"other capitals":   strings.Replace(text, `"class"`, `"Class"`, 1),
		"twice":            strings.Replace(text, `"in":1`, `"in":2,"in":1`, 1),
		"trailing space":   text + " ",
		"trailing message": text + text,
		"null spec":        strings.Replace(text, `"spec":""`, `"spec":null`, 1),
		"not base64":       strings.Replace(text, `"spec":""`, `"spec":"="`, 1),
		"no class":         changed(func(h *header) { h.Class = "" }),
		"class is a path":  changed(func(h *header) { h.Class = "../sum" }),
		"class too long":   changed(func(h *header) { h.Class = strings.Repeat("a", maxClass+1) }),
		"spec too long":    changed(func(h *header) { h.Spec = make([]byte, maxSpec+1) }),
		"no memory":        changed(func(h *header) { h.MemoryMax = 0 }),
		"too little":       changed(func(h *header) { h.MemoryMax = minMemory - 1 }),
		"too much":         changed(func(h *header) { h.MemoryMax = maxMemory + 1 }),
		"no time":          changed(func(h *header) { h.TimeMaxMS = 0 }),
		"too long":         changed(func(h *header) { h.TimeMaxMS = maxTime.Milliseconds() + 1 }),
		"negative inputs":  changed(func(h *header) { h.In = -1 }),
		"many inputs":      changed(func(h *header) { h.In = maxDescriptors + 1 }),
		"negative outputs": changed(func(h *header) { h.Out = -1 }),
		"many outputs":     changed(func(h *header) { h.Out = maxDescriptors + 1 }),
		"huge":             changed(func(h *header) { h.Spec = make([]byte, maxMessage) }),
	} {
		if _, err := parseHeader([]byte(data)); !refusedFor(err, ReasonHeader) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Agent and worker are of one build: another version is named as what it is.
func TestHeadersOfOtherVersionsAreRefused(t *testing.T) {
	next := validHeader()
	next.Version = protocolVersion + 1
	later, err := encode(&next)
	if err != nil {
		t.Fatal(err)
	}
	next.Version = 0
	none, err := encode(&next)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"version 1": []byte(`{"version":1,"class":"sum","spec":"","memory_max":33554432,"time_max_ms":1,"in":1,"out":1}`),
		"the next":  later,
		"zero":      none,
	} {
		if _, err := parseHeader(data); !refusedFor(err, ReasonVersion) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The record and its descriptors must be whole and agree; a refusal leaves no
// descriptor open.
func TestHandoverRefusals(t *testing.T) {
	head, err := encode(new(validHeader()))
	if err != nil {
		t.Fatal(err)
	}
	full := validHeader()
	full.In, full.Out = maxDescriptors, maxDescriptors
	fullHead, err := encode(&full)
	if err != nil {
		t.Fatal(err)
	}
	many := make([]*os.File, 2*maxDescriptors+3)
	for i := range many {
		many[i] = sealed(t, "x")
	}
	for name, c := range map[string]struct {
		head  []byte
		files []*os.File
	}{
		"one too few":  {head, many[:2]},
		"one too many": {head, many[:4]},
		"cut off":      {fullHead, many},
		"too long":     {append(slices.Clone(head), make([]byte, maxMessage)...), many[:3]},
		"not a header": {[]byte("{}"), many[:3]},
	} {
		theirs, ours, err := socketpair()
		if err != nil {
			t.Fatal(err)
		}
		agent, aerr := newChannel(ours)
		worker, werr := newChannel(theirs)
		if err := errors.Join(aerr, werr); err != nil {
			t.Fatal(err)
		}
		if err := agent.sendHeader(c.head, c.files, noDeadline); err != nil {
			t.Fatal(err)
		}
		before := openDescriptors(t)
		if _, _, _, _, err := worker.receiveHeader(noDeadline); !refusedFor(err, ReasonHeader) {
			t.Errorf("%s: %v", name, err)
		}
		if after := openDescriptors(t); after != before {
			t.Errorf("%s: %d descriptors before, %d after", name, before, after)
		}
		agent.conn.Close()
		worker.conn.Close()
	}
}

func openDescriptors(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestReplyRefusals(t *testing.T) {
	for _, data := range []string{
		`{"progress":{"phase":"encrypt","done":1,"total":2}}`,
		`{"final":{"exit":"ok","detail":"","result":"AQ=="}}`,
		`{"final":{"exit":"cancelled","detail":"why","result":""}}`,
	} {
		if _, err := parseReply([]byte(data)); err != nil {
			t.Errorf("%s: %v", data, err)
		}
	}
	long := make([]byte, maxResult+1)
	longResult, err := encode(&reply{Final: &final{Exit: "ok", Result: long}})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"neither":           `{}`,
		"both":              `{"progress":{"phase":"a","done":1,"total":2},"final":{"exit":"ok","detail":"","result":""}}`,
		"phase with line":   `{"progress":{"phase":"a\nb","done":1,"total":2}}`,
		"no phase":          `{"progress":{"phase":"","done":1,"total":2}}`,
		"negative":          `{"progress":{"phase":"a","done":-1,"total":2}}`,
		"unknown ending":    `{"final":{"exit":"fine","detail":"","result":""}}`,
		"no ending":         `{"final":{"exit":"unknown","detail":"","result":""}}`,
		"result of failure": `{"final":{"exit":"crash","detail":"","result":"AQ=="}}`,
		"detail forges":     `{"final":{"exit":"crash","detail":"a\u001b[2J","result":""}}`,
		"detail too long":   `{"final":{"exit":"crash","detail":"` + strings.Repeat("a", maxDetail+1) + `","result":""}}`,
		"unknown field":     `{"final":{"exit":"ok","detail":"","result":"","path":""}}`,
		"null result":       `{"final":{"exit":"ok","detail":"","result":null}}`,
		"result too long":   string(longResult),
		"not JSON":          `garbage`,
	} {
		if _, err := parseReply([]byte(data)); !refusedFor(err, ReasonReply) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func refusedFor(err error, want refusal.Reason) bool {
	got, refused := refusal.ReasonOf(err)
	return refused && got == want
}

// What the agent's half refuses before it starts anything.
func TestTaskRefusals(t *testing.T) {
	p := testPool(t, Exec{}, 1)
	p.runner = nil // a start would not survive this
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	open := func(name string, flag int) *os.File {
		f, err := os.OpenFile(name, flag, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	closed := open(file, os.O_RDONLY)
	closed.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	socket := os.NewFile(uintptr(pair[0]), "socket")
	defer socket.Close()
	defer unix.Close(pair[1])
	for name, change := range map[string]func(*Task){
		"no limits":         func(t *Task) { t.Limits = Limits{} },
		"part of a ms":      func(t *Task) { t.Limits.Time = 999 },
		"class":             func(t *Task) { t.Class = "Sum" },
		"many inputs":       func(t *Task) { t.In = make([]*os.File, maxDescriptors+1) },
		"nil input":         func(t *Task) { t.In = []*os.File{nil} },
		"closed input":      func(t *Task) { t.In = []*os.File{closed} },
		"directory":         func(t *Task) { t.In = []*os.File{open("/", os.O_RDONLY)} },
		"device":            func(t *Task) { t.In = []*os.File{open("/dev/null", os.O_RDONLY)} },
		"socket":            func(t *Task) { t.In = []*os.File{socket} },
		"writable input":    func(t *Task) { t.In = []*os.File{open(file, os.O_RDWR)} },
		"input's other end": func(t *Task) { t.In = []*os.File{w} },
		"output to read":    func(t *Task) { t.Out = []*os.File{open(file, os.O_RDONLY)} },
		"output pipe":       func(t *Task) { t.Out = []*os.File{r} },
		"output device":     func(t *Task) { t.Out = []*os.File{open("/dev/null", os.O_WRONLY)} },
	} {
		task := Task{Class: "sum", Limits: bounds(), In: []*os.File{sealed(t, "x")}, Out: []*os.File{open(file, os.O_WRONLY)}}
		change(&task)
		_, err := p.Run(t.Context(), task, nil)
		if f := wantFailure(t, err, Refused, ""); !refusedFor(f, ReasonTask) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSealedInputNeverChanges(t *testing.T) {
	f := sealed(t, "data")
	if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("write: %v", err)
	}
	if err := f.Truncate(0); !errors.Is(err, unix.EPERM) {
		t.Errorf("truncate: %v", err)
	}
}

// imposter is a runner whose worker is a function of the test.
type imposter struct {
	play  func(c channel)
	state status
}

type imposed struct {
	ch    channel
	state status
	ended chan struct{}
}

func (i *imposed) channel() channel { return i.ch }
func (i *imposed) isolated() bool   { return false }
func (i *imposed) kill()            { _ = i.ch.conn.CloseRead() }
func (i *imposed) wait() status     { <-i.ended; return i.state }

func (i imposter) start(context.Context, Limits) (process, error) {
	theirs, ours, err := socketpair()
	if err != nil {
		return nil, err
	}
	mine, err := newChannel(theirs)
	if err != nil {
		return nil, err
	}
	c, err := newChannel(ours)
	if err != nil {
		return nil, err
	}
	p := &imposed{ch: c, state: i.state, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		defer mine.conn.Close()
		i.play(mine)
	}()
	return p, nil
}

// say sends raw records after it has taken the header and its descriptors.
func say(t *testing.T, records ...string) func(channel) {
	return func(c channel) {
		_, stderr, in, out, err := c.receiveHeader(noDeadline)
		if err != nil {
			t.Error(err)
			return
		}
		for _, f := range append(append(in, out...), stderr) {
			f.Close()
		}
		for _, r := range records {
			_, _ = c.conn.Write([]byte(r)) // the agent may have hung up
		}
	}
}

const saysOk = `{"final":{"exit":"ok","detail":"","result":"AQ=="}}`

func TestWhatAWorkerSaysIsWeighed(t *testing.T) {
	flood := make([]string, maxProgress+1)
	for i := range flood {
		flood[i] = fmt.Sprintf(`{"progress":{"phase":"a","done":%d,"total":0}}`, i)
	}
	for name, c := range map[string]struct {
		records []string
		state   status
		exit    Exit
		part    string
	}{
		"ok":                    {records: []string{saysOk}, exit: Ok},
		"ok and known":          {records: []string{saysOk}, state: status{known: true}, exit: Ok},
		"nothing":               {exit: Crash, part: "without an answer"},
		"nothing and code 127":  {state: status{known: true, code: 127}, exit: Crash, part: "code 127"},
		"garbage":               {records: []string{"\x00\x01"}, exit: Crash, part: string(ReasonReply)},
		"garbage after the end": {records: []string{saysOk, "x"}, exit: Crash, part: string(ReasonReply)},
		"two endings":           {records: []string{saysOk, saysOk}, exit: Crash, part: "after its last one"},
		"too long":              {records: []string{strings.Repeat("a", maxMessage+100)}, exit: Crash, part: string(ReasonReply)},
		"a flood":               {records: flood, exit: Crash, part: "progress messages"},
		"ok and code 3":         {records: []string{saysOk}, state: status{known: true, code: 3}, exit: Crash, part: "ended with code 3"},
		"ok and a signal":       {records: []string{saysOk}, state: status{known: true, signal: unix.SIGSEGV}, exit: Crash, part: "signal 11"},
		"killed for memory":     {state: status{known: true, signal: unix.SIGKILL, memoryUp: true}, exit: OutOfMemory},
		"killed for a call":     {state: status{known: true, signal: unix.SIGSYS}, exit: Crash, part: "forbidden"},
		"killed":                {state: status{known: true, signal: unix.SIGKILL}, exit: Crash, part: "SIGKILL"},
	} {
		p, err := NewPool(imposter{play: say(t, c.records...), state: c.state}, 1, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		result, err := p.Run(t.Context(), Task{Class: "x", Limits: bounds()}, nil)
		if c.exit == Ok {
			if err != nil || string(result) != "\x01" {
				t.Errorf("%s: %x, %v", name, result, err)
			}
			continue
		}
		t.Run(name, func(t *testing.T) { wantFailure(t, err, c.exit, c.part) })
	}
}

// A descriptor never enters the agent's process.
func TestReplyWithADescriptorIsRefused(t *testing.T) {
	extra := sealed(t, "x")
	p, err := NewPool(imposter{play: func(c channel) {
		say(t)(c)
		if err := c.sendHeader([]byte(saysOk), []*os.File{extra}, noDeadline); err != nil {
			t.Error(err)
		}
	}}, 1, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	before := openDescriptors(t)
	_, err = p.Run(t.Context(), Task{Class: "x", Limits: bounds()}, nil)
	wantFailure(t, err, Crash, "with descriptors")
	if after := openDescriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// A worker with the filter in place that turns on its agent.
func TestGarbageOfARealWorkerIsRefused(t *testing.T) {
	p := testPool(t, Exec{}, 1)
	for _, garbage := range []string{"\x00", "{}", "null", "garbage"} {
		_, err := p.Run(t.Context(), Task{Class: "garbage", Spec: []byte(garbage), Limits: bounds()}, nil)
		if f := wantFailure(t, err, Crash, ""); !refusedFor(f, ReasonReply) {
			t.Errorf("%q: %v", garbage, err)
		}
	}
	wantUnharmed(t, p)
}

// The runtime's last words, as they were seen at a memory bound, and others.
func TestLastWordsTellMemoryFromCrashes(t *testing.T) {
	for text, want := range map[string]Exit{
		"fatal error: runtime: out of memory\n":                                                                     OutOfMemory,
		"fatal error: runtime: cannot allocate memory\n":                                                            OutOfMemory,
		"SIGSEGV: segmentation violation\nPC=0x43361d m=3 sigcode=1 addr=0x0":                                       OutOfMemory,
		"fatal error: unexpected signal during runtime execution\n[signal SIGSEGV: segmentation violation code=0x1": OutOfMemory,
		"panic: runtime error: invalid memory address or nil pointer dereference\n[signal SIGSEGV: segmentation":    Crash,
		"SIGQUIT: quit\nPC=0x43361d m=0 sigcode=0":                                                                  Crash,
		"": Crash,
	} {
		if f := crash(status{}, []byte(text), false); f.Exit != want {
			t.Errorf("%q: %v, want %s", text, f, want)
		}
	}
}

func TestExitTableIsStable(t *testing.T) {
	table := map[Exit]string{Ok: "ok 0", BadInput: "bad-input 65", Crash: "crash 70", OutOfMemory: "out-of-memory 71",
		Refused: "refused 77", TimeOut: "time-out 124", Cancelled: "cancelled 130"}
	for e, want := range table {
		if got := fmt.Sprint(e, e.Code()); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if back, known := ParseExit(e.String()); !known || back != e {
			t.Errorf("%s is read as %s", e, back)
		}
	}
	var none Exit
	if _, known := ParseExit(none.String()); known || none.Code() == 0 {
		t.Error("no ending passes for one")
	}
	if (&Failure{Exit: Crash}).Error() != "worker: crash" {
		t.Error("a failure without a detail")
	}
	if f := failureOf(fmt.Errorf("wrapped: %w", context.DeadlineExceeded)); f.Exit != TimeOut {
		t.Error(f)
	}
	if f := failureOf(&Failure{Exit: Ok}); f.Exit != Crash {
		t.Errorf("an error that says ok became %v", f)
	}
}
