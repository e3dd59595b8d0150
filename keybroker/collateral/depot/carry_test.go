//go:build !release

package depot

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/keybroker/collateral/bundle"
)

func signer(tb testing.TB) *identity.Private {
	tb.Helper()
	k, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(k.Wipe)
	return k
}

// filled has an item of each kind.
func filled(t *testing.T) world {
	w := newWorld(t, Options{})
	for _, k := range []string{"amd-crl/Milan", "amd-chain/Genoa/vlek"} {
		if _, err := w.Fetch(t.Context(), key(t, k)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.VCEK(t.Context(), chip(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.TDX(t.Context(), platform()); err != nil {
		t.Fatal(err)
	}
	return w
}

func exported(t *testing.T, w world, by *identity.Private) []byte {
	t.Helper()
	var b bytes.Buffer
	list, leftOut, err := w.Export(&b, by, nil)
	if err != nil || len(leftOut) != 0 || len(list.Entries) != 5 {
		t.Fatalf("%d items, left out %v, %v", len(list.Entries), leftOut, err)
	}
	return b.Bytes()
}

// TestAnOfflineBrokerJudgesByABundle: all that was fetched elsewhere is there.
func TestAnOfflineBrokerJudgesByABundle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, by := filled(t), signer(t)
		raw := exported(t, w, by)
		d := open(t, Options{Dir: t.TempDir(), Offline: true, AMD: w.opts.AMD, TDX: w.opts.TDX})
		defer d.Close()
		_, outcomes, err := d.Import(bytes.NewReader(raw), []identity.Public{by.Public()})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range outcomes {
			if !o.Stored || o.Error != "" {
				t.Errorf("%+v", o)
			}
		}
		if _, err := d.VCEK(t.Context(), chip(1)); err != nil {
			t.Error(err)
		}
		if _, err := d.TDX(t.Context(), platform()); err != nil {
			t.Error(err)
		}
		lists, err := d.RevocationLists()
		if err != nil || len(lists) != 1 {
			t.Errorf("%d lists, %v", len(lists), err)
		}
		if certs, err := d.Authorities(); err != nil || len(certs) != 4 {
			t.Errorf("%d authorities, %v", len(certs), err)
		}
		_, outcomes, err = d.Import(bytes.NewReader(raw), []identity.Public{by.Public()})
		for _, o := range outcomes {
			if o.Stored || o.Error != "" {
				t.Errorf("again: %+v", o)
			}
		}
		if err != nil {
			t.Error(err)
		}
		if _, _, err = d.Import(bytes.NewReader(raw), []identity.Public{signer(t).Public()}); err == nil {
			t.Error("a stranger's bundle was imported")
		}
	})
}

// TestAnOlderBundleBringsNothingBack, and one of later time no item that is never renewed.
func TestAnOlderBundleBringsNothingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, by := filled(t), signer(t)
		old := exported(t, w, by)
		time.Sleep(w.kds.ListEvery + time.Hour)
		for _, k := range []string{"amd-crl/Milan", "intel-tdx/90c06f000000/platform/standard"} {
			if _, err := w.Fetch(t.Context(), key(t, k)); err != nil {
				t.Fatal(err)
			}
		}
		_, outcomes, err := w.Import(bytes.NewReader(old), []identity.Public{by.Public()})
		if err != nil {
			t.Fatal(err)
		}
		// Where nothing newer is kept, what ended is refused, too.
		d := open(t, Options{Dir: t.TempDir(), Offline: true, AMD: w.opts.AMD, TDX: w.opts.TDX})
		defer d.Close()
		time.Sleep(w.kds.ListLife)
		_, late, err := d.Import(bytes.NewReader(old), []identity.Public{by.Public()})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range late {
			if reason := map[collateral.Kind]refusal.Reason{collateral.KindAMDCRL: collateral.ReasonStale, collateral.KindTDX: collateral.ReasonSignature}[o.Key.Kind()]; o.Reason != reason {
				t.Errorf("%+v, want %q", o, reason)
			}
		}
		want := map[string]refusal.Reason{"amd-crl/Milan": collateral.ReasonRollback, "intel-tdx/90c06f000000/platform/standard": collateral.ReasonRollback}
		for _, o := range outcomes {
			if o.Stored || o.Reason != want[o.Key.String()] {
				t.Errorf("%+v, want %q", o, want[o.Key.String()])
			}
		}
	})
}

// TestForgedItemsOfATrustedSignerAreRefused: the operator's signature replaces no vendor's.
func TestForgedItemsOfATrustedSignerAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, by := filled(t), signer(t)
		forge := func(change func(*collateral.Item)) []byte {
			keys, err := w.store.Keys()
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if _, err := bundle.Write(&b, keys, func(k collateral.Key) (collateral.Item, error) {
				it, err := w.store.Get(k)
				change(&it)
				return it, err
			}, by, time.Now()); err != nil {
				t.Fatal(err)
			}
			return b.Bytes()
		}
		d := open(t, Options{Dir: t.TempDir(), Offline: true, AMD: w.opts.AMD, TDX: w.opts.TDX})
		defer d.Close()
		_, outcomes, err := d.Import(bytes.NewReader(forge(func(it *collateral.Item) {
			doc := it.Documents[0]
			if it.Key.Kind() == collateral.KindTDX {
				it.Documents[0] = bytes.Replace(doc, []byte(":18"), []byte(":19"), 1)
			} else {
				doc[len(doc)-1] ^= 1
			}
		})), []identity.Public{by.Public()})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range outcomes {
			if o.Stored || o.Reason != collateral.ReasonSignature && o.Reason != collateral.ReasonMissing {
				t.Errorf("%+v", o)
			}
		}
		if keys, err := d.store.Keys(); err != nil || len(keys) != 0 {
			t.Errorf("stored %v, %v", keys, err)
		}
		// A time that has not come would keep an item from ever being renewed.
		if _, _, err := d.Import(bytes.NewReader(forge(func(it *collateral.Item) { it.Fetched = time.Now().AddDate(50, 0, 0) })), []identity.Public{by.Public()}); err != nil {
			t.Fatal(err)
		}
		st, err := d.Status()
		if err != nil || len(st.Items) != 4 || st.Certificates != 1 {
			t.Fatalf("%+v, %v", st, err)
		}
		for _, it := range st.Items {
			if it.Fetched.After(time.Now()) {
				t.Errorf("%+v", it)
			}
		}
	})
}

// TestEndedItemsAreLeftOutOfABundle and named; what is selected is exported.
func TestEndedItemsAreLeftOutOfABundle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t)
		time.Sleep(w.kds.ListLife + time.Hour)
		var b bytes.Buffer
		list, leftOut, err := w.Export(&b, signer(t), func(k collateral.Key) bool { return k.Product() != "Genoa" })
		if err != nil || len(list.Entries) != 2 || len(leftOut) != 2 {
			t.Errorf("%d items, left out %v, %v", len(list.Entries), leftOut, err)
		}
	})
}

// TestStatusTellsAgeAndWhatFailed, also of what was never fetched.
func TestStatusTellsAgeAndWhatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		w := newWorld(t, Options{Wanted: []collateral.Key{key(t, "amd-crl/Genoa"), key(t, "amd-crl/Milan")}, Logger: slog.New(slog.NewTextHandler(&log, nil)), Grace: Grace{time.Now().AddDate(2, 0, 0), "maintenance"}})
		w.kds.Hook = func(r *http.Request) (int, http.Header) {
			if strings.Contains(r.URL.Path, "Genoa") {
				return http.StatusInternalServerError, nil
			}
			return 0, nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
		defer cancel()
		if err := w.Run(ctx); err != nil {
			t.Fatal(err)
		}
		st, err := w.Status()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]ItemStatus{}
		for _, it := range st.Items {
			got[it.Key.String()] = it
		}
		milan, genoa := got["amd-crl/Milan"], got["amd-crl/Genoa"]
		if milan.Missing || milan.Ended || milan.Error != "" || milan.AgeSeconds < 1000 || milan.Next.Before(time.Now().Add(20*time.Hour)) || len(milan.Documents) != 1 {
			t.Errorf("%+v", milan)
		}
		if !genoa.Missing || genoa.Reason != string(collateral.ReasonUnavailable) || genoa.Failures < 3 || genoa.Failures > 8 || genoa.Attempted == nil || genoa.Next.Before(time.Now()) {
			t.Errorf("%+v", genoa)
		}
		if st.GraceUntil == nil || st.GraceReason != "maintenance" || !strings.Contains(log.String(), "reason=maintenance") {
			t.Errorf("the grace is not shown or not logged: %+v", st)
		}
		if _, err := w.Fetch(t.Context(), key(t, "amd-crl/Milan")); err == nil {
			t.Error("fetched after the end of Run")
		}
		// Used in grace, it is logged, once a day.
		time.Sleep(w.kds.ListLife)
		log.Reset()
		for range 5 {
			if lists, err := w.RevocationLists(); err != nil || len(lists) != 1 {
				t.Errorf("%d lists, %v", len(lists), err)
			}
		}
		if n := strings.Count(log.String(), "ended collateral is used"); n != 1 {
			t.Errorf("logged %d times", n)
		}
	})
}
