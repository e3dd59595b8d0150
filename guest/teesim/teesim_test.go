//go:build !release

package teesim

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// sharedChain makes one chain for the test binary: three RSA-4096 keys take seconds.
var sharedChain = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "teesim-test-")
	if err != nil {
		return "", err
	}
	_, err = openChain(dir)
	return dir, err
})

func TestMain(m *testing.M) {
	m.Run() // its result is the process's when this returns
	if dir, err := sharedChain(); err == nil {
		os.RemoveAll(dir)
	}
}

func newTEE(tb testing.TB, o Options) *TEE {
	tb.Helper()
	dir, err := sharedChain()
	if err != nil {
		tb.Fatal(err)
	}
	o.Dir = dir
	t, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

var asked = [64]byte{0: 1, 63: 2}

func collect(tb testing.TB, t *TEE) evidence.Envelope {
	tb.Helper()
	env, err := t.Collect(tb.Context(), asked)
	if err != nil {
		tb.Fatal(err)
	}
	return env
}

func certificate(tb testing.TB, env evidence.Envelope, typ evidence.PartType) *x509.Certificate {
	tb.Helper()
	cert, err := x509.ParseCertificate(env.Part(typ))
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

func TestChainIsOfAMDsKindAndSaysThatItIsNot(t *testing.T) {
	longtest.Arithmetic(t, "it makes keys of RSA-4096")
	for _, vlek := range []bool{false, true} {
		env := collect(t, newTEE(t, Options{VLEK: vlek}))
		if _, err := env.Marshal(); err != nil {
			t.Fatal(err)
		}
		issuer, leaf := evidence.EndorsementASK, evidence.EndorsementVCEK
		if vlek {
			issuer, leaf = evidence.EndorsementASVK, evidence.EndorsementVLEK
		}
		certs := []*x509.Certificate{certificate(t, env, evidence.EndorsementARK), certificate(t, env, issuer), certificate(t, env, leaf)}
		for i, c := range certs {
			if !slices.ContainsFunc(c.Subject.Names, func(a pkix.AttributeTypeAndValue) bool { return a.Value == "Anchorhold Software TEE - NOT HARDWARE" }) {
				t.Errorf("%s does not say what it is", c.Subject)
			}
			if c.SignatureAlgorithm != x509.SHA384WithRSAPSS || c.CheckSignatureFrom(certs[max(0, i-1)]) != nil {
				t.Errorf("%s: %s, or not signed by the next", c.Subject.CommonName, c.SignatureAlgorithm)
			}
			if key, ok := c.PublicKey.(*rsa.PublicKey); i < 2 && (!ok || key.N.BitLen() != 4096) {
				t.Errorf("%s is not RSA-4096", c.Subject.CommonName)
			}
		}
	}
}

func TestReportIsSignedOverAnyReportData(t *testing.T) {
	for version := uint32(2); version <= 5; version++ {
		env := collect(t, newTEE(t, Options{Version: version}))
		r := env.Part(evidence.PartSNPReport)
		if len(r) != 1184 || binary.LittleEndian.Uint32(r) != version || [64]byte(r[0x50:0x90]) != asked {
			t.Fatalf("version %d: %x", version, r[:0x90])
		}
		number := func(at int) *big.Int {
			be := bytes.Clone(r[at : at+72])
			slices.Reverse(be)
			return new(big.Int).SetBytes(be)
		}
		digest := sha512.Sum384(r[:0x2a0])
		if !ecdsa.Verify(certificate(t, env, evidence.EndorsementVCEK).PublicKey.(*ecdsa.PublicKey), digest[:], number(0x2a0), number(0x2e8)) {
			t.Errorf("version %d: the signature does not verify", version)
		}
		if hasCPUID := r[0x188] != 0; hasCPUID != (version >= 3) {
			t.Errorf("version %d: CPUID %x", version, r[0x188:0x18b])
		}
	}
}

func TestOptionsShowInTheReport(t *testing.T) {
	o := Options{Measurement: [48]byte{1, 47: 2}, HostData: [32]byte{3, 31: 4}, VMPL: 2, Debug: true, MigrateMA: true, MaskChip: true,
		TCB: &TCBs{Current: 1, Reported: 2, Committed: 3, Launch: 4}, PlatformInfo: 0x11, Change: func(r []byte) { r[4] = 99 }}
	r := collect(t, newTEE(t, o)).Part(evidence.PartSNPReport)
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(r[at:]) }
	if !bytes.Equal(r[0x90:0xc0], o.Measurement[:]) || !bytes.Equal(r[0xc0:0xe0], o.HostData[:]) || r[0x30] != 2 || r[4] != 99 {
		t.Error("measurement, host data, VMPL or change")
	}
	if u64(8)>>18&3 != 3 || r[0x48] != 2 || !bytes.Equal(r[0x1a0:0x1e0], make([]byte, 64)) {
		t.Error("debug, migration or masked chip")
	}
	if u64(0x38) != 1 || u64(0x180) != 2 || u64(0x1e0) != 3 || u64(0x1f0) != 4 || u64(0x40) != 0x11 {
		t.Error("TCB or platform information")
	}
	plain := collect(t, newTEE(t, Options{})).Part(evidence.PartSNPReport)
	if binary.LittleEndian.Uint64(plain[8:])>>18&3 != 0 || bytes.Equal(plain[0x1a0:0x1e0], make([]byte, 64)) {
		t.Error("an ordinary guest has no debug, no migration, and a chip id")
	}
}

func TestRootsAreTheAuthoritiesAlone(t *testing.T) {
	tee := newTEE(t, Options{})
	var names []string
	for rest := tee.RootsPEM(); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		cert, err := x509.ParseCertificate(b.Bytes)
		if err != nil || b.Type != "CERTIFICATE" {
			t.Fatalf("%s: %v", b.Type, err)
		}
		names = append(names, cert.Subject.CommonName)
	}
	if want := []string{"ARK-Genoa", "SEV-Genoa", "SEV-VLEK-Genoa"}; !slices.Equal(names, want) {
		t.Errorf("%v", names)
	}
	tee.RootsPEM()[0] = 'x'
	if tee.RootsPEM()[0] == 'x' {
		t.Error("the roots can be changed from outside")
	}
}

func TestChainIsKeptPrivateAndShared(t *testing.T) {
	a, b := newTEE(t, Options{}), newTEE(t, Options{})
	if !bytes.Equal(a.RootsPEM(), b.RootsPEM()) || a.chipID != b.chipID || a.reportID == b.reportID {
		t.Error("two guests on one platform share its chain and chip, and not their report id")
	}
	dir, _ := sharedChain()
	info, err := os.Stat(filepath.Join(dir, chainFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.new")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestSpoiledChainsAreRefused(t *testing.T) {
	dir, err := sharedChain()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, chainFile))
	if err != nil {
		t.Fatal(err)
	}
	key := strings.LastIndex(string(data), "-----BEGIN EC PRIVATE KEY-----")
	for name, spoiled := range map[string]string{"empty": "", "cut": string(data[:key]),
		"no key": string(data[:key]) + "-----BEGIN EC PRIVATE KEY-----\nMAA=\n-----END EC PRIVATE KEY-----\n"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, chainFile), []byte(spoiled), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := New(Options{Dir: dir}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestImpossibleOptionsAreRefused(t *testing.T) {
	for _, o := range []Options{{}, {Dir: t.TempDir(), Version: 1}, {Dir: t.TempDir(), Version: 6}, {Dir: t.TempDir(), VMPL: 4}, {Dir: "/dev/null/x"}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v: accepted", o)
		}
	}
}

func TestCancelledCollection(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newTEE(t, Options{}).Collect(ctx, asked); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestStalledDeviceEndsAtTheCallersDeadline(t *testing.T) {
	stall := make(chan struct{})
	tee := newTEE(t, Options{Stall: stall})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := tee.Collect(ctx, asked); done <- err }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(stall)
	if _, err := tee.Collect(t.Context(), asked); err != nil {
		t.Error(err)
	}
}
