package chunkseal_test

import (
	"testing"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/keybuf/keybuftest"
)

func TestKeysLeaveNoCopy(t *testing.T) {
	if !keybuftest.Alone(t) {
		return
	}
	key, err := keybuf.Random(chunkseal.KeySize)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Wipe()
	for range 10 {
		sealed, err := chunkseal.SealBlob(key, "label", nil, []byte("a secret"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := chunkseal.OpenBlob(key, "label", nil, sealed); err != nil {
			t.Fatal(err)
		}
		if ok, err := (chunkseal.Lock{FileID: [32]byte{1}}).Opens(key); ok || err != nil {
			t.Fatalf("it opens a file that there is not (%v)", err)
		}
	}
	if found := keybuftest.Copies(t, key); len(found) > 0 {
		t.Errorf("the key is in memory %d times: %q", len(found), found)
	}
}
