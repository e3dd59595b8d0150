package identity

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/mldsa"
)

// vectors reads a file of the Wycheproof suite from the directory of shared data.
func vectors(t *testing.T, name string, into any) {
	t.Helper()
	dir := os.Getenv("ANCHORHOLD_SHARED")
	for at := ".."; dir == "" && len(at) < 30; at += "/.." {
		if _, err := os.Stat(filepath.Join(at, "shared", "vectors")); err == nil {
			dir = filepath.Join(at, "shared")
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, "vectors", name))
	if err != nil {
		t.Skipf("the vectors are absent, so this test does not run: put them beside the checkout as shared/ or set ANCHORHOLD_SHARED (%v)", err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

// bytesOf is hexadecimal in JSON.
type bytesOf []byte

func (b *bytesOf) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

type signatureFile struct {
	TestGroups []struct {
		PublicKey   json.RawMessage `json:"publicKey"`
		PrivateSeed bytesOf         `json:"privateSeed"`
		Tests       []struct {
			ID      int     `json:"tcId"`
			Comment string  `json:"comment"`
			Msg     bytesOf `json:"msg"`
			Ctx     bytesOf `json:"ctx"`
			Sig     bytesOf `json:"sig"`
			Result  string  `json:"result"`
			Flags   []string
		} `json:"tests"`
	} `json:"testGroups"`
}

func TestMLDSAVerifiesAsWycheproofSays(t *testing.T) {
	for level, name := range map[Level]string{LevelEpoch: "mldsa_65_verify_test.json", LevelRoot: "mldsa_87_verify_test.json"} {
		var file signatureFile
		vectors(t, name, &file)
		checked := 0
		for _, g := range file.TestGroups {
			var encoded bytesOf
			if err := json.Unmarshal(g.PublicKey, &encoded); err != nil {
				t.Fatal(err)
			}
			n, _ := level.sizes()
			var key mldsaPublic
			if len(encoded) == n {
				var err error
				if key, err = parseMLDSA(level, encoded); err != nil {
					key = nil
				}
			}
			for _, v := range g.Tests {
				checked++
				got := key != nil && key.verify(v.Msg, v.Ctx, v.Sig)
				if got != (v.Result == "valid") {
					t.Errorf("%s %d (%s): verifies %v, the suite says %s", level, v.ID, v.Comment, got, v.Result)
				}
			}
		}
		if checked < 100 {
			t.Errorf("%s: only %d vectors", name, checked)
		}
	}
}

func TestMLDSASeedsGiveWycheproofsKeys(t *testing.T) {
	var file signatureFile
	vectors(t, "mldsa_65_sign_seed_test.json", &file)
	checked := 0
	for _, g := range file.TestGroups {
		var want bytesOf
		if json.Unmarshal(g.PublicKey, &want) != nil || len(g.PrivateSeed) != mldsaSeedSize || len(want) == 0 {
			continue // groups about malformed seeds have no public key
		}
		_, public, err := expandMLDSA(LevelEpoch, (*[mldsaSeedSize]byte)(g.PrivateSeed))
		if err != nil || !bytes.Equal(public, want) {
			t.Errorf("seed %x: another public key (%v)", g.PrivateSeed, err)
		}
		checked++
	}
	if checked == 0 {
		t.Error("no vector was checked")
	}
}

func TestEd25519VerifiesAsWycheproofSays(t *testing.T) {
	var file signatureFile
	vectors(t, "ed25519_test.json", &file)
	checked := 0
	for _, g := range file.TestGroups {
		var key struct {
			PK bytesOf `json:"pk"`
		}
		if err := json.Unmarshal(g.PublicKey, &key); err != nil {
			t.Fatal(err)
		}
		for _, v := range g.Tests {
			checked++
			if got := len(v.Sig) == ed25519.SignatureSize && ed25519.Verify(ed25519.PublicKey(key.PK), v.Msg, v.Sig); got != (v.Result == "valid") {
				t.Errorf("%d (%s): verifies %v, the suite says %s", v.ID, v.Comment, got, v.Result)
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d vectors", checked)
	}
}

// TestASecondImplementationAgrees signs with one implementation of ML-DSA and
// verifies with the other, both ways, under a context.
func TestASecondImplementationAgrees(t *testing.T) {
	for level, params := range map[Level]mldsa.Parameters{LevelEpoch: mldsa.MLDSA65(), LevelRoot: mldsa.MLDSA87()} {
		for round := range 4 {
			seed := [mldsaSeedSize]byte{byte(round), byte(level)}
			ours, public, err := expandMLDSA(level, &seed)
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := mldsa.NewPrivateKey(params, seed[:])
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(theirs.PublicKey().Bytes(), public) {
				t.Fatalf("%s: one seed, two public keys", level)
			}
			msg, context := []byte("message"), "context"
			_, n := level.sizes()
			sig := make([]byte, n)
			if err := ours.sign(msg, []byte(context), sig); err != nil {
				t.Fatal(err)
			}
			if err := mldsa.Verify(theirs.PublicKey(), msg, sig, &mldsa.Options{Context: context}); err != nil {
				t.Errorf("%s: the other implementation refuses our signature: %v", level, err)
			}
			if mldsa.Verify(theirs.PublicKey(), msg, sig, &mldsa.Options{Context: "other"}) == nil {
				t.Errorf("%s: our signature verifies under another context", level)
			}
			sig, err = theirs.Sign(nil, msg, &mldsa.Options{Context: context})
			if err != nil {
				t.Fatal(err)
			}
			key, err := parseMLDSA(level, public)
			if err != nil {
				t.Fatal(err)
			}
			if !key.verify(msg, []byte(context), sig) || key.verify(msg, []byte("other"), sig) {
				t.Errorf("%s: we judge the other implementation's signature wrongly", level)
			}
		}
	}
}
