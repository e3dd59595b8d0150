package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/classify/classifytest"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/agent/cli/sealed"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
)

// TestModelIDIsWhatReceiptsCarry, of both kinds; and a key that opens another file names
// none.
func TestModelIDIsWhatReceiptsCarry(t *testing.T) {
	c := classifytest.Seal(t, "tiny", 1)
	secret := make([]byte, chunkseal.KeySize)
	if _, err := rand.Read(secret); err != nil {
		t.Fatal(err)
	}
	lm, root := clitest.SealedModel(t, secret)
	for name, tc := range map[string]struct {
		path   string
		secret []byte
		want   string
	}{
		"a classifier":                   {c.Path, c.Secret, c.Model.ID().String()},
		"a language model":               {lm, secret, hex.EncodeToString(root[:])},
		"a classifier and another's key": {c.Path, secret, ""},
		"a model and another's key":      {lm, c.Secret, ""},
		"no sealed file":                 {"main.go", secret, ""},
		"no file":                        {filepath.Join(t.TempDir(), "none"), secret, ""},
	} {
		subject, err := sealed.ID(tc.path, clitest.KeyOf(t, tc.secret))
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

// TestSealPrintsTheIDOfAClassifier: of what it sealed, by what the file holds.
func TestSealPrintsTheIDOfAClassifier(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	model, rows := clitest.SmallClassifier(t)
	key := make([]byte, chunkseal.KeySize)
	rand.Read(key)
	clitest.Write(t, path("key"), string(key))
	clitest.Write(t, path("credential"), strings.Repeat("c", 32))
	if _, status, err := run(t, "keygen", "publisher", "--out", path("publisher"), "--credential-file", path("credential")); status != 0 {
		t.Fatal(err)
	}
	seal := []string{"seal", model, "--calibration", rows, "--out", path("m.ahm"), "--key", path("key"), "--publisher", path("publisher"), "--credential-file", path("credential"), "--name", "m", "--model-version", "1"}
	out, status, err := run(t, append(seal, "--json")...)
	var result struct {
		ModelID string `json:"model_id"`
	}
	if status != 0 || json.Unmarshal([]byte(out), &result) != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if id, err := sealed.IDWith(path("m.ahm"), path("key")); err != nil || id != result.ModelID {
		t.Errorf("sealed as %s, the file holds %s: %v", result.ModelID, id, err)
	}
	if err := os.Remove(path("m.ahm")); err != nil {
		t.Fatal(err)
	}
	out, status, err = run(t, seal...)
	id, failed := sealed.IDWith(path("m.ahm"), path("key"))
	if status != 0 || failed != nil || !strings.Contains(out, "model id  "+id) || !strings.Contains(out, "--model-id ID") {
		t.Errorf("%v, %v\n%s", err, failed, out)
	}
}
