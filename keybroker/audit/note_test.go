package audit

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// TestOtherProgramsVerifyCheckpointsAndProofs uses nothing of this package to
// verify: the checkpoint with note.Open, the proofs with package tlog.
func TestOtherProgramsVerifyCheckpointsAndProofs(t *testing.T) {
	dir, k := t.TempDir(), newSigner(t)
	l := openLog(t, dir, k, Options{})
	defer l.Close()
	fill(t, l, 0, 5)
	before, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fill(t, l, 5, 18)
	c, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	vkey, err := VerifierKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	roots := map[Checkpoint]tlog.Hash{}
	for _, c := range []Checkpoint{before, c} {
		n, err := note.Open([]byte(c.Note), note.VerifierList(verifier))
		if err != nil || len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 1 || n.Sigs[0].Name != Origin(k.Public()) {
			t.Fatalf("%+v, %v", n, err)
		}
		f := strings.Split(n.Text, "\n")
		root, err := tlog.ParseHash(f[2])
		if err != nil || len(f) != 4 || f[0] != n.Sigs[0].Name || f[1] != fmt.Sprint(c.Size) || root != tlog.Hash(c.Root) {
			t.Fatalf("%q: %v", n.Text, err)
		}
		roots[c] = root
	}
	for i := range 18 {
		p, err := Prove(dir, uint64(i), c.Size)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := sample(i).Marshal()
		if err := tlog.CheckRecord(hashesOf(p.Path), int64(p.Size), roots[c], int64(p.Index), tlog.RecordHash(body)); err != nil {
			t.Errorf("record %d: %v", i, err)
		}
	}
	p, err := ProveConsistency(dir, before.Size, c.Size)
	if err != nil {
		t.Fatal(err)
	}
	if err := tlog.CheckTree(hashesOf(p.Path), int64(p.Size), roots[c], int64(p.From), roots[before]); err != nil {
		t.Error(err)
	}
	if err := p.Verify(before.Root, c.Root); err != nil {
		t.Error(err)
	}
	if p.Verify(c.Root, before.Root) == nil || p.Verify(digest.Digest{1}, c.Root) == nil {
		t.Error("a proof of consistency holds for other trees")
	}
}

// split takes a note apart: text with its blank line, and the signature lines.
func split(t *testing.T, n string) (text string, sigs []string) {
	t.Helper()
	at := strings.LastIndex(n, "\n\n") + 2
	return n[:at], strings.SplitAfter(strings.TrimSuffix(n[at:], ""), "\n")[:strings.Count(n[at:], "\n")]
}

func TestCheckpointNeedsBothSignatures(t *testing.T) {
	k, other := newSigner(t), newSigner(t)
	c, err := signCheckpoint(k, 7, digest.Digest{1})
	if err != nil {
		t.Fatal(err)
	}
	text, sigs := split(t, c.Note)
	if len(sigs) != 2 {
		t.Fatalf("%d signature lines", len(sigs))
	}
	foreign, err := signCheckpoint(other, 7, digest.Digest{1})
	if err != nil {
		t.Fatal(err)
	}
	_, foreignSigs := split(t, foreign.Note)
	later, err := signCheckpoint(k, 8, digest.Digest{1})
	if err != nil {
		t.Fatal(err)
	}
	_, laterSigs := split(t, later.Note)
	var many strings.Builder
	for i := range maxCheckpointLines {
		fmt.Fprintf(&many, "— witness%d %s\n", i, base64.StdEncoding.EncodeToString([]byte("12345")))
	}
	for name, tc := range map[string]struct {
		note string
		good bool
	}{
		"as signed":                   {text + sigs[0] + sigs[1], true},
		"in the other order":          {text + sigs[1] + sigs[0], true},
		"with a witness":              {text + foreignSigs[0] + sigs[0] + sigs[1], true},
		"Ed25519 alone":               {text + sigs[0], false},
		"ML-DSA alone":                {text + sigs[1], false},
		"Ed25519 twice":               {text + sigs[0] + sigs[0], false},
		"ML-DSA of another note":      {text + sigs[0] + laterSigs[1], false},
		"Ed25519 of another note":     {text + laterSigs[0] + sigs[1], false},
		"of another key":              {text + foreignSigs[0] + foreignSigs[1], false},
		"more lines than the limit":   {text + many.String() + sigs[0] + sigs[1], false},
		"an extension line":           {strings.TrimSuffix(text, "\n") + "more\n\n" + sigs[0] + sigs[1], false},
		"size with a leading zero":    {strings.Replace(text, "\n7\n", "\n07\n", 1) + sigs[0] + sigs[1], false},
		"larger than the limit":       {text + sigs[0] + sigs[1] + strings.Repeat("— w AAAAAAA=\n", maxCheckpointBytes/14), false},
		"no signature":                {text, false},
		"nothing":                     {"", false},
		"another log's name":          {strings.Replace(text, c.Origin, foreign.Origin, 1) + sigs[0] + sigs[1], false},
		"a name that is no audit log": {strings.Replace(text, c.Origin, "go.sum database tree", 1) + sigs[0] + sigs[1], false},
	} {
		got, err := OpenCheckpoint([]byte(tc.note), k.Public())
		switch reason, _ := refusal.ReasonOf(err); {
		case tc.good && (err != nil || got.Size != 7 || got.Root != digest.Digest{1}):
			t.Errorf("%s: %+v, %v", name, got, err)
		case !tc.good && (reason != ReasonCheckpointInvalid || !errors.Is(err, ErrCheckpoint)):
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestVersionOneIsRefused keeps a checkpoint and a log of the first format.
func TestVersionOneIsRefused(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "v1", "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	k := newSigner(t)
	l := openLog(t, t.TempDir(), k, Options{})
	defer l.Close()
	dir := copyLog(t, filepath.Join("testdata", "v1"))
	// The records' own format is the same: only what is signed has changed.
	if err := Iterate(dir, func(e Entry) bool {
		if !reflect.DeepEqual(e.Record, sample(int(e.Index))) {
			t.Errorf("record %d: %+v", e.Index, e.Record)
		}
		return true
	}); err != nil {
		t.Error(err)
	}
	for name, try := range map[string]func() error{
		"parse":   func() error { _, err := ParseCheckpoint(b); return err },
		"extends": func() error { return l.Extends(b) },
		"open":    func() error { _, err := Open(dir, k, Options{}); return err },
		"verify":  func() error { _, err := Verify(dir, k.Public()); return err },
		"kept": func() error {
			_, err := Check{Keys: []identity.Public{k.Public()}, Kept: [][]byte{b}}.Verify(t.Context(), l.Dir())
			return err
		},
	} {
		if reason, _ := refusal.ReasonOf(try()); reason != ReasonCheckpointVersion {
			t.Errorf("%s: %v", name, try())
		}
	}
}
