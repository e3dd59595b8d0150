package chunkseal

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// A file without its chunks says who signed which model; whatever else is in its place is
// refused, and no chunk of it passes for verified.
func TestPartIsSignedAsItsFileIs(t *testing.T) {
	file := testFile(t)
	p, err := Inspect(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	part := slices.Clone(p.Part())
	q, err := InspectPart(part)
	if err != nil || q.Root != p.Root || q.Name != p.Name || len(part) >= len(file) {
		t.Fatalf("%+v, %v", q, err)
	}
	signer := newSigner(3)
	if err := q.Verify(signer); err != nil {
		t.Error(err)
	}
	if err := q.VerifyChunks(context.Background(), nil); !errors.Is(err, errNoChunks) {
		t.Errorf("chunks that are not there: %v", err)
	}
	for _, n := range []int{0, blockBytes - 1, blockBytes, len(part) - 1} {
		if _, err := InspectPart(part[:n]); err == nil {
			t.Errorf("%d bytes were taken", n)
		}
	}
	for i := range part {
		if i > headerFields && i < blockBytes-64 {
			continue
		}
		part[i] ^= 1
		if q, err := InspectPart(part); err == nil && q.Verify(signer) == nil {
			t.Errorf("byte %d was changed", i)
		}
		part[i] ^= 1
	}
}

// FuzzInspectPart reads what anybody may send.
func FuzzInspectPart(f *testing.F) {
	f.Add(bytes.Repeat([]byte{0xff}, 2*blockBytes))
	file := testFile(f)
	p, err := Inspect(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p.Part())
	f.Fuzz(func(t *testing.T, part []byte) {
		p, err := InspectPart(part)
		if _, named := refusal.ReasonOf(err); err != nil && !named && !errors.Is(err, errNoChunks) {
			t.Fatalf("refused without a reason: %v", err)
		}
		if err == nil && !bytes.Equal(p.Part(), part) {
			t.Fatal("another part was read")
		}
	})
}
