//go:build !release

package tdxsim

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func TestProcessesThatShareADirectoryShareTheRoot(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	a, err := New(Options{Now: now, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(Options{Now: now.AddDate(1, 0, 0), Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if !a.pki.keys.root.Equal(b.pki.keys.root) || !bytes.Equal(a.pki.root.RawSubjectPublicKeyInfo, b.pki.root.RawSubjectPublicKeyInfo) {
		t.Error("two roots")
	}
	if err := a.pki.pck.CheckSignatureFrom(b.pki.platformCA); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, keyFile), []byte("-----"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Now: now, Dir: dir}); err == nil {
		t.Error("keys that cannot be read were taken")
	}
}

func TestOptionsThatNoGuestHasAreRefused(t *testing.T) {
	for _, o := range []Options{{}, {Now: now, Guest: Guest{Version: 3}}, {Now: now, Guest: Guest{Version: 4, BodyType: BodyTD15}}, {Now: now, Guest: Guest{Version: 5, BodyType: 1}}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v was accepted", o.Guest)
		}
	}
}

// Nothing of it can be taken for Intel's.
func TestNamesSayThatItIsNoHardware(t *testing.T) {
	sim, err := New(Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	quote, err := sim.Collect(t.Context(), [64]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(quote, []byte("Intel Corporation")) || sim.pki.root.Subject.Organization[0] != organization || sim.pki.pck.Subject.Organization[0] != organization {
		t.Error("it could be taken for Intel's")
	}
	if quote[48+520] != 1 {
		t.Error("another REPORT_DATA")
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := sim.Collect(ended, [64]byte{}); err == nil {
		t.Error("a quote for nobody")
	}
}

func TestDocumentsAreJSON(t *testing.T) {
	sim, err := New(Options{Now: now, TCBInfo: TCBInfo{Levels: []Level{{Advisories: []string{"INTEL-SA-00001"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := sim.Collateral()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{d.TCBInfo, d.QEIdentity} {
		if !json.Valid(text) {
			t.Errorf("%s", text)
		}
	}
}
