package fed_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/fed"
	"github.com/anchorhold/anchorhold/agent/fed/decrypt"
	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/hadamard"
	"github.com/anchorhold/anchorhold/crypto/he/ckks"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/he/rlwe"
	"github.com/anchorhold/anchorhold/crypto/keybuf/keybuftest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/aggregator"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// A whole round through workers, aggregator and decryption: the mean is the mean.
func TestWeightedMeanOfARound(t *testing.T) {
	if longtest.All() && !keybuftest.Alone(t) {
		return
	}
	w := newWorld(t)
	r, signed, seed := w.open(t, func(r *federation.Round) { r.MaxWeight = 3 })
	want := make([]float64, length)
	for p, weight := range []uint32{1, 3} {
		v := randomVector(uint64(p), length, 1)
		for i, x := range v {
			want[i] += float64(x) * float64(weight) / 4
		}
		g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
		info, err := g.Submit(t.Context(), 7, r.ID, fed.Submission{Weight: weight, Format: fedtask.Float32}, bytes.NewReader(floats(v)))
		if err != nil {
			t.Fatal(err)
		}
		if info = g.wait(t, info.ID); info.State != jobs.Done || info.Owner != 7 {
			t.Fatalf("contribution: %+v", info)
		}
		var done fed.Contributed
		if err := json.Unmarshal(info.Result, &done); err != nil || done.Scaled || done.Clamped != 0 {
			t.Errorf("%+v, %v", done, err)
		}
		again, err := g.Submit(t.Context(), 7, r.ID, fed.Submission{Weight: weight, Format: fedtask.Float32}, bytes.NewReader(floats(v)))
		if err != nil || again.ID != info.ID || again.State != jobs.Done {
			t.Errorf("the same vector again: %+v, %v", again, err)
		}
		other, err := g.Submit(t.Context(), 7, r.ID, fed.Submission{Weight: weight, Format: fedtask.Float32}, bytes.NewReader(floats(randomVector(99, length, 1))))
		if err != nil {
			t.Fatal(err)
		}
		if other = g.wait(t, other.ID); other.State != jobs.Dead || other.Reason != fed.ReasonContributed {
			t.Errorf("a second vector: %+v", other)
		}
		for _, pattern := range []string{"spool/*", "uploads/*.blocks", "uploads/.new-*", "results/*"} {
			if left, err := filepath.Glob(filepath.Join(g.dir, pattern)); err != nil || len(left) > 1 || len(left) == 1 && pattern != "spool/*" {
				t.Errorf("left behind: %v, %v", left, err)
			}
		}
	}
	w.close(t, r, signed)
	before := keybuftest.Copies(t, seed) // of who made the key, in this process
	got := w.mean(t, r, seed)
	if found := keybuftest.Copies(t, seed); longtest.All() && len(found) > len(before) { // else the worker's, who keeps it till its end, are there
		t.Errorf("the round's key was in memory %d times and is %d times after it was used: %q", len(before), len(found), found)
	}
	if len(got) != length {
		t.Fatalf("%d values", len(got))
	}
	flood, err := r.Flood(2)
	if err != nil {
		t.Fatal(err)
	}
	g, err := r.Grid()
	if err != nil {
		t.Fatal(err)
	}
	sd := flood * g.Step * 3 / 4 // MaxWeight/TotalWeight
	square := 0.0
	for i := range got {
		d := float64(got[i]) - want[i]
		square += d * d
	}
	if rms := math.Sqrt(square / length); rms > 1.1*sd || rms < 0.9*sd {
		t.Errorf("error %g, the noise that hides the decryption's own is %g", rms, sd)
	}
	// What is said of the published mean is of the weights that there were.
	result, err := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil).Result(t.Context(), r.ID)
	if e := result.ExpectedError; err != nil || e.Cohort != 2 || e.TotalWeight != 4 || math.Abs(e.PerValue/math.Sqrt(square/length)-1) > 0.1 {
		t.Errorf("%+v, %v; the mean is off by %g a value", result, err, math.Sqrt(square/length))
	}
	// The same sum decrypts to the same values, in another guest.
	if again := w.mean(t, r, seed); !bytes.Equal(floats(again), floats(got)) {
		t.Error("a second decryption gave other values")
	}
}

// A vector beyond the bounds is inside them when it leaves.
func TestNormBoundIsEnforced(t *testing.T) {
	w := newWorld(t)
	r, signed, seed := w.open(t, func(r *federation.Round) { r.ClipL2, r.ClipLinf = 2, 0.5 })
	big := make([]float32, length)
	for i := range big {
		big[i] = 100
	}
	spike := make([]float32, length)
	spike[5] = 3
	for i, v := range [][]float32{big, spike} {
		g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
		info, err := g.Submit(t.Context(), 7, r.ID, fed.Submission{Weight: 1, Format: fedtask.Float32}, bytes.NewReader(floats(v)))
		if err != nil {
			t.Fatal(err)
		}
		info = g.wait(t, info.ID)
		var done fed.Contributed
		if err := json.Unmarshal(info.Result, &done); err != nil || !done.Scaled || (i == 1) != (done.Clamped == 1) {
			t.Errorf("vector %d: %+v, %v", i, done, err)
		}
	}
	w.close(t, r, signed)
	mean := w.mean(t, r, seed)
	if got := float64(mean[5]); math.Abs(got-(0.5+2/math.Sqrt(length))/2) > 0.01 {
		t.Errorf("the clamped value is %g", got)
	}
	got := 0.0 // one value is hidden by noise, their mean is not
	for _, v := range mean[6:] {
		got += float64(v) / (length - 6)
	}
	if want := 1 / math.Sqrt(length); math.Abs(got-want) > 0.001*want {
		t.Errorf("a scaled value is %g, want %g", got, want)
	}
}

// A client may want to be told instead of clipped.
func TestStrictSubmissionRefusesAnExcessiveNorm(t *testing.T) {
	w := newWorld(t)
	r, _, _ := w.open(t, func(r *federation.Round) { r.ClipL2, r.ClipLinf = 2, 2 })
	g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
	v := make([]float32, length)
	v[0] = 2.5
	_, err := g.Submit(t.Context(), 1, r.ID, fed.Submission{Weight: 1, Format: fedtask.Float32, Strict: true}, bytes.NewReader(floats(v)))
	if reason, _ := refusal.ReasonOf(err); reason != fed.ReasonNorm {
		t.Errorf("%v", err)
	}
	if left, err := filepath.Glob(filepath.Join(g.dir, "spool", "*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	v[0] = 1.9
	if _, err := g.Submit(t.Context(), 1, r.ID, fed.Submission{Weight: 1, Format: fedtask.Float32, Strict: true}, bytes.NewReader(floats(v))); err != nil {
		t.Error(err)
	}
}

// In a rotated round the bound of a value is of rotated values: what stands out in a vector is
// inside it, what is rotated onto one place is not, and a strict client is told.
func TestStrictSubmissionLooksAtRotatedValues(t *testing.T) {
	w := newWorld(t)
	r, signed, seed := w.open(t, func(r *federation.Round) {
		r.ClipL2, r.ClipLinf, r.Rotation = 2, federation.SafeClipLinf(2, rlwe.BlockValues), &federation.Rotation{Seed: digest.Digest{1}}
	})
	strict := fed.Submission{Weight: 1, Format: fedtask.Float32, Strict: true}
	spike := make([]float32, length)
	spike[length-1] = 1.9
	// A row of the matrix, with the signs of the first block: rotated, it is one value.
	row := make([]int64, rlwe.BlockValues)
	row[3] = 1
	rotation, err := hadamard.New(r.RotationKey(), rlwe.BlockValues)
	if err == nil {
		err = rotation.Gather(0, row)
	}
	if err != nil {
		t.Fatal(err)
	}
	found := make([]float32, length)
	for i, v := range row {
		found[i] = float32(v)
	}
	for name, c := range map[string]struct {
		vector []float32
		want   refusal.Reason
	}{"a spike": {spike, ""}, "what is rotated onto a place": {scaledTo(found, 1.99), fed.ReasonNorm}} {
		g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
		info, err := g.Submit(t.Context(), 1, r.ID, strict, bytes.NewReader(floats(c.vector)))
		if reason, _ := refusal.ReasonOf(err); reason != c.want || c.want != "" && !strings.Contains(err.Error(), "as the round rotates it") {
			t.Errorf("%s: %v", name, err)
		}
		if c.want != "" { // clamped, where nobody is strict
			if info, err = g.Submit(t.Context(), 1, r.ID, fed.Submission{Weight: 1, Format: fedtask.Float32}, bytes.NewReader(floats(c.vector))); err != nil {
				t.Fatal(err)
			}
		}
		var done fed.Contributed
		if info = g.wait(t, info.ID); json.Unmarshal(info.Result, &done) != nil || (c.want != "") != (done.Clamped == 1) {
			t.Errorf("%s: %+v", name, done)
		}
	}
	w.close(t, r, signed)
	got := w.mean(t, r, seed)
	if math.Abs(float64(got[length-1])-1.9/2) > 0.01 {
		t.Errorf("the value that stands out is %g", got[length-1])
	}
	view, err := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil).Round(t.Context(), r.ID)
	if err != nil || !view.Rotated || !(view.ExpectedError.Relative > 0) || view.Adjacency != "" {
		t.Errorf("%+v, %v", view, err)
	}
}

// scaledTo has a norm.
func scaledTo(v []float32, norm float64) []float32 {
	sum := 0.0
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(float64(x) * norm / math.Sqrt(sum))
	}
	return out
}

// What the agent's own configuration demands of parameters is demanded of rounds.
func TestRoundsMustHaveTheConfiguredParameters(t *testing.T) {
	w := newWorld(t)
	r, _, _ := w.open(t, nil)
	for name, demand := range map[string]fed.Demand{"another set": {Set: params.Template}, "more bits": {Set: params.Default, NoiseBits: 30}} {
		g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
		g.Require(demand)
		_, err := g.Submit(t.Context(), 1, r.ID, fed.Submission{Weight: 1, Format: fedtask.Float32}, bytes.NewReader(floats(make([]float32, length))))
		if reason, _ := refusal.ReasonOf(err); reason != federation.ReasonSet {
			t.Errorf("%s: %v", name, err)
		}
		g.Require(fed.Demand{Set: params.Default, NoiseBits: 10})
		if _, err := g.Submit(t.Context(), 1, r.ID, fed.Submission{Weight: 1, Format: fedtask.Float32}, bytes.NewReader(floats(make([]float32, length)))); err != nil {
			t.Error(err)
		}
	}
}

// Each body that is no vector of the round is refused with its reason, and nothing
// stays on disk.
func TestVectorsThatAreRefused(t *testing.T) {
	w := newWorld(t)
	r, _, _ := w.open(t, nil)
	g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
	nan := make([]float32, length)
	nan[length-1] = float32(math.NaN())
	inf := make([]float32, length)
	inf[0] = float32(math.Inf(-1))
	good := floats(make([]float32, length))
	for name, tc := range map[string]struct {
		body   []byte
		weight uint32
		format fedtask.Format
	}{
		"short": {good[4:], 1, fedtask.Float32}, "long": {append(bytes.Clone(good), 0), 1, fedtask.Float32}, "empty": {nil, 1, fedtask.Float32},
		"nan": {floats(nan), 1, fedtask.Float32}, "infinite": {floats(inf), 1, fedtask.Float32}, "weight": {good, 2, fedtask.Float32},
		"no weight": {good, 0, fedtask.Float32}, "format": {good, 1, "float64"}, "half length": {good, 1, fedtask.Float16},
	} {
		_, err := g.Submit(t.Context(), 1, r.ID, fed.Submission{Weight: tc.weight, Format: tc.format}, bytes.NewReader(tc.body))
		if reason, _ := refusal.ReasonOf(err); reason != fedtask.ReasonVector {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(g.dir, "spool", "*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	_, err := g.Submit(t.Context(), 1, digest.RoundID{9}, fed.Submission{Weight: 1, Format: fedtask.Float32}, bytes.NewReader(good))
	if reason, _ := refusal.ReasonOf(err); reason != aggregator.ReasonUnknownRound {
		t.Errorf("unknown round: %v", err)
	}
	if _, err := g.Result(t.Context(), r.ID); err == nil {
		t.Error("a result before the round closed")
	}
	if _, err := g.Decrypt(t.Context(), 1, r.ID); err == nil {
		t.Error("a decryption before the round closed")
	}
}

// Rules that need contributions apart.
func TestTrimmedMeanAndMedian(t *testing.T) {
	for rule, trim := range map[federation.Rule]uint32{federation.TrimmedMean: 1, federation.Median: 0} {
		w := newWorld(t)
		r, signed, seed := w.open(t, func(r *federation.Round) { r.Rule, r.Trim, r.Minimum = rule, trim, 3 })
		for p, x := range []float32{0.1, -1, 0.2, 1, 0.3} {
			v := make([]float32, length)
			for i := range v {
				v[i] = x
			}
			g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
			info, err := g.Submit(t.Context(), 7, r.ID, fed.Submission{Weight: 1, Format: fedtask.Float32}, bytes.NewReader(floats(v)))
			if err != nil {
				t.Fatal(err)
			}
			if info = g.wait(t, info.ID); info.State != jobs.Done {
				t.Fatalf("participant %d: %+v", p, info)
			}
			g.stop()
		}
		w.close(t, r, signed)
		mean := w.mean(t, r, seed)
		for _, v := range mean {
			if math.Abs(float64(v)-0.2) > 0.01 {
				t.Fatalf("%s is %g", rule, v)
			}
		}
	}
}

// A recounted round gives the same; an aggregator that counts one contribution
// twice is found out, and its sum is not opened.
func TestRecountFindsADishonestAggregator(t *testing.T) {
	for _, honest := range []bool{true, false} {
		w := newWorld(t)
		r, signed, seed := w.open(t, func(r *federation.Round) { r.Recount = true })
		for p := range 3 {
			g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
			info, err := g.Submit(t.Context(), 7, r.ID, fed.Submission{Weight: 1, Format: fedtask.Float32}, bytes.NewReader(floats(randomVector(uint64(p), length, 1))))
			if err != nil {
				t.Fatal(err)
			}
			if info = g.wait(t, info.ID); info.State != jobs.Done {
				t.Fatalf("contribution: %+v", info)
			}
			g.stop()
		}
		if honest {
			w.close(t, r, signed)
			if v := w.mean(t, r, seed); len(v) != length {
				t.Errorf("%d values", len(v))
			}
			continue
		}
		// The aggregator's disk: the second upload is replaced by the first one after
		// both were checked, so that the sum has the first one twice.
		files, err := filepath.Glob(filepath.Join(w.dir, "rounds", r.ID.String(), "uploads", "*", "blocks"))
		if err != nil || len(files) != 3 {
			t.Fatalf("%v, %v", files, err)
		}
		whole, err := os.ReadFile(files[1])
		if err != nil {
			t.Fatal(err)
		}
		first, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(files[1], first, 0o600); err != nil {
			t.Fatal(err)
		}
		w.close(t, r, signed)
		if err := os.WriteFile(files[1], whole, 0o600); err != nil {
			t.Fatal(err)
		}
		g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), seed)
		info, err := g.Decrypt(t.Context(), 0, r.ID)
		if err != nil {
			t.Fatal(err)
		}
		if info = g.wait(t, info.ID); info.State != jobs.Dead || info.Reason != decrypt.ReasonSum {
			t.Errorf("a wrong sum was opened: %+v", info)
		}
	}
}

// The key of a round ends with the lease that brought it, also where its worker or the line
// before it takes longer: the try ends, and the next one asks for another lease.
func TestARoundsKeyEndsWithItsLease(t *testing.T) {
	w := newWorld(t)
	r, signed, seed := w.open(t, nil)
	for i := range 3 {
		g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
		info, err := g.Submit(t.Context(), 0, r.ID, fed.Submission{Weight: 1, Format: fedtask.Float32}, bytes.NewReader(floats(randomVector(uint64(i), length, 0.01))))
		if err != nil {
			t.Fatal(err)
		}
		if info = g.wait(t, info.ID); info.State != jobs.Done {
			t.Fatalf("contribution: %+v", info)
		}
		g.stop()
	}
	w.close(t, r, signed)
	w.leases = -time.Second // over when it arrives
	g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), seed)
	info, err := g.Decrypt(t.Context(), 0, r.ID)
	if err != nil {
		t.Fatal(err)
	}
	g.whenTried(t, info.ID, 1)
	if info, err = g.queue.Show(info.ID); err != nil || info.Reason != "lease-expired" || info.Final() {
		t.Errorf("%+v %v", info, err)
	}
	g.stop()
	if len(w.released) != 1 || w.released[0].Len() != 0 {
		t.Errorf("%d keys, the first has %d bytes after its lease", len(w.released), w.released[0].Len())
	}
}

// TestAPanicIsTheTrysFailure: the agent goes on, and the job is tried again.
func TestAPanicIsTheTrysFailure(t *testing.T) {
	w := newWorld(t)
	r, _, _ := w.open(t, nil)
	w.sign = func(*federationtest.Agent) *federationtest.Agent { panic("nobody foresaw this") }
	g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
	info, _, err := g.queue.Submit(t.Context(), jobs.Job{Class: fedtask.ClassDecrypt, Spec: fmt.Appendf(nil, `{"round":%q}`, r.ID), Memory: 256 << 20, TimeMax: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	g.whenTried(t, info.ID, 1)
	if info, err = g.queue.Show(info.ID); err != nil || info.Exit != jobs.Crash || !strings.Contains(info.Detail, "panic: of type string in fed_test.") {
		t.Errorf("%+v, %v", info, err)
	}
}

// The template's set, through the same code.
func TestTemplateSet(t *testing.T) {
	w := newWorld(t)
	seed := federationtest.Seed(t)
	set, err := params.Lookup(params.Template)
	if err != nil {
		t.Fatal(err)
	}
	secret, public, err := ckks.GenerateKey(ckks.Template(), seed)
	if err != nil {
		t.Fatal(err)
	}
	secret.Wipe()
	r, signed, _ := w.open(t, func(r *federation.Round) { r.Set, r.SetDigest, r.PublicKey = set.ID, set.Digest(), public })
	want := make([]float64, length)
	for p := range 2 {
		v := randomVector(uint64(p), length, 1)
		for i, x := range v {
			want[i] += float64(x) / 2
		}
		g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
		info, err := g.Submit(t.Context(), 7, r.ID, fed.Submission{Weight: 1, Format: fedtask.Float32}, bytes.NewReader(floats(v)))
		if err != nil {
			t.Fatal(err)
		}
		if info = g.wait(t, info.ID); info.State != jobs.Done {
			t.Fatalf("contribution: %+v", info)
		}
	}
	w.close(t, r, signed)
	g, err := r.Grid()
	if err != nil {
		t.Fatal(err)
	}
	flood, err := r.Flood(2)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range w.mean(t, r, seed) {
		if math.Abs(float64(v)-want[i]) > 8*flood*g.Step/2 {
			t.Fatalf("value %d is %g, want %g", i, v, want[i])
		}
	}
}

// TestADecryptionWaitsForTheAgentsPace: it spends no try meanwhile, and the owner reads why.
func TestADecryptionWaitsForTheAgentsPace(t *testing.T) {
	w := newWorld(t)
	r, signed, seed := w.open(t, nil)
	for i := range 2 {
		g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
		info, err := g.Submit(t.Context(), 1, r.ID, fed.Submission{Weight: 1, Format: fedtask.Float32}, bytes.NewReader(floats(randomVector(uint64(i), length, 0.1))))
		if err != nil {
			t.Fatal(err)
		}
		g.wait(t, info.ID)
	}
	w.close(t, r, signed)
	asked, seen, why := 0, make(chan struct{}), refusal.New("round-key-paced", "not yet")
	w.postpone = func() error {
		if asked++; asked > 2*jobs.MaxTries {
			<-seen
			return nil
		}
		return &jobs.Postponed{Pause: time.Millisecond, Err: why}
	}
	g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), seed)
	info, err := g.Decrypt(t.Context(), 1000, r.ID)
	if err != nil {
		t.Fatal(err)
	}
	for info.Reason != "round-key-paced" {
		if info, err = g.queue.Show(info.ID); err != nil || info.Final() {
			t.Fatalf("%+v, %v", info, err)
		}
	}
	close(seen)
	if info = g.wait(t, info.ID); info.State != jobs.Done || info.Tries != 1 {
		t.Errorf("%+v", info)
	}
}
