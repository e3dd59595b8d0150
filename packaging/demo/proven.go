package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
)

// provenMembers take part in the round that admits only proven updates; each serves the
// digits classifier too.
const provenMembers = 3

// federate sets up a second deployment beside the first: a broker with rounds and a registry, an
// aggregator that verifies norms, and guests that prove.
func (d *proofDemo) federate(ctx context.Context) (string, error) {
	if err := errors.Join(d.agent.stop(), d.broker.stop()); err != nil {
		return "", err
	}
	registry, err := freePort()
	if err != nil {
		return "", err
	}
	f := &deployment{demo: *newDemo(d.opt), participants: provenMembers, minimum: 2, memory: 64}
	f.dir = d.path("federation")
	d.fed = f
	f.brokerExtra = fmt.Sprintf("proofs: {listen: %q, allow_development: true}\n", registry)
	f.aggregatorExtra = fmt.Sprintf("norm_keys: %s\nallow_development_setup: true\n", d.path("norm-keys"))
	f.guestExtra = func(i int) string {
		if i == f.decryptor() {
			return ""
		}
		return fmt.Sprintf("classifiers:\n  - {name: digits, path: %s, resource: models/demo, publisher: %s, minimum_version: 1}\nproofs: {keys: %s, mode: on-demand, registry: %q, allow_development_setup: true, memory_mb: 512}\n",
			d.path("model.ahm"), d.path("publisher.key.pub"), d.path("all-keys"), registry)
	}
	if err := os.Mkdir(f.dir, 0o700); err != nil {
		return "", err
	}
	out, err := d.tool(ctx, "proof", "setup", "--gradient", fmt.Sprint(digitsLength), "--bits", "8", "--out", d.path("norm-keys"), "--json")
	if err != nil {
		return "", err
	}
	var set struct {
		Constraints int `json:"constraints"`
	}
	if err := errors.Join(json.Unmarshal(out, &set), os.CopyFS(d.path("all-keys"), os.DirFS(d.path("keys"))), os.CopyFS(d.path("all-keys"), os.DirFS(d.path("norm-keys")))); err != nil {
		return "", err
	}
	for _, do := range []func(context.Context) (string, error){f.makeParties, f.startFedBroker, f.importFedPolicy, f.startAggregator} {
		if _, err := do(ctx); err != nil {
			return "", err
		}
	}
	if _, err := f.tool(ctx, "secret", "put", "models/demo", "--file", d.path("model.key"), "--model-id", d.modelID, "--broker", f.path("operator.sock")); err != nil {
		return "", err
	}
	if _, err := f.startGuests(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d guests that serve the classifier, a decrypting one, an aggregator that verifies norms\nkeys for updates of %d values of 8 bits: %d constraints", provenMembers, digitsLength, set.Constraints), nil
}

// vector writes an update whose norm is as given, and returns it.
func (d *proofDemo) vector(name string, i int, norm float64) ([]float64, error) {
	v, square := make([]float64, digitsLength), 0.0
	for k := range v {
		v[k] = math.Sin(float64(k*(i+3) + i))
		square += v[k] * v[k]
	}
	raw := make([]byte, 0, 4*len(v))
	for k := range v {
		v[k] *= norm / math.Sqrt(square)
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(v[k])))
	}
	return v, os.WriteFile(d.fed.path(name), raw, 0o600)
}

// updated is what the demo reads of a whole update.
type updated struct {
	Steps []struct {
		Step   string `json:"step"`
		Millis int64  `json:"ms"`
	} `json:"steps"`
	Answer inferred `json:"answer"`
	Job    struct {
		ID    string `json:"id"`
		State string `json:"state"`
	} `json:"job"`
}

// update runs `anchorhold fed update` at one guest: two digits are classified, and a vector sent.
func (d *proofDemo) update(ctx context.Context, i int, file string, extra ...string) (u updated, err error) {
	request := d.fed.path(fmt.Sprintf("request%d.json", i))
	raw, err := json.Marshal(map[string]any{"inputs": []any{map[string]any{"name": "input", "datatype": "FP64", "shape": []int{2, d.rows.Width},
		"data": append(append([]float64{}, d.rows.Row(2*i)...), d.rows.Row(2*i+1)...)}}})
	if err == nil {
		err = os.WriteFile(request, raw, 0o600)
	}
	if err != nil {
		return u, err
	}
	out, err := d.fed.tool(ctx, append([]string{"fed", "update", d.fed.rounds[0], d.fed.path(file), "--model", "digits", "--inputs", request, "--wait", "--json", "--agent", d.fed.socket(i)}, extra...)...)
	if err == nil {
		err = json.Unmarshal(out, &u)
	}
	return u, err
}

// refuseOverNorm opens the round and sends an update of four times the norm that it allows.
func (d *proofDemo) refuseOverNorm(ctx context.Context) (string, error) {
	if _, err := d.fed.openRound(ctx, "--norm-keys", d.path("norm-keys")); err != nil {
		return "", err
	}
	if _, err := d.vector("large.f32", 0, 4*clipL2); err != nil {
		return "", err
	}
	_, err := d.update(ctx, 0, "large.f32", "--strict")
	return refused(err, "update-gradient-failed")
}

// refuseUnproven has a guest's update fail at the proof of its answers, whose keys nobody registered, and
// then sends what it had encrypted and signed by itself, as who holds its disk could.
func (d *proofDemo) refuseUnproven(ctx context.Context) (string, error) {
	last := provenMembers - 1
	if _, err := d.vector("last.f32", last, clipL2/2); err != nil {
		return "", err
	}
	_, err := d.update(ctx, last, "last.f32")
	step, err := refused(err, "update-proof-failed")
	if err != nil {
		return "", err
	}
	if !strings.Contains(step, "key-not-registered") {
		return "", fmt.Errorf("refused for a different cause: %s", step)
	}
	manifest, err := os.ReadFile(filepath.Join(d.fed.guestDir(last), "jobs", "uploads", d.fed.rounds[0]+".manifest"))
	if err != nil {
		return "", err
	}
	client, err := d.fed.uplink()
	if err != nil {
		return "", err
	}
	defer client.Close()
	round, err := digest.ParseID[digest.Round](d.fed.rounds[0])
	if err != nil {
		return "", err
	}
	_, err = client.Send(ctx, round, manifest, []byte("no proof at all"), strings.NewReader(strings.Repeat("x", 1<<20)), 1<<16, nil)
	copied, err := refused(err, "client-identity-missing")
	return fmt.Sprintf("%s\nits bytes, sent by somebody who had copied them from the guest's disk: %s", step, copied), err
}

// admitProven registers the keys and runs the round: one call each.
func (d *proofDemo) admitProven(ctx context.Context) (string, error) {
	f, last := d.fed, provenMembers-1
	if _, err := f.tool(ctx, "proof", "register", d.path("keys"), "--broker", f.path("operator.sock")); err != nil {
		return "", err
	}
	want := make([]float64, digitsLength)
	add := func(v []float64, err error) error {
		for k, x := range v {
			want[k] += x / provenMembers
		}
		return err
	}
	var note strings.Builder
	var receipts []string
	for i := range last {
		if err := add(d.vector(fmt.Sprintf("update%d.f32", i), i, clipL2*float64(i+1)/4)); err != nil {
			return "", err
		}
		began := time.Now()
		u, err := d.update(ctx, i, fmt.Sprintf("update%d.f32", i))
		if err != nil {
			return "", err
		}
		receipts = append(receipts, u.Answer.Parameters.Receipts...)
		fmt.Fprintf(&note, "guest %d: %d answers, their proofs and the update, proven and encrypted, sent together after %.2f s\n", i, len(u.Answer.Parameters.Receipts), time.Since(began).Seconds())
	}
	// What failed before is tried again: the same bytes, now that the keys are registered.
	if err := add(d.vector("last.f32", last, clipL2/2)); err != nil {
		return "", err
	}
	if err := d.retryLast(ctx); err != nil {
		return "", err
	}
	fmt.Fprintf(&note, "guest %d: its job tried again, with the bytes that it had signed\n", last)
	for _, id := range receipts {
		out, err := f.tool(ctx, "proof", "audit", id, "--json", "--broker", f.path("operator.sock"))
		if err != nil {
			return "", err
		}
		var a audited
		if err := json.Unmarshal(out, &a); err != nil || a.Proof == nil {
			return "", fmt.Errorf("the registry has no proof of answer %s: %w", id, err)
		}
	}
	if err := f.operate(ctx, nil, "fed", "round", "close", f.rounds[0], "--aggregator", f.path("admin.sock")); err != nil {
		return "", err
	}
	if err := f.decryptAt(ctx, f.rounds[0], f.decryptor()); err != nil {
		return "", err
	}
	count, _, err := f.finish(ctx, f.rounds[0])
	if err != nil {
		return "", err
	}
	worst, err := furthest(f.mean(f.rounds[0]), want)
	if err != nil {
		return "", err
	}
	if count != provenMembers || worst > 1e-3 {
		return "", fmt.Errorf("%d updates were admitted, the mean is off by %g", count, worst)
	}
	fmt.Fprintf(&note, "%d of %d admitted; the mean is theirs to %.1e in every value", count, provenMembers, worst)
	return note.String(), nil
}

// retryLast tries the last guest's dead job again and waits for its end.
func (d *proofDemo) retryLast(ctx context.Context) error {
	socket := d.fed.socket(provenMembers - 1)
	out, err := d.fed.tool(ctx, "jobs", "list", "--json", "--agent", socket)
	if err != nil {
		return err
	}
	var list struct {
		Jobs []struct {
			ID    string `json:"id"`
			Class string `json:"class"`
		} `json:"jobs"`
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return err
	}
	for _, j := range list.Jobs {
		if j.Class != "fed-contribute" {
			continue
		}
		if _, err := d.fed.tool(ctx, "jobs", "retry", j.ID, "--agent", socket); err != nil {
			return err
		}
		return d.fed.guests[provenMembers-1].waitFor(ctx, "sent update", time.Minute, func() bool {
			var now struct {
				State string `json:"state"`
			}
			out, err := d.fed.tool(ctx, "jobs", "show", j.ID, "--json", "--agent", socket)
			return err == nil && json.Unmarshal(out, &now) == nil && now.State == "done"
		})
	}
	return errors.New("the job is gone")
}

// furthest is the largest distance of a file of float32 values from what is wanted.
func furthest(path string, want []float64) (float64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close() // read only
	got := make([]float32, len(want))
	if err := binary.Read(f, binary.LittleEndian, got); err != nil {
		return 0, err
	}
	if _, err := f.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return 0, errors.New("the mean is longer than the updates")
	}
	worst := 0.0
	for k, x := range got {
		worst = max(worst, math.Abs(float64(x)-want[k]))
	}
	return worst, nil
}
