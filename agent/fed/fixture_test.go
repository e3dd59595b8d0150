package fed_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/fed"
	"github.com/anchorhold/anchorhold/agent/fed/decrypt"
	"github.com/anchorhold/anchorhold/agent/fed/normproof"
	"github.com/anchorhold/anchorhold/agent/fed/roundkey"
	"github.com/anchorhold/anchorhold/agent/fed/store"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/jobs/spool"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/agent/worker/workertest"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/keybroker/aggregator"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/uplink"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

func TestMain(m *testing.M) { os.Exit(workertest.Main(m)) }

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// world is a broker by its keys, and one aggregator over real TLS.
type world struct {
	*federationtest.World
	agg *aggregator.Aggregator
	dir string // the aggregator's
	// limit is the time of a try; a minute.
	limit time.Duration
	// answers proves what contributions come with; nobody by default.
	answers fed.Answers
	// leases is how long the lease of a round's key lasts; released are the keys.
	leases   time.Duration
	released []*keybuf.Buffer
	// postpone, if any, says why a round's key is not asked for yet.
	postpone func() error
	// norms are the agents' keys for proofs of norms; none by default.
	norms *keyset.Ring
	// sign, if any, chooses who signs instead of the guest's agent.
	sign func(*federationtest.Agent) *federationtest.Agent
	// spool bounds what guests store.
	spool spool.Limits
	tls   *tls.Config
	addr  string
	// later is how much later it is than in most tests.
	later atomic.Int64
	// guests are those that were begun.
	guests atomic.Int64
}

// at is a time of these tests, in minutes after Begin.
func (w *world) at(minutes int) protocol.Time {
	return federationtest.Begin.Add(time.Duration(minutes)*time.Minute + time.Duration(w.later.Load()))
}

func newWorld(t *testing.T) *world { return newNormWorld(t, nil) }

// newNormWorld is newWorld with an aggregator that has keys of proofs of norms.
func newNormWorld(t *testing.T, norms *keyset.Ring) *world {
	t.Helper()
	w := &world{World: federationtest.New(t), dir: t.TempDir(), limit: time.Minute, leases: time.Minute, spool: spool.Defaults()}
	var err error
	w.agg, err = aggregator.New(aggregator.Config{StateDir: w.dir, Roots: w.Roots(), Logger: quiet(), NormKeys: norms, Now: func() time.Time { return w.at(1).Time() }})
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
	participants, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	admin, err := net.Listen("unix", filepath.Join(t.TempDir(), "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	w.addr = participants.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.agg.Serve(ctx, participants, server, admin) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

// guest is one agent's service, running.
type guest struct {
	*fed.Service
	*decrypting
	queue *jobs.Queue
	dir   string
	stop  func()
}

// decrypting is the same agent's other side.
type decrypting = decrypt.Service

// guest starts a service on a directory. roundKey is nil but in a decrypting guest.
func (w *world) guest(t *testing.T, dir string, agent *federationtest.Agent, key *keybuf.Buffer, roundKey *keybuf.Buffer) *guest {
	t.Helper()
	g := &guest{dir: dir}
	var err error
	// Each queue runs ahead of the one before it: after a restart no job waits out its pause.
	ahead := time.Duration(w.guests.Add(1)) * time.Hour
	if g.queue, err = jobs.Open(filepath.Join(dir, "jobs.db"), key, jobs.Options{Boot: "b", Logger: quiet(), Now: func() time.Time { return time.Now().Add(ahead) }}); err != nil {
		t.Fatal(err)
	}
	pool, err := worker.NewPool(workertest.Runner(t), 1, quiet())
	if err != nil {
		t.Fatal(err)
	}
	board := uplink.New(w.addr, w.tls, w.Roots(), func() (uplink.Guest, error) {
		return uplink.Guest{Key: agent.Key, Chain: agent.Chain, Now: w.at(2)}, nil
	})
	var norm *normproof.Prover
	if w.norms != nil {
		norm = &normproof.Prover{Ring: w.norms, Pool: pool, Limits: worker.Limits{Memory: 512 << 20, Time: w.limit}}
	}
	shards, limits := []*uplink.Client{board}, worker.Limits{Memory: 256 << 20, Time: w.limit}
	sign := func() (attested.Signer, error) {
		agent := agent
		if w.sign != nil {
			agent = w.sign(agent)
		}
		return attested.Signer{Key: agent.Key, Chain: agent.Chain, Now: w.at(2), Broker: agent.Lease.Broker, Lowest: protocol.AtLeast(1)}, nil
	}
	g.Service, err = fed.New(fed.Config{Queue: g.queue, Pool: pool, Shards: shards, Files: store.Config{Dir: dir, Key: key, Own: federationtest.Seed(t), Limits: w.spool}, Logger: quiet(), Answers: w.answers, Norm: norm, Limits: limits, Sign: sign})
	if err != nil {
		t.Fatal(err)
	}
	acquire := func(_ context.Context, resources []string) (*client.Lease, error) {
		if w.postpone != nil {
			if err := w.postpone(); err != nil {
				return nil, err
			}
		}
		if roundKey == nil {
			return nil, refusal.New("resource-not-granted", "this guest decrypts nothing")
		}
		key, err := keybuf.Take(bytes.Clone(roundKey.Bytes()))
		w.released = append(w.released, key)
		until := agent.Lease.NotAfter.Time()
		return &client.Lease{Keys: map[string]client.Key{resources[0]: {Key: key}}, Certificate: agent.GrantKey(t, resources[0]), BrokerTime: until.Add(-time.Minute), TTL: time.Minute, Expires: time.Now().Add(w.leases)}, err
	}
	g.decrypting, err = decrypt.New(decrypt.Config{Queue: g.queue, Pool: pool, Shards: shards, Rounds: g.Rounds(), Store: g.Store(), Keys: roundkey.New(acquire, quiet()), Sign: sign, Limits: limits, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx, g.Do) }()
	stopped := false
	g.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := errors.Join(<-done, g.queue.Close()); err != nil {
			t.Error(err)
		}
		board.Close()
	}
	t.Cleanup(g.stop)
	return g
}

// wait polls a job until it is over; the queue has no other way to be asked.
func (g *guest) wait(t *testing.T, id jobs.ID) jobs.Info {
	t.Helper()
	deadline := time.NewTimer(60 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		info, err := g.queue.Show(id)
		if err != nil {
			t.Fatal(err)
		}
		if info.Final() {
			return info
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("job still %+v", info)
		}
	}
}

func floats(v []float32) []byte {
	out := make([]byte, 4*len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(x))
	}
	return out
}

func randomVector(seed uint64, n int, bound float32) []float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	v := make([]float32, n)
	for i := range v {
		v[i] = (2*r.Float32() - 1) * bound
	}
	return v
}

// close closes the round as broker and aggregator would: over all complete uploads.
func (w *world) close(t *testing.T, r federation.Round, signed []byte) {
	t.Helper()
	list, err := w.agg.Complete(r.ID)
	if err != nil {
		t.Fatal(err)
	}
	var cohort []digest.Digest
	total := uint64(0)
	for _, s := range list {
		c, _, err := federation.VerifyContribution(s, w.Roots(), w.Floor(), r)
		if err != nil {
			t.Fatal(err)
		}
		total += uint64(c.Weight)
		cohort = append(cohort, digest.Of(s))
	}
	sum, err := w.agg.Sum(t.Context(), r.ID, cohort, nil)
	if err != nil {
		t.Fatal(err)
	}
	ticket, err := federation.SignTicket(w.EpochKey, w.EpochSigned, federation.Ticket{Round: r.ID, RoundDigest: digest.Of(signed), Broker: w.Epoch.Broker, Epoch: 1,
		Cohort: sum.Cohort, Count: uint32(sum.Count), TotalWeight: total, Sum: federation.UploadDigest(r.ID, sum.Hashes), Time: federationtest.Begin.Add(3 * time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.agg.SetTicket(r.ID, ticket); err != nil {
		t.Fatal(err)
	}
}

const length = 20_000 // two blocks

// open opens a round of the world's aggregator.
func (w *world) open(t *testing.T, change func(*federation.Round)) (federation.Round, []byte, *keybuf.Buffer) {
	t.Helper()
	r, signed, seed := w.Round(t, length, func(r *federation.Round) {
		r.ClipL2, r.ClipLinf = 1000, 1
		if change != nil {
			change(r)
		}
	})
	if _, err := w.agg.AddRound(signed); err != nil {
		t.Fatal(err)
	}
	return r, signed, seed
}

// mean decrypts and returns the published mean.
func (w *world) mean(t *testing.T, r federation.Round, seed *keybuf.Buffer) []float32 {
	t.Helper()
	g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), seed)
	info, err := g.Decrypt(t.Context(), 0, r.ID)
	if err != nil {
		t.Fatal(err)
	}
	if info = g.wait(t, info.ID); info.State != jobs.Done {
		t.Fatalf("decryption: %+v", info)
	}
	var out bytes.Buffer
	if err := g.Values(t.Context(), 5, r.ID, &out); err != nil {
		t.Fatal(err)
	}
	v := make([]float32, out.Len()/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(out.Bytes()[4*i:]))
	}
	return v
}
