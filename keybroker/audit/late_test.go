package audit

import (
	"bytes"
	"errors"
	"log/slog"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func late(t *testing.T, l *Log, i int) {
	t.Helper()
	if err := l.AppendLater(t.Context(), sample(i)); err != nil {
		t.Fatal(err)
	}
}

// TestLateRecordsShareTheNextCommit shows that a record nobody waits for costs no
// write of its own while others are written.
func TestLateRecordsShareTheNextCommit(t *testing.T) {
	l := openLog(t, t.TempDir(), newSigner(t), Options{})
	defer l.Close()
	for i := range 5 {
		late(t, l, i)
	}
	if l.Size() != 0 {
		t.Errorf("%d records are durable before anybody asked for one", l.Size())
	}
	leaf, err := l.Append(t.Context(), sample(5))
	if err != nil || leaf.Index != 5 || l.Size() != 6 {
		t.Errorf("record %d of %d: %v", leaf.Index, l.Size(), err)
	}
}

// TestLateRecordsAreDurableWithinASecond leaves one alone.
func TestLateRecordsAreDurableWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLog(t, t.TempDir(), newSigner(t), Options{})
		defer l.Close()
		for i := range 3 {
			late(t, l, i)
			<-time.After(lateAfter)
			synctest.Wait()
			if l.Size() != uint64(i+1) {
				t.Errorf("%d records after %s, want %d", l.Size(), lateAfter, i+1)
			}
		}
	})
}

// TestLateRecordsAreInWhatIsSignedAfterThem covers Flush, Checkpoint and Close.
func TestLateRecordsAreInWhatIsSignedAfterThem(t *testing.T) {
	dir, k := t.TempDir(), newSigner(t)
	l := openLog(t, dir, k, Options{})
	late(t, l, 0)
	if err := l.Flush(t.Context()); err != nil || l.Size() != 1 {
		t.Errorf("flush: %d records, %v", l.Size(), err)
	}
	late(t, l, 1)
	if c, err := l.Checkpoint(t.Context()); err != nil || c.Size != 2 {
		t.Errorf("checkpoint of %d records: %v", c.Size, err)
	}
	late(t, l, 2)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err := Verify(dir, k.Public()); err != nil || r.Records != 3 {
		t.Errorf("closed with %d records: %v", r.Records, err)
	}
	if err := l.AppendLater(t.Context(), sample(3)); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed log takes records: %v", err)
	}
}

// TestLostLateRecordsAreSaid fills the disk under one that nobody waits for.
func TestLostLateRecordsAreSaid(t *testing.T) {
	var said bytes.Buffer
	p := newPlatter()
	l := openLog(t, "audit", newSigner(t), Options{fs: p, Logger: slog.New(slog.NewTextHandler(&said, nil))})
	p.writes, p.cause = 0, syscall.ENOSPC
	late(t, l, 0)
	if err := l.Flush(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("flush on a full disk: %v", err)
	}
	if err := l.AppendLater(t.Context(), sample(1)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a log that failed takes records: %v", err)
	}
	l.Close()
	if !bytes.Contains(said.Bytes(), []byte("records=1")) {
		t.Errorf("nothing was said of the loss: %s", &said)
	}
}
