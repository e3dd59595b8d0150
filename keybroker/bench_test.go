//go:build !release

package keybroker_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/guest/teesim"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
)

// BenchmarkRelease runs whole releases on loopback, guest and broker in this
// one process, one new connection and one new agent key each.
func BenchmarkRelease(b *testing.B) {
	f := brokertest.New(b)
	dial(b, f).whole()
	before := processCPU()
	for b.Loop() {
		dial(b, f).whole()
	}
	b.ReportMetric(float64((processCPU()-before).Microseconds())/float64(b.N), "cpu-us/release")
}

// BenchmarkBrokerHalf measures what a release costs the broker alone: the guests
// run in a process of their own. Its second figure, in P-384 verifications,
// compares machines; the design was measured with 3.2 and one durable record.
func BenchmarkBrokerHalf(b *testing.B) {
	each, ratio := brokerHalf(b, max(b.N, 20))
	b.ReportMetric(float64(each.Microseconds()), "cpu-us/release")
	b.ReportMetric(ratio, "p384-verifies/release")
}

// guestHalf is what the guests' process needs to know.
type guestHalf struct {
	Address, TEEDir string
	Count           int
}

const guestHalfVariable = "ANCHORHOLD_TEST_GUEST_HALF"

func brokerHalf(tb testing.TB, count int) (each time.Duration, ratio float64) {
	tb.Helper()
	dir := tb.TempDir()
	tee, err := teesim.New(teesim.Options{Dir: dir, Measurement: brokertest.Measurement()})
	if err != nil {
		tb.Fatal(err)
	}
	f := brokertest.New(tb, brokertest.WithTEE(tee))
	dial(tb, f).whole() // certificates are cached from here on
	half, err := json.Marshal(guestHalf{f.Address, dir, count})
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestGuestHalf$", "-test.count=1")
	cmd.Env = append(os.Environ(), guestHalfVariable+"="+string(half))
	before := processCPU()
	out, err := cmd.CombinedOutput()
	each = (processCPU() - before) / time.Duration(count)
	if err != nil {
		tb.Fatalf("guests: %v\n%s", err, out)
	}
	return each, float64(each) / float64(p384Verify(tb))
}

// TestGuestHalf is the guests' process.
func TestGuestHalf(t *testing.T) {
	raw := os.Getenv(guestHalfVariable)
	if raw == "" {
		t.Skip("runs as a part of BenchmarkBrokerHalf")
	}
	var half guestHalf
	if err := json.Unmarshal([]byte(raw), &half); err != nil {
		t.Fatal(err)
	}
	tee, err := teesim.New(teesim.Options{Dir: half.TEEDir, Measurement: brokertest.Measurement()})
	if err != nil {
		t.Fatal(err)
	}
	f := brokertest.New(t, brokertest.WithTEE(tee)) // for its keys; nobody calls its broker
	for range half.Count {
		dialAt(t, f, half.Address).whole()
	}
}

// dialAt connects to a broker whose certificate this process does not have.
func dialAt(t testing.TB, f *brokertest.Fixture, address string) *guest {
	t.Helper()
	cfg, err := hybridtls.ClientConfig(brokertest.ServerName, x509.NewCertPool(), hybridtls.ProfileDefault)
	if err != nil {
		t.Fatal(err)
	}
	cfg.InsecureSkipVerify = true
	conn, err := hybridtls.Dial(context.Background(), "tcp", address, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return newGuest(t, f, conn)
}

func processCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// p384Verify measures one P-384 verification in CPU time.
func p384Verify(tb testing.TB) time.Duration {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	digest := make([]byte, 48)
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest)
	if err != nil {
		tb.Fatal(err)
	}
	const n = 100
	before := processCPU()
	for range n {
		if !ecdsa.VerifyASN1(&key.PublicKey, digest, sig) {
			tb.Fatal("P-384 does not verify")
		}
	}
	return (processCPU() - before) / n
}
