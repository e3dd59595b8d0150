package jobs

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

const childVariable = "ANCHORHOLD_JOBS_TEST_CHILD"

// The variants of the child. All but the first break one promise, and the oracle must
// notice each of them.
const (
	sound       = "sound"
	blind       = "blind"       // completes without asking whether the lease is in force
	forgetful   = "forgetful"   // acknowledges what it did not write
	unjournaled = "unjournaled" // has its effect without asking the journal
	uncounted   = "uncounted"   // does not count a try before it begins
)

// child is the process that is killed. It prints a line for all that was acknowledged.
type child struct {
	t       *testing.T
	q       *Queue
	c       *clock
	r       *rand.Rand
	round   string
	variant string
}

// TestKillChild works on a queue until it is killed: from outside at any moment, or by
// itself right before or after its nth write.
func TestKillChild(t *testing.T) {
	args := strings.Split(os.Getenv(childVariable), "|")
	if len(args) != 4 {
		t.Skip("runs only as a child of the tests below")
	}
	path, round, variant := args[0], args[1], args[2]
	nth, err := strconv.Atoi(args[3])
	if err != nil {
		t.Fatal(err)
	}
	c := newClock()
	c.add(time.Duration(len(round)) * time.Hour)
	h := &child{t, openQueue(t, path, crashOptions(c, round)), c, rand.New(rand.NewPCG(uint64(len(round)), 2)), round, variant}
	writes, written := 0, h.q.writing
	h.q.commit = func(tx *bolt.Tx) error {
		if writes++; writes == max(nth, -nth) {
			if nth < 0 {
				return errors.Join(tx.Commit(), syscall.Kill(os.Getpid(), syscall.SIGKILL))
			}
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		if h.variant == forgetful && writes%7 == 0 {
			h.q.writing = written // or the file's ledger would give it away
			return tx.Rollback()
		}
		written = h.q.writing
		return tx.Commit()
	}
	for i := 0; ; i++ {
		h.step(i)
	}
}

// crashOptions: each second round comes after a reboot.
func crashOptions(c *clock, round string) Options {
	o := options(c)
	o.Boot = fmt.Sprint("boot-", len(round)/2)
	o.MaxJobs, o.MaxKept, o.MaxBytes = 1<<20, 1<<20, 1<<50
	return o
}

func (h *child) step(i int) {
	info := submit(h.t, h.q, Job{Class: "add", Spec: json.RawMessage(fmt.Sprintf(`"%s/%d"`, h.round, i))})
	fmt.Println("ack submitted", info.ID)
	l := h.lease()
	if l == nil {
		return
	}
	h.effect(l)
	switch h.r.IntN(8) {
	case 0, 1:
		h.complete(l)
	case 2, 6, 7:
		ok(h.t, l.Fail(Crash, "", "on purpose"))
		h.c.add(time.Minute)
	case 3: // this worker hangs, another takes over, and then the first one comes back
		h.c.add(2 * time.Minute)
		if second := h.lease(); second != nil {
			h.complete(second)
		}
		h.complete(l)
	case 4:
		if _, err := h.q.Cancel(info.ID); err == nil {
			fmt.Println("ack cancelled", info.ID)
		}
	case 5:
		h.c.add(time.Minute) // hangs for good
	}
}

func (h *child) lease() *Lease {
	l := try(h.t, h.q)
	if l == nil {
		return nil
	}
	fmt.Println("ack leased", l.Info.ID)
	if h.variant == uncounted {
		h.q.mu.Lock()
		defer h.q.mu.Unlock()
		ok(h.t, h.q.change(h.q.jobs[l.id], func(i *Info) { i.Tries = 1 }))
	}
	return l
}

// effect is what may happen once only for a job: each try would do it with something
// else, as an encryption does with its randomness.
func (h *child) effect(l *Lease) {
	name := l.Info.ID.String()
	digest := sha256.Sum256(fmt.Appendf(nil, "%s %s %d", name, h.round, l.number))
	if h.variant != unjournaled {
		if err := h.q.Once(name, digest); err != nil {
			wantReason(h.t, err, ReasonConsumed)
			return
		}
	}
	fmt.Printf("ack effect %s %x\n", name, digest)
}

func (h *child) complete(l *Lease) {
	result := fmt.Sprintf(`"%s/%d"`, h.round, l.number)
	err := l.Complete([]byte(result))
	if reason, _ := refusal.ReasonOf(err); h.variant == blind && reason == ReasonLeaseLost {
		h.q.mu.Lock()
		defer h.q.mu.Unlock()
		err = h.q.change(h.q.jobs[l.id], func(i *Info) { i.end(Ok, 0, h.c.Now()); i.Result = []byte(result) })
	}
	if err == nil {
		fmt.Println("ack done", l.Info.ID, result)
	}
}

// witness knows all that any child ever acknowledged.
type witness struct {
	submitted, cancelled map[string]bool
	done, dead, effects  map[string]string
	tries                map[string]int
	violations           []string
}

func newWitness() *witness {
	return &witness{map[string]bool{}, map[string]bool{}, map[string]string{}, map[string]string{}, map[string]string{}, map[string]int{}, nil}
}

func (w *witness) violated(format string, args ...any) {
	w.violations = append(w.violations, fmt.Sprintf(format, args...))
}

// hear takes one line. What is said twice must be the same both times.
func (w *witness) hear(line string) {
	words := strings.Fields(line)
	switch words[0] {
	case "submitted":
		w.submitted[words[1]] = true
	case "cancelled":
		w.cancelled[words[1]] = true
	case "leased":
		if w.tries[words[1]]++; w.tries[words[1]] > MaxTries {
			w.violated("job %s was tried %d times", words[1], w.tries[words[1]])
		}
	case "done":
		w.same(w.done, "result", words[1], words[2])
	case "effect":
		w.same(w.effects, "effect", words[1], words[2])
	}
}

func (w *witness) same(known map[string]string, what, id, now string) {
	if before, ok := known[id]; ok && before != now {
		w.violated("%s of job %s: first %s, then %s", what, id, before, now)
	}
	known[id] = now
}

// inspect opens the queue after a crash and compares it with what was acknowledged.
func (w *witness) inspect(t *testing.T, path, round string) {
	t.Helper()
	q, err := Open(path, testKey(t, 1), crashOptions(newClock(), round))
	if err != nil {
		w.violated("the queue does not open: %v", err)
		return
	}
	defer q.Close()
	if err := q.db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			return err
		}
		return nil
	}); err != nil {
		w.violated("structure: %v", err)
	}
	seen := map[string]Info{}
	for _, info := range q.List(nil) {
		seen[info.ID.String()] = info
		if info.State == Leased || info.Tries > MaxTries {
			w.violated("job %s is %s after %d tries", info.ID, info.State, info.Tries)
		}
		if info.State == Dead {
			w.same(w.dead, "end", info.ID.String(), fmt.Sprintf("%s %s", info.Exit, info.Detail))
			if info.Exit == "" || info.Detail == "" {
				w.violated("dead letter %s does not say why", info.ID)
			}
		}
		if info.State == Done { // a result that was written and not acknowledged stays too
			w.same(w.done, "result", info.ID.String(), string(info.Result))
		}
	}
	for id := range w.submitted {
		if _, ok := seen[id]; !ok {
			w.violated("job %s was lost", id)
		}
	}
	for id, result := range w.done {
		if got := seen[id]; got.State != Done || string(got.Result) != result {
			w.violated("job %s was done with %s, and is %s with %s", id, result, got.State, got.Result)
		}
	}
	for id := range w.cancelled {
		if got := seen[id]; got.State != Cancelled {
			w.violated("job %s was cancelled, and is %s", id, got.State)
		}
	}
	for id := range w.dead {
		if got := seen[id]; got.State != Dead {
			w.violated("job %s was dead, and is %s", id, got.State)
		}
	}
	for id, effect := range w.effects {
		if digest, err := q.Consumed(id); err != nil || fmt.Sprintf("%x", digest) != effect {
			w.violated("effect %s of job %s is %x in the journal, %v", effect, id, digest, err)
		}
	}
}

// killed runs one child until it is dead: killed after lines acknowledgements, or by
// itself at its nth write.
func (w *witness) killed(t *testing.T, path, round, variant string, lines, nth int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKillChild$", "-test.v")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%s|%s|%d", childVariable, path, round, variant, nth))
	out, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	var all bytes.Buffer
	n := 0
	for s := bufio.NewScanner(io.TeeReader(out, &all)); s.Scan(); {
		line, ack := strings.CutPrefix(s.Text(), "ack ")
		if !ack {
			continue
		}
		w.hear(line)
		if n++; n == lines {
			ok(t, cmd.Process.Kill())
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child was not killed: %v\n%s", err, all.String())
	}
}

func (w *witness) matrix(t *testing.T, variant string, rounds int) {
	path := filepath.Join(t.TempDir(), "jobs.db")
	r := rand.New(rand.NewPCG(uint64(rounds), 1))
	for i := range rounds {
		round := strings.Repeat("r", i+1)
		lines, nth := 0, 0
		switch i % 3 {
		case 0:
			lines = 10 + r.IntN(60) // at any moment
		case 1:
			nth = 1 + r.IntN(50) // before a write
		case 2:
			nth = -1 - r.IntN(50) // after a write, before anyone heard of it
		}
		w.killed(t, path, round, variant, lines, nth)
		w.inspect(t, path, round)
	}
}

func TestKilledAtAnyMoment(t *testing.T) {
	rounds := 12
	if longtest.All() {
		rounds = 60
	}
	w := newWitness()
	w.matrix(t, sound, rounds)
	for _, v := range w.violations {
		t.Error(v)
	}
	t.Logf("%d kills: %d jobs, %d done, %d dead, %d cancelled, %d effects, none lost and none twice", rounds, len(w.submitted), len(w.done), len(w.dead), len(w.cancelled), len(w.effects))
	if len(w.done) == 0 || len(w.dead) == 0 || len(w.cancelled) == 0 || len(w.effects) == 0 {
		t.Error("the test reached nothing")
	}
}

// TestBrokenQueuesAreNoticed is the control: the same oracle, a broken queue.
func TestBrokenQueuesAreNoticed(t *testing.T) {
	longtest.Run(t, "it kills the processes of four broken queues")
	for variant, want := range map[string]string{blind: "result of job", forgetful: "was lost", unjournaled: "effect", uncounted: "was tried"} {
		t.Run(variant, func(t *testing.T) {
			w := newWitness()
			w.matrix(t, variant, 6)
			if len(w.violations) == 0 {
				t.Fatal("nobody noticed: the oracle is blind")
			}
			if !strings.Contains(strings.Join(w.violations, "\n"), want) {
				t.Fatalf("noticed something else: %q", w.violations)
			}
		})
	}
}
