package fed_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/fed"
	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// forTwoHours lets a round run past the leases of its participants.
func forTwoHours(r *federation.Round) { r.Closes = federationtest.Begin.Add(2 * time.Hour) }

// interrupted is a guest that ended when it had signed, and its manifest had not arrived.
type interrupted struct {
	*world
	*line
	r   federation.Round
	dir string
	key *keybuf.Buffer // of its queue
	job jobs.ID
}

// interrupt runs a guest of a world up to there; its vector is v.
func interrupt(t *testing.T, w *world, r federation.Round, v []float32) *interrupted {
	t.Helper()
	i := &interrupted{world: w, line: newLine(t, w.addr), r: r, dir: t.TempDir(), key: federationtest.Seed(t)}
	w.addr = i.Addr().String()
	g := w.guest(t, i.dir, w.Agent(t, nil), i.key, nil)
	if _, err := g.Round(t.Context(), r.ID); err != nil {
		t.Fatal(err)
	}
	i.carry.Store(4000)
	info, err := g.Submit(t.Context(), 7, r.ID, fed.Submission{Weight: 1, Format: fedtask.Float32}, bytes.NewReader(floats(v)))
	if err != nil {
		t.Fatal(err)
	}
	i.job = info.ID
	g.whenTried(t, info.ID, 1)
	g.stop()
	return i
}

// restart begins another run, with a key and a lease of its own, when the lease of the first
// has ended. The line carries so many bytes.
func (i *interrupted) restart(t *testing.T, carry int64) (*guest, *federationtest.Agent) {
	t.Helper()
	i.later.Store(int64(time.Hour))
	i.carry.Store(carry)
	agent := i.Agent(t, nil).Renew(t, i.at(0))
	return i.guest(t, i.dir, agent, i.key, nil), agent
}

// manifest is what the first run signed.
func (i *interrupted) manifest(t *testing.T) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(i.dir, "uploads", i.r.ID.String()+".manifest"))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func parsed(t *testing.T, raw []byte) federation.Manifest {
	t.Helper()
	m, err := federation.ParseManifest(raw)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestAnEndedLeaseIsNoLostContribution: a guest that restarts before its manifest arrived, and
// whose lease ended meanwhile, contributes the very ciphertext that it had signed, under the
// lease that it has; also if it is interrupted again.
func TestAnEndedLeaseIsNoLostContribution(t *testing.T) {
	w := newWorld(t)
	r, signed, seed := w.open(t, forTwoHours)
	v := randomVector(1, length, 1)
	i := interrupt(t, w, r, v)
	before := parsed(t, i.manifest(t))

	g, agent := i.restart(t, 1<<40)
	info := g.wait(t, i.job)
	if info.State != jobs.Done {
		t.Fatalf("%+v", info)
	}
	list, err := w.agg.Complete(r.ID)
	if err != nil || len(list) != 1 {
		t.Fatalf("%d complete, %v", len(list), err)
	}
	c, _, err := federation.VerifyContribution(list[0], w.Roots(), w.Floor(), r)
	if err != nil || c.Upload != federation.UploadDigest(r.ID, before.Hashes) || c.Agent != digest.Digest(agent.Key.Public().ID()) {
		t.Errorf("%+v, %v", c, err)
	}
	var done fed.Contributed
	if err := json.Unmarshal(info.Result, &done); err != nil || done.Contribution != digest.Of(list[0]) {
		t.Errorf("%+v, %v", done, err)
	}
	other := w.guest(t, t.TempDir(), w.Agent(t, nil).Renew(t, w.at(0)), federationtest.Seed(t), nil)
	if info := other.contribute(t, r, 1, v); info.State != jobs.Done {
		t.Fatalf("%+v", info)
	}
	w.later.Store(0)
	w.close(t, r, signed)
	for n, x := range w.mean(t, r, seed) {
		if d := x - v[n]; d > 0.001 || d < -0.001 {
			t.Fatalf("value %d is %g, want %g", n, x, v[n])
		}
	}
}

// TestARestatedContributionGoesOnWithItsBytes: interrupted in its blocks, the second run goes on
// with what it signed again, and does not sign a third time.
func TestARestatedContributionGoesOnWithItsBytes(t *testing.T) {
	w := newWorld(t)
	r, _, _ := w.open(t, forTwoHours)
	i := interrupt(t, w, r, randomVector(1, length, 1))
	g, agent := i.restart(t, 150_000) // both manifests, and not both blocks
	before, err := g.queue.Show(i.job)
	if err != nil {
		t.Fatal(err)
	}
	g.whenTried(t, i.job, before.Tries+1)
	g.stop()
	again, err := os.ReadFile(filepath.Join(i.dir, "uploads", r.ID.String()+".again"))
	if err != nil {
		t.Fatal(err)
	}
	if list := w.agg.Rounds(); len(list) != 1 || list[0].Incomplete != 1 || list[0].Complete != 0 {
		t.Fatalf("it was not interrupted in its blocks: %+v", list)
	}
	i.carry.Store(1 << 40)
	g = w.guest(t, i.dir, agent, i.key, nil)
	if info := g.wait(t, i.job); info.State == jobs.Dead { // a busy machine interrupted it once more than was meant
		if _, err := g.queue.Retry(i.job); err != nil {
			t.Fatal(err)
		}
	}
	if info := g.wait(t, i.job); info.State != jobs.Done {
		t.Fatalf("%+v", info)
	}
	list, err := w.agg.Complete(r.ID)
	if err != nil || len(list) != 1 || !bytes.Equal(list[0], parsed(t, again).Signed) {
		t.Errorf("%d complete, %v", len(list), err)
	}
}

// TestWhatIsNotSignedAgain: what another image or tenant signed, what nobody attested did, and
// what a proof or an answer ties to the key of then.
func TestWhatIsNotSignedAgain(t *testing.T) {
	w := newWorld(t)
	r, signed, _ := w.open(t, func(r *federation.Round) { forTwoHours(r); r.Contributors = protocol.Everyone() })
	i := interrupt(t, w, r, randomVector(1, length, 1))
	own := i.manifest(t)
	g, agent := i.restart(t, 1<<40)
	if info := g.wait(t, i.job); info.State != jobs.Done {
		t.Fatalf("%+v", info)
	}
	by := func(change func(*protocol.LeaseCertificate), also func(*federation.Contribution)) []byte {
		a := w.Agent(t, change)
		raw, _ := a.ContributeWith(t, r, signed, make([]int32, length), also)
		return raw
	}
	plain := func(*federation.Contribution) {}
	for name, tc := range map[string]struct {
		manifest []byte
		want     refusal.Reason
	}{
		"a second time": {own, jobs.ReasonConsumed},
		"another image's": {by(func(c *protocol.LeaseCertificate) {
			c.Registers = []evidence.Register{{Name: evidence.RegisterLaunch, Value: bytes.Repeat([]byte{9}, 48)}}
		}, plain), federation.ReasonOutsideLease},
		"another tenant's": {by(func(c *protocol.LeaseCertificate) { c.Tenant = "another" }, plain), federation.ReasonOutsideLease},
		"with an answer":   {by(nil, func(c *federation.Contribution) { c.Answers = []digest.ReceiptID{{1}} }), federation.ReasonOutsideLease},
		"of this key": {func() []byte {
			raw, _ := agent.ContributeWith(t, r, signed, make([]int32, length), func(c *federation.Contribution) { c.Time = w.at(1) })
			return raw
		}(), federation.ReasonOutsideLease},
		"another broker's": {func() []byte {
			raw, _ := federationtest.New(t).Agent(t, nil).Contribute(t, r, signed, make([]int32, length))
			return raw
		}(), protocol.ReasonBrokerUnknown},
	} {
		_, err := g.Restate(t.Context(), r.ID, tc.manifest)
		if got, _ := refusal.ReasonOf(err); got != tc.want {
			t.Errorf("%s: reason %q, want %q: %v", name, got, tc.want, err)
		}
	}
}

// TestAProvenContributionIsNotSignedAgain: its proof names the key of the first run.
func TestAProvenContributionIsNotSignedAgain(t *testing.T) {
	w, _, r, _ := openNorm(t, forTwoHours)
	i := interrupt(t, w, r, randomVector(1, normLength, 0.1))
	g, _ := i.restart(t, 1<<40)
	if info := g.wait(t, i.job); info.State != jobs.Dead || info.Reason != federation.ReasonOutsideLease {
		t.Errorf("%+v", info)
	}
}
