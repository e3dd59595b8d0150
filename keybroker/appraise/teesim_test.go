//go:build !release

package appraise

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/teesim"
	"github.com/anchorhold/anchorhold/packaging/oracletest"
)

// softwareTEE makes guests on one chain.
type softwareTEE struct{ dir string }

// newSoftwareTEE uses the chain that brokertest keeps: making one takes seconds.
func newSoftwareTEE(t *testing.T) softwareTEE {
	t.Helper()
	s := softwareTEE{t.TempDir()}
	chain, err := os.ReadFile(filepath.Join("..", "brokertest", "testdata", "chain.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "chain.pem"), chain, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

var softwareMu sync.Mutex

func (s softwareTEE) collect(t *testing.T, o teesim.Options) (evidence.Envelope, *Verifier) {
	t.Helper()
	softwareMu.Lock()
	defer softwareMu.Unlock()
	o.Dir = s.dir
	tee, err := teesim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	env, err := tee.Collect(t.Context(), bound)
	if err != nil {
		t.Fatal(err)
	}
	v, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.AllowSoftwareTEE(tee.RootsPEM()); err != nil {
		t.Fatal(err)
	}
	return env, v
}

func TestSoftwareTEEIsAppraisedAsHardwareWouldBe(t *testing.T) {
	s := newSoftwareTEE(t)
	for version := uint32(2); version <= 5; version++ {
		for _, o := range []teesim.Options{{}, {VLEK: true}, {MaskChip: true}, {Debug: true, MigrateMA: true, VMPL: 1}} {
			o.Version, o.Measurement = version, [48]byte{1, 47: 2}
			env, v := s.collect(t, o)
			c, err := v.Appraise(t.Context(), env, bound, time.Now())
			if err != nil {
				t.Errorf("version %d, %+v: %v", version, o, err)
				continue
			}
			if !c.SoftwareTEE || c.SNP.ReportVersion != version || c.SNP.VLEK != o.VLEK || c.SNP.ChipMasked != o.MaskChip || c.Debug != o.Debug ||
				c.Migratable != o.MigrateMA || c.SNP.VMPL != o.VMPL || !bytes.Equal(c.SNP.Measurement, o.Measurement[:]) {
				t.Errorf("%+v gave %+v", o, c)
			}
		}
	}
	low := teesim.TCBs{Current: 5, Reported: 5, Committed: 5, Launch: 5}
	env, v := s.collect(t, teesim.Options{TCB: &low})
	_, err := v.Appraise(t.Context(), env, bound, time.Now())
	wantReason(t, err, ReasonTCBMismatch)
	_, err = lenient(t).Appraise(t.Context(), env, bound, time.Now())
	wantReason(t, err, ReasonRoot)
}

// TestGoSEVGuestAcceptsTheSoftwareTEE under this root, and not otherwise.
func TestGoSEVGuestAcceptsTheSoftwareTEE(t *testing.T) {
	o := oracletest.Start(t)
	s := softwareTEE{t.TempDir()} // whose chain is made anew
	for version := uint32(2); version <= 5; version++ {
		for _, vlek := range []bool{false, true} {
			env, v := s.collect(t, teesim.Options{Version: version, VLEK: vlek})
			r := asked(env, time.Now())
			if a := o.SNP(t, r); a.Parse != "" || a.Signature != "" || a.Verify == "" {
				t.Errorf("version %d: go-sev-guest says %q, %q, and under AMD's root %q", version, a.Parse, a.Signature, a.Verify)
			}
			r.Product, r.Roots = "Genoa", true
			a := o.SNP(t, r)
			if a.Verify != "" {
				t.Errorf("version %d, VLEK %t: go-sev-guest says %q", version, vlek, a.Verify)
			}
			if cert, err := v.chainOf(env, signerVCEK); !vlek && (err != nil || genoa.tcb(a.TCB) != cert.key.tcb || !bytes.Equal(a.HWID, cert.key.hwid)) {
				t.Errorf("version %d: the VCEK's statements are read differently: %v", version, err)
			}
			r.Report[0x90] ^= 1
			_, err := v.Appraise(t.Context(), env, bound, time.Now())
			wantReason(t, err, ReasonSignature)
			if o.SNP(t, r).Signature == "" {
				t.Error("go-sev-guest accepts a changed measurement")
			}
		}
	}
}
