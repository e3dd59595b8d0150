package fed

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
)

const (
	id  = "0000000000000000000000000000000a"
	job = `{"id":"` + "5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c" + `","class":"fed-submit","state":"queued"}`
)

// done is the job when it is over.
var done = strings.Replace(job, "queued", "done", 1)

// jobPath is where the agent shows the job.
const jobPath = "GET /v1/jobs/5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c"

// TestAVectorIsSubmittedAsItsOptionsSay, from a file or standard input.
func TestAVectorIsSubmittedAsItsOptionsSay(t *testing.T) {
	const path = "POST /v1/fed/rounds/" + id + "/contributions"
	server := clitest.Serve(t, map[string]any{path: job, jobPath: []any{job, done}})
	vector := clitest.Write(t, filepath.Join(t.TempDir(), "v.f32"), "\x00\x00\x80\x3f")
	for name, c := range map[string]struct {
		call clitest.Call
		want clitest.Asked
	}{
		"a file":         {clitest.Call{Run: (&submitOptions{weight: 1}).run, Args: []string{id, vector}, Says: "state    queued"}, clitest.Asked{Line: path + "?weight=1", Media: "application/octet-stream", Body: "\x00\x00\x80\x3f"}},
		"standard input": {clitest.Call{Run: (&submitOptions{weight: 120, half: true, strict: true}).run, Args: []string{id, "-"}, In: strings.NewReader("ab"), JSON: true, Says: `"state": "queued"`}, clitest.Asked{Line: path + "?excess=refuse&weight=120", Media: "application/vnd.anchorhold.float16", Body: "ab"}},
	} {
		c.call.Agent = server.Socket
		if c.call.Expect(t, name); server.Last() != c.want {
			t.Errorf("%s: asked %+v, want %+v", name, server.Last(), c.want)
		}
	}
	clitest.Call{Run: (&submitOptions{wait: true}).run, Args: []string{id, vector}, Agent: server.Socket, Says: "state    done"}.Expect(t, "until it is done")
	clitest.Calls(t, map[string]clitest.Call{
		"no round":     {Run: (&submitOptions{}).run, Args: []string{"x", vector}, Status: cli.StatusUsage},
		"no file":      {Run: (&submitOptions{}).run, Args: []string{id, vector + "x"}, Status: cli.StatusFailed, Says: "no such file"},
		"no agent":     {Run: (&submitOptions{}).run, Args: []string{id, vector}, Agent: vector + ".sock", Status: cli.StatusFailed, Reason: "agent-unreachable"},
		"it is closed": {Run: (&submitOptions{}).run, Args: []string{strings.Repeat("0", 32), vector}, Agent: server.Socket, Status: cli.StatusRefused, Reason: "not-now"},
		"interrupted":  {Run: (&submitOptions{}).run, Args: []string{id, vector}, Agent: server.Socket, Cancelled: true, Status: cli.StatusFailed, Reason: "interrupted"},
	})
}

// TestAnUpdateSendsBothParts in one request, and shows its steps.
func TestAnUpdateSendsBothParts(t *testing.T) {
	const path = "POST /v1/fed/rounds/" + id + "/updates"
	server := clitest.Serve(t, map[string]any{jobPath: done,
		path: `{"steps":[{"step":"inference","state":"done","ms":3},{"step":"proof","state":"running"}],"proofs":[{"receipt":"r1","job":"j1"}],"job":` + job + `}`})
	dir := t.TempDir()
	vector, request := clitest.Write(t, filepath.Join(dir, "v.f32"), "vector"), clitest.Write(t, filepath.Join(dir, "request.json"), `{"inputs":[]}`)
	o := &updateOptions{model: "digits", inputs: request, weight: 2, half: true, strict: true}
	clitest.Call{Run: o.run, Args: []string{id, vector}, Agent: server.Socket, Says: "inference    done    3 ms\nproof        running\nreceipt      r1, proven by job j1\n\njob "}.Expect(t, "an update")
	asked := server.Last()
	if asked.Line != path+"?excess=refuse&model=digits&weight=2" || !strings.HasPrefix(asked.Media, "multipart/form-data; boundary=") {
		t.Errorf("asked %+v", asked)
	}
	for _, part := range []string{"Content-Disposition: form-data; name=\"inference\"\r\nContent-Type: application/json\r\n\r\n{\"inputs\":[]}\r\n",
		"Content-Disposition: form-data; name=\"vector\"\r\nContent-Type: application/vnd.anchorhold.float16\r\n\r\nvector\r\n"} {
		if !strings.Contains(asked.Body, part) {
			t.Errorf("no part %q in\n%s", part, asked.Body)
		}
	}
	clitest.Calls(t, map[string]clitest.Call{
		"until it is done": {Run: (&updateOptions{model: "m", inputs: request, wait: true}).run, Args: []string{id, "-"}, In: strings.NewReader("v"), Agent: server.Socket, JSON: true, Says: `"state": "done"`},
		"no request":       {Run: (&updateOptions{model: "m", inputs: request + "x"}).run, Args: []string{id, vector}, Agent: server.Socket, Status: cli.StatusFailed, Says: "no such file"},
		"no vector":        {Run: (&updateOptions{model: "m", inputs: request}).run, Args: []string{id, vector + "x"}, Agent: server.Socket, Status: cli.StatusFailed, Says: "no such file"},
		"no round":         {Run: (&updateOptions{model: "m", inputs: request}).run, Args: []string{"x", vector}, Agent: server.Socket, Status: cli.StatusUsage},
		"refused":          {Run: (&updateOptions{model: "m", inputs: request}).run, Args: []string{strings.Repeat("0", 32), vector}, Agent: server.Socket, Status: cli.StatusRefused, Reason: "not-now"},
		"interrupted":      {Run: (&updateOptions{model: "m", inputs: request}).run, Args: []string{id, vector}, Agent: server.Socket, Cancelled: true, Status: cli.StatusFailed, Reason: "interrupted"},
	})
}

// TestAResultIsKeptWhole or not at all.
func TestAResultIsKeptWhole(t *testing.T) {
	path := "GET /v1/fed/rounds/" + id + "/result"
	dir := t.TempDir()
	whole := clitest.Serve(t, map[string]any{path: `{"length":2,"sigma":1.5}`, path + "/values": "12345678", "POST /v1/fed/rounds/" + id + "/decrypt": job, jobPath: done})
	short := clitest.Serve(t, map[string]any{path: `{"length":3}`, path + "/values": "12345678"})
	long := clitest.Serve(t, map[string]any{path: `{"length":1}`, path + "/values": "12345678"})
	vague := clitest.Serve(t, map[string]any{path: `{"length":"two"}`, path + "/values": "12345678"})
	to := func(name string) cli.Run { return (&resultOptions{out: filepath.Join(dir, name)}).run }
	clitest.Calls(t, map[string]clitest.Call{
		"shown":       {Run: to("mean"), Args: []string{id}, Agent: whole.Socket, Says: "length             2\nsigma              1.5\n"},
		"not kept":    {Run: (&resultOptions{}).run, Args: []string{id}, Agent: whole.Socket, JSON: true, Says: `"length": 2`},
		"too short":   {Run: to("short"), Args: []string{id}, Agent: short.Socket, Status: cli.StatusFailed, Says: "another length"},
		"too long":    {Run: to("long"), Args: []string{id}, Agent: long.Socket, Status: cli.StatusFailed, Says: "another length"},
		"no length":   {Run: to("vague"), Args: []string{id}, Agent: vague.Socket, Status: cli.StatusFailed, Says: "does not state its length"},
		"no round":    {Run: to("x"), Args: []string{"x"}, Agent: whole.Socket, Status: cli.StatusUsage},
		"none yet":    {Run: to("x"), Args: []string{strings.Repeat("0", 32)}, Agent: whole.Socket, Status: cli.StatusRefused, Reason: "not-now"},
		"no place":    {Run: to("none/mean"), Args: []string{id}, Agent: whole.Socket, Status: cli.StatusFailed, Says: "does not exist: create it first"},
		"interrupted": {Run: to("x"), Args: []string{id}, Agent: whole.Socket, Cancelled: true, Status: cli.StatusFailed, Reason: "interrupted"},
		"decrypted":   {Run: (&decryptOptions{}).run, Args: []string{id}, Agent: whole.Socket, Says: "state    queued"},
		"and waited":  {Run: (&decryptOptions{wait: true}).run, Args: []string{id}, Agent: whole.Socket, JSON: true, Says: `"state": "done"`},
		"not closed":  {Run: (&decryptOptions{}).run, Args: []string{strings.Repeat("0", 32)}, Agent: whole.Socket, Status: cli.StatusRefused, Reason: "not-now"},
		"not a round": {Run: (&decryptOptions{}).run, Args: []string{"x"}, Agent: whole.Socket, Status: cli.StatusUsage},
	})
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || left[0].Name() != "mean" {
		t.Errorf("it left %v, %v", left, err)
	}
}

// TestAKeyIsSetUpStepByStep: what is asked of agent, broker and aggregator, and what failed.
func TestAKeyIsSetUpStepByStep(t *testing.T) {
	path := "/v1/fed/keys/" + id
	state := func(name string) string {
		return `{"round":"` + id + `","party":1,"parties":3,"threshold":2,"state":"` + name + `","phase":"` + name + `-phase"}`
	}
	server := clitest.Serve(t, map[string]any{
		"POST " + path + "/join": state("setting-up"), "POST " + path + "/share": state("sharing"),
		"GET " + path:     []any{state("setting-up"), strings.Replace(state("ready"), "}", `,"key":"ab"}`, 1)},
		"POST /v1/setups": map[string]any{"setup": map[string]any{"agents": []digest.Digest{{1}, {2}}, "threshold": 2}},
	})
	failed := clitest.Serve(t, map[string]any{"GET " + path: `{"state":"failed","reason":"setup-over","detail":"too late"}`})
	join, share, status := keyOptions{ask: (*keyOptions).join}, keyOptions{ask: (*keyOptions).share, active: []int{1, 3}}, keyOptions{ask: (*keyOptions).status}
	waits := join
	waits.wait = true
	agents := []string{strings.Repeat("01", 32), strings.Repeat("02", 32)}
	clitest.Call{Run: share.run, Args: []string{id}, Agent: server.Socket, Says: "party    1 of 3, of which 2 decrypt\nstate    sharing"}.Expect(t, "share")
	if got := server.Last(); got.Line != "POST "+path+"/share" || got.Body != `{"active":[1,3]}` {
		t.Errorf("asked %+v", got)
	}
	away := filepath.Join(t.TempDir(), "away.sock")
	clitest.Calls(t, map[string]clitest.Call{
		"join":             {Run: join.run, Args: []string{id}, Agent: server.Socket, JSON: true, Says: `"state": "setting-up"`},
		"join, and wait":   {Run: waits.run, Args: []string{id}, Agent: server.Socket, Says: "state    ready ready-phase\nkey      ab\n"},
		"nobody's share":   {Run: (&keyOptions{ask: (*keyOptions).share}).run, Args: []string{id}, Agent: server.Socket, Status: cli.StatusUsage, Says: "--active is required"},
		"it failed":        {Run: status.run, Args: []string{id}, Agent: failed.Socket, Status: cli.StatusRefused, Reason: "setup-over", Says: "failed   too late (setup-over)\n"},
		"no round":         {Run: status.run, Args: []string{"x"}, Agent: server.Socket, Status: cli.StatusUsage},
		"unknown":          {Run: status.run, Args: []string{strings.Repeat("0", 32)}, Agent: server.Socket, Status: cli.StatusRefused, Reason: "not-now"},
		"interrupted":      {Run: status.run, Args: []string{id}, Agent: server.Socket, Cancelled: true, Status: cli.StatusFailed, Reason: "interrupted"},
		"an agent's key":   {Run: (&keyOpenOptions{agents: []string{"1f0c"}}).run, Broker: server.Socket, Status: cli.StatusUsage, Says: `--agent "1f0c": `},
		"no broker":        {Run: (&keyOpenOptions{agents: agents}).run, Broker: away, Status: cli.StatusFailed, Reason: "broker-unreachable"},
		"the broker's no":  {Run: (&keyOpenOptions{agents: agents}).run, Broker: failed.Socket, Status: cli.StatusRefused, Reason: "not-now"},
		"no aggregator":    {Run: (&keyOpenOptions{agents: agents, aggregators: []string{away}}).run, Broker: server.Socket, Status: cli.StatusRefused, Reason: "aggregator-unreachable", Says: away, Silent: "anchorhold-broker"},
		"opened":           {Run: (&keyOpenOptions{agents: agents, aggregators: []string{server.Socket}}).run, Broker: server.Socket, Says: "parties  2, of which 2 decrypt\n"},
		"opened, for JSON": {Run: (&keyOpenOptions{agents: agents}).run, Broker: server.Socket, JSON: true, Says: digest.Digest{1}.String()},
	})
}

// TestADatasetIsSignedForByItsDigest: of a file, or as given; and nothing is written without one.
func TestADatasetIsSignedForByItsDigest(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	credential, data := clitest.Write(t, path("credential"), strings.Repeat("c", 32)), clitest.Write(t, path("data"), "rows")
	key, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Wipe()
	if err := idfile.Write(path("key"), key, idfile.Unlock{Credential: clitest.KeyOf(t, []byte(strings.Repeat("c", 32)))}); err != nil {
		t.Fatal(err)
	}
	const rows = "d73e6a9f0f4e1e2d5d7c8a35a26a8e9f13d4bd2f2b2b32a0a5f2a9b3b6a2f0b1"
	out, status, err := run(t, "fed", "dataset", data, "--name", "d", "--key", path("key"), "--credential-file", credential, "--out", path("by-file"), "--json")
	digest, failed := fileDigest(data)
	if status != 0 || failed != nil || !strings.Contains(out, fmt.Sprintf(`"dataset": %q`, digest.String())) {
		t.Errorf("status %d, %s, %v, %v", status, out, err, failed)
	}
	expectRun(t, 0, "dataset  d\naccount  dataset:", "fed", "dataset", "--id", rows, "--name", "d", "--key", path("key"), "--credential-file", credential, "--out", path("by-id"))
	for name, args := range map[string][]string{
		"neither":         {},
		"both":            {data, "--id", rows},
		"half a digest":   {"--id", rows[:32]},
		"no terminal":     {data},
		"two protections": {data, "--credential-file", credential, "--passphrase-file", credential},
	} {
		_, status, err := run(t, append([]string{"fed", "dataset", "--name", "d", "--key", path("key"), "--out", path("wrong")}, args...)...)
		if status != cli.StatusUsage {
			t.Errorf("%s: status %d, %v", name, status, err)
		}
	}
	expectRun(t, cli.StatusFailed, "no such file", "fed", "dataset", path("none"), "--name", "d", "--key", path("key"), "--credential-file", credential, "--out", path("wrong"))
	expectRun(t, cli.StatusFailed, "key", "fed", "dataset", data, "--name", "d", "--key", data, "--credential-file", credential, "--out", path("wrong"))
	if _, err := os.Stat(path("wrong")); err == nil {
		t.Error("a wrong command line left a statement")
	}
}

// TestSetsAreListedAndExplained, and a name that is none is refused with those that are.
func TestSetsAreListedAndExplained(t *testing.T) {
	clitest.Calls(t, map[string]clitest.Call{
		"list":         {Run: runParamsList, Says: "sum-2048-27          N="},
		"list JSON":    {Run: runParamsList, JSON: true, Says: `"bytes_per_value"`},
		"list, full":   {Run: runParamsList, Out: clitest.Full{}, Status: cli.StatusFailed, Says: io.ErrShortWrite.Error()},
		"explain":      {Run: runParamsExplain, Args: []string{"ckks-16384"}, Says: "security (128 bits, the stricter of the tables of 2018 and 2024"},
		"explain JSON": {Run: runParamsExplain, Args: []string{"ckks-16384"}, JSON: true, Says: `"objects"`},
		"none":         {Run: runParamsExplain, Args: []string{"none"}, Status: cli.StatusRefused, Says: "known sets are sum-2048-27"},
		"too many":     {Run: (&paramsCheckOptions{contributions: 1 << 30, length: 1}).run, Args: []string{"sum-2048-27"}, Status: cli.StatusRefused},
	})
}
