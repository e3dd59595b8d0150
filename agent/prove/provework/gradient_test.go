package provework_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/prove/provetask"
	"github.com/anchorhold/anchorhold/agent/prove/provework"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// gradientTask is what the handler gets; tests change it before it runs.
type gradientTask struct {
	keys             *federationtest.NormKeys
	statement        statement.Statement
	spec             provetask.Gradient
	rawSpec, circuit []byte
	proving          []byte
	salt             statement.Salt
	values           []int16
	more             []byte // after the last coordinate
	cut              int    // bytes that are missing at the end
	in, out          int
	closedEarlyOut   bool
}

func newGradientTask(t *testing.T, bits int) *gradientTask {
	t.Helper()
	keys := federationtest.SharedNormKeys(t, 5, bits)
	salt, err := statement.NewSalt()
	if err != nil {
		t.Fatal(err)
	}
	k := &gradientTask{keys: keys, spec: provetask.Gradient{Bits: bits}, circuit: keys.Circuit, proving: keys.Proving, salt: salt, values: []int16{3, -4, 100, -100, 0}, in: 3, out: 1}
	k.statement = statement.Statement{System: statement.Groth16, Circuit: keys.Record.Circuit, Gradient: &statement.Gradient{Round: digest.Digest{1}, Participant: digest.Digest{2},
		Ciphertext: digest.Digest{3}, Commitment: keys.Spec.Commit(salt, k.values), Coordinates: 5, LInf: 100, SquaredL2: 20025}}
	return k
}

func (k *gradientTask) run(t *testing.T, ctx context.Context) (done provetask.Proved, proof []byte, err error) {
	t.Helper()
	if k.spec.Statement == nil {
		k.spec.Statement = encode(t, k.statement)
	}
	spec := k.rawSpec
	if spec == nil {
		if spec, err = json.Marshal(k.spec); err != nil {
			t.Fatal(err)
		}
	}
	witness := slices.Clone(k.salt[:])
	for _, v := range k.values {
		witness = binary.LittleEndian.AppendUint16(witness, uint16(v))
	}
	witness = append(witness[:len(witness)-k.cut], k.more...)
	in, feed := pipe(t)
	drain, out := pipe(t)
	go func() {
		_, _ = feed.Write(witness) // the handler may not want all of it
		_ = feed.Close()
	}()
	written := make(chan []byte, 1)
	go func() {
		raw, _ := io.ReadAll(drain)
		written <- raw
	}()
	if k.closedEarlyOut {
		drain.Close()
	}
	files := []*os.File{in, file(t, k.circuit), file(t, k.proving), file(t, nil)}
	var phases []string
	raw, err := provework.Handlers()[provetask.ClassGradient](ctx, spec, files[:k.in], []*os.File{out, out}[:k.out], func(phase string, _, _ uint64) { phases = append(phases, phase) })
	out.Close()
	in.Close()
	proof = <-written
	if err != nil {
		if len(proof) != 0 || raw != nil {
			t.Errorf("a proof of %d bytes in spite of %v", len(proof), err)
		}
		return done, nil, err
	}
	if !slices.Equal(phases, []string{"witness", "keys", "prove", "prove"}) {
		t.Errorf("phases %q", phases)
	}
	return done, proof, json.Unmarshal(raw, &done)
}

func (k *gradientTask) verify(t *testing.T, proof []byte) error {
	t.Helper()
	_, err := k.keys.Ring(t, 0, nil).Verify(t.Context(), &statement.Envelope{Statement: k.statement, Key: k.keys.Record.VerifyingKey, Proof: proof})
	return err
}

func TestBoundsThatHoldAreProven(t *testing.T) {
	for _, bits := range []int{8, 16} {
		t.Run(strconv.Itoa(bits)+" bits", func(t *testing.T) {
			if bits == 16 {
				longtest.Run(t, "it makes keys of one more circuit and proves with them")
			}
			k := newGradientTask(t, bits)
			done, proof, err := k.run(t, t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if done.Bytes != len(proof) || done.Constraints < 1 || done.Millis < 0 {
				t.Errorf("%+v", done)
			}
			if err := k.verify(t, proof); err != nil {
				t.Error(err)
			}
			for name, change := range map[string]func(g *statement.Gradient){
				"round": func(g *statement.Gradient) { g.Round[0]++ }, "participant": func(g *statement.Gradient) { g.Participant[0]++ }, "ciphertext": func(g *statement.Gradient) { g.Ciphertext[0]++ },
				"commitment": func(g *statement.Gradient) { g.Commitment[31]++ }, "bound": func(g *statement.Gradient) { g.LInf++ }, "squares": func(g *statement.Gradient) { g.SquaredL2++ },
			} {
				before := *k.statement.Gradient
				change(k.statement.Gradient)
				if k.verify(t, proof) == nil {
					t.Errorf("%d bits: it verifies for another %s", bits, name)
				}
				*k.statement.Gradient = before
			}
		})
	}
}

// Each of these changes one thing alone.
func TestEveryMismatchOfAnUpdateIsRefused(t *testing.T) {
	for what, c := range map[string]struct {
		reason refusal.Reason
		change func(t *testing.T, k *gradientTask)
	}{
		"a coordinate":             {provework.ReasonWitness, func(_ *testing.T, k *gradientTask) { k.values[1]++ }},
		"a coordinate's high byte": {provework.ReasonWitness, func(_ *testing.T, k *gradientTask) { k.values[1] += 256 }},
		"the salt":                 {provework.ReasonWitness, func(_ *testing.T, k *gradientTask) { k.salt[30]++ }},
		"the commitment":           {provework.ReasonWitness, func(_ *testing.T, k *gradientTask) { k.statement.Gradient.Commitment[31]++ }},
		"a lower bound":            {provework.ReasonWitness, func(_ *testing.T, k *gradientTask) { k.statement.Gradient.LInf-- }},
		"a lower sum":              {provework.ReasonWitness, func(_ *testing.T, k *gradientTask) { k.statement.Gradient.SquaredL2-- }},
		"a bound of more bits":     {provework.ReasonWitness, func(_ *testing.T, k *gradientTask) { k.statement.Gradient.LInf = 128 }},
		"the circuit":              {provework.ReasonKey, func(_ *testing.T, k *gradientTask) { k.statement.Circuit[0]++ }},
		"another length's circuit": {provework.ReasonKey, func(t *testing.T, k *gradientTask) { k.circuit = federationtest.SharedNormKeys(t, 4, 8).Circuit }},
		"no circuit":               {provework.ReasonKey, func(_ *testing.T, k *gradientTask) { k.circuit = nil }},
		"a cut key":                {provework.ReasonKey, func(_ *testing.T, k *gradientTask) { k.proving = k.proving[:len(k.proving)/2] }},
		"bytes at the end":         {provework.ReasonTask, func(_ *testing.T, k *gradientTask) { k.more = []byte{0} }},
		"nine bits":                {provework.ReasonTask, func(_ *testing.T, k *gradientTask) { k.spec.Bits = 9 }},
		"PLONK":                    {provework.ReasonTask, func(_ *testing.T, k *gradientTask) { k.statement.System = statement.PLONK }},
		"an answer": {provework.ReasonTask, func(_ *testing.T, k *gradientTask) {
			k.statement.Gradient, k.statement.Inference = nil, &statement.Inference{Items: []statement.Item{{Outputs: []int32{1}}}}
		}},
		"a statement and bytes": {provework.ReasonTask, func(t *testing.T, k *gradientTask) { k.spec.Statement = append(encode(t, k.statement), 0) }},
		"no spec":               {provework.ReasonTask, func(_ *testing.T, k *gradientTask) { k.rawSpec = []byte("{") }},
		"an unknown field":      {provework.ReasonTask, func(_ *testing.T, k *gradientTask) { k.rawSpec = []byte(`{"more":1}`) }},
		"two inputs":            {provework.ReasonTask, func(_ *testing.T, k *gradientTask) { k.in = 2 }},
		"four inputs":           {provework.ReasonTask, func(_ *testing.T, k *gradientTask) { k.in = 4 }},
		"no output":             {provework.ReasonTask, func(_ *testing.T, k *gradientTask) { k.out = 0 }},
		"two outputs":           {provework.ReasonTask, func(_ *testing.T, k *gradientTask) { k.out = 2 }},
	} {
		t.Run(what, func(t *testing.T) {
			k := newGradientTask(t, 8)
			c.change(t, k)
			_, _, err := k.run(t, t.Context())
			if got, _ := refusal.ReasonOf(err); err == nil || got != c.reason {
				t.Errorf("%q, want %q: %v", got, c.reason, err)
			}
		})
	}
}

// The agent that fed the pipe is gone, or the task was cancelled, or nobody takes the
// proof: nothing is wrong with the task.
func TestFaultsAroundAnUpdateAreNoRefusals(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for what, tc := range map[string]struct {
		ctx    context.Context
		change func(k *gradientTask)
		want   error
	}{
		"no salt":         {t.Context(), func(k *gradientTask) { k.cut = statement.SaltBytes + 10 }, io.EOF},
		"half a salt":     {t.Context(), func(k *gradientTask) { k.cut = 20 }, io.ErrUnexpectedEOF},
		"a byte less":     {t.Context(), func(k *gradientTask) { k.cut = 1 }, io.ErrUnexpectedEOF},
		"cancelled":       {cancelled, func(*gradientTask) {}, context.Canceled},
		"nobody takes it": {t.Context(), func(k *gradientTask) { k.closedEarlyOut = true }, nil},
		"another set-up":  {t.Context(), func(k *gradientTask) { k.proving = federationtest.NewNormKeys(t, k.keys.Spec).Proving }, nil},
	} {
		if what == "another set-up" && !longtest.All() { // it makes keys; TestAnotherSetUpsProofDoesNotVerify has other keys, too
			continue
		}
		k := newGradientTask(t, 8)
		tc.change(k)
		_, proof, err := k.run(t, tc.ctx)
		if what == "another set-up" { // it proves, and what it proves does not verify
			if err != nil || k.verify(t, proof) == nil {
				t.Errorf("%s: %v", what, err)
			}
			continue
		}
		if _, refused := refusal.ReasonOf(err); err == nil || refused || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestCoordinatesDoNotAppearInErrors(t *testing.T) {
	for what, change := range map[string]func(k *gradientTask){
		"another coordinate": func(k *gradientTask) { k.values[2] = 99 },
		"a lower bound":      func(k *gradientTask) { k.statement.Gradient.LInf = 50 },
		"a lower sum":        func(k *gradientTask) { k.statement.Gradient.SquaredL2 = 20000 },
	} {
		k := newGradientTask(t, 8)
		change(k)
		_, _, err := k.run(t, t.Context())
		if err == nil || strings.Contains(err.Error(), "99") || strings.Contains(err.Error(), "100") || strings.Contains(err.Error(), "20025") {
			t.Errorf("%s: the error shows values: %v", what, err)
		}
	}
}
