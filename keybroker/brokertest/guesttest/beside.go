//go:build !release

package guesttest

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/guest/composite"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/teesim"
	"github.com/anchorhold/anchorhold/guest/tpmsim"
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/appraise/kinds"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/policy"
)

// Beside is a guest of SEV-SNP whose launch digest covers its firmware alone, with a TPM into which that measured the
// rest, as on Google Compute Engine. It is a [brokertest.Guest].
type Beside struct {
	composite.Beside
	// TPM is the one whose key is enrolled.
	TPM *tpmsim.TPM
}

// NewBeside boots one.
func NewBeside(tb testing.TB) Beside {
	tb.Helper()
	tee, err := teesim.New(teesim.Options{Dir: brokertest.ChainDir(tb), Measurement: brokertest.Measurement()})
	must(tb, err)
	tpm, err := tpmsim.New(tpmsim.Options{
		Boot: tpmsim.Boot{SecureBoot: true, Loader: []byte("loader"), Kernel: []byte("kernel"), Initrd: []byte("initrd"), CommandLine: "quiet"},
		PCRs: []int{0, 4, 7, 8, 9, 12, 13},
	})
	must(tb, err)
	return Beside{composite.Beside{Quotes: composite.Quotes{TPM: tpm}, Processor: snp{tee}}, tpm}
}

// Programs are the digests of what it started and of the words given, as its log has them.
func (b Beside) Programs(tb testing.TB) (list []string) {
	tb.Helper()
	var challenge [64]byte
	env, err := composite.Alone{Quotes: b.Quotes}.Collect(tb.Context(), challenge)
	must(tb, err)
	claims, err := kinds.New(kinds.Options{Enrolled: [][]byte{b.TPM.Name()}}).Appraise(tb.Context(), env, challenge, time.Now())
	must(tb, err)
	for _, e := range claims.EventLog.Boot {
		list = append(list, e.Digest.String())
	}
	return list
}

// Value is its reference value: the firmware.
func (b Beside) Value() policy.ReferenceValue {
	m := brokertest.Measurement()
	return policy.ReferenceValue{ID: "test-guest", Registers: map[string]string{evidence.RegisterLaunch: hex.EncodeToString(m[:])}, Covers: "firmware", Software: true}
}

// Verifier believes its processor as snp does, and its TPM by enrolment.
func (b Beside) Verifier(_ testing.TB, snp *appraise.Verifier) keybroker.KindAppraiser {
	return kinds.New(kinds.Options{SNP: snp, Enrolled: [][]byte{b.TPM.Name()}})
}

// BesidePolicy opens models/* to guests that started the programs with the given digests and no others.
func BesidePolicy(programs ...string) string {
	return head + "require:\n  kinds: [sev-snp]\n  reference_values: [test-guest]\n" + `  sev_snp: {products: [Genoa], vmpl: 0, minimum_tcb: [{product: Genoa, all: {}}]}
  tpm: {binding: [enrolled], pcrs: [0, 4, 7, 9]}
  event_log: {registers: [pcr4, pcr8, pcr9, pcr12, pcr13], secure_boot: true, boot: [` + strings.Join(programs, ", ") + `]}
waive:
` + brokertest.WaiveSNP + tail
}

// snp is the software TEE as a processor with other devices beside it.
type snp struct{ *teesim.TEE }

func (snp) Kind() evidence.Kind { return evidence.KindSNP }

func (snp) Bound(context.Context) ([]evidence.Part, error) { return nil, nil }

func (s snp) Sign(ctx context.Context, reportData [64]byte) (evidence.Signed, error) {
	env, err := s.Collect(ctx, reportData)
	if err != nil {
		return evidence.Signed{}, err
	}
	if len(env.Primary()) == 0 {
		return evidence.Signed{}, errors.New("the software TEE made no report")
	}
	signed := evidence.Signed{Primary: env.Primary()}
	for _, p := range env.Parts {
		if p.Type.Certificate() {
			signed.Endorsements = append(signed.Endorsements, p)
		}
	}
	return signed, nil
}
