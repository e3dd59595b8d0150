//go:build !release

package supply

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/keybroker/collateral/depot"
	"github.com/anchorhold/anchorhold/keybroker/collateral/sourcetest"
)

var (
	bound = [64]byte{1, 63: 2}
	chip  = collateral.Chip{Product: "Genoa", HWID: append([]byte{7}, make([]byte, 63)...), TCB: evidence.TCB{BootLoader: 9, SNP: 23, Microcode: 72}}
)

// snp is an envelope with a report.
func snp(report []byte, more ...evidence.Part) evidence.Envelope {
	return evidence.Envelope{Kind: evidence.KindSNP, Parts: append([]evidence.Part{{Type: evidence.PartSNPReport, Data: report}}, more...)}
}

// world is an appraiser with AMD's service in miniature.
type world struct {
	*Appraiser
	kds   *sourcetest.KDS
	asked int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{kds: sourcetest.NewKDS(t, time.Now())}
	w.kds.Hook = func(*http.Request) (int, http.Header) { w.asked++; return 0, nil }
	v, err := appraise.New(appraise.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.AllowSoftwareTEE(w.kds.RootsPEM()); err != nil {
		t.Fatal(err)
	}
	list, err := collateral.CRLKey("Genoa")
	if err != nil {
		t.Fatal(err)
	}
	d, err := depot.Open(depot.Options{Dir: t.TempDir(), AMD: v, Transport: w.kds, Wanted: []collateral.Key{list}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	if w.Appraiser, err = New(v, d, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestAHostWithoutCertificatesCanAttest: the depot fetches them once.
func TestAHostWithoutCertificatesCanAttest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		env := snp(w.kds.Report(chip, bound))
		for range 3 {
			c, err := w.Appraise(t.Context(), env, bound, time.Now())
			if err != nil || c.Platform != "Genoa" || !c.SoftwareTEE {
				t.Fatalf("%+v, %v", c, err)
			}
		}
		if w.asked != 2 || len(env.Parts) != 1 {
			t.Errorf("asked %d times, want chain and certificate once; the caller's envelope has %d parts", w.asked, len(env.Parts))
		}
		env.Parts[0].Data[0x2a0] ^= 1
		_, err := w.Appraise(t.Context(), env, bound, time.Now())
		refusaltest.Want(t, "a changed signature", err, appraise.ReasonSignature)
	})
}

// TestNothingIsFetchedForWhatIsRefusedAnyway: replayed reports, other kinds, VLEKs, masked chips,
// version 2, and evidence that brings a certificate.
func TestNothingIsFetchedForWhatIsRefusedAnyway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		good := func() []byte { return w.kds.Report(chip, bound) }
		change := func(f func([]byte)) []byte { r := good(); f(r); return r }
		for what, c := range map[string]struct {
			env    evidence.Envelope
			reason refusal.Reason
		}{
			"another nonce":       {snp(w.kds.Report(chip, [64]byte{9})), appraise.ReasonReportData},
			"another kind":        {evidence.Envelope{Kind: evidence.KindTDX, Parts: snp(good()).Parts}, appraise.ReasonKind},
			"a VLEK":              {snp(change(func(r []byte) { r[0x48] |= 1 << 2 })), appraise.ReasonCertificateMissing},
			"a masked chip":       {snp(change(func(r []byte) { r[0x48] |= 2 })), appraise.ReasonCertificateMissing},
			"version 2":           {snp(change(func(r []byte) { r[0], r[0x188], r[0x189] = 2, 0, 0 })), appraise.ReasonCertificateMissing},
			"an unknown product":  {snp(change(func(r []byte) { r[0x188] = 0x17 })), appraise.ReasonCertificateMissing},
			"a reserved version":  {snp(change(func(r []byte) { r[0x183] = 1 })), appraise.ReasonCertificateMissing},
			"cut short":           {snp(good()[:100]), appraise.ReasonReportSize},
			"a certificate of it": {snp(good(), evidence.Part{Type: evidence.EndorsementVCEK, Data: []byte{1}}), appraise.ReasonCertificate},
		} {
			_, err := w.Appraise(t.Context(), c.env, bound, time.Now())
			refusaltest.Want(t, what, err, c.reason)
		}
		if w.asked != 0 {
			t.Errorf("asked %d times", w.asked)
		}
	})
}

// TestASlowSourceDoesNotHoldTheGuest, who asks again and finds what was fetched meanwhile.
func TestASlowSourceDoesNotHoldTheGuest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.kds.Hook = func(*http.Request) (int, http.Header) { time.Sleep(15 * time.Second); return 0, nil }
		env := snp(w.kds.Report(chip, bound))
		start := time.Now()
		_, err := w.Appraise(t.Context(), env, bound, time.Now())
		if refusaltest.Want(t, "at first", err, collateral.ReasonUnavailable); time.Since(start) > Wait+time.Second {
			t.Errorf("waited %s", time.Since(start))
		}
		time.Sleep(time.Minute)
		if _, err := w.Appraise(t.Context(), env, bound, time.Now()); err != nil {
			t.Error(err)
		}
	})
}

// TestRevocationListsReachTheVerifier while it runs: a revoked authority is refused within minutes
// of the list's renewal.
func TestRevocationListsReachTheVerifier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.kds.ListEvery, w.kds.ListLife = 6*time.Hour, 12*time.Hour
		env := snp(w.kds.Report(chip, bound))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx) }()
		time.Sleep(listsEvery / 2) // at once, not when other processes are looked after
		if ends := w.Ends(); len(ends) == 0 || ends[0].Kind != "revocation_list" {
			t.Errorf("%+v", ends)
		}
		// A host may hand out the chip's certificate alone: the authorities were fetched.
		alone := snp(env.Parts[0].Data, evidence.Part{Type: evidence.EndorsementVCEK, Data: w.kds.VCEK(chip)})
		if _, err := w.Appraise(t.Context(), alone, bound, time.Now()); err != nil {
			t.Error(err)
		}
		if _, err := w.Appraise(t.Context(), env, bound, time.Now()); err != nil {
			t.Error(err)
		}
		w.kds.RevokeASK()
		time.Sleep(13 * time.Hour)
		_, err := w.Appraise(t.Context(), env, bound, time.Now())
		refusaltest.Want(t, "revoked", err, appraise.ReasonRevoked)
		if st, err := w.Status(); err != nil || st.Certificates != 1 || len(st.Items) != 2 {
			t.Errorf("%+v, %v", st, err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
