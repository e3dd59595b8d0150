package filelist

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/vectortest"
)

// fields is a list by the names of its fields.
type fields struct {
	Origin  string       `json:"origin"`
	Version string       `json:"version"`
	Commit  string       `json:"commit"`
	Files   []fileFields `json:"files"`
}

type fileFields struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// TestVector: the list of testdata/v1.note with everything that another implementation needs.
func TestVector(t *testing.T) {
	v := vectortest.Load(t, "list-1", *update, func() vectortest.Vector { return createVector(t) })
	var f fields
	if err := json.Unmarshal(v.Fields, &f); err != nil {
		t.Fatal(err)
	}
	text := f.Origin + "\n" + f.Version + "\n" + f.Commit + "\n"
	for _, file := range f.Files {
		text += file.SHA256 + "  " + file.Name + "\n"
	}
	v.Rebuilt(t, []byte(text), []byte(text+"\n"+string(v.Signature)))
	publisher, err := identity.ParsePublic(v.PublicKeys["publisher"])
	if err != nil {
		t.Fatal(err)
	}
	v.Verify(t, func(signed []byte, _ uint64) error {
		_, err := Open(signed, publisher)
		return err
	})
}

func createVector(t *testing.T) vectortest.Vector {
	publisher, err := identity.ReadPublicFile(filepath.Join("testdata", "v1.pub"))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := os.ReadFile(filepath.Join("testdata", "v1.note"))
	if err != nil {
		t.Fatal(err)
	}
	text, signature, _ := strings.Cut(string(signed), "\n\n")
	lines := strings.Split(text, "\n")
	f := fields{Origin: lines[0], Version: lines[1], Commit: lines[2]}
	for _, line := range lines[3:] {
		digest, name, _ := strings.Cut(line, "  ")
		f.Files = append(f.Files, fileFields{name, digest})
	}
	encoded, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	v := vectortest.Vector{About: "the list of a release of two files; the signature is the note's two lines", Specification: "docs/releases.md, The signed list", Context: identity.NoteContext,
		PublicKeys: map[string]vectortest.Hex{"publisher": publisher.Bytes()}, Fields: encoded, Signed: []byte(text + "\n"), Signature: []byte(signature), Statement: signed, Verdict: vectortest.Accepted}
	first, second, _ := strings.Cut(signature, "\n")
	refuse := func(about, note string, reason refusal.Reason) {
		v.Refused = append(v.Refused, vectortest.Refused{About: about, Statement: []byte(note), Reason: string(reason)})
	}
	refuse("the first signature line alone", text+"\n\n"+first+"\n", ReasonList)
	refuse("the second signature line alone", text+"\n\n"+second, ReasonList)
	refuse("another version", strings.Replace(string(signed), "v0.2.0", "v0.2.1", 1), ReasonList)
	refuse("another digest", strings.Replace(string(signed), f.Files[0].SHA256, f.Files[1].SHA256, 1), ReasonList)
	other := newPublisher(t)
	refuse("of another publisher", string(sign(t, other, sample())), ReasonPublisher)
	return v
}
