package keystore

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	bolt "go.etcd.io/bbolt"
)

const childVariable = "ANCHORHOLD_KEYSTORE_TEST_CHILD"

// TestKillChild is the process that the next test kills: it stores secrets
// until it dies and prints what was acknowledged.
func TestKillChild(t *testing.T) {
	path, round, ok := strings.Cut(os.Getenv(childVariable), "|")
	if !ok {
		t.Skip("runs only as a child of TestKilledAtAnyMoment")
	}
	s := openStore(t, path, testKEK(t, 1))
	for i := 0; ; i++ {
		name := fmt.Sprintf("r%s/k%d", round, i)
		put(t, s, name, "value of "+name)
		fmt.Println("ack", name)
	}
}

func TestKilledAtAnyMoment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "k.db")
	var known []string
	for round := range 8 {
		known = append(known, killAfter(t, path, round, 1+rand.New(rand.NewPCG(uint64(round), 5)).IntN(60))...)
		s := openStore(t, path, testKEK(t, 1))
		if err := s.db.View(func(tx *bolt.Tx) error {
			for err := range tx.Check() {
				return err
			}
			return nil
		}); err != nil {
			t.Fatalf("round %d: integrity: %v", round, err)
		}
		for _, name := range known {
			wantSecret(t, s, name, 0, "value of "+name)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d acknowledged secrets, none lost", len(known))
}

func killAfter(t *testing.T, path string, round, n int) (acknowledged []string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKillChild$", "-test.v")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%d", childVariable, path, round))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(out); s.Scan(); {
		if name, ok := strings.CutPrefix(s.Text(), "ack "); ok && strings.Count(name, "/") == 1 {
			if acknowledged = append(acknowledged, name); len(acknowledged) == n {
				if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := cmd.Wait(); err == nil || len(acknowledged) < n {
		t.Fatalf("the child ended by itself: %v", err)
	}
	return acknowledged
}

// TestPowerLossBetweenCommits plays every commit's own write order on the
// file's pages: bbolt syncs its data pages before it writes the page that
// makes them count. Whatever part of the data arrived, the store holds what
// was acknowledged; and as a control, the page that counts without its data
// must lose something.
func TestPowerLossBetweenCommits(t *testing.T) {
	dir := t.TempDir()
	live := filepath.Join(dir, "live.db")
	s := openStore(t, live, testKEK(t, 1))
	r := rand.New(rand.NewPCG(3, 4))
	controlLost := 0
	for i := range 25 {
		before := readAll(t, live)
		put(t, s, fmt.Sprintf("k%d", i), fmt.Sprintf("v%d", i))
		after := readAll(t, live)
		page := s.db.Info().PageSize
		var data, meta []int
		for at := 0; at < len(after); at += page {
			if at < len(before) && bytes.Equal(before[at:at+page], after[at:at+page]) {
				continue
			}
			if at < 2*page {
				meta = append(meta, at)
			} else {
				data = append(data, at)
			}
		}
		torn := overlay(before, after, pick(r, data), page)
		if lost := lostIn(t, dir, torn, i); lost != 0 {
			t.Fatalf("commit %d: %d secrets lost before its own acknowledgement", i, lost)
		}
		done := overlay(before, after, append(append([]int(nil), data...), meta...), page)
		if lost := lostIn(t, dir, done, i+1); lost != 0 {
			t.Fatalf("commit %d: %d secrets lost after it", i, lost)
		}
		// The control: the order that a store without syncs allows.
		controlLost += lostIn(t, dir, overlay(before, after, meta, page), i+1)
	}
	if controlLost == 0 {
		t.Fatal("the control lost nothing: this test could not fail")
	}
}

func readAll(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func pick(r *rand.Rand, from []int) (out []int) {
	for _, p := range from {
		if r.IntN(2) == 0 {
			out = append(out, p)
		}
	}
	return out
}

// overlay is the file before, as long as after, with some pages of after.
func overlay(before, after []byte, pages []int, size int) []byte {
	out := make([]byte, len(after))
	copy(out, before)
	for _, at := range pages {
		copy(out[at:at+size], after[at:at+size])
	}
	return out
}

// lostIn opens a file and counts which of the first n secrets it lacks. A file
// that does not open has lost all of them.
func lostIn(t *testing.T, dir string, content []byte, n int) (lost int) {
	t.Helper()
	f, err := os.CreateTemp(dir, "crashed")
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	s, err := Open(f.Name(), testKEK(t, 1))
	if err != nil {
		return n
	}
	defer s.Close()
	for i := range n {
		got, _, err := s.Get(t.Context(), fmt.Sprintf("k%d", i), 0)
		if err != nil || string(got.Bytes()) != fmt.Sprintf("v%d", i) {
			lost++
		}
		got.Wipe()
	}
	return lost
}
