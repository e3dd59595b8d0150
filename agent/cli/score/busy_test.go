package score

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
)

// TestAnAgentWithoutAPlaceEndsTheRun in time, however long it says to wait, and without a record: the same command goes on.
func TestAnAgentWithoutAPlaceEndsTheRun(t *testing.T) {
	in := questions(t, 3)
	o := defaults(filepath.Join(t.TempDir(), "out.jsonl"))
	o.busyPatience = 120 * time.Millisecond
	full := clitest.ServeUnix(t, &fakeAgent{places: 0})
	clitest.Call{Run: o.run, Args: []string{in}, Agent: full, Status: cli.StatusRefused, Reason: "agent-busy", Says: "0 of 3 lines are done"}.Expect(t, "full")
	o.busyPatience = time.Minute
	clitest.Call{Run: o.run, Args: []string{in}, Agent: clitest.ServeUnix(t, &fakeAgent{places: 1, delay: time.Millisecond}), Says: "3 of 3 lines done"}.Expect(t, "taken up")
	records(t, o.out, 3)
	in = questions(t, 3)
	o = defaults(filepath.Join(t.TempDir(), "out.jsonl"))
	o.parallel, o.busyPatience = 2, 50*time.Millisecond
	clitest.Call{Run: o.run, Args: []string{in}, Agent: clitest.ServeUnix(t, &fakeAgent{places: 1, delay: 300 * time.Millisecond}), Says: "3 of 3 lines done"}.Expect(t, "the only place is the run's own")
	o.busyPatience = 0
	clitest.Call{Run: o.run, Args: []string{in}, Agent: full, Status: cli.StatusUsage, Says: "--busy-patience 0s leaves no time"}.Expect(t, "no time")
}

// TestTenMillionLinesTakeAMegabyte of memory to know which are done.
func TestTenMillionLinesTakeAMegabyte(t *testing.T) {
	const n = 10_000_000
	var done lines
	for i := n; i > 0; i -= 3 {
		if !done.add(i) || done.add(i) {
			t.Fatalf("line %d", i)
		}
	}
	for i := 1; i <= n+200; i++ {
		if want := i <= n && (n-i)%3 == 0; done.has(i) != want {
			t.Fatalf("line %d is done: %v", i, !want)
		}
	}
	if took := 8 * cap(done.set); done.count != (n+2)/3 || took > 3<<19 {
		t.Errorf("%d lines take %d bytes", done.count, took)
	}
}

// TestAnEmbeddingModelIsRefusedAtOnce, and no output is made.
func TestAnEmbeddingModelIsRefusedAtOnce(t *testing.T) {
	agent := &fakeAgent{places: 4, embeds: true}
	o := defaults(filepath.Join(t.TempDir(), "out.jsonl"))
	clitest.Call{Run: o.run, Args: []string{questions(t, 3)}, Agent: clitest.ServeUnix(t, agent), Status: cli.StatusFailed, Reason: "embeddings-only", Says: "/v1/embeddings"}.Expect(t, "an embedding model")
	if _, err := os.Stat(o.out); !errors.Is(err, os.ErrNotExist) || agent.count() != 0 {
		t.Errorf("the output: %v; %d lines were asked", err, agent.count())
	}
}
