package ceremony

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark/backend/groth16"
	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/frontend/cs/r1cs"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/circuits"
	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/scalars"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/crypto/zk/zktest"
)

// shape is of a circuit of a few constraints, with a commitment as real ones have.
var shape = zktest.Shape{Inputs: 5, Commitment: true}

func small(t testing.TB) (*circuits.Circuit, *statement.InferenceCircuit) {
	t.Helper()
	system, err := frontend.Compile(ecc.BN254.ScalarField(), r1cs.NewBuilder, zktest.NewCircuit(shape))
	if err != nil {
		t.Fatal(err)
	}
	var raw bytes.Buffer
	if _, err := system.WriteTo(&raw); err != nil {
		t.Fatal(err)
	}
	circuit, err := circuits.ReadCircuit(&raw)
	if err != nil {
		t.Fatal(err)
	}
	return circuit, &statement.InferenceCircuit{Architecture: digest.Digest{1}, Items: 1, Outputs: 2}
}

func contribute(t testing.TB, dir, name string) {
	t.Helper()
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	added, err := c.ContributeAs(t.Context(), Party{name, name + "'s laptop, wiped"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	last := c.State.Phases[c.Phase()-1].Contributions
	if added.Name != name || last[len(last)-1] != added {
		t.Errorf("%+v was added", added)
	}
}

func end(t testing.TB, dir string, b byte) {
	t.Helper()
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.End(bytes.Repeat([]byte{b}, 32), nil); err != nil {
		t.Fatal(err)
	}
}

// Three parties, two phases; a proof under the keys verifies. Then everything that a
// party, or whoever carries the directory, could change is found.
func TestThreeParties(t *testing.T) {
	circuit, about := small(t)
	dir := filepath.Join(t.TempDir(), "ceremony")
	c, err := Begin(dir, circuit, about, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.End(make([]byte, 32), nil); !errors.Is(err, ErrOrder) {
		t.Errorf("a phase without contributions ended: %v", err)
	}
	parties := []string{"Alice", "Bob", "Carol"}
	for phase := range 2 {
		for _, name := range parties {
			contribute(t, dir, name)
		}
		if phase == 0 {
			if _, err := mustOpen(t, dir).Keys(t.TempDir(), nil); !errors.Is(err, ErrOrder) {
				t.Errorf("keys before the end: %v", err)
			}
		}
		end(t, dir, byte(phase+1))
	}
	c = mustOpen(t, dir)
	if _, err := c.Contribute("Dave", nil); !errors.Is(err, ErrOrder) {
		t.Errorf("a contribution after the end: %v", err)
	}
	if err := c.End(make([]byte, 32), nil); !errors.Is(err, ErrOrder) {
		t.Errorf("a third end: %v", err)
	}
	var told []string
	if err := c.Verify(func(what string) { told = append(told, what) }); err != nil || len(told) != 10 {
		t.Errorf("%d steps, %v", len(told), err)
	}
	bob := c.State.Phases[1].Contributions[1]
	if bob.Statement != "Bob's laptop, wiped" {
		t.Errorf("statement %q", bob.Statement)
	}
	keys := t.TempDir()
	set, err := c.Keys(keys, nil)
	if err != nil {
		t.Fatal(err)
	}
	transcript, err := c.Digest()
	if err != nil || set.Record.Ceremony != transcript || set.Record.Development {
		t.Errorf("%+v, %v", set.Record, err)
	}
	if again, err := c.Keys(t.TempDir(), nil); err != nil || again.Record != set.Record && again.Record.VerifyingKey != set.Record.VerifyingKey {
		t.Errorf("another verifier gets other keys: %v", err)
	}
	prove(t, circuit, set)
	tamper(t, dir)
}

// at is the path of a contribution's file.
func at(dir string, c *Ceremony, phase, number int) string {
	return filepath.Join(dir, contributionFile(phase, number, c.State.Phases[phase-1].Contributions[number-1].Digest))
}

func mustOpen(t testing.TB, dir string) *Ceremony {
	t.Helper()
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// prove makes and verifies a proof with the keys as they are on disk.
func prove(t *testing.T, circuit *circuits.Circuit, set keyset.Set) {
	t.Helper()
	s := statement.Statement{System: statement.Groth16, Circuit: set.Record.Circuit, Inference: &statement.Inference{
		Items: []statement.Item{{Outputs: []int32{3, -4}}}}}
	public, err := scalars.Public(&s)
	if err != nil {
		t.Fatal(err)
	}
	k, err := set.OpenProvingKey()
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close() // read only
	pk, err := circuits.ReadProvingKey(k)
	if err != nil {
		t.Fatal(err)
	}
	w, err := zktest.NewCircuit(shape).Witness(public)
	if err != nil {
		t.Fatal(err)
	}
	made, err := groth16.Prove(circuit.System, pk, w)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := circuits.Encode(made)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := set.VerifyingKey()
	if err != nil {
		t.Fatal(err)
	}
	vk, err := groth16verify.ParseKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	e := &statement.Envelope{Statement: s, Key: set.Record.VerifyingKey, Proof: proof}
	if err := vk.VerifyEnvelope(t.Context(), e); err != nil {
		t.Error(err)
	}
	e.Statement.Inference.Items[0].Outputs[0]++
	if err := vk.VerifyEnvelope(t.Context(), e); err == nil {
		t.Error("another output was verified")
	}
}

func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// tamper changes a finished ceremony in every way, each alone.
func tamper(t *testing.T, dir string) {
	for name, tc := range map[string]struct {
		want   string
		change func(t *testing.T, dir string, c *Ceremony)
	}{
		"a changed contribution": {`"Bob"`, func(t *testing.T, dir string, c *Ceremony) { flip(t, at(dir, c, 1, 2)) }},
		"a missing one":          {`"Carol"`, func(t *testing.T, dir string, c *Ceremony) { remove(t, at(dir, c, 2, 3)) }},
		"two files swapped":      {`"Alice"`, func(t *testing.T, dir string, c *Ceremony) { swap(t, at(dir, c, 2, 1), at(dir, c, 2, 2)) }},
		"two swapped": {`"Bob"`, func(t *testing.T, dir string, c *Ceremony) {
			p := c.State.Phases[0].Contributions
			a, b := at(dir, c, 1, 1), at(dir, c, 1, 2)
			p[0], p[1] = p[1], p[0]
			rename(t, a, at(dir, c, 1, 2))
			rename(t, b, at(dir, c, 1, 1))
		}},
		"one left out": {`"Carol"`, func(t *testing.T, dir string, c *Ceremony) {
			p := &c.State.Phases[0]
			carol := at(dir, c, 1, 3)
			p.Contributions = append(p.Contributions[:1], p.Contributions[2])
			rename(t, carol, at(dir, c, 1, 2))
		}},
		"one of phase 1 in phase 2": {`phase 2, by "Bob"`, func(t *testing.T, dir string, c *Ceremony) {
			from := at(dir, c, 1, 2)
			c.State.Phases[1].Contributions[1].Digest = c.State.Phases[0].Contributions[1].Digest
			rename(t, from, at(dir, c, 2, 2))
			put(t, from, read(t, at(dir, c, 2, 2)))
		}},
		"another circuit": {"circuit: ", func(t *testing.T, dir string, _ *Ceremony) { flip(t, filepath.Join(dir, "circuit")) }},
		"another beacon": {`phase 2, by "Alice"`, func(_ *testing.T, _ string, c *Ceremony) {
			c.State.Phases[0].Beacon = strings.Repeat("ab", 32)
		}},
		"one contribution": {"ended with 1", func(_ *testing.T, _ string, c *Ceremony) {
			c.State.Phases[1].Contributions = c.State.Phases[1].Contributions[:1]
		}},
		"another library":   {"gnark v0", func(_ *testing.T, _ string, c *Ceremony) { c.State.Library = "gnark v0.9.0" }},
		"fewer constraints": {"circuit: ", func(_ *testing.T, _ string, c *Ceremony) { c.State.Constraints-- }},
		"very many constraints": {"do not match the domain", func(_ *testing.T, _ string, c *Ceremony) {
			c.State.Constraints, c.State.Domain = 1<<40, 1<<40
		}},
		"constraints of a large circuit": {"circuit: ", func(_ *testing.T, _ string, c *Ceremony) {
			c.State.Constraints, c.State.Domain = MaxConstraints, MaxConstraints // 6 GiB, if it were believed
		}},
		"no name":                      {"contribution 2", func(_ *testing.T, _ string, c *Ceremony) { c.State.Phases[0].Contributions[1].Name = "" }},
		"a name that moves the cursor": {"printed", func(_ *testing.T, _ string, c *Ceremony) { c.State.Phases[0].Contributions[1].Name = "Bob\x1b[1A" }},
		"a long statement": {"contribution 1", func(_ *testing.T, _ string, c *Ceremony) {
			c.State.Phases[1].Contributions[0].Statement = strings.Repeat("x", maxStatementBytes+1)
		}},
		"many contributions": {"at most", func(_ *testing.T, _ string, c *Ceremony) {
			c.State.Phases[1].Contributions = make([]Contribution, maxContributions+1)
		}},
		"powers as well":    {"although it was taken", func(_ *testing.T, _ string, c *Ceremony) { c.State.Powers = &Powers{} }},
		"no end of phase 1": {"before phase 1 ended", func(_ *testing.T, _ string, c *Ceremony) { c.State.Phases[0].Beacon = "" }},
		"another domain":    {"domain", func(_ *testing.T, _ string, c *Ceremony) { c.State.Domain *= 2 }},
		"a short beacon":    {"phase 2: the beacon", func(_ *testing.T, _ string, c *Ceremony) { c.State.Phases[1].Beacon = "00" }},
		"another format":    {"format", func(_ *testing.T, _ string, c *Ceremony) { c.State.Format = "x" }},
		"nothing about":     {"about", func(_ *testing.T, _ string, c *Ceremony) { c.State.Inference = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			copied := copyDir(t, dir)
			c := mustOpen(t, copied)
			tc.change(t, copied, c)
			err := c.Verify(nil)
			if !errors.Is(err, ErrTranscript) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("want %q: %v", tc.want, err)
			}
			if _, err := c.Keys(t.TempDir(), nil); err == nil {
				t.Error("keys were made")
			}
		})
	}
}

func flip(t *testing.T, path string) {
	t.Helper()
	data := read(t, path)
	data[len(data)/2] ^= 1
	put(t, path, data)
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func swap(t *testing.T, a, b string) {
	t.Helper()
	rename(t, a, a+"x")
	rename(t, b, a)
	rename(t, a+"x", b)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func put(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDirectoriesAreChecked(t *testing.T) {
	circuit, about := small(t)
	dir := t.TempDir()
	if _, err := Begin(dir, circuit, about, nil); err == nil {
		t.Error("begun in a directory that is there")
	}
	if _, err := Open(dir); err == nil {
		t.Error("opened an empty directory")
	}
	if err := os.WriteFile(filepath.Join(dir, fileState), []byte(`{"format":"anchorhold/ceremony/1","secret":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); !errors.Is(err, ErrTranscript) {
		t.Errorf("an unknown field: %v", err)
	}
	c, err := Begin(filepath.Join(dir, "c"), circuit, about, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Contribute("", nil); !errors.Is(err, ErrOrder) {
		t.Errorf("nobody: %v", err)
	}
	if err := c.End([]byte{1}, nil); !errors.Is(err, ErrOrder) {
		t.Errorf("a short beacon: %v", err)
	}
}
