// Package vectortest reads and writes golden vectors of signed formats, and checks a verifier
// against them.
//
// A vector is one JSON file: the verifier's inputs, the fields by name, the exact bytes that are
// signed, the whole statement and the verdict, and statements that must be refused, each with its
// reason code. docs/vectors.md describes the files for other implementations.
//
// A vector is written once and never changes: the private keys are gone, so nobody can sign it
// again. When a format changes it gets a new version, with vectors of its own. The tests of the
// packages that own the formats call this package, which needs a testing.TB for everything.
package vectortest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Accepted is the verdict on a statement that verifies.
const Accepted = "accepted"

// Hex is a byte string, in JSON lower-case hexadecimal.
type Hex []byte

// MarshalText writes lower-case hexadecimal.
func (h Hex) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h), nil }

// UnmarshalText reads hexadecimal.
func (h *Hex) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// Vector is one statement of a signed format.
type Vector struct {
	// About describes the statement in one sentence.
	About string `json:"about"`
	// Specification is the section that describes the format.
	Specification string `json:"specification"`
	// Context is the signing context.
	Context string `json:"context,omitempty"`
	// PublicKeys are identities in their canonical encoding. The verifier trusts the root, or
	// the only key in the list; the others are found in the chain.
	PublicKeys map[string]Hex `json:"public_keys,omitempty"`
	// MinEpoch and Now are the verifier's lowest epoch and, for a live statement, its time in
	// milliseconds.
	MinEpoch uint64 `json:"min_epoch,omitempty"`
	Now      uint64 `json:"now,omitempty"`
	// Given are other inputs of the verifier, such as the signed round.
	Given map[string]Hex `json:"given,omitempty"`
	// Fields are the statement's fields by name.
	Fields json.RawMessage `json:"fields"`
	// Chain is the signed epoch statement or lease chain that the statement carries.
	Chain Hex `json:"chain,omitempty"`
	// Signed is the message that is signed under Context, Signature the signature.
	Signed    Hex `json:"signed_bytes,omitempty"`
	Signature Hex `json:"signature,omitempty"`
	// Statement is the whole encoding.
	Statement Hex `json:"statement"`
	// Verdict is Accepted, or the reason for which the statement itself is refused.
	Verdict string `json:"verdict"`
	// Refused are further verifications that fail.
	Refused []Refused `json:"refused"`
}

// Refused is a verification that fails: of another statement, of the vector's with an
// edit, or of the vector's by a verifier with another lowest epoch.
type Refused struct {
	About     string `json:"about"`
	Statement Hex    `json:"statement,omitempty"`
	Edit      *Edit  `json:"edit,omitempty"`
	MinEpoch  uint64 `json:"min_epoch,omitempty"`
	Reason    string `json:"reason"`
}

// Edit replaces the Remove bytes at Offset by Insert.
type Edit struct {
	Offset int `json:"offset"`
	Remove int `json:"remove"`
	Insert Hex `json:"insert"`
}

// Damage adds the changes that every statement ending in a signature must refuse: each half of
// the signature changed, a changed body, a missing byte, an additional byte.
func (v *Vector) Damage(body int, malformed, signature refusal.Reason) {
	end := len(v.Statement)
	flip := func(about string, at int, reason refusal.Reason) {
		v.Refused = append(v.Refused, Refused{About: about, Edit: &Edit{at, 1, Hex{v.Statement[at] ^ 1}}, Reason: string(reason)})
	}
	flip("a bit of the Ed25519 half of the signature is flipped", end-1, signature)
	flip("a bit of the ML-DSA half of the signature is flipped", end-64-100, signature)
	flip("a bit of the body is flipped", body, signature)
	v.Refused = append(v.Refused,
		Refused{About: "the last byte is missing", Edit: &Edit{end - 1, 1, Hex{}}, Reason: string(malformed)},
		Refused{About: "a byte follows", Edit: &Edit{end, 0, Hex{0}}, Reason: string(malformed)})
}

// Load reads the named vector in testdata/vectors. If there is none and write is set, it calls
// create and stores the result; it never replaces a vector.
func Load(t testing.TB, name string, write bool, create func() Vector) Vector {
	t.Helper()
	file := filepath.Join("testdata", "vectors", name+".json")
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && write {
		raw = encode(t, create())
		if err = os.MkdirAll(filepath.Dir(file), 0o755); err == nil {
			err = os.WriteFile(file, raw, 0o644)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	var v Vector
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return v
}

func encode(t testing.TB, v Vector) []byte {
	t.Helper()
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(raw, '\n')
}

// Compact is the fields as one line of JSON: the body of the formats whose body is JSON.
func (v *Vector) Compact(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, v.Fields); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Rebuilt compares the bytes that a test built from the fields with the recorded ones.
func (v *Vector) Rebuilt(t testing.TB, signed, statement []byte) {
	t.Helper()
	if !bytes.Equal(signed, v.Signed) {
		t.Errorf("the signed bytes are\n%x, want\n%x", signed, v.Signed)
	}
	if !bytes.Equal(statement, v.Statement) {
		t.Errorf("the statement is\n%x, want\n%x", statement, v.Statement)
	}
}

// Verify has a verifier judge the statement and everything that it must refuse.
func (v *Vector) Verify(t testing.TB, verify func(statement []byte, minEpoch uint64) error) {
	t.Helper()
	if got := verdict(verify(bytes.Clone(v.Statement), v.MinEpoch)); got != v.Verdict {
		t.Errorf("got the verdict %s, want %s", got, v.Verdict)
	}
	if len(v.Refused) == 0 {
		t.Error("nothing is refused: a verifier that accepts everything would pass")
	}
	for _, r := range v.Refused {
		statement, minEpoch := bytes.Clone(v.Statement), max(v.MinEpoch, r.MinEpoch)
		if r.Statement != nil {
			statement = r.Statement
		}
		if e := r.Edit; e != nil {
			statement = append(append(bytes.Clone(v.Statement[:e.Offset]), e.Insert...), v.Statement[e.Offset+e.Remove:]...)
		}
		if err := verify(statement, minEpoch); verdict(err) != r.Reason {
			t.Errorf("%s: got the verdict %s, want %s: %v", r.About, verdict(err), r.Reason, err)
		}
	}
}

// verdict is Accepted, a refusal's reason, or the text of an error that is none.
func verdict(err error) string {
	if err == nil {
		return Accepted
	}
	if reason, ok := refusal.ReasonOf(err); ok {
		return string(reason)
	}
	return err.Error()
}
