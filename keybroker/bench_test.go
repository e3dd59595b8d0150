//go:build !release

package keybroker_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
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

// releasesMeasured are in each figure of BenchmarkBrokerHalf.
const releasesMeasured = 384

// BenchmarkBrokerHalf measures what a release costs the broker alone: the guests
// run in a process of their own. "first" is an agent key that the broker has never
// seen, on a new connection; "renewal" one that it has, on the connection that was kept
// for it, if this build keeps any; "renewal_new" is that on a new connection. All are from
// so many guests at once. What compares machines and builds is the figure in P-384 verifications,
// one of which, the evidence's own, is in it. make bench-release runs it beside an
// earlier build.
func BenchmarkBrokerHalf(b *testing.B) {
	for _, kind := range []string{"first", "renewal", "renewal_new"} {
		for _, guests := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("%s/guests=%d", kind, guests), func(b *testing.B) {
				var each, verify time.Duration
				for b.Loop() {
					e, v := brokerHalf(b, guestHalf{Guests: guests, Each: releasesMeasured / guests, Renew: kind != "first", Kept: kind == "renewal"})
					each, verify = each+e, verify+v
				}
				n := time.Duration(b.N)
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64((each / n).Microseconds()), "cpu-us/release")
				b.ReportMetric(float64((verify / n).Microseconds()), "p384-us/verify")
				b.ReportMetric(float64(each)/float64(verify), "p384-verifies/release")
			})
		}
	}
}

// guestHalf is what the guests' process needs to know.
type guestHalf struct {
	Address, TEEDir string
	Guests, Each    int
	Renew           bool // each guest keeps its agent key
	Kept            bool // and its connection
}

const guestHalfVariable = "ANCHORHOLD_TEST_GUEST_HALF"

// brokerHalf returns the broker's CPU time for one release, and that of a P-384
// verification at the same time.
func brokerHalf(tb testing.TB, half guestHalf) (each, verify time.Duration) {
	tb.Helper()
	half.TEEDir = tb.TempDir()
	tee, err := teesim.New(teesim.Options{Dir: half.TEEDir, Measurement: brokertest.Measurement()})
	if err != nil {
		tb.Fatal(err)
	}
	options := []brokertest.Option{brokertest.WithTEE(tee)}
	if half.Kept {
		options = append(options, keeping()...)
	}
	f := brokertest.New(tb, options...)
	half.Address = f.Address
	raw, err := json.Marshal(half)
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestGuestHalf$", "-test.count=1")
	cmd.Env = append(os.Environ(), guestHalfVariable+"="+string(raw))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	lines := bufio.NewReader(out)
	wait := func(want string) {
		tb.Helper()
		if got, err := lines.ReadString('\n'); err != nil || got != want {
			rest, _ := io.ReadAll(lines)
			tb.Fatalf("guests: %q %s %v", got, rest, errors.Join(err, cmd.Wait()))
		}
	}
	wait(guestsReady)
	verify = p384Verify(tb)
	before := processCPU()
	in.Close()
	wait(guestsDone)
	each = (processCPU() - before) / time.Duration(half.Guests*half.Each)
	verify = (verify + p384Verify(tb)) / 2
	if err := cmd.Wait(); err != nil {
		tb.Fatalf("guests: %v", err)
	}
	return each, verify
}

const (
	guestsReady = "ready\n"
	guestsDone  = "done\n"
)

// TestGuestHalf is the guests' process. Each guest has had one release before it
// says that it is ready; it begins when its standard input ends.
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
	guests := make([]*guest, half.Guests)
	release := func(i int) {
		before := guests[i]
		if half.Kept && before != nil && again(before) {
			return
		}
		g := dialAt(t, f, half.Address)
		if half.Renew && before != nil {
			g.agent = before.agent
		}
		guests[i] = g
		if half.Kept {
			stay(g)
		} else {
			g.whole()
		}
	}
	all := func(n int) {
		var wg sync.WaitGroup
		for i := range half.Guests {
			wg.Go(func() {
				for range n {
					release(i)
				}
			})
		}
		wg.Wait()
	}
	all(1)
	fmt.Print(guestsReady)
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		t.Fatal(err)
	}
	all(half.Each)
	if half.Kept {
		for _, g := range guests {
			leave(g)
		}
	}
	fmt.Print(guestsDone)
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
