package digest_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
)

func ExampleParse() {
	d := digest.Of([]byte("anchor"))
	again, err := digest.Parse(d.String())
	fmt.Println(again == d, err)
	// Output: true <nil>
}

func TestOneSpellingOfDigestsAndIDs(t *testing.T) {
	right := strings.Repeat("0a", 32)
	if d, err := digest.Parse(right); err != nil || d.String() != right || d.IsZero() {
		t.Error(d, err)
	}
	if id, err := digest.ParseID[digest.Round](right[:32]); err != nil || id.String() != right[:32] {
		t.Error(id, err)
	}
	wrong := map[string]string{
		"upper case": strings.ToUpper(right), "short": right[2:], "long": right + "00", "odd": right[1:],
		"not hexadecimal": "zz" + right[2:], "empty": "", "space": " " + right[1:],
	}
	for name, text := range wrong {
		d := digest.Digest{1}
		if err := d.UnmarshalText([]byte(text)); err == nil || d != (digest.Digest{1}) {
			t.Errorf("%s: a digest, %v", name, err)
		}
		id := digest.RoundID{1}
		if err := id.UnmarshalText([]byte(text)); err == nil || id != (digest.RoundID{1}) {
			t.Errorf("%s: an id, %v", name, err)
		}
	}
}

func TestJSONIsHexadecimal(t *testing.T) {
	type named struct {
		Digest digest.Digest    `json:"digest"`
		ID     digest.ReceiptID `json:"id"`
	}
	v := named{digest.Digest{0xab}, digest.ReceiptID{0xcd}}
	raw, err := json.Marshal(v)
	want := fmt.Sprintf(`{"digest":"ab%062d","id":"cd%030d"}`, 0, 0)
	if err != nil || string(raw) != want {
		t.Fatalf("got %s, want %s (%v)", raw, want, err)
	}
	var again named
	if err := json.Unmarshal(raw, &again); err != nil || again != v {
		t.Error(again, err)
	}
}

func TestSumIsOf(t *testing.T) {
	h := sha256.New()
	h.Write([]byte("abc"))
	if digest.Sum(h) != digest.Of([]byte("abc")) {
		t.Error("the digest of a hash is another than that of its input")
	}
}

// TestAnIDOfOneKindIsNoOther: the compiler refuses an assignment between kinds.
func TestAnIDOfOneKindIsNoOther(t *testing.T) {
	kinds := []reflect.Type{reflect.TypeFor[digest.RoundID](), reflect.TypeFor[digest.ReceiptID](), reflect.TypeFor[digest.LeaseID]()}
	for i, a := range kinds {
		for j, b := range kinds {
			if a.AssignableTo(b) != (i == j) {
				t.Errorf("%v is assignable to %v", a, b)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(strings.Repeat("0a", 32)))
	f.Add([]byte("0A"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var d digest.Digest
		if d.UnmarshalText(text) != nil {
			return
		}
		if again, _ := d.MarshalText(); !bytes.Equal(again, text) {
			t.Errorf("%q is read as %s", text, d)
		}
	})
}
