//go:build !release

package composite_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/azure"
	"github.com/anchorhold/anchorhold/guest/composite"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/tdxsim"
	"github.com/anchorhold/anchorhold/guest/tpmsim"
	"github.com/anchorhold/anchorhold/guest/vtpm"
	"github.com/anchorhold/anchorhold/keybroker/appraise/kinds"
	"github.com/anchorhold/anchorhold/keybroker/brokertest/domaintest"
)

var challenge = [64]byte{1, 2, 3}

func newTPM(tb testing.TB) *tpmsim.TPM {
	tb.Helper()
	tpm, err := tpmsim.New(tpmsim.Options{Boot: tpmsim.Boot{SecureBoot: true, Kernel: []byte("kernel")}})
	if err != nil {
		tb.Fatal(err)
	}
	return tpm
}

func wantReason(tb testing.TB, err error, want refusal.Reason) {
	tb.Helper()
	if got, _ := refusal.ReasonOf(err); got != want {
		tb.Errorf("got %v, want %s", err, want)
	}
}

// A TPM alone: the quote answers the challenge and covers the log, with its key's certificate beside it.
func TestATPMAloneIsAppraised(t *testing.T) {
	tpm := newTPM(t)
	c := composite.Alone{Quotes: composite.Quotes{TPM: tpm}}
	env, err := c.Collect(t.Context(), challenge)
	if err != nil || !slices.Equal(c.Kinds(), []evidence.Kind{env.Kind}) || env.Part(evidence.EndorsementAK) == nil {
		t.Fatal(env.Kind, err)
	}
	v := kinds.New(kinds.Options{Enrolled: [][]byte{tpm.Name()}})
	claims, err := v.Appraise(t.Context(), env, challenge, time.Now())
	if err != nil || claims.EventLog == nil || !*claims.EventLog.SecureBoot || claims.TPM.AKTrust != evidence.AKEnrolled {
		t.Fatalf("%+v, %v", claims, err)
	}
	_, err = v.Appraise(t.Context(), env, [64]byte{9}, time.Now())
	wantReason(t, err, "tpm-nonce-mismatch")
	for i, p := range env.Parts { // without its log the same quote answers nothing
		if p.Type == evidence.PartTCGLog {
			env.Parts = slices.Delete(slices.Clone(env.Parts), i, i+1)
			break
		}
	}
	_, err = v.Appraise(t.Context(), env, challenge, time.Now())
	wantReason(t, err, "tpm-nonce-mismatch")
	bare, err := composite.Alone{Quotes: composite.Quotes{TPM: tpm, WithoutLog: true}}.Collect(t.Context(), challenge)
	if err != nil || bare.Part(evidence.PartTCGLog) != nil {
		t.Fatal(err)
	}
	if claims, err := v.Appraise(t.Context(), bare, challenge, time.Now()); err != nil || claims.EventLog != nil {
		t.Errorf("%+v, %v", claims, err)
	}
}

// domain is a trust domain with a log of its own.
type domain struct {
	td  *tdxsim.TDX
	log []byte
}

func (domain) Kind() evidence.Kind { return evidence.KindTDX }

func (d domain) Bound(context.Context) ([]evidence.Part, error) {
	return []evidence.Part{{Type: evidence.PartCCLog, Data: d.log}}, nil
}

func (d domain) Sign(ctx context.Context, reportData [64]byte) (evidence.Signed, error) {
	quote, err := d.td.Collect(ctx, reportData)
	return evidence.Signed{Primary: quote}, err
}

func newDomain(t *testing.T) (domain, kinds.Options) {
	t.Helper()
	log := tpmsim.NewLog(tpmsim.CCLog)
	if err := (tpmsim.Boot{Kernel: []byte("kernel")}).Write(log); err != nil {
		t.Fatal(err)
	}
	var g tdxsim.Guest
	for i := range g.RTMR {
		g.RTMR[i] = log.RTMR(i)
	}
	td, err := tdxsim.New(tdxsim.Options{Now: time.Now(), Guest: g})
	if err != nil {
		t.Fatal(err)
	}
	v, documents := domaintest.Verifier(t, td, td.RootsPEM())
	return domain{td, log.Bytes()}, kinds.Options{TDX: v, TDXCollateral: documents}
}

// Beside a processor the quote is covered by its report, and believed for a reason of its own. The
// trust domain's log is sent, and the TPM's unless it is left out.
func TestATPMBesideAProcessorIsAppraised(t *testing.T) {
	tpm := newTPM(t)
	td, o := newDomain(t)
	o.Enrolled = [][]byte{tpm.Name()}
	for _, without := range []bool{true, false} {
		c := composite.Beside{Quotes: composite.Quotes{TPM: tpm, WithoutLog: without}, Processor: td}
		env, err := c.Collect(t.Context(), challenge)
		if err != nil || !slices.Equal(c.Kinds(), []evidence.Kind{env.Kind}) {
			t.Fatal(env.Kind, err)
		}
		if env.Part(evidence.PartCCLog) == nil || (env.Part(evidence.PartTCGLog) != nil) == without {
			t.Error("not the logs that was asked for")
		}
		claims, err := kinds.New(o).Appraise(t.Context(), env, challenge, time.Now())
		if err != nil || claims.TPM == nil || claims.EventLog == nil || (claims.TPMEventLog == nil) != without || claims.TDX == nil {
			t.Fatalf("%+v, %v", claims, err)
		}
		for i, p := range env.Parts {
			if p.Type == evidence.PartTPMQuote {
				env.Parts = slices.Delete(slices.Clone(env.Parts), i, i+1)
				break
			}
		}
		if _, err := kinds.New(o).Appraise(t.Context(), env, challenge, time.Now()); err == nil {
			t.Error("the quote could be taken away")
		}
	}
}

// changing is a paravisor's report that is of another kind than it was.
type changing struct{ azure.Evidence }

func (c changing) Collect(context.Context) (azure.Evidence, error) { return c.Evidence, nil }

func TestAReportThatChangesItsKindIsRefused(t *testing.T) {
	e := azure.Evidence{Kind: evidence.KindAzureTDX, HCL: []byte{1}, Quote: []byte{1}}
	_, err := composite.Paravised{Quotes: composite.Quotes{TPM: newTPM(t)}, Kind: evidence.KindAzureSNP, Reports: changing{e}}.Collect(t.Context(), challenge)
	wantReason(t, err, azure.ReasonReport)
}

var errDevice = errors.New("the device's")

// failing is a TPM of which one part fails.
type failing struct {
	*tpmsim.TPM
	log bool
}

func (f failing) Collect(ctx context.Context, nonce []byte) (vtpm.Evidence, error) {
	if f.log {
		return f.TPM.Collect(ctx, nonce)
	}
	return vtpm.Evidence{}, errDevice
}

func (f failing) EventLog(ctx context.Context) ([]byte, error) {
	if !f.log {
		return f.TPM.EventLog(ctx)
	}
	return nil, errDevice
}

// What a device cannot do is no evidence with a part less.
func TestAFailureOfOnePartIsAFailure(t *testing.T) {
	td, _ := newDomain(t)
	reports := changing{azure.Evidence{Kind: evidence.KindAzureSNP, HCL: bytes.Repeat([]byte{1}, 100)}}
	for _, log := range []bool{false, true} {
		q := composite.Quotes{TPM: failing{newTPM(t), log}}
		for _, c := range []interface {
			Collect(context.Context, [64]byte) (evidence.Envelope, error)
		}{composite.Alone{Quotes: q}, composite.Beside{Quotes: q, Processor: td}, composite.Paravised{Quotes: q, Kind: evidence.KindAzureSNP, Reports: reports}} {
			if env, err := c.Collect(t.Context(), challenge); !errors.Is(err, errDevice) || env.Parts != nil {
				t.Errorf("%T, %t: %v, %v", c, log, env.Kind, err)
			}
		}
	}
}
