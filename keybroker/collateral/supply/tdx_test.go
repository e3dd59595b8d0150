//go:build !release

package supply

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/tdxsim"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tdx"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/keybroker/collateral/depot"
	"github.com/anchorhold/anchorhold/keybroker/collateral/intel"
	"github.com/anchorhold/anchorhold/keybroker/collateral/store"
)

// put puts what an emulated Intel publishes now into a directory.
func put(t *testing.T, dir, keys string, evaluation uint32) *tdxsim.TDX {
	t.Helper()
	td, err := tdxsim.New(tdxsim.Options{Now: time.Now(), Dir: keys,
		TCBInfo: tdxsim.TCBInfo{Document: tdxsim.Document{EvaluationNumber: evaluation}}, QE: tdxsim.QEIdentity{Document: tdxsim.Document{EvaluationNumber: evaluation}}})
	if err != nil {
		t.Fatal(err)
	}
	docs, err := td.Collateral()
	if err != nil {
		t.Fatal(err)
	}
	key, err := collateral.Platform{FMSPC: td.FMSPC(), CA: collateral.CAPlatform, Update: collateral.UpdateStandard}.Key()
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(collateral.Item{Key: key, Fetched: time.Now(), Documents: collateral.TDXDocuments(docs).Documents()}); err != nil {
		t.Fatal(err)
	}
	return td
}

// TestNewDocumentsAreTakenOverWithinAMinute: a broker is not started anew for a TCB recovery, and
// what has not changed is not parsed again.
func TestNewDocumentsAreTakenOverWithinAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, keys := t.TempDir(), t.TempDir()
		td := put(t, dir, keys, 18)
		roots, err := tdx.SoftwareRoots(td.RootsPEM())
		if err != nil {
			t.Fatal(err)
		}
		d, err := depot.Open(depot.Options{Dir: dir, Offline: true, TDX: intel.Check(roots)})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		p := NewTDX(d, roots)
		first, err := p.Lookup(td.FMSPC(), tdx.PlatformCA)
		if err != nil || first.EvaluationNumber() != 18 {
			t.Fatal(first, err)
		}
		time.Sleep(freshFor)
		if same, err := p.Lookup(td.FMSPC(), tdx.PlatformCA); err != nil || same != first {
			t.Error("parsed again:", err)
		}
		put(t, dir, keys, 19)
		if soon, err := p.Lookup(td.FMSPC(), tdx.PlatformCA); err != nil || soon != first {
			t.Error("the directory was read within a minute:", err)
		}
		time.Sleep(freshFor)
		if next, err := p.Lookup(td.FMSPC(), tdx.PlatformCA); err != nil || next.EvaluationNumber() != 19 {
			t.Error(next, err)
		}
		_, err = p.Lookup([6]byte{1}, tdx.PlatformCA)
		if reason, _ := refusal.ReasonOf(err); reason != collateral.ReasonMissing {
			t.Error(err)
		}
		if _, err := NewTDX(d, tdx.Roots{}).Lookup(td.FMSPC(), tdx.PlatformCA); err == nil {
			t.Error("documents of an emulator were taken without its root")
		}
	})
}
