package registry

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/crypto/zk/zktest"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/keybroker/registry"
	"github.com/anchorhold/anchorhold/keybroker/registry/registrar"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
)

// registrySocket serves the commands of a registry as the operators' socket does, without
// its roles, and returns the socket.
func registrySocket(t *testing.T) string {
	t.Helper()
	w := federationtest.New(t)
	dir := t.TempDir()
	r, err := registrar.Open(registry.Settings{Listen: "127.0.0.1:0"}, registrar.Broker{Path: filepath.Join(dir, "proofs"), Root: w.Root.Public(), Lowest: func() uint64 { return 1 }, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
		Signer: func() (registry.Signer, error) {
			return registry.Signer{Key: w.EpochKey, Statement: w.EpochSigned, Broker: w.Epoch.Broker, Epoch: w.Epoch.Epoch}, nil
		},
		Audit: func(context.Context, string, string) error { return nil },
		TLS:   func() (*tls.Config, error) { return nil, errors.New("no guests here") }})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for _, e := range r.Commands() {
		mux.HandleFunc(e.Method+" "+e.Path, func(w http.ResponseWriter, req *http.Request) {
			answer, err := e.Do(req.Context(), req, func(into any) error { return json.NewDecoder(req.Body).Decode(into) })
			if err != nil {
				reason, _ := refusal.ReasonOf(err)
				w.WriteHeader(http.StatusConflict)
				answer = map[string]any{"error": operator.Error{Code: string(reason), Message: err.Error()}}
			}
			_ = json.NewEncoder(w).Encode(answer) // the client sees what is missing
		})
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return clitest.ServeUnix(t, mux)
}

var registryKeys = sync.OnceValues(func() (*zktest.Groth16, error) { return zktest.NewGroth16(zktest.Shape{Inputs: 6}) })

// keySet saves a set of keys, and changes its record first.
func keySet(t *testing.T, dir string, change func(*statement.Record)) {
	t.Helper()
	g, err := registryKeys()
	if err != nil {
		t.Fatal(err)
	}
	record := g.Record(1, 3)
	if change != nil {
		change(record)
	}
	text := func(w io.Writer) error { _, err := io.WriteString(w, "a file"); return err }
	if _, err := keyset.Save(dir, *record, text, text, g.Key); err != nil {
		t.Fatal(err)
	}
}

func TestTheRegistryFromTheCommandLine(t *testing.T) {
	socket, dir := registrySocket(t), t.TempDir()
	keySet(t, dir, nil)
	model := strings.Repeat("ab", 32)
	expect := func(want string, status int, args ...string) {
		t.Helper()
		out, got, err := run(t, append(append([]string{"proof"}, args...), "--broker", socket)...)
		if text := out + clitest.ErrorText(err); got != status || !strings.Contains(text, want) {
			t.Errorf("%v: status %d, want %d with %q: %s", args, got, status, want, text)
		}
	}
	expect("0 registered", 0, "status")
	expect("registered ", 0, "register", dir, "--model-id", model)
	expect("1 registered", 0, "status")
	expect(`"records": 1`, 0, "status", "--json")
	expect("nothing to challenge", 0, "challenge", "--all", "--count", "3")
	expect("[]", 0, "challenge", "--model-id", model, "--rate", "0.5", "--json")
	for _, args := range [][]string{{}, {"--all"}, {"--count", "1"}, {"--all", "--count", "1", "--rate", "1"}, {"--all", "--count", "1", "--within", "-1h"}, {"--all", "--agent-key", model, "--count", "1"}} {
		expect("challenge-invalid", cli.StatusRefused, append([]string{"challenge"}, args...)...)
	}
	expect("receipt-not-announced", cli.StatusRefused, "audit", strings.Repeat("0", 32))
	expect("receipt-not-announced", cli.StatusRefused, "audit", "..%2f..")
}

// The outputs of an answer are shown for the salt in the client's file, and for no other.
func TestAuditShowsOutputsForTheSalt(t *testing.T) {
	w := federationtest.New(t)
	a := w.Agent(t, nil)
	a.Grant(t, [32]byte{1})
	id, err := receipt.NewID()
	if err != nil {
		t.Fatal(err)
	}
	issued, err := receipt.Issue(a.Key, receipt.Lease{ID: a.Lease.Lease, EvidenceDigest: a.Lease.EvidenceDigest, Chain: a.Chain, Now: federationtest.Begin.Add(time.Minute)},
		receipt.Answer{ID: id, ModelID: [32]byte{1}, ModelName: "demo", ModelVersion: 1})
	if err != nil {
		t.Fatal(err)
	}
	salt, err := wire.Salt(issued.Salts.Output).MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux() // as a registry that has a proof of the answer
	mux.HandleFunc("GET /v1/proof-audit/{receipt}", func(w http.ResponseWriter, r *http.Request) {
		answer := wire.Answer{Receipt: wire.ReceiptView{ID: digest.ReceiptID(id)}, Proof: &wire.ProofView{System: statement.Groth16}}
		if r.Header.Get(wire.SaltHeader) == string(salt) {
			answer.Proof.Outputs = []int32{3, 1, 4}
		}
		_ = json.NewEncoder(w).Encode(answer)
	})
	socket := clitest.ServeUnix(t, mux)
	file := clitest.WriteJSON(t, "whole.json", issued)
	other := issued
	other.Salts.Output[0] ^= 1
	for name, tc := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"without":              {nil, 0, "to those who have the receipt's salt"},
		"the client's file":    {[]string{"--salts", file}, 0, "output [3 1 4]"},
		"another salt":         {[]string{"--salts", clitest.WriteJSON(t, "other.json", other)}, cli.StatusRefused, "does not open its output"},
		"a receipt alone":      {[]string{"--salts", clitest.WriteJSON(t, "alone.json", issued.Receipt)}, cli.StatusUsage, "without its salts"},
		"no receipt":           {[]string{"--salts", clitest.WriteJSON(t, "none.json", 1)}, cli.StatusRefused, "none.json"},
		"a file that is gone":  {[]string{"--salts", file + ".none"}, cli.StatusUsage, "no such file"},
		"another receipt's id": {[]string{"--salts", clitest.WriteJSON(t, "second.json", second(t, a, issued))}, cli.StatusUsage, "is of receipt"},
	} {
		out, status, err := run(t, append([]string{"proof", "audit", id.String(), "--broker", socket}, tc.args...)...)
		if text := out + clitest.ErrorText(err); status != tc.status || !strings.Contains(text, tc.want) {
			t.Errorf("%s: status %d, want %d with %q: %s", name, status, tc.status, tc.want, text)
		}
	}
}

// second is the file of another answer with the same salts.
func second(t *testing.T, a *federationtest.Agent, issued receipt.Issued) receipt.Issued {
	t.Helper()
	body := issued.Receipt.Body
	body.ID[0] ^= 1
	var err error
	if issued.Receipt, err = receipt.Sign(a.Key, body, a.Chain); err != nil {
		t.Fatal(err)
	}
	return issued
}

func TestRegistrationsThatAreRefused(t *testing.T) {
	socket := registrySocket(t)
	two, development, gradient, good := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	keySet(t, good, nil)
	keySet(t, two, nil)
	keySet(t, two, func(r *statement.Record) { r.Circuit[0]++ })
	keySet(t, development, func(r *statement.Record) { r.Development, r.Ceremony = true, digest.Digest{} })
	keySet(t, gradient, func(r *statement.Record) {
		r.Inference, r.Gradient = nil, &statement.GradientCircuit{Coordinates: 3, Bits: 8}
	})
	model := strings.Repeat("ab", 32)
	for what, c := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"an empty directory":       {[]string{t.TempDir()}, 0, "holds no records"},
		"no directory":             {nil, cli.StatusUsage, "directory"},
		"a development set-up":     {[]string{development}, cli.StatusRefused, "development-setup-refused"},
		"a model of two sets":      {[]string{two, "--model-id", model}, cli.StatusUsage, "--model-id needs a directory"},
		"a model of a gradient":    {[]string{gradient, "--model-id", model}, cli.StatusUsage, "--model-id needs a directory"},
		"a model id that is short": {[]string{good, "--model-id", "abc"}, cli.StatusUsage, "--model-id"},
	} {
		_, status, err := run(t, append([]string{"proof", "register", "--broker", socket}, c.args...)...)
		if err == nil || !strings.Contains(err.Error(), c.want) || c.status != 0 && status != c.status {
			t.Errorf("%s: status %d, %v", what, status, err)
		}
	}
	for _, args := range [][]string{{"register", good}, {"status"}, {"challenge", "--all", "--count", "1"}, {"audit", strings.Repeat("0", 32)}} {
		if _, status, err := run(t, append([]string{"proof"}, append(args, "--broker", socket+".none")...)...); status == 0 || err == nil {
			t.Errorf("%v without a broker: %v", args, err)
		}
	}
	for _, flag := range []string{"--model-id", "--agent-key"} {
		if _, status, err := run(t, "proof", "challenge", "--count", "1", flag, "XY", "--broker", socket); status != cli.StatusUsage {
			t.Errorf("%s XY: status %d, %v", flag, status, err)
		}
	}
}
