package fed_test

import (
	"bytes"
	"encoding/json"
	"errors"
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
	"github.com/anchorhold/anchorhold/keybroker/aggregator"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
)

// dishonest closes a round over a sum that the aggregator's disk has another way, and
// decrypts it.
func (w *world) dishonest(t *testing.T, change func(*aggregator.SumManifest)) jobs.Info {
	t.Helper()
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
	w.close(t, r, signed)
	dir := filepath.Join(w.dir, "rounds", r.ID.String())
	files, err := filepath.Glob(filepath.Join(dir, "sums", "*", "manifest"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var sum aggregator.SumManifest
	if err := json.Unmarshal(raw, &sum); err != nil {
		t.Fatal(err)
	}
	change(&sum)
	// The broker signs what it is told, under the name that the aggregator's files have.
	name := federation.CohortDigest(sum.Contributions)
	sum.Cohort = name
	if raw, err = json.Marshal(sum); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(files[0], raw, 0o600), os.Remove(filepath.Join(dir, "ticket"))); err != nil {
		t.Fatal(err)
	}
	if from, to := filepath.Dir(files[0]), filepath.Join(dir, "sums", name.String()); from != to {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	ticket, err := federation.SignTicket(w.EpochKey, w.EpochSigned, federation.Ticket{Round: r.ID, RoundDigest: digest.Of(signed), Broker: w.Epoch.Broker, Epoch: 1,
		Cohort: name, Count: uint32(len(sum.Contributions)), TotalWeight: 3, Sum: federation.UploadDigest(r.ID, sum.Hashes), Time: federationtest.Begin.Add(3 * time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.agg.SetTicket(r.ID, ticket); err != nil {
		t.Fatal(err)
	}
	g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), seed)
	info, err := g.Decrypt(t.Context(), 0, r.ID)
	if err != nil {
		t.Fatal(err)
	}
	return g.wait(t, info.ID)
}

// An aggregator that adds a block to its sum, or leaves one out, ends no agent that recounts.
func TestASumOfOtherBlocksIsRefused(t *testing.T) {
	for name, change := range map[string]func(*aggregator.SumManifest){
		"one too many": func(m *aggregator.SumManifest) { m.Hashes = append(m.Hashes, digest.Digest{1}) },
		"one too few":  func(m *aggregator.SumManifest) { m.Hashes = m.Hashes[:1] },
	} {
		if info := newWorld(t).dishonest(t, change); info.State != jobs.Dead || info.Reason != decrypt.ReasonSum {
			t.Errorf("%s: %+v", name, info)
		}
	}
}

// A cohort that names somebody twice is not that many people.
func TestACohortNamesNobodyTwice(t *testing.T) {
	info := newWorld(t).dishonest(t, func(m *aggregator.SumManifest) { m.Contributions[2] = m.Contributions[1] })
	if info.State != jobs.Dead || info.Reason != decrypt.ReasonSum || !strings.Contains(info.Detail, "twice") {
		t.Errorf("%+v", info)
	}
}
