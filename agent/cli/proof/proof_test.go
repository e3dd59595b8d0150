package proof

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// TestAProofIsRequestedAndFetched: the job is shown, or waited for, and what is no proof is not kept.
func TestAProofIsRequestedAndFetched(t *testing.T) {
	const id, job = "0000000000000000000000000000000a", "5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c"
	state := func(s string) string {
		return `{"id":"` + job + `","class":"prove","state":"` + s + `","reason":"a-code","detail":"it broke"}`
	}
	server := clitest.Serve(t, map[string]any{"POST /v1/proofs/" + id: `{"job":"` + job + `"}`, "GET /v1/jobs/" + job: []any{state("queued"), state("done")}, "GET /v1/proofs/" + id: `{"no":"proof"}`})
	dead := clitest.Serve(t, map[string]any{"POST /v1/proofs/" + id: `{"job":"` + job + `"}`, "GET /v1/jobs/" + job: state("dead")})
	out := filepath.Join(t.TempDir(), "proof")
	clitest.Calls(t, map[string]clitest.Call{
		"requested":   {Run: (&makeOptions{}).run, Args: []string{id}, Agent: server.Socket, Says: "job " + job + "\n"},
		"as JSON":     {Run: (&makeOptions{}).run, Args: []string{id}, Agent: server.Socket, JSON: true, Says: `"job": "` + job},
		"waited for":  {Run: (&makeOptions{wait: true}).run, Args: []string{id}, Agent: server.Socket, Says: "state    done"},
		"dead":        {Run: (&makeOptions{wait: true}).run, Args: []string{id}, Agent: dead.Socket, Status: cli.StatusRefused, Reason: "a-code", Says: "the job is dead: it broke"},
		"unknown":     {Run: (&makeOptions{}).run, Args: []string{"b"}, Agent: server.Socket, Status: cli.StatusRefused, Reason: "not-now"},
		"interrupted": {Run: (&makeOptions{}).run, Args: []string{id}, Agent: server.Socket, Cancelled: true, Status: cli.StatusFailed, Reason: "interrupted"},
		"no proof":    {Run: (&showOptions{out: out}).run, Args: []string{id}, Agent: server.Socket, Status: cli.StatusRefused},
		"none yet":    {Run: (&showOptions{out: out}).run, Args: []string{"b"}, Agent: server.Socket, Status: cli.StatusRefused, Reason: "not-now"},
		"no agent":    {Run: (&showOptions{}).run, Args: []string{id}, Agent: out, Status: cli.StatusFailed, Reason: "agent-unreachable"},
	})
	if _, err := os.Stat(out); err == nil {
		t.Error("what is no proof was kept")
	}
}

// TestVerifyingStopsAtWhatIsNotGiven: roots, keys and expectations are read before any proof, and a
// file that is no proof is a refusal beside others.
func TestVerifyingStopsAtWhatIsNotGiven(t *testing.T) {
	root, err := federationtest.New(t).Root.Public().MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := clitest.Write(t, filepath.Join(dir, "a.json"), "{}")
	verify := func(change func(*verifyOptions)) cli.Run {
		o := &verifyOptions{roots: []string{string(root)}, keys: t.TempDir(), timeout: time.Second}
		change(o)
		return o.run
	}
	clitest.Calls(t, map[string]clitest.Call{
		"a root":        {Run: verify(func(o *verifyOptions) { o.roots = []string{"none.pub"} }), Args: []string{file}, Status: cli.StatusFailed, Says: "none.pub"},
		"a file":        {Run: verify(func(*verifyOptions) {}), Args: []string{file + "x"}, Status: cli.StatusFailed, Says: "no such file"},
		"a proof":       {Run: verify(func(*verifyOptions) {}), Args: []string{file}, Status: cli.StatusRefused, Says: file + ": REFUSED: "},
		"two of them":   {Run: verify(func(*verifyOptions) {}), Args: []string{file, file}, JSON: true, Status: cli.StatusRefused, Says: "2 of 2 proofs do not hold"},
		"on a full one": {Run: verify(func(*verifyOptions) {}), Args: []string{file}, Out: clitest.Full{}, Status: cli.StatusFailed},
	})
}

// TestEachVerdictIsPrintedApart: what holds, and what holds but for what nobody vouches for.
func TestEachVerdictIsPrintedApart(t *testing.T) {
	view := func() *receipt.BundleView {
		v := &receipt.BundleView{Model: "digits", ModelVersion: 3}
		v.Proof.Development = true
		return v
	}
	var out strings.Builder
	software := view()
	software.Guest.SoftwareTEE = true
	printVerified(&out, []verified{{File: "a", View: view()}, {File: "b", Former: view()}, {File: "c", Software: software}, {File: "d", Error: "why"}})
	for _, want := range []string{"a: verified\n  output ", "b: REFUSED: authority not recorded: the receipt is of version 1\n", "c: REFUSED: software TEE: proof and signatures hold, but no hardware vouches for the guest\n",
		"d: REFUSED: why\n", "WARNING      the guest is a software TEE", "WARNING      the keys are from a development setup"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	if got := strings.Count(out.String(), "model        digits version 3"); got != 3 {
		t.Errorf("%d models in\n%s", got, out.String())
	}
}
