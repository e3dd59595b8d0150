package keybroker

import (
	"testing"

	"github.com/anchorhold/anchorhold/crypto/identity"
)

// TestAgentKeysAreBoundedAndThemselves keeps more keys than there is room for: what
// comes out is what went in.
func TestAgentKeysAreBoundedAndThemselves(t *testing.T) {
	private, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	defer private.Wipe()
	var a agentKeys
	encoded := private.Public().Bytes()
	for i := range maxAgentKeys + 5 {
		encoded[10], encoded[11] = byte(i), byte(i>>8)
		k, err := identity.ParsePublic(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.known(k); !got.Equal(k) {
			t.Fatalf("key %d became another", i)
		}
		a.put(k)
		if got := a.known(k); !got.Equal(k) {
			t.Fatalf("key %d became another", i)
		}
	}
	if n := len(a.keys); n > maxAgentKeys {
		t.Errorf("%d keys are kept", n)
	}
	if got := a.known(identity.Public{}); !got.IsZero() {
		t.Error("no key became one")
	}
}
