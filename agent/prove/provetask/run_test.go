package provetask

import (
	"bytes"
	"context"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A worker that does not heed has its end of the pipe and reads nothing: at the lease's end
// the weights are gone all the same, and nothing waits for it.
func TestWitnessIsWipedWhateverTheWorkerDoes(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	weights, input := bytes.Repeat([]byte{7}, 1<<20), bytes.Repeat([]byte{9}, 100)
	l, err := lend(ctx, weights, input)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(l.feed.Reader.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	worker := os.NewFile(uintptr(fd), "worker's end")
	defer worker.Close()
	cancel()
	<-l.wiped
	for name, part := range map[string][]byte{"weights": weights, "input": input} {
		if len(bytes.Trim(part, "\x00")) != 0 {
			t.Errorf("the %s are left in the agent's memory", name)
		}
	}
	if got, err := io.ReadAll(worker); err != nil || len(bytes.Trim(got, "\x07")) != 0 {
		t.Errorf("the worker was fed on after the wipe: %d bytes, %v", len(got), err)
	}
	if err := l.end(); err != nil {
		t.Error(err)
	}
}

func TestWitnessReachesTheWorkerWholeAndStaysTheCallers(t *testing.T) {
	weights, input := bytes.Repeat([]byte{7}, 1<<20), bytes.Repeat([]byte{9}, 100)
	l, err := lend(t.Context(), weights, input)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(l.feed.Reader)
	if err != nil || !bytes.Equal(got, append(bytes.Clone(weights), input...)) {
		t.Errorf("%d bytes came: %v", len(got), err)
	}
	if err := l.end(); err != nil || weights[0] != 7 || input[0] != 9 {
		t.Errorf("%v, the parts were wiped although nothing ended", err)
	}
}
