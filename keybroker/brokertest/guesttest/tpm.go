//go:build !release

package guesttest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/guest/azuresim"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/tdxsim"
	"github.com/anchorhold/anchorhold/guest/tpmsim"
	"github.com/anchorhold/anchorhold/keybroker/appraise/kinds"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
)

func now() time.Time { return time.Now() }

// newTPM is a TPM that quotes its bank of SHA-384, and the values of what it booted.
func newTPM(tb testing.TB, o tpmsim.Options) (*tpmsim.TPM, map[string]string) {
	tb.Helper()
	o.Boot, o.Bank = boot(), "sha384"
	tpm, err := tpmsim.New(o)
	must(tb, err)
	log := tpmsim.NewLog(tpmsim.TPMLog)
	must(tb, boot().Write(log))
	registers := map[string]string{}
	for _, pcr := range []int{4, 9} {
		registers[fmt.Sprintf("pcr%d", pcr)] = fmt.Sprintf("%x", log.RTMR(pcr))
	}
	return tpm, registers
}

// quoted assembles evidence whose primary part is a TPM's quote, with the log behind it.
func quoted(ctx context.Context, kind evidence.Kind, tpm *tpmsim.TPM, challenge [64]byte, bound, endorsements []evidence.Part) (evidence.Envelope, error) {
	log, err := tpm.EventLog(ctx)
	if err != nil {
		return evidence.Envelope{}, err
	}
	bound = append(bound, evidence.Part{Type: evidence.PartTCGLog, Data: log})
	return evidence.Assemble(kind, challenge, bound, func(reportData [64]byte) (evidence.Signed, error) {
		nonce := evidence.Nonce(evidence.PartTPMQuote, reportData)
		made, err := tpm.Collect(ctx, nonce[:])
		return evidence.Signed{Primary: made.Quote, Endorsements: endorsements}, err
	})
}

// TPM is a guest that shows the quote of a TPM alone, whose key is enrolled.
func TPM(tb testing.TB) *Guest {
	tb.Helper()
	tpm, registers := newTPM(tb, tpmsim.Options{})
	return &Guest{kind: evidence.KindVTPM, registers: registers,
		collect: func(ctx context.Context, challenge [64]byte) (evidence.Envelope, error) {
			return quoted(ctx, evidence.KindVTPM, tpm, challenge, nil, nil)
		},
		believe: func(_ testing.TB, o *kinds.Options) { o.Enrolled = [][]byte{tpm.Name()} }}
}

// paravised is a VM under Azure's paravisor with its TPM.
func paravised(tb testing.TB, o azuresim.Options) (*azuresim.VM, *tpmsim.TPM, map[string]string) {
	tb.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(tb, err)
	o.AK, o.SecureBoot = &key.PublicKey, true
	vm, err := azuresim.New(o)
	must(tb, err)
	tpm, registers := newTPM(tb, tpmsim.Options{Key: key})
	return vm, tpm, registers
}

// AzureSNP is a guest of SEV-SNP under Azure's paravisor, on the software TEE.
func AzureSNP(tb testing.TB) *Guest {
	tb.Helper()
	tee := brokertest.TEE(tb)
	vm, tpm, registers := paravised(tb, azuresim.Options{SNP: tee})
	registers["launch"] = fmt.Sprintf("%x", brokertest.Measurement())
	return &Guest{kind: evidence.KindAzureSNP, registers: registers, believe: func(testing.TB, *kinds.Options) {},
		collect: func(ctx context.Context, challenge [64]byte) (evidence.Envelope, error) {
			hcl, err := vm.HCL(ctx)
			if err != nil {
				return evidence.Envelope{}, err
			}
			made, err := tee.Collect(ctx, [64]byte{}) // for its certificates
			if err != nil {
				return evidence.Envelope{}, err
			}
			return quoted(ctx, evidence.KindAzureSNP, tpm, challenge, []evidence.Part{{Type: evidence.PartHCLReport, Data: hcl}}, made.Parts[1:])
		}}
}

// AzureTDX is a trust domain under Azure's paravisor.
func AzureTDX(tb testing.TB) *Guest {
	tb.Helper()
	mrtd := brokertest.Measurement()
	td := domain(tb, tdxsim.Guest{MRTD: mrtd})
	var quote []byte // of the paravisor's report, as Azure's endpoint makes it
	vm, tpm, registers := paravised(tb, azuresim.Options{TDX: func(ctx context.Context, data [64]byte) (_ []byte, err error) {
		quote, err = td.Collect(ctx, data)
		return quote, err
	}})
	registers["mrtd"] = fmt.Sprintf("%x", mrtd)
	return &Guest{kind: evidence.KindAzureTDX, registers: registers, believe: believeTDX(td),
		collect: func(ctx context.Context, challenge [64]byte) (evidence.Envelope, error) {
			hcl, err := vm.HCL(ctx)
			if err != nil {
				return evidence.Envelope{}, err
			}
			return quoted(ctx, evidence.KindAzureTDX, tpm, challenge, []evidence.Part{{Type: evidence.PartHCLReport, Data: hcl}, {Type: evidence.PartTDXQuote, Data: quote}}, nil)
		}}
}
