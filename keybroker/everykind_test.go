//go:build !release

package keybroker_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/brokertest/guesttest"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// TestGuestsOfEveryKindGetTheirKeys: a whole release, each with its event log; the guest knows that the
// certificate is for its own evidence.
func TestGuestsOfEveryKindGetTheirKeys(t *testing.T) {
	for name, guest := range map[string]guesttest.Guest{
		"TDX, version 4": guesttest.New(t, evidence.KindTDX, 4), "TDX, version 5": guesttest.New(t, evidence.KindTDX, 5), "TPM": guesttest.New(t, evidence.KindVTPM, 0),
		"Azure, SEV-SNP": guesttest.New(t, evidence.KindAzureSNP, 0), "Azure, TDX": guesttest.New(t, evidence.KindAzureTDX, 0),
	} {
		kind := guest.Kinds()[0]
		f := brokertest.New(t, brokertest.WithGuest(guest), brokertest.WithPolicy(guesttest.Policy(kind)))
		for range 2 { // the second is a renewal
			lease, err := f.Client(nil).Acquire(t.Context(), []string{brokertest.Resource})
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, f.Logs)
			}
			defer lease.Wipe()
			if lease.EvidenceKind != kind || lease.SoftwareTEE != (kind != evidence.KindVTPM) {
				t.Errorf("%s: %+v", name, lease)
			}
		}
	}
}

// TestFirmwareAloneIsMeasuredAndTheTPMsLogSaysTheRest: beside SEV-SNP, a TPM that is tied to the guest shows what was
// started. One program that nobody listed, or no log, is a refusal; the launch digest is the same in all three.
func TestFirmwareAloneIsMeasuredAndTheTPMsLogSaysTheRest(t *testing.T) {
	guest := guesttest.NewBeside(t)
	programs := guest.Programs(t)
	if len(programs) < 3 {
		t.Fatal(programs)
	}
	f := brokertest.New(t, brokertest.WithGuest(guest), brokertest.WithPolicy(guesttest.BesidePolicy(programs...)))
	lease, err := f.Client(nil).Acquire(t.Context(), []string{brokertest.Resource})
	if err != nil {
		t.Fatalf("%v\n%s", err, f.Logs)
	}
	lease.Wipe()
	// The policy's value names the launch digest alone, so that no register of the TPM is part of the guest's name.
	m := brokertest.Measurement()
	if want, err := evidence.ImageOf(evidence.KindSNP, []evidence.Register{{Name: evidence.RegisterLaunch, Value: m[:]}}); err != nil || lease.Image != want {
		t.Errorf("got the image %s, want %s, %v", lease.Image, want, err)
	}
	silent := guest
	silent.WithoutLog = true
	_, err = f.Client(func(c *client.Config) { c.Collector = silent }).Acquire(t.Context(), []string{brokertest.Resource})
	if got := reasonOf(err); got != "event-log-not-allowed" {
		t.Errorf("without a log: %v", err)
	}
	f = brokertest.New(t, brokertest.WithGuest(guest), brokertest.WithPolicy(guesttest.BesidePolicy(programs[1:]...)))
	_, err = f.Client(nil).Acquire(t.Context(), []string{brokertest.Resource})
	if got := reasonOf(err); got != "event-log-not-allowed" {
		t.Errorf("a program that is not listed: %v", err)
	}
}

// TestATrustDomainThatThePolicyDoesNotAdmitGetsNothing: the emulator proves nothing, and is
// refused wherever nobody allowed it.
func TestATrustDomainThatThePolicyDoesNotAdmitGetsNothing(t *testing.T) {
	d := guesttest.New(t, evidence.KindTDX, 4)
	for name, c := range map[string]struct {
		policy string
		want   refusal.Reason
	}{
		"software":          {strings.Replace(guesttest.Policy(evidence.KindTDX), "allow_software_tee: true", "allow_software_tee: false", 1), "software-tee-not-allowed"},
		"another kind":      {brokertest.DefaultPolicy(), "evidence-kind-not-allowed"},
		"evaluation number": {strings.Replace(guesttest.Policy(evidence.KindTDX), "number: 18", "number: 19", 1), "tdx-evaluation-number-below-minimum"},
	} {
		f := brokertest.New(t, brokertest.WithGuest(d), brokertest.WithPolicy(c.policy))
		_, err := f.Client(nil).Acquire(t.Context(), []string{brokertest.Resource})
		if got := reasonOf(err); got != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// reasonOf is what the client was refused for.
func reasonOf(err error) refusal.Reason {
	var refused *client.Error
	if errors.As(err, &refused) {
		return refused.Reason
	}
	return ""
}

// lied shows another log than the one that the quote covers.
type lied struct{ guesttest.Guest }

func (l lied) Collect(ctx context.Context, challenge [64]byte) (evidence.Envelope, error) {
	env, err := l.Guest.Collect(ctx, challenge)
	if err != nil {
		return env, err
	}
	return evidence.NewEnvelope(env.Kind, evidence.Part{Type: evidence.PartTDXQuote, Data: env.Primary()}) // without it
}

// TestALogIsNeitherAddedNorTakenAway: the quote covers it.
func TestALogIsNeitherAddedNorTakenAway(t *testing.T) {
	d := guesttest.New(t, evidence.KindTDX, 4)
	f := brokertest.New(t, brokertest.WithGuest(d), brokertest.WithPolicy(guesttest.Policy(evidence.KindTDX)))
	_, err := f.Client(func(c *client.Config) { c.Collector = lied{d} }).Acquire(t.Context(), []string{brokertest.Resource})
	if got := reasonOf(err); got != "tdx-report-data" {
		t.Error(err)
	}
}

// TestAnSNPBrokerRefusesATrustDomainAtBothEnds: the broker does not choose a kind that it cannot
// judge, and the guest is told that and nothing else.
func TestAnSNPBrokerRefusesATrustDomainAtBothEnds(t *testing.T) {
	f := brokertest.New(t)
	d := guesttest.New(t, evidence.KindTDX, 4)
	_, err := f.Client(func(c *client.Config) { c.Collector, c.Kinds = d, d.Kinds() }).Acquire(t.Context(), []string{brokertest.Resource})
	if got := reasonOf(err); got != protocol.ReasonKindUnsupported {
		t.Errorf("the guest: %v", err)
	}
	if !strings.Contains(f.Logs.String(), string(protocol.ReasonKindUnsupported)) {
		t.Errorf("the broker: %s", f.Logs)
	}
}
