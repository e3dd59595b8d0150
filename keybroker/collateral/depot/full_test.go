//go:build !release

package depot

import (
	"testing"
	"testing/synctest"
)

// TestAFullDirectoryStopsNobody: whoever made the broker fetch certificates until no more are kept keeps neither
// new chips out nor lists old.
func TestAFullDirectoryStopsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		w.store.Bound(0)
		if certs, err := w.VCEK(t.Context(), chip(1)); err != nil || len(certs.VCEK) == 0 || len(certs.ARK) == 0 {
			t.Errorf("a new chip: %v", err)
		}
		if _, err := w.Fetch(t.Context(), key(t, "amd-crl/Milan")); err != nil {
			t.Errorf("a list: %v", err)
		}
		keys, err := w.store.Keys()
		if err != nil || len(keys) != 2 { // the chain and the list
			t.Errorf("kept are %v, %v", keys, err)
		}
	})
}
