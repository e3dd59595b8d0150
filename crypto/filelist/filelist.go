// Package filelist is the signed list of a release's files, with which anybody can check a
// download.
//
// The list is a signed note (package signednote) by the publisher of the release. Its text has
// the publisher's name, the version, the commit, and a line for each file as sha256sum prints it;
// docs/releases.md describes it completely. [Sign] makes a list, [Open] verifies it, and [Check]
// compares the files of a directory with it.
//
// The package trusts the publisher's public key, which the caller has from elsewhere, and nothing
// that comes with the files. It refuses a list that is not signed by both halves of that key, a
// file that is missing, changed or not listed, and any list not in the one canonical form.
package filelist

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/signednote"
)

// Names of the files that describe the others.
const (
	// NoteName is the signed list.
	NoteName = "SHA256SUMS.note"
	// SumsName is the same list for sha256sum, unsigned.
	SumsName = "SHA256SUMS"
)

// Reasons for which a release is refused.
const (
	// ReasonList: the list is malformed, or not signed by both halves of its key.
	ReasonList refusal.Reason = "release-list-invalid"
	// ReasonPublisher: the list is by a publisher other than the expected one.
	ReasonPublisher refusal.Reason = "release-publisher-mismatch"
	// ReasonFile: a listed file is missing or has other contents.
	ReasonFile refusal.Reason = "release-file-mismatch"
	// ReasonUnlisted: a file is not on the list.
	ReasonUnlisted refusal.Reason = "release-file-unlisted"
)

const (
	originPrefix = "anchorhold/release/"

	maxNoteBytes = 64 << 10
	maxFiles     = 256
	maxLines     = 16 // signature lines; witnesses may have added theirs
)

// File is one file of a release.
type File struct {
	// Name is the file's name, without directories.
	Name string
	// Digest is the SHA-256 of its bytes.
	Digest [32]byte
}

// List is a publisher's statement of which files make up a release.
type List struct {
	// Version is the release's version, as the programs print it.
	Version string
	// Commit is the git commit that it was built from, 40 hexadecimal digits.
	Commit string
	// Files are the files, sorted by name.
	Files []File
}

var (
	versionForm = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._+-]{0,63}$`)
	commitForm  = regexp.MustCompile(`^[0-9a-f]{40}$`)
	nameForm    = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._+-]{0,127}$`)
	lineForm    = regexp.MustCompile(`^([0-9a-f]{64})  (\S+)$`)
)

// Origin returns the name of a publisher: the first line of its lists, and the name on their
// signature lines.
func Origin(publisher identity.Public) string {
	id := publisher.ID()
	return originPrefix + hex.EncodeToString(id[:])
}

// Sums returns the list as sha256sum reads it.
func (l List) Sums() []byte {
	var b bytes.Buffer
	for _, f := range l.Files {
		fmt.Fprintf(&b, "%x  %s\n", f.Digest, f.Name)
	}
	return b.Bytes()
}

// Names returns the files' names.
func (l List) Names() (names []string) {
	for _, f := range l.Files {
		names = append(names, f.Name)
	}
	return names
}

// text returns what is signed.
func (l List) text(origin string) []byte {
	return append(fmt.Appendf(nil, "%s\n%s\n%s\n", origin, l.Version, l.Commit), l.Sums()...)
}

// check says what keeps a list from having an encoding.
func (l List) check() error {
	switch {
	case !versionForm.MatchString(l.Version):
		return refuseList("the version %q is malformed", l.Version)
	case !commitForm.MatchString(l.Commit):
		return refuseList("the commit %q is not 40 hexadecimal digits", l.Commit)
	case len(l.Files) == 0 || len(l.Files) > maxFiles:
		return refuseList("got %d files, want 1 to %d", len(l.Files), maxFiles)
	}
	for i, f := range l.Files {
		if !nameForm.MatchString(f.Name) || f.Name == NoteName || f.Name == SumsName {
			return refuseList("%q is not an allowed file name", f.Name)
		}
		if i > 0 && l.Files[i-1].Name >= f.Name {
			return refuseList("the files must be sorted by name, each listed once")
		}
	}
	return nil
}

func refuseList(format string, args ...any) error {
	return refusal.New(ReasonList, format, args...)
}

// Sign signs a list.
func Sign(publisher signednote.Signer, l List) ([]byte, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	origin := Origin(publisher.Public())
	return signednote.Sign(publisher, origin, l.text(origin))
}

// Open verifies a signed list of the publisher. It returns nothing from a list that does not
// verify.
func Open(signed []byte, publisher identity.Public) (List, error) {
	if len(signed) > maxNoteBytes {
		return List{}, refuseList("got %d bytes, want at most %d", len(signed), maxNoteBytes)
	}
	text, err := signednote.Unverified(signed, maxLines)
	if err != nil {
		return List{}, refuseList("%w", err)
	}
	want := Origin(publisher)
	if origin, _, _ := strings.Cut(text, "\n"); origin != want {
		return List{}, refusal.New(ReasonPublisher, "the list is for %q, want %q", origin, want)
	}
	if text, err = signednote.Open(signed, want, publisher); err != nil {
		return List{}, refuseList("%w", err)
	}
	return parse(text)
}

// parse reads the text of a list, behind its first line. A list has one text: what this takes,
// text gives again.
func parse(text string) (List, error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) < 4 || len(lines) > 3+maxFiles {
		return List{}, refuseList("got %d lines, want 4 to %d", len(lines), 3+maxFiles)
	}
	l := List{Version: lines[1], Commit: lines[2]}
	for _, line := range lines[3:] {
		m := lineForm.FindStringSubmatch(line)
		if m == nil {
			return List{}, refuseList("malformed line %q", line)
		}
		f := File{Name: m[2]}
		if _, err := hex.Decode(f.Digest[:], []byte(m[1])); err != nil {
			return List{}, refuseList("malformed line %q", line)
		}
		l.Files = append(l.Files, f)
	}
	if err := l.check(); err != nil {
		return List{}, err
	}
	return l, nil
}

// find returns the listed file of a name.
func (l List) find(name string) (File, bool) {
	i, ok := slices.BinarySearchFunc(l.Files, name, func(f File, name string) int { return strings.Compare(f.Name, name) })
	if !ok {
		return File{}, false
	}
	return l.Files[i], true
}
