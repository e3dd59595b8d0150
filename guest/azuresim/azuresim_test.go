//go:build !release

package azuresim

import (
	"bytes"
	"context"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

type reporter struct{ err error }

func (r reporter) Collect(_ context.Context, reportData [64]byte) (evidence.Envelope, error) {
	report := make([]byte, 0x4a0)
	copy(report[0x50:], reportData[:])
	return evidence.Envelope{Kind: evidence.KindSNP, Parts: []evidence.Part{{Type: evidence.PartSNPReport, Data: report}}}, r.err
}

func quoter(_ context.Context, reportData [64]byte) ([]byte, error) {
	quote := make([]byte, quoteHeader+quoteBody)
	quote[0] = 4
	copy(quote[48+520:], reportData[:])
	return quote, nil
}

func ak() *rsa.PublicKey {
	return &rsa.PublicKey{N: new(big.Int).SetBytes(bytes.Repeat([]byte{0x81}, 256)), E: 65537}
}

func TestVMsThatCannotBeAreNotMade(t *testing.T) {
	for name, o := range map[string]Options{
		"no CPU":         {AK: ak()},
		"two CPUs":       {AK: ak(), SNP: reporter{}, TDX: quoter},
		"no key":         {SNP: reporter{}},
		"header version": {AK: ak(), SNP: reporter{}, HeaderVersion: 3},
		"request":        {AK: ak(), SNP: reporter{}, RequestVersion: 4},
		"hash":           {AK: ak(), SNP: reporter{}, Hash: 4},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: made", name)
		}
	}
}

func TestTheTPMHasOneIndex(t *testing.T) {
	vm, err := New(Options{AK: ak(), SNP: reporter{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := vm.ReadNV(t.Context(), Index+1, 4096); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := vm.ReadNV(t.Context(), Index, 100); err == nil {
		t.Error("the limit is not kept")
	}
	if blob, err := vm.ReadNV(t.Context(), Index, 4096); err != nil || len(blob) != indexSize {
		t.Errorf("%d bytes, %v", len(blob), err)
	}
	broken, err := New(Options{AK: ak(), SNP: reporter{errors.New("no chip")}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := broken.HCL(t.Context()); err == nil {
		t.Error("a report without a chip")
	}
	short, err := New(Options{AK: ak(), TDX: func(context.Context, [64]byte) ([]byte, error) { return []byte{4, 0}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := short.HCL(t.Context()); err == nil {
		t.Error("a TDREPORT of a quote that is cut short")
	}
}

// The service answers what a real one would, and only to requests that a real one would answer.
func TestTheMetadataServiceKnowsItsRequests(t *testing.T) {
	snp, err := New(Options{AK: ak(), SNP: reporter{}})
	if err != nil {
		t.Fatal(err)
	}
	tdx, err := New(Options{AK: ak(), TDX: quoter})
	if err != nil {
		t.Fatal(err)
	}
	blob, err := tdx.HCL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	report := func(change int) string {
		b := bytes.Clone(blob[headerSize : headerSize+tdReportSize])
		if change >= 0 {
			b[change] ^= 1
		}
		return fmt.Sprintf(`{"report":%q}`, base64.RawURLEncoding.EncodeToString(b))
	}
	for name, row := range map[string]struct {
		vm                 *VM
		method, path, body string
		header             bool
		want               int
	}{
		"certificates":                {snp, "GET", "/metadata/THIM/amd/certification", "", true, 200},
		"without the header":          {snp, "GET", "/metadata/THIM/amd/certification", "", false, 400},
		"certificates of a TDX VM":    {tdx, "GET", "/metadata/THIM/amd/certification", "", true, 404},
		"quote":                       {tdx, "POST", "/acc/tdquote", report(-1), false, 200},
		"quote of an SEV-SNP VM":      {snp, "POST", "/acc/tdquote", report(-1), false, 404},
		"quote of another VM":         {tdx, "POST", "/acc/tdquote", report(0x210), false, 400},
		"quote over other data":       {tdx, "POST", "/acc/tdquote", report(0x80), false, 400},
		"quote of nothing":            {tdx, "POST", "/acc/tdquote", "{}", false, 400},
		"quote of more than a report": {tdx, "POST", "/acc/tdquote", `{"report":"` + strings.Repeat("A", 20<<10) + `"}`, false, 400},
		"elsewhere":                   {tdx, "GET", "/", "", true, 404},
	} {
		r := httptest.NewRequestWithContext(t.Context(), row.method, row.path, strings.NewReader(row.body))
		if row.header {
			r.Header.Set("Metadata", "true")
		}
		w := httptest.NewRecorder()
		row.vm.ServeHTTP(w, r)
		if w.Code != row.want {
			t.Errorf("%s: %d %s, want %d", name, w.Code, http.StatusText(w.Code), row.want)
		}
	}
}
