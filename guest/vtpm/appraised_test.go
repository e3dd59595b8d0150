package vtpm

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tpmquote"
)

// What a TPM of another maker's quotes is what the broker accepts, and the broker requires each
// part of it.
func TestBrokerAcceptsQuotesOfASoftwareTPM(t *testing.T) {
	socket := startTPM(t)
	for _, bank := range []string{evidence.BankSHA256, evidence.BankSHA384} {
		c := newCollector(t, Options{Device: socket, Bank: bank})
		_, name, err := c.PublicKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		e, err := c.Collect(t.Context(), nonce)
		if err != nil {
			t.Fatal(err)
		}
		want := tpmquote.Expected{Nonce: nonce, PCRs: c.opt.PCRs, Trust: tpmquote.TrustEnrolled(name)}
		claims, err := tpmquote.Verify(e.Quote, want)
		if err != nil || claims.Bank != bank || string(claims.AKName) != string(name) || len(claims.PCRs) != len(c.opt.PCRs) || !claims.Safe {
			t.Errorf("%+v, %v", claims, err)
		}
		want.PCRs = []int{10}
		_, err = tpmquote.Verify(e.Quote, want)
		if reason, _ := refusal.ReasonOf(err); reason != tpmquote.ReasonSelection {
			t.Error(err)
		}
		want.PCRs, want.Nonce = c.opt.PCRs, append([]byte{0}, nonce[1:]...)
		_, err = tpmquote.Verify(e.Quote, want)
		if reason, _ := refusal.ReasonOf(err); reason != tpmquote.ReasonNonce {
			t.Error(err)
		}
	}
}

// The kernel's device is found to be one; on machines without a TPM that is said.
func TestKernelsDevice(t *testing.T) {
	c := newCollector(t, Options{Log: filepath.Join(t.TempDir(), "log")})
	_, err := os.Stat(DefaultDevice)
	if err == nil {
		t.Log("this machine has a TPM, which is left alone")
		return
	}
	_, err = c.ReadNV(t.Context(), AzureReport, 64)
	wantReason(t, err, ReasonNoTPM, DefaultDevice)
}
