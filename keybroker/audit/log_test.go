package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
)

func newSigner(t testing.TB) *identity.Private {
	t.Helper()
	k, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

func sample(i int) Record {
	return Record{
		Kind: KindRefusal, Time: time.Unix(1_700_000_000+int64(i), 7).UTC(), Connection: fmt.Sprintf("c-%d", i/2), Peer: "10.0.0.1:99",
		RefusalID: fmt.Sprintf("r-%d", i), Resource: fmt.Sprintf("models/m%d", i%3), ResourceVersion: uint64(i), Decision: "refused",
		Reasons: []Reason{{"measurement-not-allowed", "x"}, {"debug-enabled", ""}}, Waived: []string{"chip-ids: test"},
		PolicyID: "p", PolicyVersion: 3, PolicyDigest: digest.Digest{1}, EvidenceDigest: digest.Digest{2}, Epoch: 4, Detail: "detail",
		Expiry: time.Unix(1_700_001_000, 0).UTC(),
	}
}

func openLog(t testing.TB, dir string, signer Signer, o Options) *Log {
	t.Helper()
	l, err := Open(dir, signer, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func fill(t testing.TB, l *Log, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		leaf, err := l.Append(t.Context(), sample(i))
		if err != nil {
			t.Fatal(err)
		}
		if leaf.Index != uint64(i) {
			t.Fatalf("record %d got index %d", i, leaf.Index)
		}
	}
}

func TestRecordsSurviveReopening(t *testing.T) {
	dir, k := t.TempDir(), newSigner(t)
	o := Options{SegmentBytes: 2000, CheckpointRecords: 7}
	for round := range 3 {
		l := openLog(t, dir, k, o)
		if l.Size() != uint64(round*20) {
			t.Fatalf("round %d: %d records", round, l.Size())
		}
		if round > 0 && !l.LastTime().Equal(sample(round*20-1).Time) {
			t.Fatalf("last time is %s", l.LastTime())
		}
		fill(t, l, round*20, round*20+20)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Verify(dir, k.Public())
	if err != nil {
		t.Fatal(err)
	}
	if r.Records != 60 || r.Unsigned != 0 || r.Checkpoints < 6 || r.TornTail || r.Last.Root != r.Root {
		t.Fatalf("%+v", r)
	}
	i := 0
	if err := Iterate(dir, func(e Entry) bool {
		if want := sample(i); !reflect.DeepEqual(e.Record, want) {
			t.Fatalf("record %d: %+v, want %+v", i, e.Record, want)
		}
		i++
		return i < 50
	}); err != nil || i != 50 {
		t.Fatalf("%d records, %v", i, err)
	}
}

// What a broker records while its clock is behind must not make a restarted one believe that
// clock.
func TestNoRecordIsEarlierThanTheOneBeforeIt(t *testing.T) {
	dir, signer := t.TempDir(), newSigner(t)
	at := func(i int, hours time.Duration) Record {
		r := sample(i)
		r.Time = time.Unix(1_700_000_000, 0).UTC().Add(hours * time.Hour)
		return r
	}
	ahead := at(0, 3).Time
	l := openLog(t, dir, signer, Options{})
	for i, add := range []func(Record) error{
		func(r Record) error { _, err := l.Append(t.Context(), r); return err },
		func(r Record) error { return l.AppendLater(t.Context(), r) },
		func(r Record) error { _, err := l.AppendBounded(t.Context(), "x", true, r); return err },
	} {
		if err := errors.Join(add(at(0, 3)), add(at(1, time.Duration(i)))); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = openLog(t, dir, signer, Options{})
		if got := l.LastTime(); !got.Equal(ahead) {
			t.Errorf("the log says that it has been %s, and it has been %s", got, ahead)
		}
		if _, err := l.Append(t.Context(), at(2, 0)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAppendSharesCommits(t *testing.T) {
	dir, k := t.TempDir(), newSigner(t)
	fs := &countingDisk{}
	l := openLog(t, dir, k, Options{fs: fs, CheckpointRecords: 1 << 20})
	const n = 400
	var wg sync.WaitGroup
	seen := make([]bool, n)
	var mu sync.Mutex
	for i := range n {
		wg.Go(func() {
			leaf, err := l.Append(t.Context(), sample(i))
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if seen[leaf.Index] {
				t.Errorf("index %d was given twice", leaf.Index)
			}
			seen[leaf.Index] = true
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := fs.syncs.Load(); got >= n {
		t.Errorf("%d syncs for %d records: no commit was shared", got, n)
	}
	if r, err := Verify(dir, k.Public()); err != nil || r.Records != n {
		t.Fatalf("%+v, %v", r, err)
	}
}

func TestAppendRefusesMalformedRecordsAndEndedContexts(t *testing.T) {
	k := newSigner(t)
	l := openLog(t, t.TempDir(), k, Options{})
	for name, r := range map[string]Record{
		"no kind":  {Time: time.Now()},
		"no time":  {Kind: KindGrant},
		"long":     {Kind: KindGrant, Time: time.Now(), Detail: string(make([]byte, maxFieldBytes+1))},
		"reasons":  {Kind: KindGrant, Time: time.Now(), Reasons: make([]Reason, maxReasons+1)},
		"bad kind": {Kind: 99, Time: time.Now()},
	} {
		if _, err := l.Append(t.Context(), r); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 { // either way out of select is an error
		if leaf, err := l.Append(ended, sample(0)); err == nil && leaf.Hash.IsZero() {
			t.Fatal("no leaf and no error")
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), sample(0)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := l.Checkpoint(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestLongReasonsAreCutNotRefused(t *testing.T) {
	r := sample(0)
	r.Reasons = nil
	for range maxReasons {
		r.Reasons = append(r.Reasons, Reason{"code", string(make([]byte, 10_000))})
	}
	if _, err := r.Marshal(); err != nil {
		t.Fatal(err)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	dir, k := t.TempDir(), newSigner(t)
	l := openLog(t, dir, k, Options{})
	if _, err := Open(dir, k, Options{}); !errors.Is(err, ErrInUse) {
		t.Fatalf("second open: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, nil, Options{}); err == nil {
		t.Fatal("opened without a signer")
	}
}

func TestMustExist(t *testing.T) {
	dir, k := t.TempDir(), newSigner(t)
	if _, err := Open(dir, k, Options{MustExist: true}); err == nil {
		t.Fatal("an empty directory passed for a log")
	}
	if _, err := Open(filepath.Join(dir, "absent"), k, Options{MustExist: true}); err == nil {
		t.Fatal("a missing directory passed for a log")
	}
	if err := openLog(t, dir, k, Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, dir, k, Options{MustExist: true})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(dir, recordPrefix+"0000000000000000.seg")); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", st, err)
	}
}

func TestCheckpointStandsForTheWholeLog(t *testing.T) {
	dir, k := t.TempDir(), newSigner(t)
	l := openLog(t, dir, k, Options{})
	defer l.Close()
	fill(t, l, 0, 13)
	c, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c.Size != 13 || c.Verify(k.Public()) != nil || l.Latest().Size != 13 {
		t.Fatalf("%+v", c)
	}
	again, err := l.Checkpoint(t.Context())
	if err != nil || again.Note != c.Note {
		t.Fatalf("an unchanged log was signed again: %+v, %v", again, err)
	}
	for name, bad := range map[string]func(*Checkpoint){
		"size":   func(c *Checkpoint) { c.Size++ },
		"root":   func(c *Checkpoint) { c.Root[0] ^= 1 },
		"origin": func(c *Checkpoint) { c.Origin += "0" },
		"note":   func(c *Checkpoint) { c.Note = strings.Replace(c.Note, "\n13\n", "\n14\n", 1) },
	} {
		d := c
		bad(&d)
		if err := d.Verify(k.Public()); !errors.Is(err, ErrCheckpoint) {
			t.Errorf("%s changed: %v", name, err)
		}
	}
	if err := c.Verify(); err == nil {
		t.Error("verified without a key")
	}
	if err := c.Verify(newSigner(t).Public()); err == nil {
		t.Error("verified with another key")
	}
	if back, err := ParseCheckpoint([]byte(c.Note)); err != nil || back != c {
		t.Fatalf("%+v, %v", back, err)
	}
}

func TestInclusionIsProvable(t *testing.T) {
	dir, k := t.TempDir(), newSigner(t)
	l := openLog(t, dir, k, Options{SegmentBytes: 3000})
	defer l.Close()
	for size := 1; size <= 20; size++ {
		fill(t, l, size-1, size)
		c, err := l.Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range size {
			p, err := Prove(dir, uint64(i), uint64(size))
			if err != nil {
				t.Fatal(err)
			}
			body, _ := sample(i).Marshal()
			if err := p.Verify(leafHash(body), c.Root); err != nil {
				t.Fatalf("record %d of %d: %v", i, size, err)
			}
			checkProofBites(t, p, leafHash(body), c.Root)
		}
	}
	if _, err := Prove(dir, 20, 20); err == nil {
		t.Error("proved a record behind the end")
	}
	if _, err := Prove(dir, 0, 21); err == nil {
		t.Error("proved for a tree that is not there")
	}
}

func checkProofBites(t *testing.T, p Proof, leaf, root digest.Digest) {
	t.Helper()
	if p.Verify(digest.Digest(sha256.Sum256([]byte("other"))), root) == nil {
		t.Fatal("another leaf was accepted")
	}
	for i := range p.Path {
		q := p
		q.Path = append([]digest.Digest(nil), p.Path...)
		q.Path[i][3] ^= 1
		if q.Verify(leaf, root) == nil {
			t.Fatal("a changed path was accepted")
		}
	}
	q := p
	q.Path = append(append([]digest.Digest(nil), p.Path...), digest.Digest{})
	if q.Verify(leaf, root) == nil {
		t.Fatal("a longer path was accepted")
	}
	q = p
	q.Index = p.Size
	if q.Verify(leaf, root) == nil {
		t.Fatal("an index behind the end was accepted")
	}
}

func TestShowFilters(t *testing.T) {
	dir, k := t.TempDir(), newSigner(t)
	l := openLog(t, dir, k, Options{})
	fill(t, l, 0, 30)
	if _, err := l.Append(t.Context(), Record{Kind: KindOperator, Time: sample(30).Time, Action: "secret-put", RefusalID: "lonely"}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		f    Filter
		want int
	}{
		"all":        {Filter{}, 31},
		"kind":       {Filter{Kind: KindOperator}, 1},
		"since":      {Filter{Since: sample(25).Time}, 6},
		"until":      {Filter{Until: sample(25).Time}, 25},
		"resource":   {Filter{Resource: "models/m1"}, 10},
		"subtree":    {Filter{Resource: "models/"}, 30},
		"other tree": {Filter{Resource: "mod/"}, 0},
		"connection": {Filter{Connection: "c-3"}, 2},
		"grant":      {Filter{Grant: "none"}, 0},
		"reason":     {Filter{Reason: "debug-enabled"}, 30},
		"no reason":  {Filter{Reason: "other"}, 0},
		"from":       {Filter{From: 29}, 2},
		"range":      {Filter{From: 3, To: 5}, 2},
		"last":       {Filter{Last: 4}, 4},
	} {
		got, err := Show(dir, tc.f)
		if err != nil || len(got) != tc.want {
			t.Errorf("%s: %d records, want %d (%v)", name, len(got), tc.want, err)
		}
	}
	if got, _ := Show(dir, Filter{Last: 1}); len(got) != 1 || got[0].Record.Action != "secret-put" {
		t.Errorf("last: %+v", got)
	}
	got, err := Explain(dir, "r-8")
	if err != nil || len(got) != 2 || got[0].Record.RefusalID != "r-8" {
		t.Errorf("explain: %+v, %v", got, err)
	}
	if got, err := Explain(dir, "lonely"); err != nil || len(got) != 1 {
		t.Errorf("explain: %+v, %v", got, err)
	}
	for _, id := range []string{"", "absent"} {
		if _, err := Explain(dir, id); !errors.Is(err, ErrNotFound) {
			t.Errorf("explain %q: %v", id, err)
		}
	}
}

func TestTextForms(t *testing.T) {
	for k := KindService; k <= KindAnomaly; k++ {
		b, err := k.MarshalText()
		var back Kind
		if err != nil || back.UnmarshalText(b) != nil || back != k {
			t.Errorf("%s: %v", k, err)
		}
	}
	var k Kind
	if k.UnmarshalText([]byte("other")) == nil || Kind(77).String() != "kind(77)" {
		t.Error("an unknown kind parsed")
	}
	if _, err := Kind(0).MarshalText(); err == nil {
		t.Error("the zero kind has a name")
	}
	d := digest.Digest{1, 2}
	text, _ := d.MarshalText()
	var back digest.Digest
	if back.UnmarshalText(text) != nil || back != d || back.UnmarshalText(text[1:]) == nil {
		t.Error("digest text")
	}
}
