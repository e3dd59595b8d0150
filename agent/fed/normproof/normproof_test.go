package normproof_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/fed/normproof"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/agent/worker/workertest"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/circuits"
	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/aggregator"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

func TestMain(m *testing.M) { os.Exit(workertest.Main(m)) }

const provenLength = 5

// inside are coordinates inside the bounds of round: L2 1, each value 0.5.
var inside = []int16{10, -20, 127, -127, 0}

// newProver proves with the keys of a ring, in the worker as it ships.
func newProver(t *testing.T, ring *keyset.Ring) *normproof.Prover {
	t.Helper()
	pool, err := worker.NewPool(workertest.Runner(t), 1, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return &normproof.Prover{Ring: ring, Pool: pool, Limits: worker.Limits{Memory: 512 << 20, Time: time.Minute}}
}

func round(t *testing.T, keys *federationtest.NormKeys) federation.Round {
	t.Helper()
	r, _, _ := federationtest.New(t).Round(t, provenLength, keys.Demand)
	return r
}

func contribution() federation.Contribution {
	return federation.Contribution{RoundDigest: digest.Digest{1}, Agent: digest.Digest{2}, Upload: digest.Digest{3}, Weight: 1, Blocks: 1}
}

func raw(coordinates ...int16) (out []byte) {
	for _, c := range coordinates {
		out = binary.LittleEndian.AppendUint16(out, uint16(c))
	}
	return out
}

func nothing(worker.Progress) {}

func TestWhatIsInsideTheBoundsIsProven(t *testing.T) {
	for _, bits := range []int{8, 16} {
		t.Run(strconv.Itoa(bits)+" bits", func(t *testing.T) {
			if bits == 16 {
				longtest.Run(t, "it makes keys of one more circuit and proves with them")
			}
			keys := federationtest.SharedNormKeys(t, provenLength, bits)
			ring := keys.Ring(t, 0, nil)
			r, c := round(t, keys), contribution()
			phases := 0
			proof, err := newProver(t, ring).Prove(t.Context(), r, &c, raw(inside...), func(worker.Progress) { phases++ })
			if err != nil {
				t.Fatal(err)
			}
			if err := (aggregator.NormChecker{Ring: ring}).Verify(t.Context(), r, c, proof); err != nil {
				t.Errorf("%d bits: the aggregator refuses it: %v", bits, err)
			}
			if c.ProofDigest != digest.Of(proof) || phases == 0 {
				t.Errorf("%d bits: %d phases, digest %s", bits, phases, c.ProofDigest)
			}
			// Two proofs of the same coordinates do not show that they are the same.
			d := contribution()
			if _, err := newProver(t, ring).Prove(t.Context(), r, &d, raw(inside...), nothing); err != nil || d.Commitment == c.Commitment {
				t.Errorf("%d bits: the commitment is not salted: %v", bits, err)
			}
		})
	}
}

// What a worker gives as coordinates need not be inside the bounds: no proof is made then.
func TestWhatIsOutsideTheBoundsIsNotProven(t *testing.T) {
	for _, bits := range []int{8, 16} {
		t.Run(strconv.Itoa(bits)+" bits", func(t *testing.T) {
			if bits == 16 {
				longtest.Run(t, "it makes keys of one more circuit and proves with them")
			}
			keys := federationtest.SharedNormKeys(t, provenLength, bits)
			r := round(t, keys)
			top := int16(1<<(bits-1) - 1)
			for name, coordinates := range map[string][]int16{
				"the norm":              {top, top, top, top, top}, // 1.12, with a bound of 1
				"one value":             {top + 1, 0, 0, 0, 0},
				"one value, below":      {-top - 1, 0, 0, 0, 0},
				"one value, by a digit": {256, 0, 0, 0, 0},
			} {
				if bits == 16 && name == "one value, by a digit" {
					continue
				}
				c := contribution()
				_, err := newProver(t, keys.Ring(t, 0, nil)).Prove(t.Context(), r, &c, raw(coordinates...), nothing)
				if got, _ := refusal.ReasonOf(err); got != normproof.ReasonNotProven || c.ProofDigest != (digest.Digest{}) {
					t.Errorf("%d bits, %s: %v", bits, name, err)
				}
			}
		})
	}
}

func TestAProofNeedsTheRoundsKey(t *testing.T) {
	keys := federationtest.SharedNormKeys(t, provenLength, 8)
	r := round(t, keys)
	// files are the keys in a directory where change did something.
	files := func(change func(dir string, r statement.Record)) *keyset.Ring {
		dir := t.TempDir()
		set := keys.Save(t, dir)
		ring, err := keyset.NewRing([]keyset.Set{set}, false, 0, keyset.Parsers{statement.Groth16: keyset.By(groth16verify.ParseKey)})
		if err != nil {
			t.Fatal(err)
		}
		change(dir, set.Record)
		return ring
	}
	for name, p := range map[string]*normproof.Prover{
		"no prover":    nil,
		"no such key":  newProver(t, federationtest.NewNormKeys(t, circuits.Gradient{Coordinates: provenLength, Bits: 8}).Ring(t, 0, nil)),
		"other bits":   newProver(t, keys.Ring(t, 0, func(r *statement.Record) { r.Gradient.Bits = 16 })),
		"fewer values": newProver(t, keys.Ring(t, 0, func(r *statement.Record) { r.Gradient.Coordinates-- })),
		"no circuit": newProver(t, files(func(dir string, r statement.Record) {
			if err := os.Remove(filepath.Join(dir, r.Circuit.String()+".circuit")); err != nil {
				t.Fatal(err)
			}
		})),
		"a changed key": newProver(t, files(func(dir string, r statement.Record) {
			if err := os.WriteFile(filepath.Join(dir, r.ProvingKey.String()+".pk"), []byte("another"), 0o600); err != nil {
				t.Fatal(err)
			}
		})),
	} {
		c := contribution()
		_, err := p.Prove(t.Context(), r, &c, raw(inside...), nothing)
		if got, _ := refusal.ReasonOf(err); got != normproof.ReasonNoKey {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A worker whose proof does not verify: here its key is of another set-up.
func TestAProofThatDoesNotVerifyIsNotSigned(t *testing.T) {
	mixed := *federationtest.SharedNormKeys(t, provenLength, 8)
	mixed.Proving = federationtest.NewNormKeys(t, mixed.Spec).Proving
	c := contribution()
	_, err := newProver(t, mixed.Ring(t, 0, nil)).Prove(t.Context(), round(t, &mixed), &c, raw(inside...), nothing)
	if got, _ := refusal.ReasonOf(err); got != normproof.ReasonNotProven || c.ProofDigest != (digest.Digest{}) {
		t.Error(err)
	}
}

// Neither time nor a worker that wrote too little says anything about the update: it is no
// refusal, so that it is tried again.
func TestFaultsAreTriedAgain(t *testing.T) {
	keys := federationtest.SharedNormKeys(t, provenLength, 8)
	r := round(t, keys)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tc := range map[string]struct {
		ctx         context.Context
		timeout     time.Duration
		coordinates []byte
		want        error
	}{
		"the verification's time": {t.Context(), time.Nanosecond, raw(inside...), context.DeadlineExceeded},
		"cancelled":               {cancelled, 0, raw(inside...), nil},
		"one coordinate less":     {t.Context(), 0, raw(inside[1:]...), nil},
		"half a coordinate more":  {t.Context(), 0, append(raw(inside...), 0), nil},
	} {
		c := contribution()
		_, err := newProver(t, keys.Ring(t, tc.timeout, nil)).Prove(tc.ctx, r, &c, tc.coordinates, nothing)
		if _, refused := refusal.ReasonOf(err); err == nil || refused || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
