package filelist

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/signednote"
)

var update = flag.Bool("update", false, "write the golden files anew, where they are missing")

const commit = "0123456789abcdef0123456789abcdef01234567"

func newPublisher(t testing.TB) *identity.Private {
	t.Helper()
	k, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

func sample() List {
	return List{Version: "v0.2.0", Commit: commit, Files: []File{
		{"anchorhold-v0.2.0-linux-amd64.tar.gz", sha256.Sum256([]byte("a"))},
		{"anchorhold-v0.2.0-linux-arm64.tar.gz", sha256.Sum256([]byte("b"))},
	}}
}

func sign(t testing.TB, k *identity.Private, l List) []byte {
	t.Helper()
	signed, err := Sign(k, l)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// signText signs a text that is no list's under the name of a publisher.
func signText(t testing.TB, k *identity.Private, text string) []byte {
	t.Helper()
	signed, err := signednote.Sign(k, Origin(k.Public()), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func wantReason(t *testing.T, what string, err error, want refusal.Reason) {
	t.Helper()
	if got, ok := refusal.ReasonOf(err); !ok || got != want {
		t.Errorf("%s: got %v, want %s", what, err, want)
	}
}

func TestListVerifiesUnderItsPublisherOnly(t *testing.T) {
	k, other := newPublisher(t), newPublisher(t)
	l := sample()
	signed := sign(t, k, l)
	got, err := Open(signed, k.Public())
	if err != nil || fmt.Sprint(got) != fmt.Sprint(l) {
		t.Fatalf("got %v, %v", got, err)
	}
	_, err = Open(signed, other.Public())
	wantReason(t, "another publisher", err, ReasonPublisher)
	_, err = Open(signed, identity.Public{})
	wantReason(t, "no publisher", err, ReasonPublisher)
}

// TestEveryPartOfAListIsSigned changes one part at a time.
func TestEveryPartOfAListIsSigned(t *testing.T) {
	k, other := newPublisher(t), newPublisher(t)
	good := string(sign(t, k, sample()))
	forged := strings.Replace(string(sign(t, other, sample())), Origin(other.Public())+"\nv", Origin(k.Public())+"\nv", 1)
	last := strings.LastIndex(good[:len(good)-1], "\n") + 1
	for what, changed := range map[string]string{
		"version":         strings.Replace(good, "\nv0.2.0\n", "\nv0.2.1\n", 1),
		"commit":          strings.Replace(good, commit, strings.Replace(commit, "0", "1", 1), 1),
		"name":            strings.Replace(good, "amd64.tar", "amd65.tar", 1),
		"digest":          strings.Replace(good, "\nca97", "\nca98", 1),
		"one signature":   good[:last],
		"another's":       forged,
		"bytes behind it": good + "x",
		"nothing":         "",
	} {
		if changed == good {
			t.Errorf("%s: nothing was changed", what)
		}
		_, err := Open([]byte(changed), k.Public())
		wantReason(t, what, err, ReasonList)
	}
}

// TestListHasALimit: witnesses may add lines, and not without end.
func TestListHasALimit(t *testing.T) {
	k := newPublisher(t)
	signed := string(sign(t, k, sample()))
	line := "— witness " + base64.StdEncoding.EncodeToString(make([]byte, 6000)) + "\n"
	if _, err := Open([]byte(signed+line), k.Public()); err != nil {
		t.Errorf("with a witness: %v", err)
	}
	long := signed
	for i := range 9 {
		long += strings.Replace(line, "witness", fmt.Sprintf("witness%d", i), 1)
	}
	if len(long) <= maxNoteBytes {
		t.Fatalf("%d bytes", len(long))
	}
	_, err := Open([]byte(long), k.Public())
	wantReason(t, "too long", err, ReasonList)
	for i := range maxLines {
		signed += fmt.Sprintf("— witness%d AAAAAAAA\n", i)
	}
	_, err = Open([]byte(signed), k.Public())
	wantReason(t, "too many lines", err, ReasonList)
}

// TestOneFormOfAList has the publisher itself sign what is no list.
func TestOneFormOfAList(t *testing.T) {
	k := newPublisher(t)
	origin, sums := Origin(k.Public()), string(sample().Sums())
	first, second, _ := strings.Cut(sums, "\n")
	head := origin + "\nv0.2.0\n" + commit + "\n"
	if _, err := Open(signText(t, k, head+sums), k.Public()); err != nil {
		t.Fatal(err)
	}
	many := strings.Builder{}
	for i := range maxFiles + 1 {
		fmt.Fprintf(&many, "%064x  f%04d\n", i, i)
	}
	for what, text := range map[string]string{
		"no files":              head,
		"no commit":             origin + "\nv0.2.0\n" + sums,
		"half a commit":         origin + "\nv0.2.0\n" + commit[:20] + "\n" + sums,
		"a version with spaces": origin + "\nv 0.2.0\n" + commit + "\n" + sums,
		"not sorted":            head + second + first + "\n",
		"twice":                 head + first + "\n" + first + "\n",
		"upper case":            head + strings.ToUpper(first[:64]) + first[64:] + "\n",
		"one space":             head + strings.Replace(first, "  ", " ", 1) + "\n",
		"binary mark":           head + strings.Replace(first, "  ", " *", 1) + "\n",
		"a directory":           head + first[:66] + "bin/x\n",
		"a parent":              head + first[:66] + "..\n",
		"a hidden file":         head + first[:66] + ".profile\n",
		"a name with spaces":    head + first[:66] + "a b\n",
		"its own name":          head + first[:66] + NoteName + "\n",
		"the sums":              head + first[:66] + SumsName + "\n",
		"a blank line":          head + first + "\n\n",
		"too many":              head + many.String(),
	} {
		_, err := Open(signText(t, k, text), k.Public())
		wantReason(t, what, err, ReasonList)
	}
}

func TestOnlyListsAreSigned(t *testing.T) {
	k := newPublisher(t)
	for what, change := range map[string]func(*List){
		"version":   func(l *List) { l.Version = "" },
		"commit":    func(l *List) { l.Commit = "main" },
		"no files":  func(l *List) { l.Files = nil },
		"order":     func(l *List) { l.Files[0], l.Files[1] = l.Files[1], l.Files[0] },
		"directory": func(l *List) { l.Files[0].Name = "a/b" },
	} {
		l := sample()
		change(&l)
		_, err := Sign(k, l)
		wantReason(t, what, err, ReasonList)
	}
}

// write makes a directory that holds a release.
func write(t *testing.T, k *identity.Private, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		put(t, filepath.Join(dir, name), data)
	}
	l, err := Of(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.Version, l.Commit = "v0.2.0", commit
	put(t, filepath.Join(dir, NoteName), string(sign(t, k, l)))
	put(t, filepath.Join(dir, SumsName), string(l.Sums()))
	return dir
}

func put(t testing.TB, name, data string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestDirectoryIsWhatTheListSays(t *testing.T) {
	k := newPublisher(t)
	for what, c := range map[string]struct {
		change func(dir string) error
		want   refusal.Reason // "": it passes
	}{
		"as made":             {func(string) error { return nil }, ""},
		"without sums":        {func(dir string) error { return os.Remove(filepath.Join(dir, SumsName)) }, ""},
		"a public key beside": {func(dir string) error { return os.WriteFile(filepath.Join(dir, "x.pub"), nil, 0o600) }, ""},
		"a byte changed":      {func(dir string) error { return os.WriteFile(filepath.Join(dir, "a"), []byte("B"), 0o600) }, ReasonFile},
		"a byte more":         {func(dir string) error { return os.WriteFile(filepath.Join(dir, "a"), []byte("Aa"), 0o600) }, ReasonFile},
		"a file gone":         {func(dir string) error { return os.Remove(filepath.Join(dir, "a")) }, ReasonFile},
		"a file more":         {func(dir string) error { return os.WriteFile(filepath.Join(dir, "c"), nil, 0o600) }, ReasonUnlisted},
		"a directory more":    {func(dir string) error { return os.Mkdir(filepath.Join(dir, "c"), 0o700) }, ReasonUnlisted},
		"a link":              {func(dir string) error { return os.Symlink("a", filepath.Join(dir, "c")) }, ReasonUnlisted},
		"other sums":          {func(dir string) error { return os.WriteFile(filepath.Join(dir, SumsName), nil, 0o600) }, ReasonFile},
		"other list":          {func(dir string) error { return os.WriteFile(filepath.Join(dir, NoteName), nil, 0o600) }, ReasonList},
	} {
		dir := write(t, k, map[string]string{"a": "A", "b": "B"})
		if err := c.change(dir); err != nil {
			t.Fatal(err)
		}
		l, err := Check(dir, k.Public())
		if c.want != "" {
			wantReason(t, what, err, c.want)
		} else if err != nil || len(l.Files) != 2 {
			t.Errorf("%s: got %v, %v", what, l, err)
		}
	}
	dir := write(t, k, map[string]string{"a": "A"})
	if err := os.Remove(filepath.Join(dir, NoteName)); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(dir, k.Public()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no list: got %v", err)
	}
}

func TestOneFileIsCheckedByItsName(t *testing.T) {
	k := newPublisher(t)
	dir := write(t, k, map[string]string{"a": "A", "b": "B"})
	l, err := OpenFile(filepath.Join(dir, NoteName), k.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.CheckFile(filepath.Join(dir, "a")); err != nil {
		t.Error(err)
	}
	elsewhere := t.TempDir()
	put(t, filepath.Join(elsewhere, "a"), "B") // b's bytes under a's name
	wantReason(t, "another's bytes", l.CheckFile(filepath.Join(elsewhere, "a")), ReasonFile)
	wantReason(t, "not there", l.CheckFile(filepath.Join(elsewhere, "b")), ReasonFile)
	wantReason(t, "not listed", l.CheckFile(filepath.Join(elsewhere, "c")), ReasonUnlisted)
}

// TestSumsAreSha256sums has the program that others use read the sums.
func TestSumsAreSha256sums(t *testing.T) {
	program, err := exec.LookPath("sha256sum")
	if err != nil {
		t.Skip("sha256sum is not installed")
	}
	cmd := exec.Command(program, "--check", "--strict", SumsName)
	cmd.Dir = write(t, newPublisher(t), map[string]string{"a": "A", "b": "B"})
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "a: OK\nb: OK\n" {
		t.Errorf("%v: %s", err, out)
	}
}

// TestGolden opens a list that an earlier run wrote. The key that signed it is gone, so the
// files cannot be made again in another form by accident.
func TestGolden(t *testing.T) {
	note, pub := filepath.Join("testdata", "v1.note"), filepath.Join("testdata", "v1.pub")
	if _, err := os.Stat(note); *update && errors.Is(err, fs.ErrNotExist) {
		k := newPublisher(t)
		put(t, note, string(sign(t, k, sample())))
		if err := idfile.WritePublic(pub, k.Public()); err != nil {
			t.Fatal(err)
		}
	}
	publisher, err := identity.ReadPublicFile(pub)
	if err != nil {
		t.Fatal(err)
	}
	l, err := OpenFile(note, publisher)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := l.text(Origin(publisher)), sample().text(Origin(publisher)); !bytes.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzOpen(f *testing.F) {
	note, err := os.ReadFile(filepath.Join("testdata", "v1.note"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(note)
	f.Add([]byte(sample().Sums()))
	publisher, err := identity.ReadPublicFile(filepath.Join("testdata", "v1.pub"))
	if err != nil {
		f.Fatal(err)
	}
	want, err := Open(note, publisher)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, signed []byte) {
		// Nobody has the key any more: what verifies is the one list.
		if l, err := Open(signed, publisher); err == nil && fmt.Sprint(l) != fmt.Sprint(want) {
			t.Errorf("%q verifies", signed)
		}
		if l, err := parse(string(signed)); err == nil {
			_, behind, _ := strings.Cut(string(signed), "\n")
			if got := "x\n" + strings.TrimSuffix(behind, "\n") + "\n"; got != string(l.text("x")) {
				t.Errorf("%q is a second text of %v", signed, l)
			}
		}
	})
}
