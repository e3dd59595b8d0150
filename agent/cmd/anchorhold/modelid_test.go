package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/prooftest"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/runtime/onnx/onnxtest"
)

func keyOf(t *testing.T, secret []byte) *keybuf.Buffer {
	t.Helper()
	k, err := keybuf.Take(bytes.Clone(secret))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

// sealedMetadata is a file as language models have it, without a model in it, and its root.
func sealedMetadata(t *testing.T, secret []byte) (path string, root [32]byte) {
	t.Helper()
	publisher, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	defer publisher.Wipe()
	path = filepath.Join(t.TempDir(), "lm.ahm")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, 64)
	w, err := chunkseal.NewWriter(f, keyOf(t, secret), chunkseal.Manifest{Name: "lm", Version: 1},
		[]chunkseal.Section{{Name: "header", Kind: chunkseal.KindMetadata, Rows: 1, Cols: 64, Chunks: 1, ChunkBytes: 64, LastBytes: 64}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.WriteChunk(data); err != nil {
		t.Fatal(err)
	}
	s, err := w.Close(func(root []byte) ([]byte, []byte, error) {
		sig, err := publisher.Sign(chunkseal.SignContext, root)
		return publisher.Public().Bytes(), sig, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return path, s.Root
}

// TestModelIDIsWhatReceiptsCarry, of both kinds; and a key that opens another file names
// none.
func TestModelIDIsWhatReceiptsCarry(t *testing.T) {
	c := prooftest.Seal(t, "tiny", 1)
	secret := make([]byte, chunkseal.KeySize)
	if _, err := rand.Read(secret); err != nil {
		t.Fatal(err)
	}
	lm, root := sealedMetadata(t, secret)
	for name, tc := range map[string]struct {
		path   string
		secret []byte
		want   string
	}{
		"a classifier":                   {c.Path, c.Secret, c.Model.ID().String()},
		"a language model":               {lm, secret, hex.EncodeToString(root[:])},
		"a classifier and another's key": {c.Path, secret, ""},
		"a model and another's key":      {lm, c.Secret, ""},
		"no sealed file":                 {"modelid.go", secret, ""},
		"no file":                        {filepath.Join(t.TempDir(), "none"), secret, ""},
	} {
		subject, err := keySubject(keyOf(t, tc.secret), tc.path, "")
		if (err == nil) != (tc.want != "") || tc.want != "" && subject.String() != tc.want {
			t.Errorf("%s: %s, %v", name, subject, err)
		}
	}
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, c.Secret, 0o600); err != nil {
		t.Fatal(err)
	}
	out, status, err := run(t, "inspect", c.Path, "--key", key, "--json")
	var shown struct {
		ModelID string `json:"model_id"`
		Root    string `json:"root"`
	}
	if json.Unmarshal([]byte(out), &shown) != nil || status != 0 || shown.ModelID != c.Model.ID().String() || shown.Root == shown.ModelID {
		t.Errorf("inspect: %v\n%s", err, out)
	}
	if out, status, _ := run(t, "inspect", c.Path); status != 0 || strings.Contains(out, c.Model.ID().String()) || !strings.Contains(out, "give --key") {
		t.Errorf("inspect without the key: %s", out)
	}
}

func TestKeyOfNoStatedModel(t *testing.T) {
	id := strings.Repeat("ab", 32)
	if s, err := keySubject(nil, "", id); err != nil || s.String() != id {
		t.Errorf("%s, %v", s, err)
	}
	if s, err := keySubject(nil, "", ""); err != nil || s != (keystore.Subject{}) {
		t.Errorf("%s, %v", s, err)
	}
	for _, bad := range [][2]string{{"file", id}, {"", "ab"}, {"", strings.Repeat("0", 64)}} {
		if _, err := keySubject(nil, bad[0], bad[1]); exitCode(err) != exitUsage {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for text, m := range map[string]keystore.Meta{"": {Kind: "queue"}, ", for no stated model": {Kind: kindModelKey}, ", for model " + id: {Kind: kindModelKey, Subject: keystore.Subject(bytes.Repeat([]byte{0xab}, 32))}} {
		if got := subjectText(m); got != text {
			t.Errorf("%+v: %q", m, got)
		}
	}
}

// smallClassifier is an ONNX file and rows for its calibration.
func smallClassifier(t *testing.T) (model, rows string) {
	t.Helper()
	dir := t.TempDir()
	m := onnxtest.Graph([]onnxtest.Message{onnxtest.Value("x", 1, 0, 3)},
		[]onnxtest.Message{onnxtest.Node("Gemm", []string{"x", "w", "b"}, []string{"y"}, onnxtest.Attributes{"transB": 1})},
		[]onnxtest.Message{onnxtest.Floats("w", []int64{2, 3}, 1, 2, 3, 4, 5, 6), onnxtest.Floats("b", []int64{2}, 5, 10)}, []string{"y"}).Model()
	return write(t, filepath.Join(dir, "m.onnx"), string(m)), write(t, filepath.Join(dir, "rows.csv"), "1,0,2\n0,1,1\n-1,2,0\n")
}

// TestSealPrintsTheIDOfAClassifier: of what it sealed, by what the file holds.
func TestSealPrintsTheIDOfAClassifier(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	model, rows := smallClassifier(t)
	key := make([]byte, chunkseal.KeySize)
	rand.Read(key)
	write(t, path("key"), string(key))
	write(t, path("credential"), strings.Repeat("c", 32))
	if _, status, err := run(t, "keygen", "publisher", "--out", path("publisher"), "--credential-file", path("credential")); status != 0 {
		t.Fatal(err)
	}
	seal := []string{"seal", model, "--calibration", rows, "--out", path("m.ahm"), "--key", path("key"), "--publisher", path("publisher"), "--credential-file", path("credential"), "--name", "m", "--model-version", "1"}
	out, status, err := run(t, append(seal, "--json")...)
	var sealed struct {
		ModelID string `json:"model_id"`
	}
	if status != 0 || json.Unmarshal([]byte(out), &sealed) != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if id, err := modelIDWith(path("m.ahm"), path("key")); err != nil || id != sealed.ModelID {
		t.Errorf("sealed as %s, the file holds %s: %v", sealed.ModelID, id, err)
	}
	if err := os.Remove(path("m.ahm")); err != nil {
		t.Fatal(err)
	}
	out, status, err = run(t, seal...)
	id, failed := modelIDWith(path("m.ahm"), path("key"))
	if status != 0 || failed != nil || !strings.Contains(out, "model id  "+id) || !strings.Contains(out, "--model-id ID") {
		t.Errorf("%v, %v\n%s", err, failed, out)
	}
}

// The account of a sealed model is that of its publisher and name, and what is sent to the
// broker is the file without its chunks.
func TestAccountOfASealedModel(t *testing.T) {
	path, root := sealedMetadata(t, make([]byte, chunkseal.KeySize))
	part, account, err := sealedPart(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := chunkseal.InspectPart(part)
	if err != nil || p.Root != root {
		t.Fatalf("%+v, %v", p, err)
	}
	publisher, err := identity.ParsePublic(p.Publisher)
	if err != nil || account != federation.SealedAccount(federation.Digest(publisher.ID()), "lm") || p.Verify(publisher) != nil {
		t.Errorf("%s, %v", account, err)
	}
	if _, _, err := sealedPart("modelid.go"); err == nil {
		t.Error("no sealed model has an account")
	}
	if _, status, _ := run(t, "fed", "ledger", "broker", "--sealed", path); status == 0 {
		t.Error("two accounts at once were taken")
	}
}
