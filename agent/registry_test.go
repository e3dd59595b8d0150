package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/localapi/oip"
	"github.com/anchorhold/anchorhold/agent/prove"
	"github.com/anchorhold/anchorhold/agent/prove/provetest"
	"github.com/anchorhold/anchorhold/agent/tenure"
	"github.com/anchorhold/anchorhold/agent/worker/workertest"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	registry "github.com/anchorhold/anchorhold/keybroker/registry"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

func TestMain(m *testing.M) { os.Exit(workertest.Main(m)) }

// registry serves the broker's registry of proofs over TLS.
func (b *bench) registry() *registry.Service {
	t := b.t
	t.Helper()
	store, err := registry.OpenStore(filepath.Join(t.TempDir(), "proofs.db"))
	if err != nil {
		t.Fatal(err)
	}
	now := federationtest.Begin.Add(2 * time.Minute).Time()
	s, err := registry.New(registry.Config{Store: store, Roots: b.world.Roots(), Lowest: func() uint64 { return 1 }, Logger: quiet(), Now: func() time.Time { return now }, VerificationTimeout: time.Minute,
		Signer: func() (registry.Signer, error) {
			return registry.Signer{Key: b.world.EpochKey, Statement: b.world.EpochSigned, Broker: b.world.Epoch.Broker, Epoch: 1}, nil
		},
		VerifyReceipt: func(raw []byte) (registry.Receipt, error) {
			r, err := receipt.Parse(raw)
			if err != nil {
				return registry.Receipt{}, err
			}
			report, err := receipt.Verify(r, b.world.Roots(), receipt.Options{})
			body := report.Body
			return registry.Receipt{ID: body.ID, Model: body.ModelID, Agent: report.Lease.AgentKey.ID(), Lease: body.LeaseID, Time: body.Time,
				InputCommitment: registry.Commitment(body.InputCommitment), OutputCommitment: registry.Commitment(body.OutputCommitment)}, err
		},
		CommitOutput: func(salt [32]byte, outputs []int32) [48]byte {
			return receipt.CommitOutput(salt, receipt.EncodeOutputs(outputs))
		},
		Audit: func(context.Context, string, string) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(b.cert, b.pair)
	if err != nil {
		t.Fatal(err)
	}
	server, err := hybridtls.ServerConfig(pair, hybridtls.ProfileDefault)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l, server) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	b.cfg.Proofs.Registry = l.Addr().String()
	return s
}

// From an answer to an audit at the broker: the agent announces, the broker draws, the
// worker proves, the broker verifies.
func TestTheBrokersChallengeIsAnswered(t *testing.T) {
	longtest.Run(t, "it builds the worker")
	b := newBench(t)
	b.proves()
	binary := workertest.Binary(t)
	b.cfg.Workers.Path = binary
	broker := b.registry()
	keys := provetest.Shared(t)
	set, err := keyset.Load(b.cfg.Proofs.Keys)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := broker.Register(t.Context(), set[0].Record, keys.Verifying, digest.Digest{1}); err != nil {
		t.Fatal(err)
	}
	w := b.works()
	b.run(w)
	if err := w.begin(tenure.Grant{Config: b.cfg, Lease: lease(nil)}); err != nil {
		t.Fatal(err)
	}
	service, err := w.proofs()
	if err != nil {
		t.Fatal(err)
	}
	a, err := b.classes.Classify(t.Context(), "tiny", []int8{1, 2, 3, 4})
	if err != nil {
		t.Fatal(err)
	}
	service.Take(5, a)
	id := a.Receipt.Receipt.Body.ID
	// The key is registered for another model's answers alone.
	job, err := service.Prove(t.Context(), 5, id)
	if err != nil {
		t.Fatal(err)
	}
	work, err := w.work()
	if err != nil {
		t.Fatal(err)
	}
	poll(t, func() bool {
		i, err := work.Queue.Show(job.ID)
		return err != nil || i.Reason == prove.ReasonNotRegistered
	})
	if _, err := broker.Register(t.Context(), set[0].Record, keys.Verifying, a.Model.ID()); err != nil {
		t.Fatal(err)
	}
	poll(t, func() bool { _, err := broker.Audit(t.Context(), id); return err == nil })
	issued, err := broker.Challenge(t.Context(), registry.Spec{All: true, Count: 1, Before: federationtest.Begin.Add(time.Hour).Time()})
	if err != nil || len(issued) != 1 {
		t.Fatal(issued, err)
	}
	poll(t, func() bool {
		answer, err := broker.Audit(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return answer.Proof != nil
	})
	bundle, err := service.Bundle(5, id)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keyset.NewRing(set, false, time.Minute, keyset.Parsers{statement.Groth16: keyset.By(groth16verify.ParseKey)})
	if err != nil {
		t.Fatal(err)
	}
	verify(t, b, bundle, ring)
}

func verify(t *testing.T, b *bench, bundle receipt.Bundle, ring *keyset.Ring) {
	t.Helper()
	if _, err := bundle.Verify(t.Context(), b.world.Roots(), ring, receipt.Expect{}); err != nil {
		t.Error(err)
	}
}

// poll asks until it is true; what is asked has no other way to tell.
func poll(t *testing.T, done func() bool) {
	t.Helper()
	deadline, tick := time.NewTimer(5*time.Minute), time.NewTicker(10*time.Millisecond) // workers are idle class
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

// The broker's challenges name the key that an answer was signed with. An agent that was
// restarted has another, and answers them all the same.
func TestAChallengeOfAnAnswerBeforeARestartIsAnswered(t *testing.T) {
	longtest.Run(t, "it proves an answer of an agent that was restarted")
	b := newBench(t)
	b.proves()
	binary := workertest.Binary(t)
	b.cfg.Workers.Path, b.cfg.Federation.QueueKey = binary, "agents/queue"
	broker := b.registry()
	set, err := keyset.Load(b.cfg.Proofs.Keys)
	if err != nil {
		t.Fatal(err)
	}
	a, err := b.classes.Classify(t.Context(), "tiny", []int8{1, 2, 3, 4})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := broker.Register(t.Context(), set[0].Record, provetest.Shared(t).Verifying, a.Model.ID()); err != nil {
		t.Fatal(err)
	}
	id := a.Receipt.Receipt.Body.ID
	begin := func() (stop func(), service oip.Proofs) {
		w := b.works()
		stop = b.run(w)
		key, err := keybuf.Take(bytes.Repeat([]byte{7}, 32))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.begin(tenure.Grant{Config: b.cfg, Lease: lease(map[string]*keybuf.Buffer{"agents/queue": key})}); err != nil {
			t.Fatal(err)
		}
		if service, err = w.proofs(); err != nil {
			t.Fatal(err)
		}
		return stop, service
	}
	stop, service := begin()
	service.Take(5, a)
	poll(t, func() bool { _, err := broker.Audit(t.Context(), id); return err == nil })
	stop()

	before := b.agent.Key.Public().ID()
	b.agent = b.world.Agent(t, nil)
	if b.agent.Key.Public().ID() == before {
		t.Fatal("the same key")
	}
	issued, err := broker.Challenge(t.Context(), registry.Spec{All: true, Count: 1, Before: federationtest.Begin.Add(time.Hour).Time()})
	if err != nil || len(issued) != 1 {
		t.Fatal(issued, err)
	}
	_, service = begin()
	poll(t, func() bool {
		answer, err := broker.Audit(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return answer.Proof != nil
	})
	if _, err := service.Bundle(5, id); err != nil {
		t.Error(err)
	}
}
