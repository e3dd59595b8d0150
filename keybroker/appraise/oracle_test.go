package appraise

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// oracle is go-sev-guest in a process of its own, so that its modules stay out
// of the project's.
type oracle struct {
	mu  sync.Mutex
	in  io.Writer
	out *bufio.Reader
}

type oracleRequest struct {
	Report, VCEK, ASK, ARK []byte
	Unix                   int64
	Repeat                 int
}

type oracleAnswer struct {
	Parse, Signature, Verify, Validate string
	TCB                                uint64
	HWID                               []byte
	Nanoseconds                        int64
}

// startOracle builds and starts the oracle; it ends with the test.
func startOracle(tb testing.TB) *oracle {
	tb.Helper()
	longtest.Run(tb, "it builds go-sev-guest")
	dir := tb.TempDir()
	mod := "module oracle\n\ngo 1.26\n\nrequire github.com/google/go-sev-guest v0.15.0\n"
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(mod), 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "main.go"), readFile(tb, "testdata", "oracle", "main.go"), 0o600); err != nil {
		tb.Fatal(err)
	}
	build := exec.Command("go", "build", "-mod=mod", "-o", "oracle", ".")
	build.Dir, build.Env = dir, append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		tb.Skipf("go-sev-guest cannot be built here, so nothing is compared with it: %v\n%s", err, out)
	}
	cmd := exec.Command(filepath.Join(dir, "oracle"))
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
	tb.Cleanup(func() { in.Close(); cmd.Wait() })
	return &oracle{in: in, out: bufio.NewReaderSize(out, 1<<20)}
}

func (o *oracle) judge(tb testing.TB, env evidence.Envelope, unix int64, repeat int) (a oracleAnswer) {
	tb.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	r := oracleRequest{Report: env.Part(evidence.PartSNPReport), VCEK: env.Part(evidence.EndorsementVCEK), ASK: env.Part(evidence.EndorsementASK),
		ARK: env.Part(evidence.EndorsementARK), Unix: unix, Repeat: repeat}
	if err := json.NewEncoder(o.in).Encode(r); err != nil {
		tb.Fatal(err)
	}
	line, err := o.out.ReadBytes('\n')
	if err != nil {
		tb.Fatalf("the oracle ended (a panic is one way): %v", err)
	}
	if err := json.Unmarshal(line, &a); err != nil {
		tb.Fatal(err)
	}
	return a
}

// accepts: the oracle needs both of its halves, verification and validation.
func (a oracleAnswer) accepts() bool { return a.Verify == "" && a.Validate == "" }

func TestOracleAgreesOnRealReports(t *testing.T) {
	o := startOracle(t)
	for _, s := range append([]sample{moduleSample(t)}, sharedSamples(t)...) {
		_, err := lenient(t).Appraise(t.Context(), s.envelope(), s.reportData(), s.now)
		a := o.judge(t, s.envelope(), s.now.Unix(), 0)
		if err != nil || a.Verify != "" {
			t.Errorf("%s: ours says %v, the oracle %q, %q", s.name, err, a.Verify, a.Validate)
		}
		if a.Validate != "" {
			t.Logf("%s: the oracle's policy half says %q; here that is for keybroker/policy", s.name, a.Validate)
		}
		cert, _ := lenient(t).chainOf(s.envelope(), signerVCEK)
		if cert == nil || !bytes.Equal(cert.key.hwid, a.HWID) || product(s.product).tcb(a.TCB) != cert.key.tcb {
			t.Errorf("%s: the VCEK's statements are read differently", s.name)
		}
	}
}

// Mutated bytes: whatever the oracle refuses, ours refuses. Ours may be stricter.
func TestOracleRefusesNothingThatWeAccept(t *testing.T) {
	o := startOracle(t)
	samples := append([]sample{moduleSample(t)}, sharedSamples(t)...)
	rnd := rand.New(rand.NewPCG(7, 11))
	stricter, v := 0, lenient(t)
	for i := range 1500 {
		s := samples[i%len(samples)]
		env := mutate(rnd, s.envelope())
		_, err := v.Appraise(t.Context(), env, s.reportData(), s.now)
		a := o.judge(t, env, s.now.Unix(), 0)
		switch {
		case err == nil && a.Verify != "":
			t.Fatalf("%s, mutation %d: accepted, but the oracle says %q", s.name, i, a.Verify)
		case err != nil && a.accepts():
			stricter++
			if reason, _ := refusal.ReasonOf(err); reason == "" {
				t.Fatalf("a refusal without a reason: %v", err)
			}
		}
	}
	t.Logf("stricter than the oracle %d times", stricter)
}

// mutate changes up to three bytes of the report or of one certificate.
func mutate(rnd *rand.Rand, env evidence.Envelope) evidence.Envelope {
	env = withReport(env, bytes.Clone(env.Part(evidence.PartSNPReport)))
	target := env.Part(evidence.PartSNPReport)
	if rnd.IntN(3) == 0 {
		i := rnd.IntN(len(env.Parts))
		env.Parts[i].Data = bytes.Clone(env.Parts[i].Data)
		target = env.Parts[i].Data
	}
	for range rnd.IntN(3) + 1 {
		target[rnd.IntN(len(target))] ^= byte(1 << rnd.IntN(8))
	}
	return env
}

// BenchmarkAppraise: with the chain cached, without, and the oracle in the same
// run (as ns/oracle-op), on the same report.
func BenchmarkAppraise(b *testing.B) {
	s := moduleSample(b)
	env, want := s.envelope(), s.reportData()
	b.Run("cached", func(b *testing.B) {
		v := lenient(b)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.Appraise(b.Context(), env, want, s.now); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := lenient(b).Appraise(b.Context(), env, want, s.now); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("oracle", func(b *testing.B) {
		o := startOracle(b)
		for b.Loop() { // the work was done in the other process
		}
		b.ReportMetric(float64(o.judge(b, env, s.now.Unix(), 1000).Nanoseconds), "ns/oracle-op")
	})
}
