package auditlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
	"golang.org/x/mod/sumdb/note"
)

// auditBench is a log with its key, and a directory for what is kept apart from it.
type auditBench struct {
	t               *testing.T
	key             *identity.Private
	dir, aside, pub string
	written         int
}

func newAuditBench(t *testing.T) *auditBench {
	t.Helper()
	key, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(key.Wipe)
	b := &auditBench{t: t, key: key, dir: filepath.Join(t.TempDir(), "audit"), aside: t.TempDir()}
	b.pub = b.public("audit.pub", key)
	return b
}

func (b *auditBench) public(name string, key *identity.Private) string {
	b.t.Helper()
	path := filepath.Join(b.aside, name)
	if err := idfile.WritePublic(path, key.Public()); err != nil {
		b.t.Fatal(err)
	}
	return path
}

func (b *auditBench) open(dir string) *audit.Log {
	b.t.Helper()
	log, err := audit.Open(dir, b.key, audit.Options{SegmentBytes: 1000})
	if err != nil {
		b.t.Fatal(err)
	}
	return log
}

// fill appends records, signs, and keeps the checkpoint.
func (b *auditBench) fill(log *audit.Log, n int, kept string) string {
	b.t.Helper()
	for range n {
		b.written++ // so that no two records are alike
		if _, err := log.Append(b.t.Context(), audit.Record{Kind: audit.KindService, Time: time.Now(), Action: "x", Detail: fmt.Sprint(b.written)}); err != nil {
			b.t.Fatal(err)
		}
	}
	c, err := log.Checkpoint(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	path := filepath.Join(b.aside, kept)
	if err := os.WriteFile(path, []byte(c.Note), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

func (b *auditBench) close(log *audit.Log) {
	b.t.Helper()
	if err := log.Close(); err != nil {
		b.t.Fatal(err)
	}
}

// copied is a copy of a log's directory.
func (b *auditBench) copied(dir string) string {
	b.t.Helper()
	to := filepath.Join(b.t.TempDir(), "audit")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		b.t.Fatal(err)
	}
	return to
}

func (b *auditBench) remove(dir string, patterns ...string) {
	b.t.Helper()
	for _, pattern := range patterns {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(names) == 0 {
			b.t.Fatal(pattern, names, err)
		}
		for _, name := range names {
			if err := os.Remove(name); err != nil {
				b.t.Fatal(err)
			}
		}
	}
}

// verify expects an exit status, a verdict and a word in the detail, in JSON and as text.
func (b *auditBench) verify(what string, code int, verdict, says string, args ...string) {
	b.t.Helper()
	args = append([]string{"audit", "verify"}, args...)
	text, got, err := run(b.t, args...)
	if all := fmt.Sprint(text, err); got != code || !strings.Contains(all, says) || (verdict != verdictSound) == strings.Contains(all, "is sound") {
		b.t.Errorf("%s: exit status %d, want %d with %q: %s, %v", what, got, code, says, text, err)
	}
	out, got, err := run(b.t, append(args, "--json")...)
	var v auditVerdict
	if code == cli.StatusFailed {
		if out != "" {
			b.t.Errorf("%s: a verdict although nothing was verified: %s", what, out)
		}
		return
	}
	if bad := json.Unmarshal([]byte(out), &v); bad != nil || got != code || v.Verdict != verdict || code == cli.StatusRefused && v.Reason != says {
		b.t.Errorf("%s: %s, exit status %d, %v, %v", what, out, got, err, bad)
	}
}

// TestALogIsSoundOnlyAgainstACheckpointFromElsewhere: what was called sound before, and what else a
// log may have suffered.
func TestALogIsSoundOnlyAgainstACheckpointFromElsewhere(t *testing.T) {
	b := newAuditBench(t)
	log := b.open(b.dir)
	first := b.fill(log, 1, "first")
	b.close(log)
	young := b.copied(b.dir)
	log = b.open(b.dir)
	kept := b.fill(log, 60, "kept")
	whole := b.fill(log, 51, "whole")
	if _, err := log.Append(t.Context(), audit.Record{Kind: audit.KindService, Time: time.Now(), Action: "unsigned"}); err != nil {
		t.Fatal(err)
	}
	behind := b.copied(b.dir) // with a record behind the last checkpoint
	b.close(log)

	other := filepath.Join(t.TempDir(), "other")
	fork := b.open(other)
	b.fill(fork, 1, "fork-first")
	forked := b.fill(fork, 120, "forked")
	b.close(fork)
	stranger := newAuditBench(t)
	log = stranger.open(stranger.dir)
	foreign := stranger.fill(log, 3, "foreign")
	stranger.close(log)

	of := func(dir string, more ...string) []string {
		return append([]string{"--dir", dir, "--key", b.pub}, more...)
	}
	b.verify("held against two", 0, verdictSound, "extends 2 kept", of(b.dir, "--checkpoint", kept, "--checkpoint", whole)...)
	b.verify("held against none", cli.StatusOpen, verdictConsistent, "NOT CHECKED  whether the log was restored", of(b.dir)...)
	b.verify("held against none", cli.StatusOpen, verdictConsistent, "compared with no checkpoint kept elsewhere", of(b.dir)...)
	b.verify("held against none, as is known", 0, verdictConsistent, "NOT CHECKED  whether the log was restored", of(b.dir, "--accept-own-checkpoints")...)
	b.verify("that flag makes nothing sound", cli.StatusRefused, verdictRefused, "audit-log-rolled-back", of(young, "--checkpoint", kept, "--accept-own-checkpoints")...)
	b.verify("one of each", cli.StatusOpen, verdictConsistent, "1 record, 1 signed checkpoint of its own", of(young)...)
	b.verify("a record behind", 0, verdictSound, "records 112 to 112: no checkpoint covers", of(behind, "--checkpoint", kept)...)
	b.verify("sound no further than it is signed for", 0, verdictSound, "the log is sound: the first 112 of 113 records", of(behind, "--checkpoint", kept)...)

	unsigned := b.copied(b.dir)
	b.remove(unsigned, "checkpoints-*", "*.idx")
	b.verify("no checkpoints", cli.StatusRefused, verdictRefused, "checkpoint-missing", of(unsigned)...)
	b.verify("no checkpoints of its own", cli.StatusRefused, verdictRefused, "checkpoint-missing", of(unsigned, "--checkpoint", kept)...)
	b.verify("an empty directory", cli.StatusRefused, verdictRefused, "checkpoint-missing", of(t.TempDir())...)
	b.verify("an empty directory, held against one", cli.StatusRefused, verdictRefused, "audit-log-rolled-back", of(t.TempDir(), "--checkpoint", first)...)
	b.verify("no directory", cli.StatusFailed, "", "no such file", of(filepath.Join(t.TempDir(), "absent"))...)

	cut := b.copied(young)
	b.remove(cut, "checkpoints-*")
	b.verify("112 records cut to 1, without checkpoints", cli.StatusRefused, verdictRefused, "checkpoint-missing", of(cut)...)
	b.verify("112 records cut to 1, as it stood then", cli.StatusOpen, verdictConsistent, "NOT CHECKED  whether the log was restored", of(young)...)
	b.verify("112 records cut to 1, held against one", cli.StatusRefused, verdictRefused, "audit-log-rolled-back", of(young, "--checkpoint", first, "--checkpoint", kept)...)
	late := b.copied(b.dir)
	b.remove(late, "log-*.seg")
	b.verify("records cut, checkpoints left", cli.StatusRefused, verdictRefused, "audit-tampered", of(late)...)

	b.verify("a fork", cli.StatusRefused, verdictRefused, "audit-log-forked", of(other, "--checkpoint", kept)...)
	b.verify("against a fork's", cli.StatusRefused, verdictRefused, "audit-log-rolled-back", of(b.dir, "--checkpoint", forked)...)
	b.verify("another log's checkpoint", cli.StatusRefused, verdictRefused, "checkpoint-invalid", of(b.dir, "--checkpoint", foreign)...)
	b.verify("no checkpoint at all", cli.StatusRefused, verdictRefused, "checkpoint-invalid", of(b.dir, "--checkpoint", b.pub)...)
	for says, args := range map[string][]string{
		"--checkpoint " + b.pub + ": ":     {"--checkpoint", kept, "--checkpoint", b.pub},
		"--statement " + kept + ": ":       {"--root", b.pub, "--statement", kept},
		"the checkpoint " + foreign + ": ": {"--checkpoint", kept, "--checkpoint", foreign},
	} {
		expectRun(t, cli.StatusRefused, says, append([]string{"audit", "verify"}, of(b.dir, args...)...)...)
	}
	b.verify("a missing checkpoint", cli.StatusFailed, "", "no such file", of(b.dir, "--checkpoint", b.pub+".absent")...)
	b.verify("another key", cli.StatusRefused, verdictRefused, "audit-key-mismatch", "--dir", b.dir, "--key", stranger.pub)
	b.verify("another key, with a checkpoint", cli.StatusRefused, verdictRefused, "audit-key-mismatch", "--dir", b.dir, "--key", stranger.pub, "--checkpoint", kept)
	for _, name := range []string{"log-*.seg", "checkpoints-*", "tree"} {
		piped := b.copied(b.dir)
		files, err := filepath.Glob(filepath.Join(piped, name))
		if err != nil || len(files) == 0 {
			t.Fatal(name, err)
		}
		last := files[len(files)-1]
		if err := errors.Join(os.Remove(last), syscall.Mkfifo(last, 0o600)); err != nil {
			t.Fatal(err)
		}
		b.verify("a pipe for "+name, cli.StatusFailed, "", last+" is no regular file", of(piped)...) // nobody writes into it
	}

	segments, err := filepath.Glob(filepath.Join(b.dir, "log-*.seg"))
	if err != nil || len(segments) < 4 {
		t.Fatal(segments, err)
	}
	info, err := os.Stat(segments[1])
	if err != nil {
		t.Fatal(err)
	}
	short := b.copied(b.dir)
	if err := os.Truncate(filepath.Join(short, filepath.Base(segments[1])), info.Size()-9); err != nil {
		t.Fatal(err)
	}
	b.verify("a segment cut short", cli.StatusRefused, verdictRefused, "audit-tampered", of(short, "--checkpoint", kept)...)
	gone := b.copied(b.dir)
	b.remove(gone, filepath.Base(segments[1]))
	b.verify("a segment that nobody archived is gone", cli.StatusRefused, verdictRefused, "audit-tampered", of(gone, "--checkpoint", kept)...)
}

// TestTheAuditKeyIsHeldAgainstTheRoot: by the root's statement about an epoch, offline.
func TestTheAuditKeyIsHeldAgainstTheRoot(t *testing.T) {
	b := newAuditBench(t)
	log := b.open(b.dir)
	kept := b.fill(log, 3, "kept")
	b.close(log)
	root, err := identity.Generate(identity.LevelRoot)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Wipe()
	stranger := newAuditBench(t)
	statement := func(name string, audit identity.Public) string {
		now := time.Now()
		signed, err := statedir.CertifyEpoch(root, statedir.Certificate{Epoch: 4, MinEpoch: 1, Key: b.key.Public(), AuditKey: audit, NotBefore: now, NotAfter: now.Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(b.aside, name)
		if err := os.WriteFile(path, signed, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	right, wrong := statement("right", b.key.Public()), statement("wrong", stranger.key.Public())
	rootPub := b.public("root.pub", root)
	copied := []string{"--dir", b.dir, "--key", b.pub, "--checkpoint", kept}
	b.verify("without the root", 0, verdictSound, "NOT CHECKED  whether the root vouches", copied...)
	copied = append(copied, "--root", rootPub)
	b.verify("vouched for", 0, verdictSound, "the root's statement about epoch 4", append(slices.Clone(copied), "--statement", wrong, "--statement", right)...)
	b.verify("of another audit key", cli.StatusRefused, verdictRefused, "audit-key-mismatch", append(slices.Clone(copied), "--statement", wrong)...)
	if out, code, err := run(t, append([]string{"audit", "verify"}, copied...)...); code != cli.StatusUsage || strings.Contains(out, "sound") {
		t.Errorf("a root without a statement: %d, %s, %v", code, out, err)
	}
	foreign := append(slices.Clone(copied), "--statement", right)
	foreign[len(foreign)-3] = b.pub // an epoch's key in the root's place
	if out, code, err := run(t, append([]string{"audit", "verify"}, foreign...)...); code == 0 || strings.Contains(out, "sound") {
		t.Errorf("a statement of another root: %d, %s, %v", code, out, err)
	}
}

// TestArchivedSegmentsAreNamedWhenTheyAreNotRead: the archive may be elsewhere, and that is said.
func TestArchivedSegmentsAreNamedWhenTheyAreNotRead(t *testing.T) {
	b := newAuditBench(t)
	log := b.open(b.dir)
	kept := b.fill(log, 30, "kept")
	a, err := log.Archive(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	b.close(log)
	archive := filepath.Join(b.aside, "segments")
	if err := os.Rename(a.Directory, archive); err != nil {
		t.Fatal(err)
	}
	copied := []string{"--dir", b.dir, "--key", b.pub, "--checkpoint", kept}
	b.verify("not at hand", cli.StatusOpen, verdictIncomplete, "NOT CHECKED  what 24 archived records say", copied...)
	b.verify("not at hand, as is known", 0, verdictIncomplete, "NOT CHECKED  what 24 archived records say", append(slices.Clone(copied), "--accept-unread-archives")...)
	b.verify("nor any checkpoint", cli.StatusOpen, verdictConsistent, "24 archived records were not read", "--dir", b.dir, "--key", b.pub, "--accept-own-checkpoints")
	given := append(slices.Clone(copied), "--archive", archive)
	if out, code, err := run(t, append([]string{"audit", "verify"}, given...)...); code != 0 || strings.Contains(out, "archived") {
		t.Errorf("at hand: %d, %s, %v", code, out, err)
	}
	b.verify("a missing archive", cli.StatusFailed, "", "no such file", append(slices.Clone(copied), "--archive", archive+".absent")...)
	b.remove(archive, "log-0000000000000000.seg")
	b.verify("an archive in part", cli.StatusOpen, verdictIncomplete, "NOT CHECKED  what ", given...)
	b.remove(b.dir, "archived")
	b.verify("nobody signed that they were archived", cli.StatusRefused, verdictRefused, "audit-tampered", given...)
}

// TestAuditCommandsAreCheckedFirst, and the printed key verifies a checkpoint elsewhere.
func TestAuditCommandsAreCheckedFirst(t *testing.T) {
	b := newAuditBench(t)
	log := b.open(b.dir)
	kept := b.fill(log, 3, "kept")
	b.close(log)
	for _, args := range [][]string{{"audit", "verify", "--dir", b.dir}, {"audit", "verify", "--archive", b.aside}, {"audit", "verify", "--statement", kept},
		{"audit", "archive", "--keep", "0"}, {"audit", "vkey"}} {
		if out, code, err := run(t, args...); code != cli.StatusUsage {
			t.Errorf("%v: %d, %s, %v", args, code, out, err)
		}
	}
	b.verify("no broker", cli.StatusFailed, "", "no operator socket", "--broker", filepath.Join(b.aside, "absent"))
	vkey, code, _ := run(t, "audit", "vkey", b.pub)
	verifier, err := note.NewVerifier(strings.TrimSpace(vkey))
	if code != 0 || err != nil {
		t.Fatalf("%q: %d, %v", vkey, code, err)
	}
	raw, err := os.ReadFile(kept)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(raw, note.VerifierList(verifier)); err != nil {
		t.Errorf("the printed key does not verify a checkpoint: %v", err)
	}
}
