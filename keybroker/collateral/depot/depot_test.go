//go:build !release

package depot

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/keybroker/collateral/sourcetest"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// verifier believes a KDS of a test.
func verifier(tb testing.TB, kds *sourcetest.KDS) *appraise.Verifier {
	tb.Helper()
	v, err := appraise.New(appraise.Options{WithoutRevocation: true})
	if err != nil {
		tb.Fatal(err)
	}
	if err := v.AllowSoftwareTEE(kds.RootsPEM()); err != nil {
		tb.Fatal(err)
	}
	return v
}

func chip(n int) collateral.Chip {
	hwid := bytes.Repeat([]byte{0xab}, 64)
	binary.BigEndian.PutUint32(hwid, uint32(n))
	return collateral.Chip{Product: "Milan", HWID: hwid, TCB: evidence.TCB{BootLoader: 4, SNP: 24, Microcode: 219}}
}

func platform() collateral.Platform {
	return collateral.Platform{FMSPC: [6]byte{0x90, 0xc0, 0x6f}, CA: collateral.CAPlatform, Update: collateral.UpdateStandard}
}

func key(tb testing.TB, text string) collateral.Key {
	tb.Helper()
	k, err := collateral.ParseKey(text)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func open(tb testing.TB, o Options) *Depot {
	tb.Helper()
	d, err := Open(o)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// world is a depot with its sources.
type world struct {
	*Depot
	kds *sourcetest.KDS
	pcs *sourcetest.PCS
}

func newWorld(tb testing.TB, o Options) world {
	tb.Helper()
	begin := time.Now().Truncate(time.Second)
	w := world{kds: sourcetest.NewKDS(tb, begin), pcs: sourcetest.NewPCS(tb, begin)}
	if o.Dir == "" {
		o.Dir = tb.TempDir()
	}
	o.AMD, o.TDX = verifier(tb, w.kds), w.pcs.Check
	o.Transport = sourcetest.Hosts{"kdsintf.amd.com": w.kds, "api.trustedservices.intel.com": w.pcs, "certificates.trustedservices.intel.com": w.pcs}
	w.Depot = open(tb, o)
	tb.Cleanup(w.Close)
	return w
}

func wantReason(tb testing.TB, err error, want refusal.Reason) {
	tb.Helper()
	got, _ := refusal.ReasonOf(err)
	if got != want || (err == nil) != (want == "") {
		tb.Errorf("got %v, want %q", err, want)
	}
}

// TestFiveHundredColdChipsAreServedOnce from a service that throttles as AMD's does: the fifth
// request in ten minutes is refused, and asking again early helps nobody.
func TestFiveHundredColdChipsAreServedOnce(t *testing.T) {
	longtest.Arithmetic(t, "a service signs 500 certificates with RSA-4096")
	coldChips(t, 500)
}

// TestColdChipsAreServedOnce is the same with fewer.
func TestColdChipsAreServedOnce(t *testing.T) { coldChips(t, 50) }

func coldChips(t *testing.T, chips int) {
	synctest.Test(t, func(t *testing.T) {
		const most, window = 4, 10 * time.Minute
		w := newWorld(t, Options{})
		throttle := sourcetest.Throttle(most, window)
		refused := atomic.Int64{}
		w.kds.Hook = func(r *http.Request) (int, http.Header) {
			status, header := throttle(r)
			if status != 0 {
				refused.Add(1)
			}
			return status, header
		}
		start := time.Now()
		var all sync.WaitGroup
		for n := range chips * 3 { // each guest's agent asks three times
			all.Go(func() {
				got, err := w.VCEK(t.Context(), chip(n%chips))
				if err != nil {
					t.Errorf("chip %d: %v", n%chips, err)
				} else if len(got.VCEK) == 0 || len(got.ASK) == 0 || len(got.ARK) == 0 {
					t.Errorf("chip %d: no certificates", n%chips)
				}
			})
		}
		all.Wait()
		took, best := time.Since(start), window*time.Duration(chips+1)/most
		t.Logf("%d chips took %s; the service's own limit is %s; %d requests were refused", chips, took, best, refused.Load())
		if took > best*3/2 {
			t.Errorf("took %s, want at most half more than the service's limit of %s", took, best)
		}
		served := w.kds.Served()
		if len(served) != chips+1 {
			t.Errorf("%d documents were served, want %d", len(served), chips+1)
		}
		for u, n := range served {
			if n != 1 {
				t.Errorf("%s was served %d times", u, n)
			}
		}
		if limit := int64(chips/4 + 1); refused.Load() > limit {
			t.Errorf("%d requests were refused, want at most %d", refused.Load(), limit)
		}
		// From now on nobody is asked.
		for n := range chips {
			if _, err := w.VCEK(t.Context(), chip(n)); err != nil {
				t.Fatal(err)
			}
		}
		if again := w.kds.Served(); len(again) != chips+1 {
			t.Error("kept certificates were fetched again")
		}
	})
}

// TestAYearWithoutAnOutage: lists of 30 days that are issued anew each 20, Intel's documents of 30
// days issued daily, and sources that fail on one day in five. At no hour is anything missing or
// ended.
func TestAYearWithoutAnOutage(t *testing.T) {
	longtest.Arithmetic(t, "lists are fetched and verified for a year")
	withoutOutage(t, 365)
}

// TestFiveWeeksWithoutAnOutage is the same for less time: longer than a list lasts.
func TestFiveWeeksWithoutAnOutage(t *testing.T) { withoutOutage(t, 35) }

func withoutOutage(t *testing.T, days int) {
	synctest.Test(t, func(t *testing.T) {
		const day = 24 * time.Hour
		tdx, err := platform().Key()
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, Options{Wanted: []collateral.Key{key(t, "amd-crl/Milan"), key(t, "amd-crl/Genoa"), tdx}, Poll: 6 * time.Hour})
		w.kds.ListLife, w.kds.ListEvery = 30*day, 20*day
		begin := time.Now()
		fails := func(r *http.Request) (int, http.Header) {
			if n := int(time.Since(begin) / day); n%5 == 4 {
				return []int{http.StatusInternalServerError, http.StatusServiceUnavailable, http.StatusTooManyRequests}[n%3], nil
			}
			return 0, nil
		}
		w.kds.Hook, w.pcs.Hook = fails, fails
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx) }()
		time.Sleep(time.Minute)
		for range days * 2 {
			time.Sleep(12 * time.Hour)
			if lists, err := w.RevocationLists(); err != nil || len(lists) != 2 {
				t.Fatalf("after %s: %d lists, %v", time.Since(begin), len(lists), err)
			}
			it, err := w.store.Get(tdx)
			if err == nil {
				err = w.current(it)
			}
			if err != nil {
				t.Fatalf("after %s: %v", time.Since(begin), err)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for u, n := range w.kds.Served() {
			if strings.HasSuffix(u, "/crl") && (n < days*2/3 || n > days*3/2) {
				t.Errorf("%s was asked for %d times in %d days", u, n, days)
			}
		}
	})
}

// TestTheLastGoodListStays when the source rolls back, serves garbage, an ended list, or one of
// another root; each is refused with its reason and shown.
func TestTheLastGoodListStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		other := sourcetest.NewKDS(t, time.Now()) // of the same keys: only what is served differs
		k := key(t, "amd-crl/Milan")
		now := time.Now()
		serve := func(der []byte) {
			w.kds.Spoil = func(path string, body []byte) []byte {
				if strings.HasSuffix(path, "/crl") && der != nil {
					return der
				}
				return body
			}
		}
		list := func(number int64, from, to time.Duration) []byte {
			return other.List("Milan", number, now.Add(from), now.Add(to))
		}
		const day = 24 * time.Hour
		serve(list(7, -day, 30*day))
		first, err := w.Fetch(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		foreign := list(8, 0, 30*day)
		foreign[len(foreign)-1] ^= 1
		for name, c := range map[string]struct {
			der    []byte
			reason refusal.Reason
		}{
			"a lower number, issued later":   {list(6, 0, 30*day), collateral.ReasonRollback},
			"a higher number, issued sooner": {list(8, -2*day, 30*day), collateral.ReasonRollback},
			"another of the same number":     {list(7, -day, 40*day), collateral.ReasonConflict},
			"one of another product":         {other.List("Genoa", 9, now, now.Add(day)), collateral.ReasonSignature},
			"one with a changed signature":   {foreign, collateral.ReasonSignature},
			"garbage":                        {[]byte("<html>"), collateral.ReasonSignature},
			"one that has not begun":         {list(8, day, 30*day), collateral.ReasonSignature},
			"one that ended":                 {list(8, -12*time.Hour, -time.Hour), collateral.ReasonStale},
		} {
			serve(c.der)
			_, err := w.Fetch(t.Context(), k)
			if got, _ := refusal.ReasonOf(err); got != c.reason {
				t.Errorf("%s: got %v, want %q", name, err, c.reason)
			}
			if kept, err := w.store.Get(k); err != nil || !bytes.Equal(kept.Documents[0], first.Documents[0]) {
				t.Errorf("%s: the kept list is gone: %v", name, err)
			}
			st, err := w.Status()
			if err != nil || len(st.Items) == 0 || st.Items[len(st.Items)-1].Reason != string(c.reason) {
				t.Errorf("%s: the status says %+v, %v", name, st, err)
			}
		}
		// Also across a restart.
		again := open(t, Options{Dir: w.opts.Dir, AMD: w.opts.AMD, Transport: w.opts.Transport})
		defer again.Close()
		serve(list(6, 0, 30*day))
		_, err = again.Fetch(t.Context(), k)
		wantReason(t, err, collateral.ReasonRollback)
		serve(list(8, 0, 30*day))
		if _, err = again.Fetch(t.Context(), k); err != nil {
			t.Error(err)
		}
		if a := again.store.Attempts(); len(a) != 0 {
			t.Errorf("after a success: %v", a)
		}
	})
}

// TestACertificateOfAnotherChipIsRefused, of another version, and one that no pinned root signed.
func TestACertificateOfAnotherChipIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		otherTCB := chip(1)
		otherTCB.TCB.SNP++
		wrong := w.kds.VCEK(chip(1))
		wrong[len(wrong)-1] ^= 1
		for name, c := range map[string]struct {
			der    []byte
			reason refusal.Reason
		}{
			"another chip":         {w.kds.VCEK(chip(2)), collateral.ReasonMismatch},
			"another version":      {w.kds.VCEK(otherTCB), collateral.ReasonMismatch},
			"a changed signature":  {wrong, collateral.ReasonSignature},
			"a page for a browser": {[]byte("<html>please wait</html>"), collateral.ReasonSignature},
		} {
			w.kds.Spoil = func(path string, body []byte) []byte {
				if strings.Contains(path, "cert_chain") {
					return body
				}
				return c.der
			}
			_, err := w.VCEK(t.Context(), chip(1))
			if got, _ := refusal.ReasonOf(err); got != c.reason {
				t.Errorf("%s: got %v, want %q", name, err, c.reason)
			}
			time.Sleep(time.Minute) // failures are remembered for less
		}
		if st, err := w.Status(); err != nil || st.Certificates != 0 {
			t.Errorf("stored %d, %v", st.Certificates, err)
		}
		w.kds.Spoil = nil
		if _, err := w.VCEK(t.Context(), chip(1)); err != nil {
			t.Error(err)
		}
	})
}

// TestChainsOfOthersAreRefused: ASVK for ASK, another product's, one that is not pinned.
func TestChainsOfOthersAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		for name, chain := range map[string][]byte{
			"the other signer's": w.kds.Chain("Milan", true), "another product's": w.kds.Chain("Genoa", false),
			"half": w.kds.Chain("Milan", false)[:1000], "with text between": append([]byte("x\n"), w.kds.Chain("Milan", false)...),
		} {
			w.kds.Spoil = func(string, []byte) []byte { return chain }
			if _, err := w.Fetch(t.Context(), key(t, "amd-chain/Milan/vcek")); err == nil {
				t.Errorf("%s was accepted", name)
			}
		}
		w.kds.Spoil = nil
		strict, err := appraise.New(appraise.Options{})
		if err != nil {
			t.Fatal(err)
		}
		d := open(t, Options{Dir: t.TempDir(), AMD: strict, Transport: w.opts.Transport})
		defer d.Close()
		_, err = d.Fetch(t.Context(), key(t, "amd-chain/Milan/vcek"))
		wantReason(t, err, collateral.ReasonSignature)
		for _, k := range []string{"amd-chain/Milan/vcek", "amd-chain/Turin/vlek", "amd-crl/Turin"} {
			if _, err := w.Fetch(t.Context(), key(t, k)); err != nil {
				t.Errorf("%s: %v", k, err)
			}
		}
	})
}

// TestWhoGivesUpWaitingStopsNobody: the flight goes on without its first caller, and a later one
// finds what it brought.
func TestWhoGivesUpWaitingStopsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		w.kds.Hook = func(*http.Request) (int, http.Header) {
			time.Sleep(10 * time.Second)
			return 0, nil
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := w.VCEK(impatient, chip(1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if _, err := w.VCEK(t.Context(), chip(1)); err != nil {
			t.Error(err)
		}
		for u, n := range w.kds.Served() {
			if n != 1 {
				t.Errorf("%s was served %d times", u, n)
			}
		}
	})
}

// TestUnknownChipsCostOneRequest for minutes, and a new certificate is found after them.
func TestUnknownChipsCostOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		known, asked := false, 0
		w.kds.Hook = func(r *http.Request) (int, http.Header) {
			if strings.HasSuffix(r.URL.Path, "cert_chain") {
				return 0, nil
			}
			if asked++; known {
				return 0, nil
			}
			return http.StatusNotFound, nil
		}
		for range 50 {
			_, err := w.VCEK(t.Context(), chip(1))
			wantReason(t, err, collateral.ReasonUnknown)
		}
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
		known = true
		time.Sleep(unknownFor + time.Second)
		if _, err := w.VCEK(t.Context(), chip(1)); err != nil {
			t.Error(err)
		}
	})
}

// TestAnEndedListIsUsedInGraceAlone, and only until its date.
func TestAnEndedListIsUsedInGraceAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		if _, err := w.Fetch(t.Context(), key(t, "amd-crl/Milan")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(w.kds.ListLife + time.Hour)
		count := func(g Grace) int {
			d := open(t, Options{Dir: w.opts.Dir, AMD: w.opts.AMD, Offline: true, Grace: g})
			defer d.Close()
			lists, err := d.RevocationLists()
			if err != nil {
				t.Fatal(err)
			}
			return len(lists)
		}
		now := time.Now()
		if n := count(Grace{}); n != 0 {
			t.Errorf("%d ended lists without a grace", n)
		}
		if n := count(Grace{now.Add(time.Hour), "AMD's service is down"}); n != 1 {
			t.Errorf("%d lists in grace", n)
		}
		if n := count(Grace{now.Add(-time.Hour), "AMD's service is down"}); n != 0 {
			t.Errorf("%d lists after the grace", n)
		}
		for _, g := range []Grace{{Until: now.Add(time.Hour)}, {Reason: "for ever"}} {
			if _, err := Open(Options{Dir: w.opts.Dir, Grace: g}); err == nil {
				t.Errorf("%+v was taken", g)
			}
		}
	})
}

// TestNothingIsBelievedWithoutVerifiers: nil never means unchecked.
func TestNothingIsBelievedWithoutVerifiers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		d := open(t, Options{Dir: t.TempDir(), Transport: w.opts.Transport})
		defer d.Close()
		_, err := d.TDX(t.Context(), platform())
		wantReason(t, err, collateral.ReasonUnverifiable)
		for _, k := range []string{"amd-chain/Milan/vcek", "amd-crl/Milan"} {
			_, err := d.Fetch(t.Context(), key(t, k))
			wantReason(t, err, collateral.ReasonUnverifiable)
		}
		_, err = d.VCEK(t.Context(), chip(1))
		wantReason(t, err, collateral.ReasonUnverifiable)
		if keys, err := d.store.Keys(); err != nil || len(keys) != 0 {
			t.Errorf("stored %v, %v", keys, err)
		}
	})
}

// TestIntelsDocumentsAreNeverRolledBack: what is older gives way to what is kept, also to what
// another platform brought, and the rest is renewed.
func TestIntelsDocumentsAreNeverRolledBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		clock := time.Now()
		w.pcs.At = func() time.Time { return clock }
		time.Sleep(48 * time.Hour)
		if _, err := w.TDX(t.Context(), platform()); err != nil {
			t.Fatal(err)
		}
		clock = time.Now()
		k, err := platform().Key()
		if err != nil {
			t.Fatal(err)
		}
		newer, err := w.Fetch(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		// The source goes back a day, for this platform and for one that was never seen.
		clock = time.Now().Add(-24 * time.Hour)
		_, err = w.Fetch(t.Context(), k)
		wantReason(t, err, collateral.ReasonRollback)
		kept, err := w.TDX(t.Context(), platform())
		if err != nil || !bytes.Equal(kept.TCBInfo, newer.TDX().TCBInfo) || !bytes.Equal(kept.QEIdentity, newer.TDX().QEIdentity) {
			t.Errorf("the kept documents were replaced: %v", err)
		}
		other := platform()
		other.FMSPC[0]++
		got, err := w.TDX(t.Context(), other)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.RootCRL, kept.RootCRL) || !bytes.Equal(got.QEIdentity, kept.QEIdentity) || bytes.Equal(got.TCBInfo, kept.TCBInfo) {
			t.Error("the new platform has older shared documents than the kept one")
		}
		w.pcs.Evaluation--
		clock = time.Now()
		_, err = w.Fetch(t.Context(), k)
		wantReason(t, err, collateral.ReasonRollback)
	})
}

// TestUnsignedIntelDocumentsAreNotStored.
func TestUnsignedIntelDocumentsAreNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		w.opts.TDX = func(collateral.Platform, collateral.TDXDocuments, time.Time) error { return errors.New("not signed") }
		_, err := w.TDX(t.Context(), platform())
		wantReason(t, err, collateral.ReasonSignature)
		if keys, err := w.store.Keys(); err != nil || len(keys) != 0 {
			t.Errorf("stored %v, %v", keys, err)
		}
	})
}

// TestADamagedCertificateIsFetchedAnew.
func TestADamagedCertificateIsFetchedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		first, err := w.VCEK(t.Context(), chip(1))
		if err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(w.opts.Dir, "amd-vcek_*"))
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		raw, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, change := range []func() []byte{
			func() []byte { return raw[:len(raw)-10] },
			func() []byte { b := bytes.Clone(raw); b[len(b)-1] ^= 1; return b },
			func() []byte { return nil },
		} {
			if err := os.WriteFile(files[0], change(), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := w.VCEK(t.Context(), chip(1))
			if err != nil || len(got.VCEK) != len(first.VCEK) && len(got.VCEK) == 0 {
				t.Errorf("got %d bytes, %v", len(got.VCEK), err)
			}
			if it, err := w.store.Get(mustKey(t, chip(1))); err != nil || w.verify(it) != nil {
				t.Errorf("what is kept now does not verify: %v", err)
			}
		}
	})
}

func mustKey(tb testing.TB, c collateral.Chip) collateral.Key {
	tb.Helper()
	k, err := c.Key()
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// TestAnOfflineDepotAsksNobody.
func TestAnOfflineDepotAsksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{Offline: true, Wanted: []collateral.Key{key(t, "amd-crl/Milan")}})
		w.kds.Hook = func(r *http.Request) (int, http.Header) {
			t.Errorf("asked for %s", r.URL)
			return 0, nil
		}
		_, err := w.VCEK(t.Context(), chip(1))
		wantReason(t, err, collateral.ReasonMissing)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
	})
}
