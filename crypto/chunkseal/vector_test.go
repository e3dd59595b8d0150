package chunkseal

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
)

// vector holds the values of testdata/sealed-v1.json, described in
// docs/sealed-format.md. It stays for ever: a build that cannot open
// testdata/sealed-v1.bin has broken files in use.
type vector struct {
	ModelKey, FileID                              string
	ChunkKey, ManifestKey, Commitment             string
	SectionDigest1, Chunk1Nonce, Chunk1AAD        string
	Chunk1Plaintext, Chunk1Digest, Root           string
	PublisherSeed, PublisherKey                   string
	BlobSalt, BlobLabel, BlobAAD, BlobPlain, Blob string
}

func makeVector(t *testing.T) (vector, []byte) {
	t.Helper()
	file, sum := writeFile(t, fixedKey(t, 1), fixedID(2), testManifest, testSections(), newSigner(3).sign)
	prk, err := hkdf.Extract(sha256.New, bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32))
	if err != nil {
		t.Fatal(err)
	}
	expand := func(label string) string {
		out, err := hkdf.Expand(sha256.New, prk, label, 32)
		if err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(out)
	}
	section := sectionDigest(fixedID(2), 1, testSections()[1])
	var ctx sealingContext
	ctx.set(&section, 1, 0, 1088)
	r, err := openFile(t, file)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := sealBlobFixed(t)
	if err != nil {
		t.Fatal(err)
	}
	h := hex.EncodeToString
	return vector{
		ModelKey: h(bytes.Repeat([]byte{1}, 32)), FileID: h(bytes.Repeat([]byte{2}, 32)),
		ChunkKey: expand(chunkKeyLabel), ManifestKey: expand(manifestKeyLabel), Commitment: expand(commitmentLabel),
		SectionDigest1: h(section[:]), Chunk1Nonce: h(ctx.nonce[:]), Chunk1AAD: h(ctx.aad[:]),
		Chunk1Plaintext: h(plaintext(1, 1088)), Chunk1Digest: h(r.public.digest(1)), Root: h(sum.Root[:]),
		PublisherSeed: h(bytes.Repeat([]byte{3}, 32)), PublisherKey: h(newSigner(3).Bytes()),
		BlobSalt: h(bytes.Repeat([]byte{4}, 32)), BlobLabel: "label", BlobAAD: h([]byte("aad")), BlobPlain: h([]byte("plaintext")), Blob: h(blob),
	}, file
}

// sealBlobFixed seals as SealBlob does, with a salt that the vector fixes.
func sealBlobFixed(t *testing.T) ([]byte, error) {
	t.Helper()
	salt := bytes.Repeat([]byte{4}, blobSaltSize)
	aead, commitment, err := blobKey(fixedKey(t, 1), "label", salt)
	if err != nil {
		return nil, err
	}
	out := append(append([]byte{blobVersion}, salt...), commitment...)
	return aead.Seal(out, make([]byte, 12), []byte("plaintext"), []byte("aad")), nil
}

const updateEnv = "ANCHORHOLD_UPDATE_VECTORS"

func TestFormatIsTheOneInTheVectors(t *testing.T) {
	have, file := makeVector(t)
	text, err := json.MarshalIndent(have, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	if os.Getenv(updateEnv) != "" {
		if err := os.WriteFile("testdata/sealed-v1.json", text, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("testdata/sealed-v1.bin", file, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/sealed-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, want) {
		t.Errorf("the values are not those of testdata/sealed-v1.json:\n%s", text)
	}
	golden, err := os.ReadFile("testdata/sealed-v1.bin")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(golden, file) {
		t.Error("the file is not byte for byte testdata/sealed-v1.bin")
	}
	if err := readAll(t, golden); err != nil {
		t.Error(err)
	}
}

func TestOldBlobStillOpens(t *testing.T) {
	v, _ := makeVector(t)
	blob, err := hex.DecodeString(v.Blob)
	if err != nil {
		t.Fatal(err)
	}
	got, err := OpenBlob(fixedKey(t, 1), "label", []byte("aad"), blob)
	if err != nil || string(got) != "plaintext" {
		t.Errorf("%q, %v", got, err)
	}
}
