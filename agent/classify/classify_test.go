package classify_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/classify/classifytest"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// record is a log that tests read.
type record struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(p)
}

func (r *record) count(s string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Count(r.buf.String(), s)
}

// bench is a service under an attested agent's lease.
type bench struct {
	*classify.Service
	world *federationtest.World
	agent *federationtest.Agent
	log   record
	lease error // why there is none
}

func newBench(t testing.TB, memory int64) *bench {
	t.Helper()
	b := &bench{world: federationtest.New(t)}
	b.agent = b.world.Agent(t, nil)
	b.Service = classify.New(classify.Config{Memory: memory, AgentKey: b.agent.Key, Logger: slog.New(slog.NewTextHandler(&b.log, nil)), Lease: func(classify.Grant) (receipt.Lease, error) {
		return receipt.Lease{ID: b.agent.Lease.Lease, EvidenceDigest: b.agent.Lease.EvidenceDigest, Chain: b.agent.Chain, Now: federationtest.Begin.Add(time.Minute)}, b.lease
	}})
	t.Cleanup(b.Wipe)
	return b
}

func keys(t testing.TB, list ...*classifytest.Sealed) map[string]classify.Key {
	t.Helper()
	out := map[string]classify.Key{}
	for _, s := range list {
		out[s.Resource] = classify.Key{Secret: s.Key(t), Version: 1}
	}
	return out
}

func configs(list ...*classifytest.Sealed) (out []settings.Classifier) {
	for _, s := range list {
		out = append(out, s.Classifier)
	}
	return out
}

// adopt opens sealed classifiers with their keys.
func (b *bench) adopt(t testing.TB, list ...*classifytest.Sealed) {
	t.Helper()
	b.Adopt(configs(list...), keys(t, list...))
	for _, s := range list {
		if _, err := b.Model(s.Name); err != nil {
			t.Fatal(err)
		}
	}
}

func wantReason(t testing.TB, what string, err error, want refusal.Reason) {
	t.Helper()
	if got, _ := refusal.ReasonOf(err); got != want {
		t.Errorf("%s: %q, want %q: %v", what, got, want, err)
	}
}

const plenty = 1 << 20

var input = []int8{-128, 0, 7, 127}

// TestInputsOutsideTheCalibrationAreTold once for a classifier, after enough of them.
func TestInputsOutsideTheCalibrationAreTold(t *testing.T) {
	const says = "outside the ranges"
	b := newBench(t, plenty)
	s := classifytest.Seal(t, "tiny", 1)
	b.adopt(t, s)
	for _, c := range []struct {
		values, clipped, told int
	}{{999, 999, 0}, {100_000, 0, 0}, {1000, 100, 1}, {1000, 1000, 1}} { // 1098 of 101,999 is more than a hundredth
		b.CountClipped(s.Name, c.values, c.clipped)
		if got := b.log.count(says); got != c.told {
			t.Errorf("after %+v: told %d times", c, got)
		}
	}
	b.CountClipped("another", 10_000, 10_000) // one that is gone
	if values, clipped := b.Clipped(); b.log.count(says) != 1 || values != 112_999 || clipped != 12_099 {
		t.Errorf("%d of %d values", clipped, values)
	}
}

func TestAnswersAreTheNetworksAndReceiptsBindThem(t *testing.T) {
	b := newBench(t, plenty)
	s := classifytest.Seal(t, "tiny", 1)
	b.adopt(t, s)
	b.agent.Grant(t, s.Model.ID())
	seen := map[statement.Salt]bool{}
	for range 3 {
		a, err := b.Classify(t.Context(), s.Name, input)
		if err != nil {
			t.Fatal(err)
		}
		want, err := s.Network.Forward(input)
		if err != nil || !slices.Equal(a.Outputs, want) {
			t.Errorf("outputs %d, the network gives %d: %v", a.Outputs, want, err)
		}
		if a.Model != s.Model || a.Name != s.Name || !slices.Equal(a.Input, input) {
			t.Errorf("%+v", a)
		}
		if seen[a.Salt] || a.Salt == (statement.Salt{}) {
			t.Error("a salt twice")
		}
		seen[a.Salt] = true
		body := a.Receipt.Receipt.Body
		report, err := receipt.Verify(a.Receipt.Receipt, b.world.Roots(), receipt.Options{Output: &receipt.Opening{Salt: a.Receipt.Salts.Output, Data: receipt.EncodeOutputs(want)}})
		if err != nil || !report.OutputShown || report.Lease.Lease != b.agent.Lease.Lease {
			t.Errorf("%+v %v", report, err)
		}
		if body.InputCommitment != receipt.Provable(statement.InputCommitment(a.Salt, input)) {
			t.Error("the receipt commits to another input")
		}
		if body.InputCommitment == receipt.Provable(statement.InputCommitment(a.Salt, []int8{-128, 0, 7, 126})) {
			t.Error("the receipt commits to any input")
		}
		if digest.Digest(body.ModelID) != s.Model.ID() || body.ModelName != s.Name || body.ModelVersion != s.Version {
			t.Errorf("%+v", body)
		}
		if !bytes.Equal(a.Receipt.Salts.Input[1:], a.Salt[:]) || a.Receipt.Salts.Input[0] != 0 {
			t.Error("the client has another salt")
		}
		changed := a.Receipt.Receipt
		changed.Body.InputCommitment[20] ^= 1
		_, err = receipt.Verify(changed, b.world.Roots(), receipt.Options{})
		wantReason(t, "another commitment", err, receipt.ReasonSignature)
	}
}

func TestWhatIsAskedWrongIsRefused(t *testing.T) {
	b := newBench(t, plenty)
	s := classifytest.Seal(t, "tiny", 1)
	b.adopt(t, s)
	for _, in := range [][]int8{nil, input[:3], append(slices.Clone(input), 0)} {
		_, err := b.Classify(t.Context(), s.Name, in)
		wantReason(t, "another length", err, classify.ReasonInput)
	}
	_, err := b.Classify(t.Context(), "other", input)
	wantReason(t, "another model", err, classify.ReasonUnknown)
	_, err = b.Model("other")
	wantReason(t, "another model", err, classify.ReasonUnknown)
	err = b.WithParameters("other", s.Model.ID(), nil)
	wantReason(t, "another model", err, classify.ReasonUnknown)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Classify(ctx, s.Name, input); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	b.lease = refusal.New("lease-expired", "no lease")
	a, err := b.Classify(t.Context(), s.Name, input)
	wantReason(t, "without a lease", err, "lease-expired")
	if len(a.Receipt.Receipt.Signature) != 0 {
		t.Error("a receipt without a lease")
	}
}

func TestParametersAreLentOfTheVersionThatIsServed(t *testing.T) {
	b := newBench(t, plenty)
	s := classifytest.Seal(t, "tiny", 1)
	b.adopt(t, s)
	called := false
	err := b.WithParameters(s.Name, s.Model.ID(), func(a intnet.Architecture, p intnet.Parameters) error {
		called = true
		if !reflect.DeepEqual(a, s.Network.Architecture) || !reflect.DeepEqual(p, s.Network.Parameters) {
			t.Errorf("%+v", p)
		}
		return nil
	})
	if err != nil || !called {
		t.Error(called, err)
	}
	never := func(intnet.Architecture, intnet.Parameters) error { t.Error("lent"); return nil }
	wantReason(t, "another version", b.WithParameters(s.Name, classifytest.Seal(t, "tiny", 2).Model.ID(), never), classify.ReasonUnavailable)
	b.Wipe()
	wantReason(t, "after the lease", b.WithParameters(s.Name, s.Model.ID(), never), classify.ReasonUnavailable)
	failed := errors.New("failed")
	b.adopt(t, s)
	if err := b.WithParameters(s.Name, s.Model.ID(), func(intnet.Architecture, intnet.Parameters) error { return failed }); !errors.Is(err, failed) {
		t.Error(err)
	}
}

// least is the least memory, in steps of pages, that one classifier and one runner need.
func least(t *testing.T, s *classifytest.Sealed) int64 {
	t.Helper()
	for memory := int64(4096); memory < plenty; memory += 4096 {
		b := newBench(t, memory)
		b.Adopt(configs(s), keys(t, s))
		if _, err := b.Classify(t.Context(), s.Name, input); err == nil {
			return memory
		}
	}
	t.Fatal("it never opens")
	return 0
}

func TestTheLeasesEndWipes(t *testing.T) {
	s := classifytest.Seal(t, "tiny", 1)
	b := newBench(t, least(t, s))
	k := keys(t, s)
	for range 10 { // what is not given back would be missing
		b.Adopt(configs(s), k)
		for range 3 {
			if _, err := b.Classify(t.Context(), s.Name, input); err != nil {
				t.Fatal(err)
			}
		}
		b.Wipe()
		_, err := b.Classify(t.Context(), s.Name, input)
		wantReason(t, "after the lease", err, classify.ReasonUnavailable)
		_, err = b.Model(s.Name)
		wantReason(t, "after the lease", err, classify.ReasonUnavailable)
		if list := b.Models(); len(list) != 0 {
			t.Errorf("still served: %+v", list)
		}
	}
	if k[s.Resource].Secret.Len() == 0 {
		t.Error("the caller's key was wiped")
	}
	if n := b.log.count("not closed"); n != 0 {
		t.Errorf("%d classifiers were not closed", n)
	}
}

// Requests that run while the lease ends answer or are refused, and leave nothing behind.
func TestLeasesEndUnderRequests(t *testing.T) {
	const clients = 4
	s := classifytest.Seal(t, "tiny", 1)
	one := least(t, s)
	b := newBench(t, clients*one)
	k := keys(t, s)
	want, err := s.Network.Forward(input)
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var running sync.WaitGroup
	for range clients {
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				a, err := b.Classify(t.Context(), s.Name, input)
				if reason, _ := refusal.ReasonOf(err); err != nil && reason != classify.ReasonUnavailable && reason != classify.ReasonUnknown || err == nil && !slices.Equal(a.Outputs, want) {
					t.Errorf("%d %v", a.Outputs, err)
				}
			}
		})
	}
	for range 200 {
		b.Adopt(configs(s), k)
		b.Wipe()
	}
	close(stop)
	running.Wait()
	for range clients { // nothing of the budget is missing
		b.Adopt(configs(s), k)
		b.Wipe()
	}
	if n := b.log.count("level=ERROR"); n != 0 {
		t.Errorf("%d errors: %s", n, b.log.buf.String())
	}
}

func TestAnotherKeyReopens(t *testing.T) {
	b := newBench(t, plenty)
	s := classifytest.Seal(t, "tiny", 1)
	k := keys(t, s)
	opened := func(want int) {
		t.Helper()
		if got := b.log.count("classifier opened"); got != want {
			t.Errorf("opened %d times, want %d", got, want)
		}
	}
	b.Adopt(configs(s), k)
	b.Adopt(configs(s), k) // the same lease again
	b.Adopt(configs(s), keys(t, s))
	opened(1)
	b.Adopt(configs(s), map[string]classify.Key{s.Resource: {Secret: s.Key(t), Version: 2}})
	opened(2)
	wrong := s.Key(t)
	wrong.Bytes()[0] ^= 1
	b.Adopt(configs(s), map[string]classify.Key{s.Resource: {Secret: wrong, Version: 2}})
	opened(2)
	_, err := b.Classify(t.Context(), s.Name, input)
	wantReason(t, "the key became another", err, classify.ReasonUnavailable)
	b.Adopt(configs(s), k)
	opened(3)
	changed := s.Classifier
	changed.MinimumVersion--
	b.Adopt([]settings.Classifier{changed}, k)
	opened(4)
	b.Adopt(nil, k)
	_, err = b.Classify(t.Context(), s.Name, input)
	wantReason(t, "not configured any more", err, classify.ReasonUnknown)
}

// TestClassifierThatWasNotGrantedIsNotServed: the key opens it, and is for another.
func TestClassifierThatWasNotGrantedIsNotServed(t *testing.T) {
	b := newBench(t, 1<<20)
	s := classifytest.Seal(t, "tiny", 1)
	adopt := func(subject digest.Digest) error {
		b.Adopt(configs(s), map[string]classify.Key{s.Resource: {Secret: s.Key(t), Version: 1, Subject: subject}})
		_, err := b.Classify(t.Context(), s.Name, input)
		return err
	}
	err := adopt(digest.Digest{9})
	wantReason(t, "another model", err, classify.ReasonNotGranted)
	if !strings.Contains(err.Error(), "secret put "+s.Resource) || b.log.count("classifier opened") != 0 {
		t.Error(err)
	}
	if err := adopt(s.Model.ID()); err != nil || b.log.count("will not verify") != 0 {
		t.Errorf("its own model: %v", err)
	}
	if err := adopt(digest.Digest{9}); err == nil {
		t.Error("it is served on when the key is for another from now on")
	}
	if err := adopt(digest.Digest{}); err != nil || b.log.count("will not verify") != 1 {
		t.Errorf("a key for nothing serves, and is logged: %v", err)
	}
}

func TestWhatDoesNotOpenSaysWhy(t *testing.T) {
	good, other := classifytest.Seal(t, "good", 1), classifytest.Seal(t, "tiny", 2)
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, bytes.Repeat([]byte("x"), 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		change func(c *settings.Classifier, k map[string]classify.Key)
		says   string
	}{
		"key": {func(c *settings.Classifier, k map[string]classify.Key) {
			k[c.Resource] = classify.Key{Secret: other.Key(t), Version: 1}
		}, "key"},
		"short key":         {func(c *settings.Classifier, k map[string]classify.Key) { k[c.Resource] = shortKey(t) }, "key"},
		"no key":            {func(c *settings.Classifier, k map[string]classify.Key) { delete(k, c.Resource) }, "without the key"},
		"publisher":         {func(c *settings.Classifier, _ map[string]classify.Key) { c.Publisher = other.Publisher }, "publisher"},
		"no publisher":      {func(c *settings.Classifier, _ map[string]classify.Key) { c.Publisher = "nobody" }, "publisher"},
		"the sealed name":   {func(c *settings.Classifier, _ map[string]classify.Key) { c.SealedName = "other" }, "other"},
		"an old version":    {func(c *settings.Classifier, _ map[string]classify.Key) { c.MinimumVersion++ }, "version"},
		"no file":           {func(c *settings.Classifier, _ map[string]classify.Key) { c.Path += "x" }, "no such file"},
		"not a sealed file": {func(c *settings.Classifier, _ map[string]classify.Key) { c.Path = garbage }, "garbage"},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t, plenty)
			bad := classifytest.Seal(t, "tiny", 1)
			k := keys(t, good, bad)
			config := configs(bad, good)
			c.change(&config[0], k)
			b.Adopt(config, k)
			_, err := b.Classify(t.Context(), "tiny", input)
			wantReason(t, what, err, classify.ReasonUnavailable)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v does not say %q", err, c.says)
			}
			if _, err := b.Classify(t.Context(), "good", input); err != nil {
				t.Errorf("the other one: %v", err)
			}
			// Once what was wrong is right, it is served.
			b.adopt(t, bad, good)
		})
	}
}

func shortKey(t *testing.T) classify.Key {
	t.Helper()
	return classify.Key{Secret: keyOf(t, make([]byte, 16)), Version: 1}
}

func TestModelsAreListedByName(t *testing.T) {
	b := newBench(t, plenty)
	list := []*classifytest.Sealed{classifytest.Seal(t, "bb", 1), classifytest.Seal(t, "ccc", 2), classifytest.Seal(t, "aaaa", 3), classifytest.Seal(t, "c", 4)}
	b.adopt(t, list...)
	var names []string
	for _, m := range b.Models() {
		names = append(names, m.Name)
		one, err := b.Model(m.Name)
		if err != nil || one.ID != m.ID || one.Version != 3 || one.Description.Classes() != classifytest.Outputs {
			t.Errorf("%+v %v", one, err)
		}
	}
	if !slices.Equal(names, []string{"aaaa", "bb", "c", "ccc"}) {
		t.Errorf("%q", names)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	s := classifytest.Seal(t, "tiny", 1)
	b := newBench(t, 4096)
	b.Adopt(configs(s), keys(t, s))
	_, err := b.Classify(t.Context(), s.Name, input)
	wantReason(t, "no memory", err, classify.ReasonUnavailable)
}

func keyOf(t *testing.T, raw []byte) *keybuf.Buffer {
	t.Helper()
	k, err := keybuf.Take(slices.Clone(raw))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}
