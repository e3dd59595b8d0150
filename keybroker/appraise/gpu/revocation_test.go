//go:build !release

package gpu

import (
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/gpusim"
)

// TestRevokedDevicesAreRefusedAtEveryUse: a chain that was verified before is judged by the lists that are held now.
func TestRevokedDevicesAreRefusedAtEveryUse(t *testing.T) {
	g, err := gpusim.New(gpusim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	report, chain, err := g.Collect(asked)
	if err != nil {
		t.Fatal(err)
	}
	list := func(authority int, number int64, revoked bool) []byte {
		t.Helper()
		der, err := g.Revocation(authority, number, noon.Add(-time.Hour), noon.Add(time.Hour), revoked)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	root, identity := list(0, 1, false), list(1, 1, false)
	verifier := func(without bool, lists ...[]byte) *Verifier {
		t.Helper()
		v := &Verifier{}
		if err := v.AllowSoftware(g.RootPEM()); err != nil {
			t.Fatal(err)
		}
		if err := v.Revocation(lists, without); err != nil {
			t.Fatal(err)
		}
		return v
	}
	want := func(name string, v *Verifier, at time.Time, reason refusal.Reason) {
		t.Helper()
		_, err := v.Appraise(t.Context(), Evidence{report, chain}, asked, at)
		if got, _ := refusal.ReasonOf(err); got != reason || (err == nil) != (reason == "") {
			t.Errorf("%s: got %v, want %q", name, err, reason)
		}
	}
	for authority, lists := range [][2][]byte{{list(0, 2, true), identity}, {root, list(1, 2, true)}, {list(2, 2, true), nil}} {
		v := verifier(false, root, identity)
		want("at first", v, noon, "")
		if lists[1] == nil {
			lists[1] = root
		}
		if err := v.SetRevocationLists(lists[:]); err != nil {
			t.Fatal(err)
		}
		want("revoked", v, noon, ReasonRevoked)
		if len(v.ListEnds()) < 2 {
			t.Errorf("authority %d: %v", authority, v.ListEnds())
		}
	}
	v := verifier(false, root, identity)
	want("at first", v, noon, "")
	want("ended", v, noon.Add(2*time.Hour), ReasonRevocationUnknown)
	want("no list of the chip's authority", verifier(false, root), noon, ReasonRevocationUnknown)
	want("no list of the root", verifier(false, identity), noon, ReasonRevocationUnknown)
	want("waived", verifier(true, root), noon, "")
	if err := (&Verifier{}).SetRevocationLists([][]byte{root}); err == nil {
		t.Error("lists were taken by a verifier that was made without any")
	}
	if err := (&Verifier{}).Revocation([][]byte{{1}}, false); err == nil {
		t.Error("a damaged list was taken")
	}
}
