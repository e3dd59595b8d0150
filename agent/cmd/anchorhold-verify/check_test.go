package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/plonkverify"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/crypto/zk/zktest"
)

const items, outputs = 2, 3

var keys = sync.OnceValues(func() (*zktest.Groth16, error) {
	return zktest.NewGroth16(zktest.Shape{Inputs: items*(1+outputs) + 2, Commitment: true})
})

// bench is a directory of keys with a record, and envelopes.
type bench struct {
	t       testing.TB
	dir     string
	groth16 *zktest.Groth16
	record  *statement.Record
}

func newBench(t testing.TB) *bench {
	t.Helper()
	g, err := keys()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t, t.TempDir(), g, g.Record(items, outputs)}
	b.write("keys/"+g.Digest.String()+".vk", g.Key)
	b.writeRecord(b.record)
	return b
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) write(name string, raw []byte) string {
	b.t.Helper()
	path := b.path(name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, raw, 0o644)); err != nil {
		b.t.Fatal(err)
	}
	return path
}

func (b *bench) writeRecord(r *statement.Record) string {
	b.t.Helper()
	raw, err := r.MarshalJSON()
	if err != nil {
		b.t.Fatal(err)
	}
	return b.write("keys/"+r.Circuit.String()+".record.json", append(raw, '\n'))
}

func (b *bench) envelope(seed byte) *statement.Envelope {
	b.t.Helper()
	e, err := b.groth16.Envelope(zktest.Inferences(seed, items, outputs))
	if err != nil {
		b.t.Fatal(err)
	}
	return e
}

func (b *bench) binary(name string, e *statement.Envelope) string {
	b.t.Helper()
	raw, err := e.MarshalBinary()
	if err != nil {
		b.t.Fatal(err)
	}
	return b.write(name, raw)
}

func (b *bench) json(name string, e *statement.Envelope) string {
	b.t.Helper()
	raw, err := json.MarshalIndent(e, "", " ")
	if err != nil {
		b.t.Fatal(err)
	}
	return b.write(name, raw)
}

// command reads a command line as tests write it; the binary has flags of its own.
func command(args []string) (c Command) {
	c.Timeout = time.Minute
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		value := func() string { v := args[0]; args = args[1:]; return v }
		switch arg {
		case "--vk":
			c.Keys = append(c.Keys, value())
		case "--record":
			c.Records = append(c.Records, value())
		case "--model":
			d, err := digest.Parse(value())
			if err != nil {
				panic(err)
			}
			c.Model = &d
		case "--timeout":
			d, err := time.ParseDuration(value())
			if err != nil {
				panic(err)
			}
			c.Timeout = d
		case "--allow-development":
			c.Development = true
		case "--allow-unregistered":
			c.Unregistered = true
		case "--json":
			c.JSON = true
		default:
			c.Files = append(c.Files, arg)
		}
	}
	return c
}

// runCommand runs the command.
func runCommand(t testing.TB, args ...string) (code int, out, complaint string) {
	t.Helper()
	var o bytes.Buffer
	c := command(args)
	code, err := c.Run(t.Context(), &o)
	if err != nil {
		complaint = err.Error()
	}
	return code, o.String(), complaint
}

// reasons runs with --json and returns each file's reason.
func reasons(t testing.TB, args ...string) (code int, list []refusal.Reason) {
	t.Helper()
	code, out, complaint := runCommand(t, append(args, "--json")...)
	var answer struct {
		Verified bool      `json:"verified"`
		Proofs   []Finding `json:"proofs"`
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatalf("%v: %s %s", err, out, complaint)
	}
	if answer.Verified != (code == ExitVerified) {
		t.Errorf("verified: %v, exit code %d", answer.Verified, code)
	}
	for _, f := range answer.Proofs {
		if f.Verified != (f.Reason == "") {
			t.Errorf("%s: verified %v, reason %q", f.Name, f.Verified, f.Reason)
		}
		list = append(list, f.Reason)
	}
	return code, list
}

func TestEnvelopesVerify(t *testing.T) {
	b := newBench(t)
	one, two := b.binary("one.proof", b.envelope(1)), b.json("two.proof.json", b.envelope(2))
	inside, err := json.Marshal(map[string]any{"receipt": map[string]int{"a": 1}, "output_salt": "x", "proof": b.envelope(3)})
	if err != nil {
		t.Fatal(err)
	}
	three := b.write("three.json", inside)
	code, out, complaint := runCommand(t, "--vk", b.path("keys"), one, two, three)
	if code != ExitVerified || complaint != "" || strings.Count(out, ": verified, groth16-bn254") != 3 || !strings.Contains(out, "was not checked") || strings.Contains(out, "WARNING") {
		t.Errorf("%d\n%s%s", code, out, complaint)
	}
	for _, item := range b.envelope(1).Statement.Inference.Items {
		if !strings.Contains(out, item.Receipt.String()) || !strings.Contains(out, fmt.Sprint(item.Outputs)) {
			t.Errorf("%s: %v is not told", item.Receipt, item.Outputs)
		}
	}
	id := b.envelope(1).Statement.Inference.Model.ID().String()
	if code, _ := reasons(t, one, "--vk", b.path("keys"), "--model", id); code != ExitVerified {
		t.Error("the model by its name")
	}
	key, record := b.path("keys/"+b.groth16.Digest.String()+".vk"), b.path("keys/"+b.record.Circuit.String()+".record.json")
	if code, _ := reasons(t, "--vk", key, "--record", record, one); code != ExitVerified {
		t.Error("key and record by their names")
	}
}

func TestRefusalsHaveReasons(t *testing.T) {
	for name, c := range map[string]struct {
		reason refusal.Reason
		make   func(b *bench) []string // the command line
	}{
		"tampered output": {ReasonProof, func(b *bench) []string {
			e := b.envelope(1)
			e.Statement.Inference.Items[0].Outputs[0]++
			return []string{b.json("e", e)}
		}},
		"another's proof": {ReasonProof, func(b *bench) []string {
			e := b.envelope(1)
			e.Proof = b.envelope(2).Proof
			return []string{b.binary("e", e)}
		}},
		"stale model": {ReasonProof, func(b *bench) []string {
			e := b.envelope(1)
			e.Statement.Inference.Model.Chunks = e.Statement.Inference.Model.Quantization
			return []string{b.binary("e", e)}
		}},
		"cut proof": {ReasonProof, func(b *bench) []string { e := b.envelope(1); e.Proof = e.Proof[1:]; return []string{b.binary("e", e)} }},
		"circuit": {ReasonStatement, func(b *bench) []string {
			e := b.envelope(1)
			e.Statement.Circuit[0]++
			return []string{b.binary("e", e)}
		}},
		"architecture": {ReasonStatement, func(b *bench) []string {
			e := b.envelope(1)
			e.Statement.Inference.Model.Architecture[0]++
			return []string{b.binary("e", e)}
		}},
		"shape": {ReasonStatement, func(b *bench) []string {
			e := b.envelope(1)
			e.Statement = zktest.Inferences(1, 4, 1) // as many public inputs
			return []string{b.binary("e", e)}
		}},
		"shape without a record": {ReasonStatement, func(b *bench) []string {
			e := b.envelope(1)
			e.Statement = zktest.Inferences(1, 4, 2)
			return []string{"--allow-unregistered", "--vk", b.path("keys/" + b.groth16.Digest.String() + ".vk"), b.binary("e", e)}
		}},
		"model's id in JSON": {ReasonStatement, func(b *bench) []string {
			e := b.envelope(1)
			raw, _ := json.Marshal(e)
			id := e.Statement.Inference.Model.ID().String()
			return []string{b.write("e", bytes.ReplaceAll(raw, []byte(id), []byte(strings.Repeat("0", 64))))}
		}},
		"model": {ReasonModel, func(b *bench) []string {
			return []string{"--model", strings.Repeat("0", 64), b.binary("e", b.envelope(1))}
		}},
		"gradient for a model": {ReasonModel, func(b *bench) []string {
			e := b.envelope(1)
			e.Statement.Inference, e.Statement.Gradient = nil, &statement.Gradient{Coordinates: 1, LInf: 1, SquaredL2: 1}
			return []string{"--model", strings.Repeat("0", 64), b.binary("e", e)}
		}},
		"unknown key": {ReasonKeyUnknown, func(b *bench) []string { e := b.envelope(1); e.Key[0]++; return []string{b.binary("e", e)} }},
		"no record": {ReasonKeyUnregistered, func(b *bench) []string {
			if err := os.Remove(b.path("keys/" + b.record.Circuit.String() + ".record.json")); err != nil {
				b.t.Fatal(err)
			}
			return []string{b.binary("e", b.envelope(1))}
		}},
		"development": {ReasonKeyDevelopment, func(b *bench) []string {
			b.record.Development, b.record.Ceremony = true, digest.Digest{}
			b.writeRecord(b.record)
			return []string{b.binary("e", b.envelope(1))}
		}},
		"changed key": {ReasonKeyMalformed, func(b *bench) []string {
			b.write("keys/"+b.groth16.Digest.String()+".vk", append(slices.Clone(b.groth16.Key), 0))
			return []string{b.binary("e", b.envelope(1))}
		}},
		"exchanged key": {ReasonKeyMalformed, func(b *bench) []string {
			raw, err := os.ReadFile("../../../crypto/zk/groth16verify/testdata/groth16-1.vk")
			if err != nil {
				b.t.Fatal(err)
			}
			b.write("keys/"+b.groth16.Digest.String()+".vk", raw)
			return []string{b.binary("e", b.envelope(1))}
		}},
		"no key": {ReasonKeyMalformed, func(b *bench) []string {
			raw := []byte("not a key")
			e := b.envelope(1)
			e.Key = sha256.Sum256(raw)
			b.write("keys/"+e.Key.String()+".vk", raw)
			return []string{"--allow-unregistered", b.binary("e", e)}
		}},
		"key of another system": {ReasonKeyMalformed, func(b *bench) []string {
			e := b.envelope(1)
			e.Statement.System = statement.PLONK
			return []string{"--allow-unregistered", b.binary("e", e), "--vk", b.path("keys/" + b.groth16.Digest.String() + ".vk")}
		}},
		"no envelope": {ReasonMalformed, func(b *bench) []string { return []string{b.write("e", []byte("hello"))} }},
		"empty":       {ReasonMalformed, func(b *bench) []string { return []string{b.write("e", nil)} }},
		"other JSON":  {ReasonMalformed, func(b *bench) []string { return []string{b.write("e", []byte(`{"receipt":{},"proof":{}}`))} }},
		"two documents": {ReasonMalformed, func(b *bench) []string {
			return []string{b.write("e", []byte(`{"receipt":{},"proof":{}}{}`))}
		}},
		"time": {ReasonTimeout, func(b *bench) []string { return []string{"--timeout", "1ns", b.binary("e", b.envelope(1))} }},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			args := c.make(b)
			if !slices.Contains(args, "--vk") {
				args = append(args, "--vk", b.path("keys"))
			}
			if name == "shape without a record" || name == "key of another system" {
				if err := os.Remove(b.path("keys/" + b.record.Circuit.String() + ".record.json")); err != nil {
					t.Fatal(err)
				}
			}
			if code, got := reasons(t, args...); code != ExitRefused || !slices.Equal(got, []refusal.Reason{c.reason}) {
				t.Errorf("exit code %d, %q; want %q", code, got, c.reason)
			}
			if code, out, _ := runCommand(t, args...); code != ExitRefused || !strings.Contains(out, "REFUSED: "+string(c.reason)) {
				t.Errorf("exit code %d, %s", code, out)
			}
		})
	}
}

func TestWaiversAreWrittenOut(t *testing.T) {
	b := newBench(t)
	one := b.binary("one", b.envelope(1))
	b.record.Development, b.record.Ceremony = true, digest.Digest{}
	record := b.writeRecord(b.record)
	if code, out, _ := runCommand(t, one, "--vk", b.path("keys"), "--allow-development"); code != ExitVerified || !strings.Contains(out, "WARNING: the key comes from a development setup") {
		t.Errorf("%d %s", code, out)
	}
	if err := os.Remove(record); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := runCommand(t, one, "--vk", b.path("keys"), "--allow-unregistered"); code != ExitVerified || !strings.Contains(out, "WARNING: no record") {
		t.Errorf("%d %s", code, out)
	}
}

func TestManyAtOnce(t *testing.T) {
	b := newBench(t)
	args := []string{"--vk", b.path("keys")}
	var want []refusal.Reason
	for i := range byte(7) {
		e, reason := b.envelope(i), refusal.Reason("")
		switch i {
		case 2, 5:
			e.Statement.Inference.Items[1].Receipt[0] ^= 1
			reason = ReasonProof
		case 4:
			e.Key[0] ^= 1
			reason = ReasonKeyUnknown
		}
		args, want = append(args, b.binary(fmt.Sprint(i), e)), append(want, reason)
	}
	if code, got := reasons(t, args...); code != ExitRefused || !slices.Equal(got, want) {
		t.Errorf("%d %q", code, got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	c := command(args)
	if code, err := c.Run(ctx, &out); err == nil || code != ExitFailed || out.Len() != 0 {
		t.Errorf("interrupted: %d %s", code, out.String())
	}
}

func TestPLONK(t *testing.T) {
	const from = "../../../crypto/zk/plonkverify/testdata/"
	code, out, complaint := runCommand(t, "--allow-unregistered", "--vk", from+"plonk-1.vk", from+"plonk-1.proof", from+"plonk-1.proof")
	if code != ExitVerified || !strings.Contains(out, "verified, plonk-bn254") {
		t.Errorf("%d %s %s", code, out, complaint)
	}
	raw, err := os.ReadFile(from + "plonk-1.proof")
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-100] ^= 1
	b := newBench(t)
	if code, got := reasons(t, "--allow-unregistered", "--vk", from+"plonk-1.vk", b.write("e", raw)); code != ExitRefused || got[0] != ReasonProof {
		t.Errorf("%d %q", code, got)
	}
}

func TestCommandLine(t *testing.T) {
	b := newBench(t)
	one := b.binary("one", b.envelope(1))
	other := *b.record
	other.Library = "another"
	raw, err := other.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"nothing": {}, "no key": {one}, "no file": {"--vk", b.path("keys")},
		"time": {"--timeout", "0s", "--vk", b.path("keys"), one}, "missing": {"--vk", b.path("keys"), b.path("none")}, "missing key": {"--vk", b.path("none"), one},
		"a directory": {"--vk", b.path("keys"), b.path("keys")}, "record": {"--vk", b.path("keys"), "--record", one, one}, "missing record": {"--vk", b.path("keys"), "--record", b.path("none"), one},
		"two records": {"--vk", b.path("keys"), "--record", b.write("other", raw), one},
		"key's name":  {"--vk", filepath.Dir(b.write("wrong/x.vk", b.groth16.Key)), one},
		"bad record":  {"--vk", filepath.Dir(b.write("bad/x.record.json", []byte("{}"))), one},
		"long key":    {"--vk", b.write("long", make([]byte, max(groth16verify.MaxKeyBytes, plonkverify.MaxKeyBytes)+1)), one},
		"long file":   {"--vk", b.path("keys"), b.write("longer", make([]byte, MaxFileBytes+1))},
		"many files":  append([]string{"--vk", b.path("keys")}, slices.Repeat([]string{one}, 4097)...),
	} {
		want := ExitFailed
		if slices.Contains([]string{"nothing", "no key", "no file", "time", "many files"}, name) {
			want = ExitUsage
		}
		if code, out, complaint := runCommand(t, args...); code != want || out != "" || complaint == "" {
			t.Errorf("%s: %d, want %d, %q %q", name, code, want, out, complaint)
		}
	}
	c := command([]string{"--vk", b.path("keys"), one})
	if code, err := c.Run(t.Context(), broken{}); code != ExitFailed || err == nil {
		t.Errorf("an output that is closed: %d", code)
	}
	odd := b.binary("a\nb: verified", b.envelope(2))
	if _, out, _ := runCommand(t, "--vk", b.path("keys"), odd); strings.Contains(out, "\nb: verified") {
		t.Errorf("a file's name passes for a line: %s", out)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("closed") }

func TestVerifyReturnsTheRecord(t *testing.T) {
	b := newBench(t)
	files := keyset.NewFiles(1 << 20)
	if err := files.AddKeys(b.path("keys")); err != nil {
		t.Fatal(err)
	}
	k := files.Ring(keyset.Waivers{}, verifiers())
	e := b.envelope(1)
	for range 2 {
		if r, err := k.Verify(t.Context(), e); err != nil || r.VerifyingKey != e.Key {
			t.Errorf("%v %v", r, err)
		}
	}
	e.Statement.Inference.Items[0].Outputs[0]++
	r, err := k.Verify(t.Context(), e)
	if reason, _ := refusal.ReasonOf(refused(err)); reason != ReasonProof || r.System != 0 {
		t.Errorf("%v %v", r, err)
	}
	if _, err := k.Verify(t.Context(), &statement.Envelope{}); err == nil {
		t.Error("an empty envelope")
	}
}

func FuzzOpen(f *testing.F) {
	b := newBench(f)
	e := b.envelope(1)
	raw, err := e.MarshalBinary()
	text, err2 := e.MarshalJSON()
	if err := errors.Join(err, err2); err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(text)
	f.Add(fmt.Appendf(nil, `{"receipt":{},"proof":%s}`, text))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, _, err := Open(raw)
		if (e == nil) != (err != nil) {
			t.Fatal(e, err)
		}
		if err != nil {
			if _, known := refusal.ReasonOf(err); !known {
				t.Fatal(err)
			}
		}
	})
}
