package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/audit"
)

// TestVerifyHoldsTheLogAgainstKeptCheckpoints asks the broker with a checkpoint of
// its own and with one of a log that the same key wrote elsewhere.
func TestVerifyHoldsTheLogAgainstKeptCheckpoints(t *testing.T) {
	b := newBench(t, me(), nil)
	ctx, c := t.Context(), b.client
	own, err := c.Checkpoint(ctx)
	if err != nil || own.Size < 1 {
		t.Fatal(own, err)
	}
	r, err := c.VerifyAudit(ctx, AuditCheck{Kept: []string{own.Note}}, nil)
	if err != nil || r.Records < own.Size || r.Kept != 1 {
		t.Fatal(r, err)
	}
	other, err := audit.Open(t.TempDir(), b.auditKey, audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for range 40 {
		if _, err := other.Append(ctx, audit.Record{Kind: audit.KindService, Time: time.Now(), Action: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	newer, err := other.Checkpoint(ctx)
	if err != nil {
		t.Fatal(err)
	}
	forked := strings.Replace(own.Note, "\n"+fmt.Sprint(own.Size)+"\n", "\n"+fmt.Sprint(own.Size+1)+"\n", 1)
	for _, tc := range []struct {
		kept []string
		code string
	}{
		{[]string{own.Note, newer.Note}, string(audit.ReasonRolledBack)},
		{[]string{forked}, string(audit.ReasonCheckpointInvalid)},
		{make([]string, maxKeptCheckpoints+1), "failed"},
	} {
		_, err := c.VerifyAudit(ctx, AuditCheck{Kept: tc.kept}, nil)
		if e, ok := errors.AsType[*Error](err); !ok || e.Code != tc.code {
			t.Errorf("%d checkpoints: %v, want %s", len(tc.kept), err, tc.code)
		}
	}
}

// A viewer's eight megabytes of empty entries are not decoded.
func TestManyEntriesAreNotDecoded(t *testing.T) {
	b := newBench(t, me(), nil)
	for n, want := range map[int]string{
		bodyLimits.List:     "checkpoints at once",
		bodyLimits.List + 1: "a list has more than",
	} {
		body := `{"kept":[` + strings.TrimSuffix(strings.Repeat(`"",`, n), ",") + `]}`
		err := b.client.call(t.Context(), http.MethodPost, "/v1/audit/verify", nil, strings.NewReader(body), nil)
		if e, ok := errors.AsType[*Error](err); !ok || e.Status != http.StatusBadRequest || !strings.Contains(e.Message, want) {
			t.Errorf("%d entries: %v, want %q", n, err, want)
		}
	}
}

func TestTheLogIsVerifiedOnceAtATime(t *testing.T) {
	b := newBench(t, me(), nil)
	b.server.verifying <- struct{}{}
	_, err := b.client.VerifyAudit(t.Context(), AuditCheck{}, nil)
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != "busy" || e.Status != http.StatusTooManyRequests {
		t.Errorf("%v", err)
	}
	if _, err := b.client.ArchiveAudit(t.Context(), AuditArchive{Keep: 1}); !strings.Contains(fmt.Sprint(err), "busy") {
		t.Errorf("archived meanwhile: %v", err)
	}
	<-b.server.verifying
	if _, err := b.client.VerifyAudit(t.Context(), AuditCheck{}, nil); !strings.Contains(fmt.Sprint(err), string(audit.ReasonNoCheckpoint)) {
		t.Errorf("a log that nobody signed: %v", err)
	}
	if _, err := b.client.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := b.client.VerifyAudit(t.Context(), AuditCheck{}, nil); err != nil {
			t.Error(err)
		}
	}
}

// TestTheRunningBrokerKnowsWhatItsDiskMustHave: its disk was put back under it, to a state in
// which the log was signed and whole.
func TestTheRunningBrokerKnowsWhatItsDiskMustHave(t *testing.T) {
	b := newBench(t, me(), nil)
	if _, err := b.client.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	old := t.TempDir()
	if err := os.CopyFS(filepath.Join(old, "audit"), os.DirFS(b.log.Dir())); err != nil {
		t.Fatal(err)
	}
	if r, err := audit.Verify(filepath.Join(old, "audit"), b.keys); err != nil || r.Kept != 0 {
		t.Fatalf("the older copy is whole: %+v, %v", r, err)
	}
	if _, err := b.log.Append(t.Context(), audit.Record{Kind: audit.KindService, Time: time.Now(), Action: "x"}); err != nil {
		t.Fatal(err)
	}
	putBack := func(dir string) {
		t.Helper()
		if err := os.RemoveAll(b.log.Dir()); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(b.log.Dir(), os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
	}
	kept := filepath.Join(old, "kept")
	if err := os.CopyFS(kept, os.DirFS(b.log.Dir())); err != nil {
		t.Fatal(err)
	}
	putBack(filepath.Join(old, "audit"))
	_, err := b.client.VerifyAudit(t.Context(), AuditCheck{}, nil)
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != string(audit.ReasonRolledBack) || !strings.Contains(e.Message, "acknowledged") {
		t.Errorf("an acknowledged record that nobody signed yet is gone: %v", err)
	}
	putBack(kept)
	segments, err := filepath.Glob(filepath.Join(b.log.Dir(), "checkpoints-*"))
	if err != nil || len(segments) == 0 {
		t.Fatal(segments, err)
	}
	for _, name := range segments {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	_, err = b.client.VerifyAudit(t.Context(), AuditCheck{}, nil)
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != "audit-tampered" {
		t.Errorf("the checkpoint that the broker signed is gone: %v", err)
	}
}

// TestLongAnswersSayHowFarTheyAre: each line is one JSON value, the last the result.
func TestLongAnswersSayHowFarTheyAre(t *testing.T) {
	w := httptest.NewRecorder()
	synctest.Test(t, func(t *testing.T) {
		writeLong(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil), func(_ context.Context, progress func(done, total uint64)) (any, error) {
			progress(1, 100) // too soon for a line
			<-time.After(progressEvery)
			progress(50, 100)
			progress(51, 100)
			return "done", nil
		})
	})
	var lines []longLine
	for d := json.NewDecoder(w.Body); d.More(); {
		var l longLine
		if err := d.Decode(&l); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	if len(lines) != 2 || lines[0].Total != 100 || lines[0].Done != 50 || string(lines[1].Result) != `"done"` {
		t.Errorf("%+v", lines)
	}
}

func TestArchiveCommand(t *testing.T) {
	b := newBench(t, me(), nil)
	_, err := b.client.ArchiveAudit(t.Context(), AuditArchive{Keep: 1})
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != "nothing-to-archive" || e.Status != http.StatusConflict {
		t.Errorf("%v", err)
	}
	entries, err := b.client.ShowAudit(t.Context(), audit.Filter{Kind: audit.KindOperator})
	if err != nil || len(entries) != 2 || entries[0].Record.Action != "audit-archive" || entries[1].Record.Decision != "refused" {
		t.Errorf("%+v, %v", entries, err)
	}
	for range 60 {
		if _, err := b.log.Append(t.Context(), audit.Record{Kind: audit.KindService, Time: time.Now(), Action: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	a, err := b.client.ArchiveAudit(t.Context(), AuditArchive{Keep: 1})
	if err != nil || len(a.Segments) < 2 || a.Records < 10 || a.Checkpoint.Verify(b.keys) != nil {
		t.Fatalf("%+v, %v", a, err)
	}
	if err := os.RemoveAll(a.Directory); err != nil {
		t.Fatal(err)
	}
	r, err := b.client.VerifyAudit(t.Context(), AuditCheck{Kept: []string{a.Checkpoint.Note}}, nil)
	if err != nil || r.Archived != a.Records || r.Kept != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if p, err := b.client.Prove(t.Context(), 0); err != nil || p.Proof.Verify(p.Leaf.Hash, p.Checkpoint.Root) != nil {
		t.Errorf("an archived record is not provable: %+v, %v", p, err)
	}
}
