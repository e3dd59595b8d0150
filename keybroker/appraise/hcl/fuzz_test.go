//go:build !release

package hcl

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/azuresim"
)

// realBlobs are the reports of real VMs, if they lie beside the checkout.
func realBlobs(tb testing.TB) (list [][]byte) {
	tb.Helper()
	for dir, err := os.Getwd(); err == nil && dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		found, err := filepath.Glob(filepath.Join(dir, "shared", "evidence", "azure", "*", "hclreport.bin"))
		for _, name := range found {
			var data []byte
			if data, err = os.ReadFile(name); err == nil {
				list = append(list, data)
			}
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	return list
}

// FuzzParseHCL: whatever parses has an attestation key and is bound by its REPORT_DATA.
func FuzzParseHCL(f *testing.F) {
	f.Add(blobOf(f, azuresim.Options{VMID: "vm"}))
	f.Add(blobOf(f, azuresim.Options{TDX: quoter, RequestVersion: 2, Hash: azuresim.SHA512}))
	for _, blob := range realBlobs(f) {
		f.Add(blob)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		r, err := Parse(raw)
		if !bytes.Equal(before, raw) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			if _, ok := refusal.ReasonOf(err); !ok || r != nil {
				t.Errorf("a refusal without a reason, or with a report: %v", err)
			}
			return
		}
		if r.runtime.AK == nil || r.runtime.AK.N.BitLen() != keyBits || (r.SNPReport() == nil) == (r.TDReport() == nil) {
			t.Error("a report without its parts")
		}
	})
}

// FuzzRuntimeData reads the JSON alone, which in a container is bound by a hash.
func FuzzRuntimeData(f *testing.F) {
	blob := blobOf(f, azuresim.Options{VMID: "vm", UserData: [64]byte{1}})
	f.Add(blob[0x4d4:runtimeEnd(blob)])
	f.Add([]byte(`{"keys":[{"kid":"HCLAkPub","kty":"RSA","key_ops":["sign"],"e":"AQAB","n":""}],"vm-configuration":{"current-time":1e3}}`))
	for _, blob := range realBlobs(f) {
		f.Add(blob[0x4d4:runtimeEnd(blob)])
	}
	for _, text := range []string{` { "a" : [ 1 , -2.5e3 , null , true , [ ] , { } ] , "b" : "\\\"\u00e9" } `, `{"a":1,"\u0061":2}`, `{}`, `{"a":"\ud800"}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		sameAsLibrary(t, text)
		r, err := readRuntime(text)
		if _, ok := refusal.ReasonOf(err); err != nil && !ok {
			t.Errorf("a refusal without a reason: %v", err)
		}
		if err == nil && (r.AK == nil || len(r.Claims.Unknown) > maxUnknown || len(r.Claims.UserData) > maxUserDataBytes) {
			t.Errorf("%+v", r)
		}
	})
}

// sameAsLibrary compares what is decoded with what the library decodes.
func sameAsLibrary(t *testing.T, text []byte) {
	o, err := decodeObject(text)
	if err != nil {
		return
	}
	var want map[string]any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&want); err != nil {
		t.Fatalf("the library refuses %q: %v", text, err)
	}
	got, err := json.Marshal(o)
	library, err2 := json.Marshal(want)
	if err != nil || err2 != nil || !bytes.Equal(got, library) {
		t.Errorf("%q: %s, the library has %s", text, got, library)
	}
}

// mutants are copies of blobs with some bytes changed, the same ones at every run.
func mutants(blobs [][]byte, n int) [][]byte {
	draw := rand.New(rand.NewPCG(1, 2))
	list := make([][]byte, n)
	for i := range list {
		list[i] = bytes.Clone(blobs[i%len(blobs)])
		for range 1 + draw.IntN(4) {
			list[i][draw.IntN(len(list[i]))] ^= byte(1 + draw.IntN(255))
		}
	}
	return list
}

func TestMutantsAreRefusedWithAReason(t *testing.T) {
	blobs := append(realBlobs(t), blobOf(t, azuresim.Options{}), blobOf(t, azuresim.Options{TDX: quoter}))
	accepted := 0
	for _, m := range mutants(blobs, 20_000) {
		_, err := Parse(m)
		if err == nil {
			accepted++ // the change lies where only the CPU's signature would tell
		} else if _, ok := refusal.ReasonOf(err); !ok {
			t.Fatal(err)
		}
	}
	if accepted > 10_000 {
		t.Errorf("%d of 20,000 were read", accepted)
	}
}

func BenchmarkParse(b *testing.B) {
	for name, blob := range map[string][]byte{"snp": blobOf(b, azuresim.Options{VMID: "vm"}), "tdx": blobOf(b, azuresim.Options{TDX: quoter})} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(blob); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	list := mutants([][]byte{blobOf(b, azuresim.Options{}), blobOf(b, azuresim.Options{TDX: quoter})}, 1000)
	b.Run("mutant", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			_, _ = Parse(list[i%len(list)])
			i++
		}
	})
}
