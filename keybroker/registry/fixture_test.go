package registry_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/crypto/zk/zktest"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/keybroker/registry"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
)

const outputs = 3

// Keys for one and two inferences of three outputs.
var keysOf = map[int]func() (*zktest.Groth16, error){
	1: sync.OnceValues(func() (*zktest.Groth16, error) { return zktest.NewGroth16(zktest.Shape{Inputs: 2 + 1 + outputs}) }),
	2: sync.OnceValues(func() (*zktest.Groth16, error) { return zktest.NewGroth16(zktest.Shape{Inputs: 2 + 2*(1+outputs)}) }),
}

func keys(t testing.TB, items int) *zktest.Groth16 {
	t.Helper()
	g, err := keysOf[items]()
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// site is a broker's registry with its world, clock and audit log.
type site struct {
	*federationtest.World
	*registry.Service
	store *registry.Store
	path  string
	cfg   registry.Config

	mu       sync.Mutex
	clock    protocol.Time
	lowest   uint64
	log      []string
	auditErr error // if set, the audit log refuses
}

// open starts a registry on a new file; change alters its configuration.
func open(t testing.TB, change func(*registry.Config)) *site {
	t.Helper()
	s := &site{World: federationtest.New(t), path: filepath.Join(t.TempDir(), "proofs"), clock: federationtest.Begin.Add(5 * time.Minute), lowest: 1}
	s.cfg = registry.Config{
		Signer: func() (registry.Signer, error) {
			return registry.Signer{Key: s.EpochKey, Statement: s.EpochSigned, Broker: s.Epoch.Broker, Epoch: s.Epoch.Epoch}, nil
		},
		Roots:         s.Roots(),
		Lowest:        func() uint64 { return s.lowest },
		VerifyReceipt: s.verifyReceipt,
		CommitOutput: func(salt [32]byte, y []int32) [48]byte {
			return receipt.CommitOutput(salt, receipt.EncodeOutputs(y))
		},
		Audit:               s.audit,
		Logger:              slog.New(slog.DiscardHandler),
		Now:                 func() time.Time { return s.now().Time() },
		VerificationTimeout: 20 * time.Second, // the test's machine may be busy
	}
	if change != nil {
		change(&s.cfg)
	}
	s.start(t)
	t.Cleanup(func() { _ = s.store.Close() })
	return s
}

func (s *site) start(t testing.TB) {
	t.Helper()
	var err error
	if s.store, err = registry.OpenStore(s.path); err != nil {
		t.Fatal(err)
	}
	s.cfg.Store = s.store
	if s.Service, err = registry.New(s.cfg); err != nil {
		t.Fatal(err)
	}
}

// restart closes the file and opens it again, under a changed configuration.
func (s *site) restart(t testing.TB, change func(*registry.Config)) {
	t.Helper()
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&s.cfg)
	}
	s.start(t)
}

func (s *site) now() protocol.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock
}

func (s *site) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = s.clock.Add(d)
}

func (s *site) audit(_ context.Context, action, detail string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.auditErr == nil {
		s.log = append(s.log, action+" "+detail)
	}
	return s.auditErr
}

func (s *site) failAudit(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.auditErr = err
}

// recorded counts the audit records of an action.
func (s *site) recorded(action string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.log {
		if strings.HasPrefix(line, action+" ") {
			n++
		}
	}
	return n
}

// verifyReceipt is what a daemon does with real receipts.
func (s *site) verifyReceipt(raw []byte) (registry.Receipt, error) {
	r, err := receipt.Parse(raw)
	if err != nil {
		return registry.Receipt{}, err
	}
	report, err := receipt.Verify(r, s.Roots(), receipt.Options{})
	if err != nil {
		return registry.Receipt{}, err
	}
	b, l := report.Body, report.Lease
	return registry.Receipt{ID: b.ID, Model: b.ModelID, Agent: l.AgentKey.ID(), Lease: b.LeaseID,
		InputCommitment: registry.Commitment(b.InputCommitment), OutputCommitment: registry.Commitment(b.OutputCommitment), Time: b.Time,
		Evidence: string(l.Kind), EvidenceDigest: b.EvidenceDigest, Measurement: hex.EncodeToString(l.Measurement()), Image: l.ImageID, SoftwareTEE: l.SoftwareTEE}, nil
}

// answer is some inferences of one statement, as a guest has them.
type answer struct {
	receipts [][]byte
	bundle   wire.Bundle
	ids      []digest.ReceiptID
}

// answer makes inferences with real receipts and a proof.
func (s *site) answer(t testing.TB, a *federationtest.Agent, seed byte, items int) answer {
	t.Helper()
	st := zktest.Inferences(seed, items, outputs)
	out := s.receipts(t, a, st)
	e, err := keys(t, items).Envelope(st)
	if err != nil {
		t.Fatal(err)
	}
	out.bundle.Envelope = *e
	return out
}

func (s *site) receipts(t testing.TB, a *federationtest.Agent, st statement.Statement) (out answer) {
	t.Helper()
	a.Grant(t, st.Inference.Model.ID())
	lease := receipt.Lease{ID: a.Lease.Lease, EvidenceDigest: a.Lease.EvidenceDigest, Chain: a.Chain, Now: federationtest.Begin.Add(time.Minute)}
	for _, item := range st.Inference.Items {
		issued, err := receipt.IssueProvable(a.Key, lease, receipt.Answer{ID: item.Receipt, ModelID: st.Inference.Model.ID(), ModelName: "model", ModelVersion: 1},
			item.Input, [31]byte{1}, item.Outputs)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := issued.Receipt.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		out.receipts = append(out.receipts, raw)
		out.ids = append(out.ids, item.Receipt)
		out.bundle.OutputSalts = append(out.bundle.OutputSalts, wire.Salt(issued.Salts.Output))
	}
	return out
}

func (s *site) announce(t testing.TB, list ...answer) {
	t.Helper()
	for _, a := range list {
		if got, err := s.Announce(t.Context(), a.receipts); err != nil || got.New != len(a.receipts) {
			t.Fatalf("%+v, %v", got, err)
		}
	}
}

// register registers the keys of so many inferences.
func (s *site) register(t testing.TB, items int) {
	t.Helper()
	g := keys(t, items)
	if _, err := s.Register(t.Context(), *g.Record(items, outputs), g.Key); err != nil {
		t.Fatal(err)
	}
}

// challenge draws from all.
func (s *site) challenge(t testing.TB, count int) []registry.Issued {
	t.Helper()
	list, err := s.Challenge(t.Context(), registry.Spec{All: true, Count: count, Before: s.now().Add(time.Hour).Time()})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func (s *site) status(t testing.TB) registry.Status {
	t.Helper()
	st, err := s.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// cheap replaces receipts by their JSON, for tests of many.
func cheap(c *registry.Config) {
	c.VerifyReceipt = func(raw []byte) (r registry.Receipt, err error) { return r, json.Unmarshal(raw, &r) }
}

// cheapReceipts are of one agent and model; from numbers the first.
func cheapReceipts(t testing.TB, agent, model byte, from, n int) (out [][]byte) {
	t.Helper()
	for i := range n {
		r := registry.Receipt{ID: digest.ReceiptID{agent, model, byte((from + i) >> 8), byte(from + i)}, Agent: digest.Digest{agent}, Model: digest.Digest{model},
			InputCommitment: registry.Provable(statement.Commitment{}), Time: federationtest.Begin}
		raw, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, raw)
	}
	return out
}

func (s *site) announceCheap(t testing.TB, agent, model byte, from, n int) {
	t.Helper()
	for part := range slices.Chunk(cheapReceipts(t, agent, model, from, n), registry.MaxAnnounced) {
		if _, err := s.Announce(t.Context(), part); err != nil {
			t.Fatal(err)
		}
	}
}

func wantReason(t testing.TB, err error, want refusal.Reason) {
	t.Helper()
	if got, _ := refusal.ReasonOf(err); err == nil || got != want {
		t.Errorf("got %v, want the reason %s", err, want)
	}
}

var errDisk = errors.New("the disk is full")

func clone(b wire.Bundle) wire.Bundle {
	raw, err := b.Marshal()
	if err != nil {
		panic(err)
	}
	c, err := wire.ParseBundle(raw)
	if err != nil || !bytes.Equal(raw, mustMarshal(c)) {
		panic(err)
	}
	return *c
}

func mustMarshal(b *wire.Bundle) []byte {
	raw, err := b.Marshal()
	if err != nil {
		panic(err)
	}
	return raw
}
