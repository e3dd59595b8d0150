package model

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/aggregator"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
)

// world is everything that a trail speaks of, as it really is.
type world struct {
	*testing.T
	clock   clock
	broker  *broker
	agg     *aggregator.Aggregator
	guests  map[string]*running
	rounds  [3]round // by the trail's number, from 1
	request operator.EpochRequest
	stolen  stolen
}

// round is a round of the trail, and what its members made.
type round struct {
	rounds.Status
	tenant int
	sent   map[string]digest.Digest // contributions at the aggregator, by guest
	ticket []byte
	saved  string // a copy of the broker's state from before the round was closed
}

// newWorld starts broker and aggregator, and boots the guests.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, guests: map[string]*running{}}
	w.broker = newBroker(t, &w.clock)
	for _, g := range []guest{alice, bob, eve, carol, mallory} {
		w.guests[g.name] = g.boot(t)
	}
	w.copyForTheft()
	var err error
	w.agg, err = aggregator.New(aggregator.Config{StateDir: t.TempDir(), Roots: w.roots(), Logger: slog.New(slog.DiscardHandler), Now: w.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) roots() []identity.Public { return []identity.Public{w.broker.root.Public()} }

func (w *world) now() protocol.Time { return protocol.TimeOf(w.clock.now()) }

// reasonOf is the code of a refusal, from whichever end it comes.
func reasonOf(err error) refusal.Reason {
	if e, ok := errors.AsType[*client.Error](err); ok {
		return e.Reason
	}
	if e, ok := errors.AsType[*operator.Error](err); ok {
		return refusal.Reason(e.Code)
	}
	reason, _ := refusal.ReasonOf(err)
	return reason
}

// do takes one step. It returns the refusal, and fails the test where the trail says what
// this world does not know.
func (w *world) do(s Step) error {
	w.Helper()
	number := func(name string) int {
		n, err := s.Number(name)
		if err != nil {
			w.Fatal(err)
		}
		return n
	}
	who, r := w.guests[s.Arg("agent")], &w.rounds[number("round")]
	switch s.Verb {
	case "tick":
		w.clock.move(tick)
		return nil
	case "prepare", "activate", "retire":
		return w.rotate(s.Verb, uint64(number("epoch")), uint64(number("min")))
	case "attest", "renew":
		return who.acquire(w.T, w.broker.address, w.broker.made, who.resource(number("model")))
	case "open":
		return w.open(r, number("round"), number("tenant"), number("epoch"))
	case "contribute":
		return w.contribute(r, who)
	case "admit":
		return w.admit(r, w.contribution(*r, who, who.Agent).signed)
	case "close":
		return w.close(r, number("cohort"))
	case "restore-epochs":
		return w.restoreEpochs()
	case "restore":
		return w.restore(r, number("log") == 1)
	case "release":
		return who.acquire(w.T, w.broker.address, w.broker.made, r.Round.Resource())
	case "publish":
		return w.agg.SetResult(r.Round.ID, w.result(*r, who.Agent, number("values")))
	case "finish":
		_, err := w.broker.op.FinishRound(w.Context(), r.Round.ID, w.result(*r, who.Agent, number("values")))
		return err
	case "receipt":
		return w.receipt(who.Agent, number("model"), 1)
	}
	return w.steal(s, r)
}

// rotate is what the root and whoever commands the broker do with epoch 2, and the end of
// either.
func (w *world) rotate(verb string, epoch, minimum uint64) (err error) {
	ctx := w.Context()
	switch verb {
	case "prepare":
		w.request, err = w.broker.op.PrepareEpoch(ctx)
	case "activate":
		var signed []byte
		begin := w.stolen.begin
		signed, err = statedir.CertifyEpoch(w.broker.root, statedir.Certificate{Epoch: epoch, MinEpoch: minimum, Key: w.request.Key, AuditKey: w.request.AuditKey,
			NotBefore: begin.Add(tick), NotAfter: begin.Add(1000 * tick)})
		if err == nil {
			_, err = w.broker.op.ActivateEpoch(ctx, signed)
		}
	case "retire":
		err = w.broker.op.RetireEpoch(ctx, epoch)
	}
	return err
}

// restoreEpochs puts the directory of epochs back as it was before epoch 2. The broker does
// not run meanwhile.
func (w *world) restoreEpochs() error {
	w.Helper()
	w.broker.stop()
	newer, err := filepath.Glob(filepath.Join(w.broker.made.Layout.Epochs(), "00000002.*"))
	for _, name := range newer {
		err = errors.Join(err, os.Remove(name))
	}
	if err != nil || len(newer) != 2 {
		w.Fatalf("%q, %v", newer, err)
	}
	w.broker.start()
	return nil
}

// open opens a round and gives it to the aggregator. A round has all that its account may
// spend, and ends with its epoch at the latest. Tenant 1's rounds are charged to the account
// of all that name no model, tenant 2's to its model, in whatever version.
func (w *world) open(r *round, number, tenant, epoch int) (err error) {
	duration := 2 * tick
	if end := w.stolen.begin.Add(2 * tick).Sub(w.clock.now()); epoch == 1 {
		// The broker counts from when it is asked: on a busy machine, some seconds from here.
		duration = min(duration, end.Truncate(time.Second)-time.Minute)
	}
	members, decryptor, model := protocol.Audience{Tenants: []string{alice.tenant}}, bob, []byte(nil)
	if r.tenant = tenant; tenant == 2 {
		members, decryptor, model = protocol.Audience{Tenants: []string{eve.tenant}}, eve, federationtest.Sealed(w.T, w.broker.publisher, "model-2", uint64(number+1))
	}
	_, image := decryptor.started(w.T)
	r.Status, err = w.broker.op.OpenRound(w.Context(), rounds.Spec{Model: fmt.Sprintf("name-%d", number), Sealed: model, Length: 50, ClipL2: 1, Epsilon: 1, Duration: duration, PerGuest: 8,
		Contributors: members, Decryptors: protocol.Audience{Images: []evidence.ImageDigest{image}}})
	if err != nil {
		return err
	}
	r.sent = map[string]digest.Digest{}
	_, err = w.agg.AddRound(r.Signed)
	return err
}

// companion is who contributes to every round of a tenant.
// read reads a file.
func (w *world) read(name string) []byte {
	w.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		w.Fatal(err)
	}
	return data
}

func (w *world) companion(r round) *running {
	if r.tenant == 2 {
		return w.guests[mallory.name]
	}
	return w.guests[carol.name]
}

// upload is a contribution and its ciphertext.
type upload struct {
	manifest, signed, blocks []byte
}

// contribution signs an update of a guest under a lease.
func (w *world) contribution(r round, who *running, under agent) upload {
	w.Helper()
	var u upload
	values := make([]int32, r.Round.Length)
	values[0] = int32(who.chip)
	u.manifest, u.blocks = under.ContributeWith(w.T, r.Round, r.Signed, values, func(c *federation.Contribution) { c.Time = w.now() })
	m, err := federation.ParseManifest(u.manifest)
	if err != nil {
		w.Fatal(err)
	}
	u.signed = m.Signed
	return u
}

func (w *world) contribute(r *round, who *running) error {
	w.Helper()
	companion := w.companion(*r)
	if len(r.sent) == 0 && who != companion {
		if err := companion.acquire(w.T, w.broker.address, w.broker.made, companion.resource(0)); err != nil {
			w.Fatal(err)
		}
		if err := w.contribute(r, companion); err != nil {
			w.Fatal(err)
		}
	}
	u := w.contribution(*r, who, who.Agent)
	status, err := w.agg.Begin(r.Round.ID, u.manifest)
	if err != nil {
		return err
	}
	if _, err := w.agg.Receive(r.Round.ID, status.Contribution, 0, bytes.NewReader(u.blocks)); err != nil {
		return err
	}
	r.sent[who.name] = digest.Of(u.signed)
	return nil
}

func (w *world) admit(r *round, signed ...[]byte) error {
	list, err := w.broker.op.AdmitContributions(w.Context(), r.Round.ID, signed)
	if err != nil {
		return err
	}
	for _, a := range list {
		if a.Reason != "" {
			return refusal.New(a.Reason, "%s", a.Detail)
		}
	}
	return nil
}

// close closes a round over the cohort that the trail names by a bit for each guest, and
// the companion.
func (w *world) close(r *round, mask int) error {
	w.Helper()
	if r.saved == "" {
		r.saved = w.TempDir()
		if err := copyState(string(w.broker.made.Layout), r.saved); err != nil {
			w.Fatal(err)
		}
	}
	complete, err := w.agg.Complete(r.Round.ID)
	if err != nil {
		w.Fatal(err)
	}
	cohort := []digest.Digest{r.sent[w.companion(*r).name]}
	for i, g := range []guest{alice, bob, eve} {
		if mask&(1<<i) != 0 {
			cohort = append(cohort, r.sent[g.name])
		}
	}
	if err := w.admit(r, complete...); err != nil {
		return err
	}
	sum, err := w.agg.Sum(w.Context(), r.Round.ID, cohort, nil)
	if err != nil {
		w.Fatal(err)
	}
	ticket, err := w.broker.op.CloseRound(w.Context(), r.Round.ID, rounds.Closing{Cohort: cohort, Sum: federation.UploadDigest(r.Round.ID, sum.Hashes)})
	if err != nil {
		return err
	}
	if r.ticket != nil && !bytes.Equal(ticket, r.ticket) {
		w.Errorf("the broker signed a second ticket for round %s", r.Round.ID)
	}
	r.ticket = ticket
	return w.agg.SetTicket(r.Round.ID, ticket)
}

// restore puts the store back that was copied before the round closed, and with log the
// audit log as well. The broker does not run meanwhile.
func (w *world) restore(r *round, log bool) error {
	w.Helper()
	w.broker.stop()
	name := filepath.Base(w.broker.made.Layout.Rounds())
	err := copyState(filepath.Join(r.saved, name), w.broker.made.Layout.Rounds())
	if log {
		dir := w.broker.made.Layout.Audit()
		err = errors.Join(err, os.RemoveAll(dir), copyState(filepath.Join(r.saved, filepath.Base(dir)), dir))
	}
	if err != nil {
		w.Fatal(err)
	}
	w.broker.start()
	return nil
}

// result is what a guest signs about the values that it publishes.
func (w *world) result(r round, under agent, values int) []byte {
	w.Helper()
	step, sigma, err := r.Round.Published()
	if err != nil {
		w.Fatal(err)
	}
	signed, err := federation.SignResult(under.Key, under.Chain, federation.Result{Round: r.Round.ID, RoundDigest: digest.Of(r.Signed),
		TicketDigest: digest.Of(r.ticket), Agent: under.Key.Public().ID(), Length: r.Round.Length, Values: digest.Digest{byte(values)},
		Step: step, Divisor: 2, Sigma: sigma, Time: w.now()})
	if err != nil {
		w.Fatal(err)
	}
	return signed
}

// receipt has a guest sign a receipt for a model, and an auditor verify it.
func (w *world) receipt(under agent, model int, floor uint64) error {
	w.Helper()
	lease := w.lease(under.Chain)
	id, err := receipt.NewID()
	if err != nil {
		w.Fatal(err)
	}
	r, err := receipt.Sign(under.Key, receipt.Body{ID: id, ModelID: modelID(model), ModelName: "model", ModelVersion: 1, LeaseID: lease.Lease,
		EvidenceDigest: lease.EvidenceDigest, Time: lease.NotBefore}, under.Chain)
	if err != nil {
		w.Fatal(err)
	}
	_, err = receipt.Verify(r, w.roots(), receipt.Options{Expect: receipt.Expect{MinEpoch: floor}})
	return err
}

// lease reads the certificate of a chain.
func (w *world) lease(chain []byte) protocol.LeaseCertificate {
	w.Helper()
	for _, role := range []protocol.Role{protocol.RoleServe, protocol.RoleContribute} {
		a, err := protocol.VerifyAuthority(chain, w.roots(), protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1)), role, protocol.NoResource(), protocol.Everyone())
		if err == nil {
			return a.Lease
		}
	}
	w.Fatal("the chain does not verify")
	return protocol.LeaseCertificate{}
}
