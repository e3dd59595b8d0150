package settings

import (
	"bytes"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
)

func TestReadDERTakesDERAndPEM(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "1"), filepath.Join(dir, "2")
	block := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte("two")})
	for path, data := range map[string][]byte{one: []byte("one"), two: bytes.Repeat(block, 2)} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list, err := ReadDER([]string{one, two})
	if err != nil || len(list) != 3 || string(list[2]) != "two" {
		t.Errorf("%q, %v", list, err)
	}
	if err := os.WriteFile(one, make([]byte, maxFileBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadDER([]string{one}); err == nil {
		t.Error("a file over the limit was read")
	}
}
