//go:build !release

package tpmsim

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/appraise/eventlog"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tpmquote"
	"github.com/anchorhold/anchorhold/packaging/oracletest"
)

var (
	nonce = []byte("0123456789abcdef0123456789abcdef")
	boot  = Boot{SecureBoot: true, Loader: []byte("grub"), Kernel: []byte("kernel"), Initrd: []byte("initrd"), CommandLine: "root=/dev/vda1 quiet"}
)

func newTPM(t *testing.T, o Options) *TPM {
	t.Helper()
	o.Boot = boot
	tpm, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return tpm
}

func eventLog(tb testing.TB, tpm *TPM) []byte {
	tb.Helper()
	log, err := tpm.EventLog(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return log
}

func expected(tpm *TPM) tpmquote.Expected {
	return tpmquote.Expected{Nonce: nonce, PCRs: []int{0, 4, 7, 8, 9}, Trust: tpmquote.TrustEnrolled(tpm.Name()), Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

// The broker accepts the quote for each of the three reasons, and the log against its registers.
func TestBrokerAcceptsQuoteAndLog(t *testing.T) {
	for _, bank := range []string{evidence.BankSHA256, evidence.BankSHA384} {
		tpm := newTPM(t, Options{Bank: bank})
		e, err := tpm.Collect(t.Context(), nonce)
		if err != nil {
			t.Fatal(err)
		}
		authorities, err := tpmquote.NewAuthorities(tpmquote.AuthorityOptions{Roots: [][32]byte{rootDigest(tpm)}, WithoutRevocation: true})
		if err != nil {
			t.Fatal(err)
		}
		want := expected(tpm)
		for _, trust := range []tpmquote.Trust{
			want.Trust, tpmquote.TrustReportedKey(tpm.Key()), tpmquote.TrustReportedName(tpm.Name()), tpmquote.TrustCertificate(authorities, e.Certificate, tpm.Root()),
		} {
			want.Trust = trust
			claims, err := tpmquote.Verify(e.Quote, want)
			if err != nil {
				t.Fatal(err)
			}
			log, err := eventlog.Verify(eventLog(t, tpm), eventlog.TCG, eventlog.Registers(claims.PCRs))
			if err != nil || log.SecureBoot == nil || !*log.SecureBoot || len(log.Boot) != 5 {
				t.Fatalf("%+v, %v", log, err)
			}
			kernel := sha256.Sum256([]byte("kernel"))
			if bank == evidence.BankSHA256 && !bytes.Equal(log.Boot[1].Digest, kernel[:]) {
				t.Errorf("%+v", log.Boot)
			}
			if !strings.HasSuffix(log.Boot[3].Text, boot.CommandLine) {
				t.Errorf("%+v", log.Boot)
			}
		}
	}
}

func rootDigest(tpm *TPM) [32]byte { return sha256.Sum256(tpm.authority.root.RawSubjectPublicKeyInfo) }

// The real libraries read it.
func TestFormatIsThatOfRealTPMs(t *testing.T) {
	tpm := newTPM(t, Options{})
	e, err := tpm.Collect(t.Context(), nonce)
	if err != nil {
		t.Fatal(err)
	}
	q, err := evidence.ParseTPMQuote(e.Quote)
	if err != nil {
		t.Fatal(err)
	}
	attest, err := tpm2.Unmarshal[tpm2.TPMSAttest](q.Attest)
	if err != nil || !bytes.Equal(attest.ExtraData.Buffer, nonce) || attest.ClockInfo.ResetCount != 1 {
		t.Errorf("%+v, %v", attest, err)
	}
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](q.Public)
	if err != nil || !public.ObjectAttributes.Restricted || public.ObjectAttributes.Decrypt {
		t.Fatalf("%+v, %v", public, err)
	}
	if name, err := tpm2.ObjectName(public); err != nil || !bytes.Equal(name.Buffer, tpm.Name()) {
		t.Errorf("%x, want %x, %v", name, tpm.Name(), err)
	}
	if _, err := tpm2.Unmarshal[tpm2.TPMTSignature](q.Signature); err != nil {
		t.Error(err)
	}
}

// And so does go-eventlog its log.
func TestGoEventlogReadsTheLog(t *testing.T) {
	o := oracletest.Start(t)
	tpm := newTPM(t, Options{})
	e, err := tpm.Collect(t.Context(), nonce)
	if err != nil {
		t.Fatal(err)
	}
	q, err := evidence.ParseTPMQuote(e.Quote)
	if err != nil {
		t.Fatal(err)
	}
	a := o.EventLog(t, oracletest.EventLogRequest{Log: eventLog(t, tpm), SHA256: true, Registers: q.PCRs})
	if a.Replay != "" || a.AppsErr != "" || len(a.Apps) != 1 {
		t.Errorf("%+v", a)
	}
}

func TestLogOfAConfidentialGuest(t *testing.T) {
	l := NewLog(CCLog)
	if err := boot.Write(l); err != nil {
		t.Fatal(err)
	}
	want := eventlog.Registers{}
	for n := range 4 {
		value := l.RTMR(n)
		want[n] = value[:]
	}
	c, err := eventlog.Verify(append(l.Bytes(), bytes.Repeat([]byte{0xff}, 4096)...), eventlog.CCEL, want)
	if err != nil || len(c.Boot) != 5 || c.SecureBoot == nil || !*c.SecureBoot || len(c.Registers) != 4 {
		t.Errorf("%+v, %v", c, err)
	}
	for _, n := range []int{-1, 4} {
		if err := l.Measure(n, EventIPL, nil, nil); err == nil {
			t.Errorf("RTMR %d exists", n)
		}
	}
}

// Whatever the guest measures later is in the next quote and in its log.
func TestMeasurementsGoOn(t *testing.T) {
	tpm := newTPM(t, Options{})
	if err := tpm.Measure(9, EventIPL, []byte("module"), []byte("content")); err != nil {
		t.Fatal(err)
	}
	if err := tpm.Measure(0, EventNoAction, []byte("note"), nil); err != nil {
		t.Fatal(err)
	}
	e, err := tpm.Collect(t.Context(), nonce)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := tpmquote.Verify(e.Quote, expected(tpm))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := eventlog.Verify(eventLog(t, tpm), eventlog.TCG, eventlog.Registers(claims.PCRs)); err != nil || len(c.Boot) != 6 {
		t.Errorf("%+v, %v", c, err)
	}
	if err := tpm.Measure(24, EventIPL, nil, nil); err == nil {
		t.Error("PCR 24 exists")
	}
}

func TestKeyIsKeptInItsDirectory(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	names := make([]string, 8)
	for i := range names {
		wg.Go(func() {
			tpm, err := New(Options{Dir: dir})
			if err != nil {
				t.Error(err)
				return
			}
			names[i] = string(tpm.Name()) + string(tpm.Root())
		})
	}
	wg.Wait()
	if slices.Sort(names); names[0] != names[7] || names[0] == "" {
		t.Error("processes have different keys")
	}
}

func TestOtherKeysAndQuotes(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tpm := newTPM(t, Options{Key: rsaKey})
	quote, err := tpm.Quote(nonce, evidence.BankSHA384, 0, 4, 7, 8, 9, 23)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := tpmquote.Verify(quote, expected(tpm)); err != nil || !bytes.Equal(tpm.Public(), tpm.public) || len(c.PCRs) != 6 {
		t.Errorf("%+v, %v", c, err)
	}
	changed := newTPM(t, Options{Change: func(attest []byte) { attest[0] = 0 }})
	e, err := changed.Collect(t.Context(), nonce)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tpmquote.Verify(e.Quote, expected(changed)); err == nil {
		t.Error("a changed attestation is accepted")
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{"another curve": {Key: p384}, "two keys": {Key: rsaKey, Dir: t.TempDir()}, "no directory": {Dir: "/dev/null/x"}} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := tpm.Quote(make([]byte, 65), evidence.BankSHA256, 0); err == nil {
		t.Error("a long nonce is accepted")
	}
	if _, err := tpm.Quote(nonce, evidence.BankSHA256, 24); err == nil {
		t.Error("PCR 24 is quoted")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tpm.Collect(ended, nonce); err == nil {
		t.Error("a caller who left gets a quote")
	}
}

// BenchmarkQuoteWithLog is what a broker does for a TPM's evidence: a quote, and a log of 200
// events against its registers.
func BenchmarkQuoteWithLog(b *testing.B) {
	tpm, err := New(Options{Boot: boot})
	if err != nil {
		b.Fatal(err)
	}
	for range 200 - 25 {
		if err := tpm.Measure(8, EventIPL, []byte("grub_cmd: "+strings.Repeat("x", 60)+"\x00"), []byte(strings.Repeat("x", 60))); err != nil {
			b.Fatal(err)
		}
	}
	e, err := tpm.Collect(b.Context(), nonce)
	if err != nil {
		b.Fatal(err)
	}
	want, log := expected(tpm), eventLog(b, tpm)
	b.ReportAllocs()
	for b.Loop() {
		claims, err := tpmquote.Verify(e.Quote, want)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := eventlog.Verify(log, eventlog.TCG, eventlog.Registers(claims.PCRs)); err != nil {
			b.Fatal(err)
		}
	}
}
