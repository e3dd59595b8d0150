package tdx

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/tsm/tsmtest"
)

var asked = [64]byte{0: 1, 8: 2, 63: 3}

// domain is a trust domain in memory: its kernel's files, and the host's quoting service.
type domain struct {
	*tsmtest.Tree
	registers Registers
	// answer changes a quote before it is returned.
	answer func(quote []byte) []byte
}

func register(name string) string { return DefaultMeasurements + "/" + name + ":sha384" }

// newDomain has a kernel of Linux 6.16 or, without registers, an older one.
func newDomain(registers bool) *domain {
	d := &domain{}
	d.Tree = tsmtest.New("tdx_guest", func(inblob []byte, _ uint) ([]byte, error) {
		if len(inblob) != 64 {
			return nil, unix.EINVAL
		}
		quote := quoteOver(4, 2, inblob, d.registers)
		if d.answer != nil {
			quote = d.answer(quote)
		}
		return quote, nil
	})
	d.NoAux = true
	copy(d.registers.MRTD[:], bytes.Repeat([]byte{9}, RegisterSize))
	for i := range d.registers.RTMR {
		copy(d.registers.RTMR[i][:], bytes.Repeat([]byte{byte(i + 1)}, RegisterSize))
	}
	if registers {
		d.show()
	}
	d.Plain[DefaultACPI+"/CCEL"] = ccelTable()
	d.Plain[DefaultACPI+"/data/CCEL"] = []byte("event log")
	return d
}

// show writes the registers into the kernel's files.
func (d *domain) show() {
	d.Plain[register("mrtd")] = bytes.Clone(d.registers.MRTD[:])
	for i, name := range []string{"rtmr0", "rtmr1", "rtmr2", "rtmr3"} {
		d.Plain[register(name)] = bytes.Clone(d.registers.RTMR[i][:])
	}
}

// quoteOver is a quote that nobody signed, written apart from the parser.
func quoteOver(version, kind uint16, reportData []byte, r Registers) []byte {
	le := binary.LittleEndian
	quote := make([]byte, 48, 1000)
	le.PutUint16(quote, version)
	le.PutUint16(quote[2:], 2)
	le.PutUint32(quote[4:], 0x81)
	body := make([]byte, 584)
	copy(body[136:], r.MRTD[:])
	for i, at := range []int{328, 376, 424, 472} {
		copy(body[at:], r.RTMR[i][:])
	}
	copy(body[520:], reportData)
	if version == 5 {
		if kind != 2 {
			body = append(body, make([]byte, 64)...)
		}
		quote = le.AppendUint16(quote, kind)
		quote = le.AppendUint32(quote, uint32(len(body)))
	}
	quote = append(quote, body...)
	return append(le.AppendUint32(quote, 8), "signed.."...)
}

func ccelTable() []byte {
	table := make([]byte, 56)
	copy(table, "CCEL")
	table[36] = 2
	return table
}

func collector(t *testing.T, d *domain) *Collector {
	t.Helper()
	c, err := New(Options{Files: d})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wantReason(t *testing.T, err error, reason refusal.Reason) {
	t.Helper()
	if got, ok := refusal.ReasonOf(err); !ok || got != reason {
		t.Errorf("got %v, want %q", err, reason)
	}
}

func TestQuoteIsOfThisDomainAndOverWhatWasAsked(t *testing.T) {
	for _, registers := range []bool{true, false} {
		d := newDomain(registers)
		c := collector(t, d)
		if c.ShowsRegisters() != registers {
			t.Errorf("registers shown: %v", c.ShowsRegisters())
		}
		env, err := c.Collect(t.Context(), asked)
		if err != nil || env.Kind != evidence.KindTDX || [64]byte(env.Primary()[568:632]) != env.ReportData(asked) || env.ReportData(asked) == asked || d.Entries() != 0 {
			t.Fatalf("%v, %d entries left behind", err, d.Entries())
		}
		if string(env.Part(evidence.PartCCLog)) != "event log" {
			t.Errorf("the log is %q", env.Part(evidence.PartCCLog))
		}
		if _, err := env.Marshal(); err != nil {
			t.Error(err)
		}
	}
}

// TestWithoutALogTheQuoteIsOverTheChallenge, and a log that is there is not left out silently.
func TestWithoutALogTheQuoteIsOverTheChallenge(t *testing.T) {
	d := newDomain(true)
	c := collector(t, d)
	d.Plain[DefaultACPI+"/data/CCEL"] = bytes.Repeat([]byte("x"), evidence.MaxLogBytes+1)
	_, err := c.Collect(t.Context(), asked)
	wantReason(t, err, ReasonDevice)
	d.Plain[DefaultACPI+"/CCEL"][0] = 'X'
	_, err = c.Collect(t.Context(), asked)
	wantReason(t, err, ReasonDevice)
	delete(d.Plain, DefaultACPI+"/CCEL")
	env, err := c.Collect(t.Context(), asked)
	if err != nil || [64]byte(env.Primary()[568:632]) != asked || len(env.Parts) != 1 {
		t.Errorf("%d parts, %v", len(env.Parts), err)
	}
}

func TestAnotherTEEsGuestIsRefused(t *testing.T) {
	d := newDomain(true)
	d.Provider = "sev_guest"
	_, err := New(Options{Files: d})
	wantReason(t, err, ReasonNoTEE)
	_, err = New(Options{Root: filepath.Join(t.TempDir(), "none")}) // the real filesystem
	wantReason(t, err, ReasonNoTEE)
}

func TestQuoteOfAnotherDomainIsRefused(t *testing.T) {
	for name, change := range map[string]func(*Registers){
		"MRTD":              func(r *Registers) { r.MRTD[0] ^= 1 },
		"last byte of MRTD": func(r *Registers) { r.MRTD[47] ^= 1 },
		"RTMR0":             func(r *Registers) { r.RTMR[0][0] ^= 1 },
		"RTMR1":             func(r *Registers) { r.RTMR[1][47] ^= 1 },
		"RTMR2":             func(r *Registers) { r.RTMR[2][0] ^= 1 },
		"RTMR3":             func(r *Registers) { r.RTMR[3][47] ^= 1 },
	} {
		d := newDomain(true)
		c := collector(t, d)
		change(&d.registers) // the quoting service's, not the kernel's
		quote, err := c.Quote(t.Context(), asked)
		if wantReason(t, err, ReasonRegisters); quote != nil {
			t.Errorf("%s: a quote came with the refusal", name)
		}
		d = newDomain(false) // a kernel that shows none leaves it to the broker
		c = collector(t, d)
		change(&d.registers)
		if _, err := c.Quote(t.Context(), asked); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// extending has a program extend RTMR3 before the steps that when names.
func extending(d *domain, when func(step int) bool) {
	steps := 0
	d.Before = func(step, name string) error {
		base := filepath.Base(name)
		if step == "read" && (base == "outblob" || base == "mrtd:sha384") {
			if steps++; when(steps) {
				d.registers.RTMR[3][0]++
				d.show()
			}
		}
		return nil
	}
}

func TestRegisterExtendedMeanwhileIsNotTakenForAnotherDomain(t *testing.T) {
	// The steps of an attempt: registers, quote, registers.
	for name, when := range map[string]func(int) bool{
		"before the quote":    func(s int) bool { return s == 2 },
		"after the quote":     func(s int) bool { return s == 3 },
		"before and after it": func(s int) bool { return s == 2 || s == 3 },
	} {
		d := newDomain(true)
		c := collector(t, d)
		extending(d, when)
		if _, err := c.Quote(t.Context(), asked); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	d := newDomain(true)
	c := collector(t, d)
	extending(d, func(step int) bool { return step%3 != 1 }) // in every attempt
	_, err := c.Quote(t.Context(), asked)
	wantReason(t, err, ReasonRegisters)
}

func TestStaleForeignOrFailedQuotesAreRefused(t *testing.T) {
	for name, answer := range map[string]func([]byte) []byte{
		"other data":              func(q []byte) []byte { q[568] ^= 1; return q },
		"last byte of the data":   func(q []byte) []byte { q[631] ^= 1; return q },
		"empty":                   func([]byte) []byte { return nil },
		"cut":                     func(q []byte) []byte { return q[:631] },
		"report instead of quote": func([]byte) []byte { return make([]byte, 1024) },
		"SGX":                     func(q []byte) []byte { q[4] = 0; return q },
		"version 3":               func(q []byte) []byte { q[0] = 3; return q },
		"version 6":               func(q []byte) []byte { q[0] = 6; return q },
		"too large":               func(q []byte) []byte { return append(q, make([]byte, MaxQuoteBytes)...) },
	} {
		d := newDomain(false)
		c := collector(t, d)
		d.answer = answer
		quote, err := c.Quote(t.Context(), asked)
		if reason, _ := refusal.ReasonOf(err); reason != ReasonDevice || quote != nil || d.Entries() > 0 {
			t.Errorf("%s: %v, %d entries left behind", name, err, d.Entries())
		}
	}
}

func TestRegistersThatCannotBeReadAreNoExcuse(t *testing.T) {
	d := newDomain(true)
	d.Plain[register("rtmr2")] = make([]byte, 47)
	_, err := New(Options{Files: d})
	wantReason(t, err, ReasonDevice)
	d.Plain[register("rtmr2")] = make([]byte, 49)
	_, err = New(Options{Files: d})
	wantReason(t, err, ReasonDevice)
	d = newDomain(true)
	c := collector(t, d)
	delete(d.Plain, register("rtmr3")) // they were there
	_, err = c.Quote(t.Context(), asked)
	wantReason(t, err, ReasonDevice)
	d.Before = func(_, name string) error {
		if filepath.Dir(name) == DefaultMeasurements {
			return fs.ErrPermission
		}
		return nil
	}
	_, err = New(Options{Files: d})
	wantReason(t, err, ReasonDevice)
}

// A quoting service that is busy, a kernel whose wait a signal ended, and 40 callers.
func TestQuotesAreMadeOneAtATimeAndAgainWhenTheHostIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDomain(true)
		c := collector(t, d)
		steps := 0
		d.Before = func(step, name string) error {
			if base := filepath.Base(name); base == "outblob" || base == "rtmr1:sha384" {
				steps++
				return []error{unix.EINTR, unix.EBUSY, nil}[steps%3]
			}
			return nil
		}
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				data := [64]byte{byte(i), 1}
				if quote, err := c.Quote(t.Context(), data); err != nil || [64]byte(quote[568:632]) != data {
					t.Errorf("caller %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		if d.Most() != 1 || d.Entries() != 0 {
			t.Errorf("%d quotes in flight, %d entries left behind", d.Most(), d.Entries())
		}
	})
}

// silent is a domain whose kernel does not answer reads of one file until it is released.
type silent struct {
	*domain
	file    string
	release chan struct{}
}

func (s *silent) Read(name string, limit int64) ([]byte, error) {
	if filepath.Base(name) == s.file {
		<-s.release
	}
	return s.domain.Read(name, limit)
}

func TestReadsThatBlockForEverEndAtTheDeadline(t *testing.T) {
	for _, file := range []string{"outblob", "rtmr0:sha384"} {
		synctest.Test(t, func(t *testing.T) {
			s := &silent{domain: newDomain(true), release: make(chan struct{})}
			c, err := New(Options{Files: s})
			if err != nil {
				t.Fatal(err)
			}
			s.file = file
			for range 3 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				start := time.Now()
				_, err := c.Quote(ctx, asked)
				cancel()
				wantReason(t, err, ReasonUnresponsive)
				if took := time.Since(start); took > 2*time.Second || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s: after %v: %v", file, took, err)
				}
			}
			close(s.release)
			if _, err := c.Quote(t.Context(), asked); err != nil {
				t.Errorf("a device that answers again: %v", err)
			}
		})
	}
}

func TestEventLogIsReadWithinItsLimit(t *testing.T) {
	d := newDomain(false)
	c := collector(t, d)
	if log, err := c.EventLog(); err != nil || string(log) != "event log" {
		t.Errorf("%q, %v", log, err)
	}
	d.Plain[DefaultACPI+"/data/CCEL"] = bytes.Repeat([]byte("x"), MaxEventLogBytes)
	if log, err := c.EventLog(); err != nil || len(log) != MaxEventLogBytes {
		t.Errorf("%d bytes, %v", len(log), err)
	}
	for name, spoil := range map[string]func(){
		"too large":  func() { d.Plain[DefaultACPI+"/data/CCEL"] = make([]byte, MaxEventLogBytes+1) },
		"empty":      func() { d.Plain[DefaultACPI+"/data/CCEL"] = nil },
		"no data":    func() { delete(d.Plain, DefaultACPI+"/data/CCEL") },
		"SEV's":      func() { d.Plain[DefaultACPI+"/CCEL"][36] = 1 },
		"not a CCEL": func() { d.Plain[DefaultACPI+"/CCEL"][0] = 'X' },
		"short":      func() { d.Plain[DefaultACPI+"/CCEL"] = ccelTable()[:55] },
	} {
		d.Plain[DefaultACPI+"/CCEL"], d.Plain[DefaultACPI+"/data/CCEL"] = ccelTable(), []byte("event log")
		spoil()
		if _, err := c.EventLog(); err == nil {
			t.Errorf("%s: accepted", name)
		} else {
			wantReason(t, err, ReasonDevice)
		}
	}
	delete(d.Plain, DefaultACPI+"/CCEL")
	_, err := c.EventLog()
	wantReason(t, err, ReasonNoEventLog)
	d.Plain[DefaultACPI+"/CCEL"] = ccelTable()
	d.Before = func(string, string) error { return unix.EACCES } // root's alone, as the kernel makes it
	_, err = c.EventLog()
	if wantReason(t, err, ReasonDevice); !strings.Contains(err.Error(), "tmpfiles") {
		t.Error(err)
	}
}
