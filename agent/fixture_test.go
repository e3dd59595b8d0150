package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/openmodel"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
	"github.com/anchorhold/anchorhold/runtime/sealer"
)

const modelKey = "a model key of thirty-two bytes!"

// tinyGGUF writes a model of one layer whose vocabulary is all bytes.
func tinyGGUF(t *testing.T) string {
	t.Helper()
	const width, inner = 64, 64
	tokens, kinds := gguftest.Alphabet()
	tokens, kinds = append(tokens, "<|end|>"), append(kinds, 3)
	var tensors []gguf.TensorData
	matrix := func(name string, rows, cols int) {
		raw := make([]byte, 4*rows*cols)
		for i := range rows * cols {
			binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(float32(i*7919%211-105)/1000))
		}
		tensors = append(tensors, gguf.TensorData{Name: name + ".weight", Dims: []uint64{uint64(cols), uint64(rows)}, Data: raw})
	}
	vector := func(name string) {
		raw := make([]byte, 4*width)
		for i := range width {
			binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(1))
		}
		tensors = append(tensors, gguf.TensorData{Name: name + ".weight", Dims: []uint64{width}, Data: raw})
	}
	matrix("token_embd", len(tokens), width)
	vector("blk.0.attn_norm")
	for _, name := range []string{"attn_q", "attn_k", "attn_v", "attn_output"} {
		matrix("blk.0."+name, width, width)
	}
	vector("blk.0.ffn_norm")
	matrix("blk.0.ffn_gate", inner, width)
	matrix("blk.0.ffn_up", inner, width)
	matrix("blk.0.ffn_down", width, inner)
	vector("output_norm")
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	err = gguf.Write(f, []gguf.KV{
		{Key: "general.architecture", Value: "llama"}, {Key: "llama.block_count", Value: uint32(1)},
		{Key: "llama.embedding_length", Value: uint32(width)}, {Key: "llama.feed_forward_length", Value: uint32(inner)},
		{Key: "llama.attention.head_count", Value: uint32(4)}, {Key: "llama.context_length", Value: uint32(512)},
		{Key: "llama.attention.layer_norm_rms_epsilon", Value: float32(1e-5)},
		{Key: "tokenizer.ggml.model", Value: "gpt2"}, {Key: "tokenizer.ggml.pre", Value: "gpt-2"},
		{Key: "tokenizer.ggml.tokens", Value: tokens}, {Key: "tokenizer.ggml.token_type", Value: kinds},
		{Key: "tokenizer.ggml.merges", Value: []string{}}, {Key: "tokenizer.ggml.eos_token_id", Value: uint32(len(tokens) - 1)},
	}, tensors)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// guest is a configuration with a sealed tiny model behind it.
type guest struct {
	cfg    settings.Config
	sealed string
	model  [32]byte // its id

	publisher *identity.Private
}

// seal seals a version of the tiny model under a key, at path, and returns its id.
func (g guest) seal(t *testing.T, path, key string, version uint64) [32]byte {
	t.Helper()
	return g.sealFile(t, tinyGGUF(t), path, key, version)
}

// sealFile seals a GGUF file, as older versions did: unchecked.
func (g guest) sealFile(t *testing.T, in, path, key string, version uint64) [32]byte {
	t.Helper()
	sum, err := sealer.Seal(t.Context(), sealer.Options{In: in, Out: path, Key: keyOf(t, key), Name: "tiny", Version: version, Unchecked: true,
		Sign: func(root []byte) ([]byte, []byte, error) {
			sig, err := g.publisher.Sign(chunkseal.SignContext, root)
			return g.publisher.Public().Bytes(), sig, err
		}})
	if err != nil {
		t.Fatal(err)
	}
	return sum.Root
}

func newGuest(t *testing.T) guest {
	t.Helper()
	dir := t.TempDir()
	publisher, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(publisher.Wipe)
	path := filepath.Join(dir, "tiny.ahm")
	g := guest{sealed: path, publisher: publisher}
	g.model = g.seal(t, path, modelKey, 3)
	text, err := publisher.Public().MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	g.cfg.Compute.TEE.AttestationTTLSeconds, g.cfg.Compute.TEE.MemoryLimitMB = 600, 64
	g.cfg.Models = []settings.Model{{Name: "tiny", Path: g.sealed, Resource: "models/test", Publisher: string(text), Threads: 1, Context: 64}}
	return g
}

func keyOf(t testing.TB, text string) *keybuf.Buffer {
	t.Helper()
	b, err := keybuf.Take([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Wipe)
	return b
}

// script answers a keeper's exchanges: each call takes the next step; the last
// one repeats.
type script struct {
	t  *testing.T
	mu sync.Mutex // guards all below

	steps []func(ctx context.Context) (*client.Lease, error)
	calls []time.Time
	given []*keybuf.Buffer
}

func (s *script) Acquire(ctx context.Context, resources []string, _ ...protocol.Sealed) (*client.Lease, error) {
	if len(resources) != 1 || resources[0] != "models/test" {
		s.t.Errorf("asked for %q", resources)
	}
	s.mu.Lock()
	s.calls = append(s.calls, time.Now())
	step := s.steps[min(len(s.calls), len(s.steps))-1]
	s.mu.Unlock()
	return step(ctx)
}

// key is the i-th key that was granted, and how many exchanges began.
func (s *script) key(i int) (*keybuf.Buffer, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.given[i], len(s.calls)
}

// restart takes these steps from now on.
func (s *script) restart(steps ...func(context.Context) (*client.Lease, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps, s.calls = steps, nil
}

// grant makes a lease with a version of the model key.
func (s *script) grant(ttl time.Duration, key string, version uint64) func(context.Context) (*client.Lease, error) {
	return s.grantFor(ttl, key, version, [32]byte{}, protocol.RoleServe)
}

// grantFor makes a lease with roles, whose key is for a subject.
func (s *script) grantFor(ttl time.Duration, key string, version uint64, subject [32]byte, roles protocol.Role) func(context.Context) (*client.Lease, error) {
	return func(context.Context) (*client.Lease, error) {
		b := keyOf(s.t, key)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.given = append(s.given, b)
		now := time.Now()
		return &client.Lease{ID: fmt.Sprintf("%032x", len(s.calls)), PolicyID: "test", Roles: map[string]protocol.Role{"models/test": roles}, BrokerTime: now.Add(-time.Hour), TTL: ttl,
			Expires: now.Add(ttl), Keys: map[string]client.Key{"models/test": {Version: version, Subject: subject, Key: b}}}, nil
	}
}

func refuse(reason string) func(context.Context) (*client.Lease, error) {
	return func(context.Context) (*client.Lease, error) {
		return nil, &client.Error{Reason: "measurement-not-allowed", ID: reason}
	}
}

func (s *script) keeper(g guest) *keeper {
	return &keeper{cfg: g.cfg, broker: s, tenure: newTenure(slog.New(slog.DiscardHandler)), log: slog.New(slog.DiscardHandler),
		serving: func(*client.Lease) {}, open: openmodel.Open, files: files{installed: installed}, reloaded: make(chan reload)}
}

// snapshot returns the model that is served and what ends its requests, or the refusal. It is
// no request: nothing waits for it.
func (t *tenure) snapshot() (*servedModel, context.Context, error) {
	ended, end := context.WithCancel(context.Background())
	end()
	m, done, err := t.use(ended)
	if err != nil || m == nil {
		return nil, nil, err
	}
	done()
	return m, m.serving, nil
}
