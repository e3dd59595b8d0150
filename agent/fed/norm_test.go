package fed_test

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/anchorhold/anchorhold/agent/fed"
	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/fed/normproof"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

const normLength = 40

// openNorm opens a round that wants proofs: L2 2, each value 1.
func openNorm(t *testing.T, change func(*federation.Round)) (*world, *federationtest.NormKeys, federation.Round, []byte) {
	t.Helper()
	keys := federationtest.SharedNormKeys(t, normLength, 8)
	w := newNormWorld(t, keys.Ring(t, 0, nil))
	w.norms = keys.Ring(t, 0, nil)
	r, signed, _ := w.Round(t, normLength, func(r *federation.Round) {
		keys.Demand(r)
		r.ClipL2, r.ClipLinf = 2, 1
		if change != nil {
			change(r)
		}
	})
	if _, err := w.agg.AddRound(signed); err != nil {
		t.Fatal(err)
	}
	return w, keys, r, signed
}

func (g *guest) contribute(t *testing.T, r federation.Round, weight uint32, v []float32) jobs.Info {
	t.Helper()
	info, err := g.Submit(t.Context(), 7, r.ID, fed.Submission{Weight: weight, Format: fedtask.Float32}, bytes.NewReader(floats(v)))
	if err != nil {
		t.Fatal(err)
	}
	return g.wait(t, info.ID)
}

// The whole way with the worker's own process: what the aggregator admits was proven, a
// vector beyond the bounds is clipped and proven clipped, and the sum is that of what was
// clipped.
func TestARoundOfProvenUpdates(t *testing.T) {
	keys := federationtest.SharedNormKeys(t, normLength, 8)
	w := newNormWorld(t, keys.Ring(t, 0, nil))
	w.norms = keys.Ring(t, 0, nil)
	r, signed, seed := w.Round(t, normLength, func(r *federation.Round) {
		keys.Demand(r)
		r.ClipL2, r.ClipLinf, r.MaxWeight = 2, 1, 4
	})
	if _, err := w.agg.AddRound(signed); err != nil {
		t.Fatal(err)
	}
	small, large, peak := randomVector(1, normLength, 0.1), randomVector(2, normLength, 50), make([]float32, normLength)
	peak[3] = 1.9
	var want [normLength]float64
	var norm float64
	for _, x := range large {
		norm += float64(x) * float64(x)
	}
	for i := range want {
		want[i] = (4*float64(small[i]) + 1*float64(large[i])*2/math.Sqrt(norm) + 2*min(float64(peak[i]), 1)) / 7
	}
	for i, c := range []struct {
		v      []float32
		weight uint32
	}{{small, 4}, {large, 1}, {peak, 2}} {
		g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
		if info := g.contribute(t, r, c.weight, c.v); info.State != jobs.Done {
			t.Fatalf("%d: %+v", i, info)
		}
	}
	names, err := filepath.Glob(filepath.Join(w.dir, "rounds", r.ID.String(), "uploads", "*", "proof"))
	if err != nil || len(names) != 3 {
		t.Fatalf("%d proofs are kept, %v", len(names), err)
	}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		e, err := statement.ParseEnvelope(raw)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.norms.Verify(t.Context(), e); err != nil {
			t.Error(err)
		}
	}
	w.close(t, r, signed)
	for i, got := range w.mean(t, r, seed) {
		if math.Abs(float64(got)-want[i]) > 0.001 {
			t.Errorf("value %d of the mean is %g, want %g", i, got, want[i])
		}
	}
}

// Strict refuses instead of clipping: by the norm, and by one value.
func TestAnUpdateBeyondTheBoundsIsRefusedWhereThatIsWanted(t *testing.T) {
	w, _, r, _ := openNorm(t, nil)
	g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
	peak, inside := make([]float32, normLength), make([]float32, normLength)
	peak[7], inside[7] = -1.01, -1
	strict := fed.Submission{Weight: 1, Format: fedtask.Float32, Strict: true}
	for name, v := range map[string][]float32{"norm": randomVector(2, normLength, 50), "one value": peak} {
		_, err := g.Submit(t.Context(), 7, r.ID, strict, bytes.NewReader(floats(v)))
		wantReason(t, name, err, fed.ReasonNorm)
	}
	if left, err := os.ReadDir(filepath.Join(g.dir, "spool")); err != nil || len(left) != 0 {
		t.Errorf("%d vectors are left, %v", len(left), err)
	}
	info, err := g.Submit(t.Context(), 7, r.ID, strict, bytes.NewReader(floats(inside)))
	if err != nil {
		t.Fatal(err)
	}
	if info = g.wait(t, info.ID); info.State != jobs.Done {
		t.Errorf("at the bound: %+v", info)
	}
}

func TestAnAgentWithoutTheRoundsKeyContributesNothing(t *testing.T) {
	w, _, r, _ := openNorm(t, nil)
	for name, change := range map[string]func(){
		"no keys":     func() { w.norms = nil },
		"another key": func() { w.norms = federationtest.SharedNormKeys(t, normLength-1, 8).Ring(t, 0, nil) },
	} {
		change()
		g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
		if info := g.contribute(t, r, 1, randomVector(1, normLength, 0.1)); info.State != jobs.Dead || info.Reason != normproof.ReasonNoKey {
			t.Errorf("%s: %+v", name, info)
		}
	}
	if list, err := w.agg.Complete(r.ID); err != nil || len(list) != 0 {
		t.Errorf("%d are admitted, %v", len(list), err)
	}
}

// The agent's line breaks after the contribution was recorded; it starts again.
func TestAProvenContributionGoesOnAfterARestart(t *testing.T) {
	for name, gone := range map[string]bool{"with its proof": false, "without": true} {
		w, _, r, _ := openNorm(t, nil)
		p := newLine(t, w.addr)
		w.addr = p.Addr().String()
		dir, agent, key := t.TempDir(), w.Agent(t, nil), federationtest.Seed(t)
		g := w.guest(t, dir, agent, key, nil)
		if _, err := g.Round(t.Context(), r.ID); err != nil {
			t.Fatal(err)
		}
		p.carry.Store(4000) // less than the manifest
		info, err := g.Submit(t.Context(), 7, r.ID, fed.Submission{Weight: 1, Format: fedtask.Float32}, bytes.NewReader(floats(randomVector(1, normLength, 0.1))))
		if err != nil {
			t.Fatal(err)
		}
		g.whenTried(t, info.ID, 1)
		g.stop()
		proof := filepath.Join(dir, "uploads", r.ID.String()+".proof")
		if raw, err := os.ReadFile(proof); err != nil || len(raw) == 0 {
			t.Fatalf("%s: %d bytes, %v", name, len(raw), err)
		}
		if gone {
			if err := os.Remove(proof); err != nil {
				t.Fatal(err)
			}
		}
		p.carry.Store(1 << 40)
		g = w.guest(t, dir, agent, key, nil)
		info = g.wait(t, info.ID)
		switch {
		case !gone && info.State != jobs.Done:
			t.Errorf("%s: %+v", name, info)
		case gone && (info.State != jobs.Dead || info.Reason != normproof.ReasonNotProven || !strings.Contains(info.Detail, "is gone")):
			t.Errorf("%s: %+v", name, info)
		}
	}
}

// A proof names the agent's key: with another one at its end, it is made anew.
func TestAProofIsOfTheKeyThatSigns(t *testing.T) {
	longtest.Run(t, "it makes keys of a circuit and proves with them")
	w, _, r, _ := openNorm(t, nil)
	second := w.Agent(t, nil)
	var calls atomic.Int32
	w.sign = func(first *federationtest.Agent) *federationtest.Agent {
		if calls.Add(1) <= 4 { // the round, Submit, the round again, and the beginning of the proof
			return first
		}
		return second
	}
	g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
	if info := g.contribute(t, r, 1, randomVector(1, normLength, 0.1)); info.State != jobs.Done || info.Tries < 2 {
		t.Fatalf("%+v", info)
	}
	list, err := w.agg.Complete(r.ID)
	if err != nil || len(list) != 1 {
		t.Fatalf("%d are admitted, %v", len(list), err)
	}
	c, _, err := federation.VerifyContribution(list[0], w.Roots(), w.Floor(), r)
	if err != nil || c.Agent != digest.Digest(second.Key.Public().ID()) {
		t.Errorf("%+v, %v", c, err)
	}
}
