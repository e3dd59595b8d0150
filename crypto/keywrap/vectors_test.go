package keywrap

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"hash"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// bytesOf is hexadecimal in JSON.
type bytesOf []byte

func (b *bytesOf) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Skipf("the vectors are absent, so this test does not run (%v)", err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

// wycheproof is the path of a file of the suite, in the directory of shared data.
func wycheproof(name string) string {
	dir := os.Getenv("ANCHORHOLD_SHARED")
	for at := ".."; dir == "" && len(at) < 30; at += "/.." {
		if _, err := os.Stat(filepath.Join(at, "shared", "vectors")); err == nil {
			dir = filepath.Join(at, "shared")
		}
	}
	return filepath.Join(dir, "vectors", name)
}

// TestHybridHPKEOpensTheGoTreesVectors opens the toolchain's own vectors for
// MLKEM768-X25519 with the functions that this package calls.
func TestHybridHPKEOpensTheGoTreesVectors(t *testing.T) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		KEMID       uint16  `json:"kem_id"`
		KDFID       uint16  `json:"kdf_id"`
		AEADID      uint16  `json:"aead_id"`
		Info        bytesOf `json:"info"`
		Private     bytesOf `json:"skRm"`
		Public      bytesOf `json:"pkRm"`
		Enc         bytesOf `json:"enc"`
		Encryptions []struct {
			AAD bytesOf `json:"aad"`
			CT  bytesOf `json:"ct"`
			PT  bytesOf `json:"pt"`
		} `json:"encryptions"`
	}
	readJSON(t, filepath.Join(strings.TrimSpace(string(root)), "src", "crypto", "hpke", "testdata", "hpke-pq.json"), &list)
	kem, opened := hpke.MLKEM768X25519(), 0
	for _, v := range list {
		if v.KEMID != kem.ID() {
			continue
		}
		private, err := kem.NewPrivateKey(v.Private)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(private.PublicKey().Bytes(), v.Public) || len(v.Public) != PublicKeySize || len(v.Enc) != EncSize {
			t.Errorf("public key of %d bytes, enc of %d", len(v.Public), len(v.Enc))
		}
		kdf, err := hpke.NewKDF(v.KDFID)
		if err != nil {
			t.Fatal(err)
		}
		aead, err := hpke.NewAEAD(v.AEADID)
		if err != nil {
			t.Fatal(err)
		}
		r, err := hpke.NewRecipient(v.Enc, private, kdf, aead, v.Info)
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range v.Encryptions {
			if pt, err := r.Open(e.AAD, e.CT); err != nil || len(e.PT) > 0 && !bytes.Equal(pt, e.PT) {
				t.Errorf("encryption %d does not open: %v", i, err)
			}
			opened++
		}
	}
	if opened == 0 {
		t.Error("the toolchain has no vector for MLKEM768-X25519")
	}
}

func TestMLKEM768AgreesWithWycheproof(t *testing.T) {
	checked := 0
	for _, name := range []string{"mlkem_768_test.json", "mlkem_768_keygen_seed_test.json", "mlkem_768_encaps_test.json"} {
		var file struct {
			TestGroups []struct {
				Tests []struct {
					ID     int     `json:"tcId"`
					Seed   bytesOf `json:"seed"`
					M      bytesOf `json:"m"`
					EK     bytesOf `json:"ek"`
					C      bytesOf `json:"c"`
					K      bytesOf `json:"K"`
					Result string  `json:"result"`
				} `json:"tests"`
			} `json:"testGroups"`
		}
		readJSON(t, wycheproof(name), &file)
		for _, g := range file.TestGroups {
			for _, v := range g.Tests {
				checked++
				ok := true
				if len(v.M) > 0 {
					ek, err := mlkem.NewEncapsulationKey768(v.EK)
					ok = err == nil
					if ok {
						k, c, err := mlkemtest.Encapsulate768(ek, v.M)
						ok = err == nil && bytes.Equal(k, v.K) && bytes.Equal(c, v.C)
					}
				} else if len(v.Seed) > 0 || len(v.C) > 0 {
					dk, err := mlkem.NewDecapsulationKey768(v.Seed)
					ok = err == nil
					if ok && len(v.EK) > 0 {
						ok = bytes.Equal(dk.EncapsulationKey().Bytes(), v.EK)
					}
					if ok && len(v.C) > 0 {
						k, err := dk.Decapsulate(v.C)
						ok = err == nil && bytes.Equal(k, v.K)
					}
				} else {
					_, err := mlkem.NewEncapsulationKey768(v.EK)
					ok = err == nil
				}
				if ok != (v.Result == "valid") {
					t.Errorf("%s %d: %v, the suite says %s", name, v.ID, ok, v.Result)
				}
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d vectors", checked)
	}
}

func TestX25519AgreesWithWycheproof(t *testing.T) {
	var file struct {
		TestGroups []struct {
			Tests []struct {
				ID      int     `json:"tcId"`
				Public  bytesOf `json:"public"`
				Private bytesOf `json:"private"`
				Shared  bytesOf `json:"shared"`
				Flags   []string
			} `json:"tests"`
		} `json:"testGroups"`
	}
	readJSON(t, wycheproof("x25519_test.json"), &file)
	for _, g := range file.TestGroups {
		for _, v := range g.Tests {
			private, err := ecdh.X25519().NewPrivateKey(v.Private)
			if err != nil {
				t.Fatal(err)
			}
			public, err := ecdh.X25519().NewPublicKey(v.Public)
			if err != nil {
				t.Fatal(err)
			}
			got, err := private.ECDH(public)
			zero := bytes.Equal(v.Shared, make([]byte, len(v.Shared)))
			if zero != (err != nil) || err == nil && !bytes.Equal(got, v.Shared) {
				t.Errorf("%d: %x, %v; the suite says %x", v.ID, got, err, v.Shared)
			}
		}
	}
}

func TestAES256GCMAgreesWithWycheproof(t *testing.T) {
	var file struct {
		TestGroups []struct {
			IVSize  int `json:"ivSize"`
			KeySize int `json:"keySize"`
			TagSize int `json:"tagSize"`
			Tests   []struct {
				ID     int     `json:"tcId"`
				Key    bytesOf `json:"key"`
				IV     bytesOf `json:"iv"`
				AAD    bytesOf `json:"aad"`
				Msg    bytesOf `json:"msg"`
				CT     bytesOf `json:"ct"`
				Tag    bytesOf `json:"tag"`
				Result string  `json:"result"`
			} `json:"tests"`
		} `json:"testGroups"`
	}
	readJSON(t, wycheproof("aes_gcm_test.json"), &file)
	checked := 0
	for _, g := range file.TestGroups {
		if g.KeySize != 256 || g.IVSize != 96 || g.TagSize != 128 {
			continue
		}
		for _, v := range g.Tests {
			checked++
			block, err := aes.NewCipher(v.Key)
			if err != nil {
				t.Fatal(err)
			}
			aead, err := cipher.NewGCM(block)
			if err != nil {
				t.Fatal(err)
			}
			got, err := aead.Open(nil, v.IV, append(bytes.Clone(v.CT), v.Tag...), v.AAD)
			if (err == nil && bytes.Equal(got, v.Msg)) != (v.Result == "valid") {
				t.Errorf("%d: %v, the suite says %s", v.ID, err, v.Result)
			}
		}
	}
	if checked == 0 {
		t.Error("no vector for AES-256-GCM")
	}
}

func TestHKDFAgreesWithWycheproof(t *testing.T) {
	for name, h := range map[string]func() hash.Hash{"hkdf_sha256_test.json": sha256.New, "hkdf_sha384_test.json": sha512.New384} {
		var file struct {
			TestGroups []struct {
				Tests []struct {
					ID     int     `json:"tcId"`
					IKM    bytesOf `json:"ikm"`
					Salt   bytesOf `json:"salt"`
					Info   bytesOf `json:"info"`
					Size   int     `json:"size"`
					OKM    bytesOf `json:"okm"`
					Result string  `json:"result"`
				} `json:"tests"`
			} `json:"testGroups"`
		}
		readJSON(t, wycheproof(name), &file)
		for _, g := range file.TestGroups {
			for _, v := range g.Tests {
				got, err := hkdf.Key(h, v.IKM, v.Salt, string(v.Info), v.Size)
				if (err == nil && bytes.Equal(got, v.OKM)) != (v.Result == "valid") {
					t.Errorf("%s %d: %v, the suite says %s", name, v.ID, err, v.Result)
				}
			}
		}
	}
}

func FuzzOpenAll(f *testing.F) {
	f.Add(make([]byte, EncSize), make([]byte, Overhead+1))
	f.Add([]byte{1}, []byte{2})
	f.Fuzz(func(t *testing.T, enc, ciphertext []byte) {
		r, err := NewRecipient()
		if err != nil {
			t.Fatal(err)
		}
		if secrets, err := r.OpenAll([]Sealed{{Info: []byte("info"), Enc: enc, Ciphertext: ciphertext}}); err == nil || secrets != nil {
			t.Error("a sealed key that nobody made opens")
		}
	})
}
