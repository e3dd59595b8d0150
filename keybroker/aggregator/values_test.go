package aggregator_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/aggregator"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/uplink"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// unfinished are the files below a directory that are being written.
func unfinished(t *testing.T, dir string) (left []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if ok, _ := filepath.Match(".new-*", filepath.Base(path)); ok {
			left = append(left, path)
		}
		if errors.Is(err, os.ErrNotExist) { // it was finished meanwhile
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// published is a closed round with a signed result that has no values yet.
func published(t *testing.T, s *site, values []byte) federation.Round {
	t.Helper()
	r, signed, _, _ := closedRound(t, s)
	ticket, err := io.ReadAll(must(t)(s.get(t, "/v1/rounds/"+r.ID.String()+"/ticket")))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.agg.SetResult(r.ID, s.result(t, s.Agent(t, nil).GrantRound(t, r, signed), r, signed, ticket, values)); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestStrangersWriteNoValues: whoever is not let decrypt writes not a byte of a result's
// values; a stranger could fill the disk with unfinished ones.
func TestStrangersWriteNoValues(t *testing.T) {
	dir, values := t.TempDir(), make([]byte, 8*length)
	s := open(t, federationtest.New(t), dir, nil)
	r := published(t, s, values)
	contributes := s.Agent(t, func(c *protocol.LeaseCertificate) { federationtest.SetRoles(c, protocol.RoleContribute) })
	for name, tc := range map[string]struct {
		c    *uplink.Client
		want refusal.Reason
	}{
		"nobody":      {closer(t, uplink.New(s.addr, s.tls, s.Roots(), nil)), aggregator.ReasonNobody},
		"contributes": {closer(t, s.as(contributes)), aggregator.ReasonNotNamed},
	} {
		wantReasonOf(t, name, tc.c.PublishValues(t.Context(), r.ID, bytes.NewReader(values)), tc.want)
	}
	if left := unfinished(t, dir); len(left) != 0 {
		t.Errorf("written by strangers: %q", left)
	}
	if err := s.public.PublishValues(t.Context(), r.ID, bytes.NewReader(values)); err != nil {
		t.Error(err)
	}
}

// TestValuesHaveOneWriter: one request at a time writes a result's values, and once they
// are there none does.
func TestValuesHaveOneWriter(t *testing.T) {
	dir, values := t.TempDir(), make([]byte, 8*length)
	s := open(t, federationtest.New(t), dir, nil)
	r := published(t, s, values)
	body, sending := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- s.agg.SetValues(r.ID, body) }()
	if _, err := sending.Write(values[:1]); err != nil { // it is read by the writer alone
		t.Fatal(err)
	}
	wantReasonOf(t, "a second writer", s.public.PublishValues(t.Context(), r.ID, bytes.NewReader(values)), aggregator.ReasonBusy)
	if left := unfinished(t, dir); len(left) != 1 {
		t.Errorf("being written: %q", left)
	}
	if _, err := sending.Write(values[1:]); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sending.Close(), <-done); err != nil {
		t.Fatal(err)
	}
	if err := s.agg.SetValues(r.ID, unreadable{t}); err != nil {
		t.Errorf("values that are there: %v", err)
	}
}

// unreadable is a body that nobody is to read.
type unreadable struct{ t *testing.T }

// Read fails the test.
func (u unreadable) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

// TestSharesHaveOneWriter: as of values, and no stranger is it.
func TestSharesHaveOneWriter(t *testing.T) {
	dir := t.TempDir()
	s := open(t, federationtest.New(t), dir, nil)
	r, manifest, blocks := sharing(t, s)
	nobody := closer(t, uplink.New(s.addr, s.tls, s.Roots(), nil))
	if err := s.public.SendShare(t.Context(), r.ID, 1, manifest, bytes.NewReader(blocks[1:])); err == nil { // the manifest is there from now on
		t.Error("half a share was taken")
	}
	wantReasonOf(t, "a stranger", nobody.SendShareBlocks(t.Context(), r.ID, 1, bytes.NewReader(blocks)), aggregator.ReasonNobody)
	body, sending := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- s.public.SendShareBlocks(t.Context(), r.ID, 1, body) }()
	if _, err := sending.Write(blocks[:1]); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for len(unfinished(t, dir)) == 0 {
		<-tick.C
	}
	wantReasonOf(t, "a second writer", s.public.SendShareBlocks(t.Context(), r.ID, 1, bytes.NewReader(blocks)), aggregator.ReasonBusy)
	if _, err := sending.Write(blocks[1:]); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sending.Close(), <-done); err != nil {
		t.Fatal(err)
	}
	if err := s.public.SendShareBlocks(t.Context(), r.ID, 1, bytes.NewReader(nil)); err != nil {
		t.Errorf("blocks that are there: %v", err)
	}
}

// TestStartSweepsWhatACrashLeft: unfinished files are gone after a start, wherever they lay.
func TestStartSweepsWhatACrashLeft(t *testing.T) {
	w, dir := federationtest.New(t), t.TempDir()
	s := open(t, w, dir, nil)
	r, _, cohort, _ := closedRound(t, s)
	s.stop()
	round := filepath.Join(dir, "rounds", r.ID.String())
	for _, d := range []string{dir, round, filepath.Join(round, "uploads", cohort[0].String()), filepath.Join(round, "shares", "1"), filepath.Join(dir, "setups", r.ID.String())} {
		if err := errors.Join(os.MkdirAll(d, 0o700), os.WriteFile(filepath.Join(d, ".new-123"), []byte("half"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	open(t, w, dir, nil)
	if left := unfinished(t, dir); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}
