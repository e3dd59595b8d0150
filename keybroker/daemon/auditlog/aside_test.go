package auditlog

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// What hangs is waited for once; until it comes back everything else is refused at once.
func TestWhatHangsIsWaitedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, back := newAside(time.Second), make(chan struct{})
		took := func(f func() error) (time.Duration, error) {
			begin := time.Now()
			err := a.do(t.Context(), f)
			return time.Since(begin), err
		}
		if d, err := took(func() error { <-back; return nil }); d != time.Second {
			t.Errorf("it was waited for %s: %v", d, err)
		} else if reason, _ := refusal.ReasonOf(err); reason != ReasonCheckpoint {
			t.Error(err)
		}
		d, err := took(func() error { t.Error("two at a time"); return nil })
		if reason, _ := refusal.ReasonOf(err); d != 0 || reason != ReasonCheckpoint {
			t.Errorf("the second waited for %s: %v", d, err)
		}
		close(back)
		synctest.Wait()
		want := errors.New("its own answer")
		if d, err := took(func() error { return want }); d != 0 || !errors.Is(err, want) {
			t.Errorf("after it came back: %s, %v", d, err)
		}
	})
}

// Two that are quick are done one after the other.
func TestAsideIsOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, leave := newAside(time.Second), make(chan struct{})
		inside, errs := 0, make(chan error)
		for range 2 {
			go func() {
				errs <- a.do(t.Context(), func() error {
					inside++
					<-leave
					return nil
				})
			}()
		}
		synctest.Wait()
		if inside != 1 {
			t.Errorf("%d at a time", inside)
		}
		close(leave)
		for range 2 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	})
}

// TestMountThatHangsRefusesRounds reads a checkpoint from a pipe into which nobody writes.
func TestMountThatHangsRefusesRounds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	log := newLog(t).Rounds().(roundLog)
	log.checkpoint, log.aside = path, newAside(20*time.Millisecond)
	for range 3 {
		if reason, _ := refusal.ReasonOf(log.Kept(t.Context())); reason != ReasonCheckpoint {
			t.Errorf("reason %q", reason)
		}
	}
	if reason, _ := refusal.ReasonOf(log.Keep(t.Context())); reason != ReasonCheckpoint {
		t.Errorf("written: reason %q", reason)
	}
	w, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	log.aside.place <- struct{}{} // the read came back
}
