package audit

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/audit/journal"
)

// decisions appends records of decisions, each with its input.
func decisions(t *testing.T, l *Log, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		r := sample(i)
		r.InputDigest = l.KeepInput(r.Time, []byte(r.RefusalID), false)
		if _, err := l.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestInputsAreVerifiedWithTheLog: those that are kept are counted, those that are gone too, and changed
// ones are refused, whatever their checksums.
func TestInputsAreVerifiedWithTheLog(t *testing.T) {
	dir, k := t.TempDir(), newSigner(t)
	l := openLog(t, dir, k, Options{})
	decisions(t, l, 0, 10)
	lost := sample(10)
	lost.InputDigest = digest.Of([]byte("never kept"))
	if _, err := l.Append(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	if got := l.Inputs(); got.Kept != 10 || got.Lost != 0 {
		t.Errorf("%+v", got)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := Verify(dir, k.Public())
	if err != nil || r.Records != 11 || r.InputsKept != 10 || r.InputsMissing != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	again := openLog(t, dir, k, Options{})
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "inputs-0000000000000000.seg")
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(dir, k.Public()); !errors.Is(err, ErrTampered) {
		t.Errorf("a changed input: %v", err)
	}
	// The log itself opens, and records: nothing waits for inputs.
	l = openLog(t, dir, k, Options{})
	r2 := sample(11)
	r2.InputDigest = l.KeepInput(r2.Time, []byte("x"), false)
	if _, err := l.Append(t.Context(), r2); err != nil {
		t.Error(err)
	}
	if err := l.Flush(t.Context()); err != nil || l.Inputs().Lost != 1 {
		t.Errorf("%+v, %v", l.Inputs(), err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if r, err := Verify(dir, k.Public()); err != nil || r.InputsKept != 0 || r.InputsMissing != 12 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestInputsAreArchivedWithTheirDecisions, and read from where they went.
func TestInputsAreArchivedWithTheirDecisions(t *testing.T) {
	dir, k := t.TempDir(), newSigner(t)
	l := openLog(t, dir, k, Options{SegmentBytes: 1500, InputsKeep: 24 * time.Second})
	decisions(t, l, 0, 20)
	a, err := l.Archive(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	moved := 0
	for _, name := range a.Segments {
		if name[:len("inputs-")] == "inputs-" {
			moved++
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if moved == 0 || a.Records == 0 {
		t.Fatalf("%+v", a)
	}
	if r, err := Verify(dir, k.Public()); err != nil || r.InputsKept != 20 {
		t.Errorf("%+v, %v", r, err)
	}
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.Rename(a.Directory, elsewhere); err != nil {
		t.Fatal(err)
	}
	here, err := OpenInputs(dir)
	if err != nil {
		t.Fatal(err)
	}
	all, err := OpenInputs(dir, elsewhere)
	if err != nil || all.Len() != 20 || here.Len() >= 20 || here.Len() == 0 {
		t.Errorf("%d of %d, %v", here.Len(), all.Len(), err)
	}
	seen := 0
	if err := IterateArchived(dir, []string{elsewhere}, func(e Entry) bool {
		if e.Index != uint64(seen) || !all.Has(e.Record.InputDigest) {
			t.Errorf("record %d comes as %d", e.Index, seen)
		}
		seen++
		return true
	}); err != nil || seen != 20 {
		t.Errorf("%d records, %v", seen, err)
	}
	if err := IterateArchived(filepath.Join(dir, "none"), nil, func(Entry) bool { return true }); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no log: %v", err)
	}
	if _, err := OpenInputs(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) || errors.Is(err, journal.ErrTampered) {
		t.Errorf("no log: %v", err)
	}
}

// TestAnInputOfOtherContentIsRefused, although every checksum and link of its stream holds: whoever writes
// the disk can make those.
func TestAnInputOfOtherContentIsRefused(t *testing.T) {
	for body, want := range map[string]bool{"input": true, "tupni": false} {
		dir, k := t.TempDir(), newSigner(t)
		l := openLog(t, dir, k, Options{})
		r := sample(0)
		r.InputDigest = digest.Of([]byte("input"))
		if _, err := l.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		var block bytes.Buffer
		block.WriteByte(1)
		block.Write(binary.BigEndian.AppendUint64(nil, uint64(r.Time.UnixNano())))
		block.Write([]byte{0, 1})
		block.Write(r.InputDigest[:])
		w, err := flate.NewWriter(&block, flate.BestSpeed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		stream, err := journal.Open(journal.Disk{}, dir, "inputs-", 1<<20, "", func(journal.Entry) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Append([][]byte{block.Bytes()}); err != nil {
			t.Fatal(err)
		}
		stream.Close()
		report, err := Verify(dir, k.Public())
		if want && (err != nil || report.InputsKept != 1) || !want && !errors.Is(err, ErrTampered) {
			t.Errorf("%q: %+v, %v", body, report, err)
		}
		inputs, err := OpenInputs(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := inputs.Get(r.InputDigest); want && string(got) != body || !want && !errors.Is(err, ErrTampered) {
			t.Errorf("%q: got %q, %v", body, got, err)
		}
	}
}
