//go:build !release

package amd

import (
	"bytes"
	"encoding/pem"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/keybroker/collateral/fetch"
	"github.com/anchorhold/anchorhold/keybroker/collateral/sourcetest"
)

func key(tb testing.TB, text string) collateral.Key {
	tb.Helper()
	k, err := collateral.ParseKey(text)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func base(tb testing.TB, text string) fetch.Base {
	tb.Helper()
	b, err := fetch.ParseBase(text, MirrorPace())
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// TestURLsAreThoseOfTheSpecification (57230). Turin has an FMC and a shorter id.
func TestURLsAreThoseOfTheSpecification(t *testing.T) {
	hwid := bytes.Repeat([]byte{0xab}, 64)
	b := base(t, DefaultBase)
	milan := collateral.Chip{Product: "Milan", HWID: hwid, TCB: evidence.TCB{BootLoader: 4, TEE: 0, SNP: 24, Microcode: 219}}
	text := vcekRequest(b, milan).String()
	if want := "https://kdsintf.amd.com/vcek/v1/Milan/" + string(bytes.Repeat([]byte("ab"), 64)) + "?blSPL=04&snpSPL=24&teeSPL=00&ucodeSPL=219"; text != want {
		t.Errorf("got %s, want %s", text, want)
	}
	turin := collateral.Chip{Product: "Turin", HWID: []byte{0, 1, 2, 3, 4, 5, 6, 7}, TCB: evidence.TCB{FMC: 1, BootLoader: 2, TEE: 3, SNP: 4, Microcode: 5}}
	if got, want := vcekRequest(b, turin).String(), "https://kdsintf.amd.com/vcek/v1/Turin/0001020304050607?blSPL=02&fmcSPL=01&snpSPL=04&teeSPL=03&ucodeSPL=05"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestEveryProductIsFetchedAndMatched, from the vendor and from a mirror with a path.
func TestEveryProductIsFetchedAndMatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kds := sourcetest.NewKDS(t, time.Now())
		v, err := appraise.New(appraise.Options{WithoutRevocation: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := v.AllowSoftwareTEE(kds.RootsPEM()); err != nil {
			t.Fatal(err)
		}
		s := Service{Client: fetch.New(fetch.Options{Transport: kds}), Base: base(t, DefaultBase), Verifier: v}
		for _, p := range collateral.Products() {
			chip := collateral.Chip{Product: p, HWID: bytes.Repeat([]byte{7}, 64), TCB: evidence.TCB{BootLoader: 4, TEE: 1, SNP: 24, Microcode: 219}}
			if p == "Turin" {
				chip.HWID, chip.TCB.FMC = chip.HWID[:8], 9
			}
			k, err := chip.Key()
			if err != nil {
				t.Fatal(err)
			}
			chain, err := s.Chain(t.Context(), key(t, "amd-chain/"+string(p)+"/vcek"), time.Now)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.VCEK(t.Context(), k, chain, time.Now); err != nil {
				t.Errorf("%s: %v", p, err)
			}
			if _, err := s.List(t.Context(), key(t, "amd-crl/"+string(p)), chain, time.Now); err != nil {
				t.Errorf("%s: %v", p, err)
			}
			_, err = s.VCEK(t.Context(), k, collateral.Item{}, time.Now)
			refusaltest.Want(t, "without a chain", err, collateral.ReasonMissing)
			_, err = s.List(t.Context(), key(t, "amd-crl/"+string(p)), chain, func() time.Time { return time.Now().AddDate(30, 0, 0) })
			refusaltest.Want(t, "after the root's end", err, collateral.ReasonSignature)
			_, err = s.Chain(t.Context(), key(t, "amd-chain/"+string(p)+"/vcek"), func() time.Time { return time.Now().AddDate(30, 0, 0) })
			refusaltest.Want(t, "a chain after its end", err, collateral.ReasonSignature)
			_, err = s.VCEK(t.Context(), k, chain, func() time.Time { return time.Now().AddDate(30, 0, 0) })
			refusaltest.Want(t, "a certificate after its end", err, collateral.ReasonSignature)
		}
		// Of a chain that is valid, the chip's certificate alone ended; of one that is signed, the
		// root's own signature alone is wrong.
		kds.ChipEnd = time.Now().Add(-time.Hour)
		ended := collateral.Chip{Product: "Milan", HWID: bytes.Repeat([]byte{8}, 64)}
		k, err := ended.Key()
		if err != nil {
			t.Fatal(err)
		}
		chain, err := s.Chain(t.Context(), key(t, "amd-chain/Milan/vcek"), time.Now)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.VCEK(t.Context(), k, chain, time.Now)
		refusaltest.Want(t, "an ended certificate", err, collateral.ReasonSignature)
		root := chain.Documents[1]
		root[len(root)-1] ^= 1
		refusaltest.Want(t, "a root that did not sign itself", Verify(v, chain, collateral.Item{}, time.Now()), collateral.ReasonSignature)
		kds.Hook = func(*http.Request) (int, http.Header) { return http.StatusNotFound, nil }
		_, err = s.Chain(t.Context(), key(t, "amd-chain/Milan/vcek"), time.Now)
		refusaltest.Want(t, "no chain", err, collateral.ReasonUnknown)
		refusaltest.Want(t, "Intel's", Verify(v, collateral.Item{Key: key(t, "intel-tdx/90c06f000000/platform/standard")}, collateral.Item{}, time.Now()), collateral.ReasonMissing)
	})
}

// TestPEMAndDERAreTheSame: mirrors serve either.
func TestPEMAndDERAreTheSame(t *testing.T) {
	raw := []byte{0x30, 1, 0}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
	if !bytes.Equal(der(text, "CERTIFICATE"), raw) || !bytes.Equal(der(raw, "CERTIFICATE"), raw) || bytes.Equal(der(text, "X509 CRL"), raw) || bytes.Equal(der(append(text, 'x'), "CERTIFICATE"), raw) {
		t.Error("PEM is read wrongly")
	}
}

// TestRealDocumentsVerify: AMD's own chains, lists and certificates under the pinned roots, and
// each only for what it is.
func TestRealDocumentsVerify(t *testing.T) {
	v, err := appraise.New(appraise.Options{WithoutRevocation: true})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
	item := func(name string, docs ...[]byte) collateral.Item {
		return collateral.Item{Key: key(t, name), Fetched: now, Documents: docs}
	}
	chains := map[string]collateral.Item{}
	for p, file := range map[string][]byte{"Milan": evidencetest.Read(t, "snp", "01-milan-v2-google", "chain.pem"), "Genoa": evidencetest.Read(t, "snp", "roots", "genoa_chain.pem")} {
		certs, err := collateral.Certificates(file)
		if err != nil {
			t.Fatal(err)
		}
		chains[p] = item("amd-chain/"+p+"/vcek", certs...)
		refusaltest.Want(t, p, Verify(v, chains[p], collateral.Item{}, now), "")
		refusaltest.Want(t, p+" as the other signer's", Verify(v, item("amd-chain/"+p+"/vlek", certs...), collateral.Item{}, now), collateral.ReasonSignature)
		refusaltest.Want(t, p+" as Turin's", Verify(v, item("amd-chain/Turin/vcek", certs...), collateral.Item{}, now), collateral.ReasonSignature)
		refusaltest.Want(t, p+" without a verifier", Verify(nil, chains[p], collateral.Item{}, now), collateral.ReasonUnverifiable)
	}
	milan, genoa := evidencetest.Read(t, "snp", "roots", "milan.crl"), evidencetest.Read(t, "snp", "roots", "genoa.crl")
	refusaltest.Want(t, "Milan's list", Verify(v, item("amd-crl/Milan", milan), chains["Milan"], now), "")
	refusaltest.Want(t, "Genoa's list", Verify(v, item("amd-crl/Genoa", genoa), chains["Genoa"], now), "")
	refusaltest.Want(t, "Genoa's list as Milan's", Verify(v, item("amd-crl/Milan", genoa), chains["Milan"], now), collateral.ReasonSignature)
	refusaltest.Want(t, "Milan's list with Genoa's chain", Verify(v, item("amd-crl/Milan", milan), chains["Genoa"], now), collateral.ReasonMissing)
	refusaltest.Want(t, "Milan's list before it began", Verify(v, item("amd-crl/Milan", milan), chains["Milan"], now.AddDate(-1, 0, 0)), collateral.ReasonSignature)
	vcek := evidencetest.Read(t, "snp", "06-milan-v2-virtee", "vcek.der")
	stated, err := v.VerifyVCEK(vcek, chains["Milan"].Documents[0], chains["Milan"].Documents[1], now)
	if err != nil || stated.Product != "Milan" || len(stated.HWID) != 64 {
		t.Fatalf("%+v, %v", stated, err)
	}
	chip := collateral.Chip{Product: stated.Product, HWID: stated.HWID, TCB: stated.TCB}
	k, err := chip.Key()
	if err != nil {
		t.Fatal(err)
	}
	refusaltest.Want(t, "its certificate", Verify(v, item(k.String(), vcek), chains["Milan"], now), "")
	chip.TCB.SNP++
	if k, err = chip.Key(); err != nil {
		t.Fatal(err)
	}
	refusaltest.Want(t, "for another version", Verify(v, item(k.String(), vcek), chains["Milan"], now), collateral.ReasonMismatch)
}
