package provetask

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// The test binary is its own worker. What a proof says is what the worker does.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == worker.Mode {
		conn, err := worker.Inherited()
		if err != nil {
			os.Exit(1)
		}
		os.Exit(worker.Serve(context.Background(), conn, map[string]worker.Handler{ClassVerify: obey}).Code())
	}
	os.Exit(m.Run())
}

// obey does what is written in place of the proof.
func obey(ctx context.Context, spec []byte, in, _ []*os.File, _ func(string, uint64, uint64)) ([]byte, error) {
	var task Verify
	if err := json.Unmarshal(spec, &task); err != nil {
		return nil, err
	}
	info, err := in[0].Stat()
	if err != nil {
		return nil, err
	}
	raw := make([]byte, info.Size())
	if _, err := in[0].ReadAt(raw, 0); err != nil {
		return nil, err
	}
	e, err := statement.ParseEnvelope(raw[task.Key:])
	if err != nil {
		return nil, err
	}
	switch word := string(e.Proof); word {
	case "hang":
		<-make(chan struct{}) // and heeds nothing
	case "die":
		os.Exit(3)
	case "panic":
		panic(word)
	case "eat":
		var all [][]byte
		for {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = byte(i)
			}
			all = append(all, b)
			if len(all) > 1<<20 {
				return nil, nil
			}
		}
	case "key":
		return json.Marshal(Verified{Refused: string(raw[:task.Key])})
	case "millis":
		return json.Marshal(Verified{Verified: task.Millis == 1500})
	default:
		return []byte(strings.TrimPrefix(word, "say ")), nil
	}
	return nil, nil
}

// ask has such a worker verify a proof.
func ask(t *testing.T, ctx context.Context, proof string) error {
	t.Helper()
	if underRaceDetector {
		t.Skip("a worker under the race detector does not fit into its memory; make test runs this without")
	}
	pool, err := worker.NewPool(worker.Exec{Path: "/proc/self/exe"}, 1, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	v := Verification{Pool: pool, Memory: 128 << 20, Time: 1500 * time.Millisecond}
	if proof == "hang" {
		v.start = time.Second
	}
	key, err := v.Parsers().Parse(statement.Groth16, []byte("the key"))
	if err != nil {
		t.Fatal(err)
	}
	return key.VerifyEnvelope(ctx, &statement.Envelope{Proof: []byte(proof), Statement: statement.Statement{System: statement.Groth16,
		Gradient: &statement.Gradient{Coordinates: 1, LInf: 1, SquaredL2: 1}}})
}

func TestOnlyAWorkersWordVerifies(t *testing.T) {
	for _, proof := range []string{`say {"verified":true}`, "millis"} {
		if err := ask(t, t.Context(), proof); err != nil {
			t.Errorf("%s: %v", proof, err)
		}
	}
	if err := ask(t, t.Context(), "key"); !errors.Is(err, ErrProof) || !strings.Contains(err.Error(), "the key") {
		t.Errorf("a proof that is refused: %v", err)
	}
	if err := ask(t, t.Context(), `say {"timed_out":true}`); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrNoVerdict) {
		t.Errorf("a verification that takes too long: %v", err)
	}
	for _, proof := range []string{`say {"verified":true,"refused":"but"}`, `say {"verified":true,"timed_out":true}`} {
		if err := ask(t, t.Context(), proof); err == nil {
			t.Errorf("%s: verified", proof)
		}
	}
}

// A worker that hangs, dies, or says nothing verifies nothing, and says nothing about the proof.
func TestNoVerdict(t *testing.T) {
	for _, proof := range []string{"hang", "die", "panic", "eat", "say ", "say {}", "say null", "say [", `say {"verified":false}`, `say {"verified":1}`} {
		began := time.Now()
		err := ask(t, t.Context(), proof)
		if !errors.Is(err, ErrNoVerdict) || errors.Is(err, ErrProof) {
			t.Errorf("%s: %v", proof, err)
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("%s: it took %s", proof, took)
		}
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ask(t, over, `say {"verified":true}`); !errors.Is(err, ErrNoVerdict) || !errors.Is(err, context.Canceled) {
		t.Errorf("of a caller that has gone: %v", err)
	}
}

func TestKeysOfAnotherLengthAreRefused(t *testing.T) {
	for system, parse := range (Verification{}).Parsers() {
		for _, n := range []int{0, MaxVerifyingKey + 1} {
			if _, err := parse(make([]byte, n)); err == nil {
				t.Errorf("%s: a key of %d bytes", system, n)
			}
		}
		if _, err := parse(make([]byte, MaxVerifyingKey)); err != nil {
			t.Errorf("%s: %v", system, err)
		}
	}
}
