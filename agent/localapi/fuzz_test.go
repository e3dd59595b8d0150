package localapi

import "testing"

func FuzzNonce(f *testing.F) {
	f.Add("00112233445566778899aabbccddeeff")
	f.Add("q6urq6urq6urq6urq6urqw")
	f.Fuzz(func(t *testing.T, s string) {
		if nonce, err := parseNonce(s); err == nil && (len(nonce) < 16 || len(nonce) > 64) {
			t.Errorf("%d bytes", len(nonce))
		}
	})
}
