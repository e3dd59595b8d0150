package party_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/fed"
	"github.com/anchorhold/anchorhold/agent/fed/decrypt"
	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/fed/party"
	"github.com/anchorhold/anchorhold/agent/fed/roundkey"
	"github.com/anchorhold/anchorhold/agent/fed/store"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/jobs/spool"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/agent/worker/workertest"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/ckks"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/keybuf/keybuftest"
	"github.com/anchorhold/anchorhold/crypto/keywrap"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/aggregator"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/uplink"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

func TestMain(m *testing.M) { os.Exit(workertest.Main(m)) }

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// world is a broker by its keys, one aggregator over real TLS, and agents.
type world struct {
	*federationtest.World
	agg    *aggregator.Aggregator
	tls    *tls.Config
	addr   string
	agents []*agent
}

type agent struct {
	*federationtest.Agent
	*party.Service
	fed        *fed.Service
	decryption *decrypt.Service
	queue      *jobs.Queue
	board      *uplink.Client
	full       error // why nothing more may be written
	stop       func()
}

func newWorld(t *testing.T, agents int) *world {
	t.Helper()
	w := &world{World: federationtest.New(t)}
	var err error
	w.agg, err = aggregator.New(aggregator.Config{StateDir: t.TempDir(), Roots: w.Roots(), Logger: quiet(), Now: func() time.Time { return federationtest.Begin.Add(time.Minute).Time() }})
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM, err := hybridtls.NewCertificate([]string{"127.0.0.1"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	server, err := hybridtls.ServerConfig(pair, hybridtls.ProfileDefault)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	if w.tls, err = hybridtls.ClientConfig("127.0.0.1", pool, hybridtls.ProfileDefault); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	admin, err := net.Listen("unix", filepath.Join(t.TempDir(), "a.sock"))
	if err != nil {
		t.Fatal(err)
	}
	w.addr = listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.agg.Serve(ctx, listener, server, admin) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for range agents {
		w.agents = append(w.agents, w.agent(t))
	}
	return w
}

func (w *world) agent(t *testing.T) *agent {
	t.Helper()
	a := &agent{Agent: w.Agent(t, nil)}
	a.board = uplink.New(w.addr, w.tls, w.Roots(), func() (uplink.Guest, error) {
		return uplink.Guest{Key: a.Key, Chain: a.Chain, Now: federationtest.Begin.Add(2 * time.Minute)}, nil
	})
	pool, err := worker.NewPool(workertest.Runner(t), 1, quiet())
	if err != nil {
		t.Fatal(err)
	}
	dir, key := t.TempDir(), federationtest.Seed(t)
	if a.queue, err = jobs.Open(filepath.Join(dir, "jobs.db"), key, jobs.Options{Boot: "b", Logger: quiet()}); err != nil {
		t.Fatal(err)
	}
	limits := worker.Limits{Memory: 256 << 20, Time: time.Minute}
	sign := func() (attested.Signer, error) {
		return attested.Signer{Key: a.Key, Chain: a.Chain, Now: federationtest.Begin.Add(2 * time.Minute), Broker: a.Lease.Broker, Lowest: protocol.AtLeast(1)}, nil
	}
	shards := []*uplink.Client{a.board}
	a.fed, err = fed.New(fed.Config{Queue: a.queue, Pool: pool, Shards: shards, Files: store.Config{Dir: dir, Key: key, Own: federationtest.Seed(t), Limits: spool.Defaults()}, Logger: quiet(), Limits: limits, Sign: sign})
	if err != nil {
		t.Fatal(err)
	}
	keys := roundkey.New(func(context.Context, []string) (*client.Lease, error) {
		return nil, errors.New("a round of several parties has no key at the broker")
	}, quiet())
	a.decryption, err = decrypt.New(decrypt.Config{Queue: a.queue, Pool: pool, Shards: shards, Rounds: a.fed.Rounds(), Store: a.fed.Store(), Keys: keys, Sign: sign, Limits: limits, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	a.Service, err = party.New(party.Config{Board: a.board, Pool: pool, Sign: sign, Recounted: a.decryption.Recounted, Limits: limits, Own: own, Dir: dir, Poll: 5 * time.Millisecond, Logger: quiet(),
		Room: func(int64) error { return a.full }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { a.Run(ctx) })
	running.Go(func() {
		if err := a.fed.Run(ctx, a.decryption.Do); err != nil {
			t.Error(err)
		}
	})
	a.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		if err := a.queue.Close(); err != nil {
			t.Error(err)
		}
		a.board.Close()
	})
	t.Cleanup(a.stop)
	return a
}

// Local users of an agent: who joined, the agent's own, and another.
const joiner, own, stranger = 7, 8, 9

// poll asks until it is true; what is asked has no other way to tell.
func poll(t *testing.T, done func() bool) {
	t.Helper()
	deadline, tick := time.NewTimer(time.Minute), time.NewTicker(5*time.Millisecond)
	defer deadline.Stop()
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("still not")
		}
	}
}

// await waits until a party leaves the state.
func (a *agent) await(t *testing.T, id digest.RoundID, state party.State) (st party.Status) {
	t.Helper()
	poll(t, func() (left bool) {
		var err error
		if st, err = a.Status(id); err != nil {
			t.Fatal(err)
		}
		return st.State != state
	})
	return st
}

func (a *agent) job(t *testing.T, info jobs.Info, err error) jobs.Info {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	poll(t, func() bool {
		if info, err = a.queue.Show(info.ID); err != nil {
			t.Fatal(err)
		}
		return info.Final()
	})
	return info
}

// setup is a signed set-up of the first agents, at the aggregator.
func (w *world) setup(t *testing.T, threshold, parties int) (federation.Setup, []byte) {
	t.Helper()
	p := federation.Preparation{Threshold: uint32(threshold)}
	for _, a := range w.agents[:parties] {
		p.Agents = append(p.Agents, a.Key.Public().ID())
	}
	s, err := p.Setup(w.Epoch.Broker, 1, federationtest.Begin)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := federation.SignSetup(w.EpochKey, w.EpochSigned, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.agents[0].board.AddSetup(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	return s, signed
}

// key collects what the parties left, as an operator does.
func (w *world) key(t *testing.T, s federation.Setup, signed []byte) *federation.PartyKey {
	t.Helper()
	k := &federation.PartyKey{Setup: signed}
	var shares [][]byte
	board := w.agents[0].board
	for i := range s.Agents {
		public, _, err := board.PartyMessage(t.Context(), w.Floor(), s, digest.Of(signed), federation.PartyPublic, i+1, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, ready, err := board.PartyMessage(t.Context(), w.Floor(), s, digest.Of(signed), federation.PartyReady, i+1, 0)
		if err != nil {
			t.Fatal(err)
		}
		shares, k.Ready = append(shares, public.Payload), append(k.Ready, ready)
	}
	var err error
	k.PublicKey, err = ckks.CombineKeys(ckks.Access{Params: ckks.Threshold(), Round: s.Round, Parties: len(s.Agents), Threshold: int(s.Threshold), Flood: ckks.Flood},
		ckks.CommonSeed(s.Round), shares)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const length = 10_000 // two blocks

// round opens a round under the parties' key.
func (w *world) round(t *testing.T, k *federation.PartyKey) (federation.Round, []byte) {
	t.Helper()
	var failed error
	r, signed, _ := w.Round(t, length, func(r *federation.Round) {
		if failed = k.Adopt(r, w.Roots(), w.Broker(), w.Floor()); failed != nil {
			return
		}
		r.Set, r.Recount, r.ClipL2, r.ClipLinf, r.Maximum = "ckks-16384-threshold", true, 1000, federation.SafeClipLinf(1000, 8192), 8
		r.Rotation = &federation.Rotation{Seed: digest.Digest{1}}
		r.SetDigest, r.Decryptors = mustSet(t), protocol.Audience{}
		r.Noise.Mechanism, r.Noise.Multiplier, r.Epsilon, r.Delta = federation.DiscreteGaussian, 1e-5, 1e6, 1e-5
		r.Noise.Share = r.ShareFor(r.Noise.Multiplier)
	})
	if failed != nil {
		t.Fatal(failed)
	}
	if err := w.agents[0].board.AddRound(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	return r, signed
}

func mustSet(t *testing.T) digest.Digest {
	t.Helper()
	s, err := federation.Preparation{Threshold: 2, Agents: []digest.Digest{{1}, {2}}}.Setup([32]byte{}, 1, federationtest.Begin)
	if err != nil {
		t.Fatal(err)
	}
	return s.SetDigest
}

// close closes the round as broker and aggregator would: over all complete uploads.
func (w *world) close(t *testing.T, r federation.Round, signed []byte) {
	t.Helper()
	list, err := w.agg.Complete(r.ID)
	if err != nil {
		t.Fatal(err)
	}
	var cohort []digest.Digest
	for _, s := range list {
		cohort = append(cohort, digest.Of(s))
	}
	sum, err := w.agg.Sum(t.Context(), r.ID, cohort, nil)
	if err != nil {
		t.Fatal(err)
	}
	ticket, err := federation.SignTicket(w.EpochKey, w.EpochSigned, federation.Ticket{Round: r.ID, RoundDigest: digest.Of(signed), Broker: w.Epoch.Broker, Epoch: 1,
		Cohort: sum.Cohort, Count: uint32(sum.Count), TotalWeight: uint64(sum.Count), Sum: federation.UploadDigest(r.ID, sum.Hashes), Time: federationtest.Begin.Add(3 * time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.agg.SetTicket(r.ID, ticket); err != nil {
		t.Fatal(err)
	}
}

func vector(scale float32) []byte {
	out := make([]byte, 4*length)
	for i := range length {
		binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(scale*float32(i%200-100)/200))
	}
	return out
}

func wantReason(t *testing.T, what string, err error, want refusal.Reason) {
	t.Helper()
	if got, _ := refusal.ReasonOf(err); got != want {
		t.Errorf("%s: %q, want %q: %v", what, got, want, err)
	}
}

// Three agents set up a key; three contribute; two decrypt; one more cannot, and
// nobody twice.
func TestTwoOfThreeDecrypt(t *testing.T) {
	if longtest.All() && !keybuftest.Alone(t) {
		return
	}
	w := newWorld(t, 4)
	s, signed := w.setup(t, 2, 3)
	for _, a := range w.agents[:3] {
		if _, err := a.Join(t.Context(), joiner, s.Round); err != nil {
			t.Fatal(err)
		}
	}
	_, err := w.agents[3].Join(t.Context(), joiner, s.Round)
	wantReason(t, "a stranger joins", err, "client-not-named")
	_, err = w.agents[0].Join(t.Context(), stranger, s.Round)
	wantReason(t, "another user joins", err, party.ReasonNotYours)
	if _, err := w.agents[0].Join(t.Context(), joiner, s.Round); err != nil {
		t.Errorf("who joined joins again: %v", err)
	}
	for _, a := range w.agents[:3] {
		if st := a.await(t, s.Round, party.SettingUp); st.State != party.Ready {
			t.Fatalf("%+v", st)
		}
	}
	secret, err := w.agents[0].Secret(s.Round)
	if err != nil {
		t.Fatal(err)
	}
	r, roundSigned := w.round(t, w.key(t, s, signed))
	for i, a := range w.agents[:3] {
		info, err := a.fed.Submit(t.Context(), 0, r.ID, fed.Submission{Weight: 1, Format: fedtask.Float32}, bytes.NewReader(vector(float32(i+1))))
		if info = a.job(t, info, err); info.State != jobs.Done {
			t.Fatalf("contribution: %+v", info)
		}
	}
	_, err = w.agents[0].Share(t.Context(), joiner, r.ID, []int{1, 3})
	wantReason(t, "before the round is closed", err, "round-not-closed")
	w.close(t, r, roundSigned)
	for _, active := range [][]int{{1}, {1, 2, 3}, {2, 3}, {1, 1}, {1, 4}, {0, 1}, nil} {
		_, err = w.agents[0].Share(t.Context(), joiner, r.ID, active)
		wantReason(t, fmt.Sprint(active), err, party.ReasonActive)
	}
	w.agents[0].full = refusal.New(spool.ReasonDisk, "full")
	_, err = w.agents[0].Share(t.Context(), joiner, r.ID, []int{1, 3})
	wantReason(t, "a full disk", err, spool.ReasonDisk)
	w.agents[0].full = nil // and the secret is there still
	_, err = w.agents[0].Share(t.Context(), stranger, r.ID, []int{1, 2})
	wantReason(t, "another user spends the share", err, party.ReasonNotYours)
	share := func(i int, uid uint32) party.Status {
		if _, err := w.agents[i].Share(t.Context(), uid, r.ID, []int{3, 1}); err != nil {
			t.Fatal(err)
		}
		return w.agents[i].await(t, r.ID, party.Sharing)
	}
	if st := share(0, joiner); st.State != party.Shared {
		t.Fatalf("%+v", st)
	}
	_, err = w.agents[0].Share(t.Context(), joiner, r.ID, []int{1, 2})
	wantReason(t, "a second share", err, party.ReasonUsed)
	for i, part := range secret {
		if found := keybuftest.Copies(t, part); longtest.All() && len(found) > 0 { // else the worker's, who keeps it till its end, may be there
			t.Errorf("part %d of the secret is in memory %d times after its use: %q", i, len(found), found)
		}
		part.Wipe()
	}
	// One share opens nothing.
	info, err := w.agents[0].decryption.Decrypt(t.Context(), 0, r.ID)
	if info = w.agents[0].job(t, info, err); info.State == jobs.Done || info.Reason != decrypt.ReasonShares {
		t.Fatalf("one share: %+v", info)
	}
	if st := share(2, own); st.State != party.Shared {
		t.Fatalf("%+v", st)
	}
	// One party's values are nothing yet; two that say the same publish them.
	for i := range 2 {
		info, err = w.agents[1+i].decryption.Decrypt(t.Context(), 0, r.ID)
		if info = w.agents[1+i].job(t, info, err); info.State != jobs.Done || bytes.Contains(info.Result, []byte(`"awaits_parties":true`)) != (i == 0) {
			t.Fatalf("decryption: %+v %s", info, info.Result)
		}
		if _, err := w.agents[3].decryption.Result(t.Context(), r.ID); (err == nil) != (i == 1) {
			t.Errorf("after %d parties: %v", i+1, err)
		}
	}
	var out bytes.Buffer
	if err := w.agents[3].decryption.Values(t.Context(), 5, r.ID, &out); err != nil {
		t.Fatal(err)
	}
	want := vector(2)
	for i := range length {
		got, mean := math.Float32frombits(binary.LittleEndian.Uint32(out.Bytes()[4*i:])), math.Float32frombits(binary.LittleEndian.Uint32(want[4*i:]))
		if d := math.Abs(float64(got - mean)); !(d < 0.05) {
			t.Fatalf("value %d is %g, not %g", i, got, mean)
		}
	}
}

// A party that lost its secret, by a restart or a failure, says so and cannot begin
// again under the same key.
func TestALostPartyStaysLost(t *testing.T) {
	w := newWorld(t, 2)
	s, signed := w.setup(t, 2, 2)
	if _, err := w.agents[0].Join(t.Context(), joiner, s.Round); err != nil {
		t.Fatal(err)
	}
	for _, uid := range []uint32{joiner, own, 0} {
		_, err := w.agents[0].Share(t.Context(), uid, s.Round, []int{1, 2})
		wantReason(t, fmt.Sprintf("user %d, before it is set up", uid), err, party.ReasonNotReady)
	}
	_, err := w.agents[1].Share(t.Context(), joiner, s.Round, []int{1, 2})
	wantReason(t, "before it joined", err, party.ReasonUnknown)
	// It waits for the other; now it stops, and comes again with the same agent key.
	poll(t, func() bool {
		_, _, err := w.agents[1].board.PartyMessage(t.Context(), w.Floor(), s, digest.Of(signed), federation.PartyCommit, 1, 0)
		return err == nil
	})
	w.agents[0].stop()
	again := w.agent(t)
	again.Key, again.Chain = w.agents[0].Key, w.agents[0].Chain
	if _, err := again.Join(t.Context(), joiner, s.Round); err != nil {
		t.Fatal(err)
	}
	if st := again.await(t, s.Round, party.SettingUp); st.State != party.Failed || st.Reason != "party-message-twice" {
		t.Errorf("after a restart: %+v", st)
	}
	_, err = again.Share(t.Context(), joiner, s.Round, []int{1, 2})
	wantReason(t, "after a failure", err, party.ReasonUsed)
}

// The last party to speak cannot choose its public share after it saw the others'.
func TestAShareThatWasNotCommittedToIsRefused(t *testing.T) {
	w := newWorld(t, 2)
	s, signed := w.setup(t, 2, 2)
	setup := digest.Of(signed)
	if _, err := w.agents[0].Join(t.Context(), joiner, s.Round); err != nil {
		t.Fatal(err)
	}
	evil := liar{w.agents[1], s, setup}
	evil.send(t, federation.PartyMessage{Kind: federation.PartyCommit, Payload: append(make([]byte, 32), kemKey(t)...)}) // commits to zeros
	view, _ := evil.commitments(t, w)
	evil.send(t, federation.PartyMessage{Kind: federation.PartyPublic, View: view, Payload: []byte("a share that makes the key mine")})
	if st := w.agents[0].await(t, s.Round, party.SettingUp); st.State != party.Failed || st.Reason != federation.ReasonParties {
		t.Errorf("%+v", st)
	}
}

// liar is the second of two parties, and dishonest.
type liar struct {
	*agent
	s     federation.Setup
	setup digest.Digest
}

func (l liar) send(t *testing.T, m federation.PartyMessage) {
	t.Helper()
	m.Round, m.Setup, m.From, m.Agent, m.Time = l.s.Round, l.setup, 2, l.Key.Public().ID(), federationtest.Begin.Add(time.Minute)
	raw, err := federation.SignPartyMessage(l.Key, l.Chain, m)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.board.AddPartyMessage(t.Context(), l.s.Round, raw); err != nil {
		t.Fatal(err)
	}
}

// commitments waits for those of both; kem is the other's KEM key.
func (l liar) commitments(t *testing.T, w *world) (view digest.Digest, kem []byte) {
	t.Helper()
	var commits [][]byte
	for from := 1; from <= 2; from++ {
		poll(t, func() bool {
			m, raw, err := l.board.PartyMessage(t.Context(), w.Floor(), l.s, l.setup, federation.PartyCommit, from, 0)
			if err == nil && from == 1 {
				kem = m.Payload[32:]
			}
			commits = append(commits[:from-1], raw)
			return err == nil
		})
	}
	return federation.ViewOf(commits...), kem
}

// What one party sends cannot end another's agent, which is a party of other keys and serves
// others besides: the set-up fails with a reason, and the next key is set up.
func TestADishonestPartyEndsItsOwnKeyAlone(t *testing.T) {
	access := ckks.Access{Params: ckks.Threshold(), Parties: 2, Threshold: 2, Flood: ckks.Flood}
	share := make([]byte, access.PublicShareBytes())
	hash := sha256.Sum256(share)
	shortHash := sha256.Sum256(share[1:])
	honestCommit := append(hash[:], kemKey(t)...)
	for name, lie := range map[string]func(t *testing.T, w *world, l liar){
		"a commitment that holds no KEM key": func(t *testing.T, _ *world, l liar) {
			l.send(t, federation.PartyMessage{Kind: federation.PartyCommit, Payload: append(hash[:], bytes.Repeat([]byte{0xff}, keywrap.PublicKeySize)...)})
		},
		"a public share of another length": func(t *testing.T, w *world, l liar) {
			l.send(t, federation.PartyMessage{Kind: federation.PartyCommit, Payload: append(shortHash[:], kemKey(t)...)})
			view, _ := l.commitments(t, w)
			l.send(t, federation.PartyMessage{Kind: federation.PartyPublic, View: view, Payload: share[1:]})
		},
		"a deal that is another's too": func(t *testing.T, w *world, l liar) {
			l.send(t, federation.PartyMessage{Kind: federation.PartyCommit, Payload: honestCommit})
			view, kem := l.commitments(t, w)
			l.send(t, federation.PartyMessage{Kind: federation.PartyPublic, View: view, Payload: share})
			l.send(t, federation.PartyMessage{Kind: federation.PartyDeal, To: 1, View: view, Payload: deal(t, l.setup, view, kem, 2*access.DealtBytes())})
		},
		"a deal of nothing": func(t *testing.T, w *world, l liar) {
			l.send(t, federation.PartyMessage{Kind: federation.PartyCommit, Payload: honestCommit})
			view, kem := l.commitments(t, w)
			l.send(t, federation.PartyMessage{Kind: federation.PartyPublic, View: view, Payload: share})
			l.send(t, federation.PartyMessage{Kind: federation.PartyDeal, To: 1, View: view, Payload: deal(t, l.setup, view, kem, 0)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 2)
			s, signed := w.setup(t, 2, 2)
			if _, err := w.agents[0].Join(t.Context(), joiner, s.Round); err != nil {
				t.Fatal(err)
			}
			lie(t, w, liar{w.agents[1], s, digest.Of(signed)})
			st := w.agents[0].await(t, s.Round, party.SettingUp)
			if st.State != party.Failed || st.Reason != federation.ReasonParties {
				t.Errorf("%+v", st)
			}
			t.Log(st.Detail)
		})
	}
}

// deal is size bytes for party 1 of party 2, sealed as docs/protocol.md 12.6 says.
func deal(t *testing.T, setup, view digest.Digest, kem []byte, size int) []byte {
	t.Helper()
	key := federationtest.Seed(t)
	info := fmt.Appendf(nil, "anchorhold/fed/deal/1 %s %s 2 1", setup, view)
	enc, wrapped, err := keywrap.Seal(kem, info, key)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := chunkseal.SealBlob(key, "anchorhold/fed/deal/1", info, make([]byte, size))
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat(enc, wrapped, blob)
}

func kemKey(t *testing.T) []byte {
	t.Helper()
	r, err := keywrap.NewRecipient()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Erase)
	return r.PublicKey()
}
