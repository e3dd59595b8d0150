package snp

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/device"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/tsm"
)

var asked = [64]byte{0: 1, 8: 2, 63: 3}

func collector(tb testing.TB, t *tree) *Collector {
	tb.Helper()
	c, err := New(Options{Files: t})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func wantReason(tb testing.TB, err error, reason refusal.Reason, words ...string) {
	tb.Helper()
	if got, ok := refusal.ReasonOf(err); !ok || got != reason {
		tb.Fatalf("got %v, want %q", err, reason)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			tb.Errorf("%q does not say %q", err, w)
		}
	}
}

func TestNoTEEIsOneClearSentence(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*tree)
		want  refusal.Reason
		words []string
	}{
		"no configfs":    {func(t *tree) { t.MkdirErr = fs.ErrNotExist }, ReasonNoTEE, []string{DefaultRoot + " is absent", "this is not a guest of ", "load the modules tsm and sev-guest"}},
		"no provider":    {func(t *tree) { t.MkdirErr = unix.ENXIO }, ReasonNoTEE, []string{"no TEE"}},
		"no permission":  {func(t *tree) { t.MkdirErr = unix.EACCES }, ReasonNoTEE, []string{"may not"}},
		"a TDX guest":    {func(t *tree) { t.Provider = "tdx_guest" }, ReasonNoTEE, []string{"tdx_guest"}},
		"something else": {func(t *tree) { t.MkdirErr = unix.EIO }, ReasonDevice, nil},
		"unreadable": {func(t *tree) {
			t.Before = func(step, _ string) error { return map[string]error{"read": unix.EIO}[step] }
		}, ReasonDevice, []string{"probe"}},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTree()
			c.spoil(tr)
			_, err := New(Options{Files: tr})
			wantReason(t, err, c.want, c.words...)
			if tr.Entries() > 0 {
				t.Error("the probe left an entry behind")
			}
		})
	}
	_, err := New(Options{Root: filepath.Join(t.TempDir(), "tsm", "report")}) // the real filesystem
	wantReason(t, err, ReasonNoTEE, "is absent")
}

func TestReportComesWithTheHostsCertificates(t *testing.T) {
	tr := newTree()
	tr.Aux = realTable(t)
	env, err := collector(t, tr).Collect(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	if [64]byte(env.Part(evidence.PartSNPReport)[0x50:0x90]) != asked || tr.Entries() > 0 {
		t.Errorf("report over other data, or %d entries left behind", tr.Entries())
	}
	for typ, name := range map[evidence.PartType]string{evidence.EndorsementARK: "ARK-Genoa", evidence.EndorsementASK: "SEV-Genoa", evidence.EndorsementVCEK: "SEV-VCEK"} {
		cert, err := x509.ParseCertificate(env.Part(typ))
		if err != nil || cert.Subject.CommonName != name {
			t.Errorf("%s: %v", typ, err)
		}
	}
	if _, err := env.Marshal(); err != nil {
		t.Error(err)
	}
}

// TestAReportIsSignedForEvidenceOfSeveralParts: the same report, with its certificates beside it.
func TestAReportIsSignedForEvidenceOfSeveralParts(t *testing.T) {
	tr := newTree()
	tr.Aux = realTable(t)
	c := collector(t, tr)
	signed, err := c.Sign(t.Context(), asked)
	if err != nil || !bytes.Equal(signed.Primary[0x50:0x90], asked[:]) {
		t.Fatal(err)
	}
	env, err := c.Collect(t.Context(), asked)
	if err != nil || c.Kind() != env.Kind || !slices.EqualFunc(signed.Endorsements, env.Parts[1:], func(a, b evidence.Part) bool { return a.Type == b.Type && bytes.Equal(a.Data, b.Data) }) {
		t.Error(c.Kind(), err)
	}
	if bound, err := c.Bound(t.Context()); err != nil || bound != nil {
		t.Error(bound, err)
	}
}

func TestCertificatesOfALoadedKey(t *testing.T) {
	tr := newTree()
	tr.vlek, tr.Aux = true, table(guidVLEK, "leaf", guidIssuer, "issuer", guidARK, "root", guidVCEK, "other")
	env, err := collector(t, tr).Collect(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	want := []evidence.Part{{Type: "ark", Data: []byte("root")}, {Type: "asvk", Data: []byte("issuer")}, {Type: "vlek", Data: []byte("leaf")}}
	if !slices.EqualFunc(env.Parts[1:], want, func(a, b evidence.Part) bool { return a.Type == b.Type && string(a.Data) == string(b.Data) }) {
		t.Errorf("%q", env.Parts[1:])
	}
}

func TestHostWithoutCertificates(t *testing.T) {
	for _, absent := range []bool{true, false} {
		tr := newTree()
		tr.NoAux = absent
		env, err := collector(t, tr).Collect(t.Context(), asked)
		if err != nil || len(env.Parts)-1 != 0 {
			t.Errorf("%v, %d certificates", err, len(env.Parts)-1)
		}
	}
}

func TestPitfall03StaleOrForeignReportsAreRefused(t *testing.T) {
	for name, answer := range map[string]func([]byte) []byte{
		"other data": func(r []byte) []byte { r[0x50] ^= 1; return r },
		"last byte":  func(r []byte) []byte { r[0x8f] ^= 1; return r },
		"short":      func(r []byte) []byte { return r[:1183] },
		"long":       func(r []byte) []byte { return append(r, 0) },
		"empty":      func(r []byte) []byte { return nil },
	} {
		tr := newTree()
		c := collector(t, tr)
		tr.answer = answer
		_, err := c.Collect(t.Context(), asked)
		if reason, _ := refusal.ReasonOf(err); reason != ReasonDevice || tr.Entries() > 0 {
			t.Errorf("%s: %v, %d entries left behind", name, err, tr.Entries())
		}
	}
}

// overtake has another request write to the entry after ours, n times.
func overtake(tr *tree, n int) {
	tr.Before = func(step, name string) error {
		if step == "read" && filepath.Base(name) == "outblob" && n > 0 {
			n--
			tr.Overtake(name)
		}
		return nil
	}
}

func TestOvertakenRequestIsMadeAgain(t *testing.T) {
	tr := newTree()
	c := collector(t, tr)
	overtake(tr, tsm.Attempts-1)
	if _, err := c.Collect(t.Context(), asked); err != nil {
		t.Error(err)
	}
	overtake(tr, tsm.Attempts)
	_, err := c.Collect(t.Context(), asked)
	wantReason(t, err, ReasonDevice, "overtook")
}

func TestEntryOfADeadProcessIsUsed(t *testing.T) {
	tr := newTree()
	c := collector(t, tr)
	if err := tr.Mkdir(DefaultRoot + "/anchorhold-0100000000000000"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Collect(t.Context(), asked); err != nil || tr.Entries() > 0 {
		t.Errorf("%v, %d entries left behind", err, tr.Entries())
	}
}

func TestEachStepsFailureIsNamed(t *testing.T) {
	for _, row := range [][2]string{{"write", "inblob"}, {"read", "outblob"}, {"read", "auxblob"}, {"read", "generation"}, {"remove", "anchorhold-0100000000000000"}} {
		tr := newTree()
		c := collector(t, tr)
		tr.Before = func(step, name string) error {
			if step == row[0] && filepath.Base(name) == row[1] {
				return unix.EIO
			}
			return nil
		}
		_, err := c.Collect(t.Context(), asked)
		wantReason(t, err, ReasonDevice)
		if !errors.Is(err, unix.EIO) {
			t.Errorf("%s %s: the cause is lost: %v", row[0], row[1], err)
		}
	}
	tr := newTree()
	c := collector(t, tr)
	tr.MkdirErr = unix.ENXIO // the module was unloaded
	_, err := c.Collect(t.Context(), asked)
	wantReason(t, err, ReasonNoTEE)
}

// 100 callers at once, on a device that is busy every other time: all are
// served, one at a time.
func TestPitfall41HundredCallersOneReportInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTree()
		c := collector(t, tr)
		steps := 0
		tr.Before = func(step, name string) error {
			if base := filepath.Base(name); base == "inblob" || base == "outblob" {
				steps++
				return []error{unix.EBUSY, nil, unix.EINTR, nil, unix.EAGAIN, nil}[steps%6]
			}
			return nil
		}
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				data := [64]byte{byte(i), 1}
				env, err := c.Collect(t.Context(), data)
				if err != nil || [64]byte(env.Part(evidence.PartSNPReport)[0x50:0x90]) != data {
					t.Errorf("caller %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		if tr.Most() != 1 || tr.Entries() > 0 {
			t.Errorf("%d reports in flight, %d entries left behind", tr.Most(), tr.Entries())
		}
	})
}

func TestPitfall41DeadlinesHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTree()
		c := collector(t, tr)
		tr.Before = func(step, name string) error {
			if filepath.Base(name) == "outblob" {
				return unix.EBUSY
			}
			return nil
		}
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		waiting := make(chan error, 1)
		go func() { _, err := c.Collect(t.Context(), asked); waiting <- err }() // has no deadline of its own
		synctest.Wait()
		_, err := c.Collect(ctx, asked) // waits for its turn
		wantReason(t, err, ReasonDevice, "earlier requests")
		if got := time.Since(start); got != 2*time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %v: %v", got, err)
		}
		err = <-waiting
		wantReason(t, err, ReasonDevice)
		if got := time.Since(start); got != device.Patience || !errors.Is(err, unix.EBUSY) {
			t.Errorf("after %v: %v", got, err)
		}
		_, err = c.Collect(ctx, asked) // ended before it began
		wantReason(t, err, ReasonDevice, "before")
		tr.Before = nil
		if _, err := c.Collect(t.Context(), asked); err != nil {
			t.Errorf("the collector is stuck: %v", err)
		}
	})
}

// silent is a device whose first report is read from a FIFO that nobody writes to:
// the system call does not come back, whatever the caller's deadline.
type silent struct {
	*tree
	fifo  string
	reads atomic.Int32
}

func (s *silent) Read(name string, limit int64) ([]byte, error) {
	if filepath.Base(name) != "outblob" {
		return s.tree.Read(name, limit)
	}
	if s.reads.Add(1) > 1 {
		return s.tree.Read(name, limit)
	}
	if _, err := (tsm.System{}).Read(s.fifo, limit); err != nil {
		return nil, err
	}
	return s.tree.Read(name, limit)
}

func TestDeviceThatNeverAnswersHoldsUpNoCallerPastItsDeadline(t *testing.T) {
	s := &silent{tree: newTree(), fifo: filepath.Join(t.TempDir(), "outblob")}
	if err := unix.Mkfifo(s.fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := New(Options{Files: s})
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	for i := range 50 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		start := time.Now()
		_, err := c.Collect(ctx, asked)
		cancel()
		wantReason(t, err, ReasonUnresponsive)
		if took := time.Since(start); took > 5*time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("request %d: after %v: %v", i, took, err)
		}
	}
	if more := runtime.NumGoroutine() - before; s.reads.Load() != 1 || more > 3 {
		t.Errorf("%d calls into the device and %d goroutines for 50 requests", s.reads.Load(), more)
	}
	w, err := os.OpenFile(s.fifo, os.O_WRONLY, 0) // the device answers at last
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Collect(t.Context(), asked); err != nil {
		t.Errorf("a device that answers again: %v", err)
	}
	if s.Entries() > 0 {
		t.Errorf("%d entries left behind", s.Entries())
	}
}
