package broker

import (
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/operator"
)

// TestAnImportedPolicySaysWhatItDoesNotAllow: waived checks, dates that are not now, and
// reference values that nobody imported.
func TestAnImportedPolicySaysWhatItDoesNotAllow(t *testing.T) {
	file := clitest.Write(t, filepath.Join(t.TempDir(), "policy.yaml"), "a policy")
	now := time.Now().UTC().Truncate(time.Second)
	imports := func(info operator.PolicyInfo) string {
		info.ID, info.Version = "clinic", 3
		return clitest.Serve(t, map[string]any{"POST /v1/policy": info}).Socket
	}
	day := 24 * time.Hour
	in := imports(operator.PolicyInfo{NotBefore: now.Add(-day), NotAfter: now.Add(day), Waived: []string{"chip-ids: no list yet"}})
	warned := imports(operator.PolicyInfo{NotAfter: now.Add(day), Warnings: []string{"it accepts Milan"}})
	clitest.Calls(t, map[string]clitest.Call{
		"in force":    {Run: runPolicyImport, Args: []string{file}, Broker: in, Says: "policy clinic version 3 is in force", Silent: "WARNING"},
		"waived":      {Run: runPolicyImport, Args: []string{file}, Broker: in, Says: "  waived: chip-ids: no list yet\n"},
		"warned":      {Run: runPolicyImport, Args: []string{file}, Broker: warned, Says: "\nWARNING: it accepts Milan\n"},
		"warned, all": {Run: runPolicyImport, Args: []string{file}, Broker: warned, JSON: true, Says: `"it accepts Milan"`},
		"not yet":     {Run: runPolicyImport, Args: []string{file}, Broker: imports(operator.PolicyInfo{NotBefore: now.Add(day), NotAfter: now.Add(2 * day)}), Says: "WARNING: it allows nothing before " + now.Add(day).Format(time.RFC3339)},
		"over":        {Run: runPolicyImport, Args: []string{file}, Broker: imports(operator.PolicyInfo{NotAfter: now.Add(-day)}), Says: "WARNING: it has allowed nothing since " + now.Add(-day).Format(time.RFC3339)},
		"unmatched":   {Run: runPolicyImport, Args: []string{file}, Broker: imports(operator.PolicyInfo{NotAfter: now.Add(day), Unmatched: []string{"images/*"}}), Says: "WARNING: the policy names images/*, and no reference value matches it"},
		"as JSON":     {Run: runPolicyImport, Args: []string{file}, Broker: in, JSON: true, Says: `"id": "clinic"`},
		"no file":     {Run: runPolicyImport, Args: []string{file + "x"}, Broker: in, Status: cli.StatusFailed, Says: "no such file"},
		"too large":   {Run: runPolicyImport, Args: []string{clitest.Write(t, filepath.Join(t.TempDir(), "large"), strings.Repeat("#", 1<<20+1))}, Broker: in, Status: cli.StatusFailed, Says: "is larger than 1048576 bytes"},
		"interrupted": {Run: runPolicyImport, Args: []string{file}, Broker: in, Cancelled: true, Status: cli.StatusFailed, Reason: "interrupted"},
		"checked":     {Run: (&policyCheckOptions{}).run, Args: []string{file}, Status: cli.StatusRefused, Says: file},
		"shown":       {Run: runPolicyShow, Broker: clitest.Serve(t, map[string]any{"GET /v1/policy": operator.PolicyInfo{Explanation: "why\n\n"}}).Socket, Says: "why\n", Silent: "\n\n"},
		"none shown":  {Run: runPolicyShow, Broker: clitest.Serve(t, nil).Socket, Status: cli.StatusRefused, Reason: "not-now"},
		"checks":      {Run: (&checksOptions{}).run, Says: " may be waived in writing  "},
		"checks, all": {Run: (&checksOptions{}).run, Out: clitest.Full{}, Status: cli.StatusFailed, Says: io.ErrShortWrite.Error()},
	})
}

// TestReferenceValuesSayWhatTheyChange: how many there are, and what a policy that pins the
// digest, or names one that is gone, refuses from now on.
func TestReferenceValuesSayWhatTheyChange(t *testing.T) {
	file := clitest.Write(t, filepath.Join(t.TempDir(), "values.yaml"), "values")
	sum := digest.Digest{0xab}
	importing := func(v operator.ValuesImported) *clitest.Server {
		return clitest.Serve(t, map[string]any{"POST /v1/reference-values": v})
	}
	removing := func(v operator.ValueRemoved) *clitest.Server {
		v.ID = "images/6"
		return clitest.Serve(t, map[string]any{"POST /v1/reference-values/remove/images/6": v})
	}
	two := importing(operator.ValuesImported{Imported: 1, Total: 2})
	clitest.Call{Run: (&importValuesOptions{replace: true}).run, Args: []string{file}, Broker: two.Socket, Says: "2 reference values are now known\n", Silent: "digest"}.Expect(t, "two")
	if got := two.Last(); got.Line != "POST /v1/reference-values?replace=true" || got.Body != "values" {
		t.Errorf("asked %+v", got)
	}
	gone := removing(operator.ValueRemoved{Total: 1, Accepted: true, PolicyDigest: sum, Unmatched: []string{"images/*"}})
	clitest.Calls(t, map[string]clitest.Call{
		"one":          {Run: (&importValuesOptions{}).run, Args: []string{file}, Broker: importing(operator.ValuesImported{Total: 1}).Socket, Says: "1 reference value is now known\n"},
		"a new digest": {Run: (&importValuesOptions{}).run, Args: []string{file}, Broker: importing(operator.ValuesImported{Total: 1, PolicyDigest: sum}).Socket, Says: "The policy's digest is now " + sum.String() + ": an epoch that pins the former one allows nothing.\n"},
		"unmatched":    {Run: (&importValuesOptions{}).run, Args: []string{file}, Broker: importing(operator.ValuesImported{Total: 1, Unmatched: []string{"a/b"}}).Socket, Says: "WARNING: the policy names a/b, and no reference value matches it"},
		"as JSON":      {Run: (&importValuesOptions{}).run, Args: []string{file}, Broker: two.Socket, JSON: true, Says: `"reference_values": 2`},
		"no file":      {Run: (&importValuesOptions{}).run, Args: []string{file + "x"}, Broker: two.Socket, Status: cli.StatusFailed, Says: "no such file"},
		"removed":      {Run: (&removeValueOptions{}).run, Args: []string{"images/6"}, Broker: removing(operator.ValueRemoved{Total: 4}).Socket, Says: "images/6 is removed; reference values left: 4\n", Silent: "WARNING"},
		"was accepted": {Run: (&removeValueOptions{force: true}).run, Args: []string{"images/6"}, Broker: gone.Socket, Says: "WARNING: the policy in force accepted guests with it."},
		"is needed":    {Run: (&removeValueOptions{force: true}).run, Args: []string{"images/6"}, Broker: gone.Socket, Says: "WARNING: the policy names images/*, which no reference value matches any more\n"},
		"refused":      {Run: (&removeValueOptions{}).run, Args: []string{"images/7"}, Broker: gone.Socket, Status: cli.StatusRefused, Reason: "not-now"},
		"listed":       {Run: runListValues, Broker: clitest.Serve(t, map[string]any{"GET /v1/reference-values": `[{"id":"images/6","description":"the sixth"}]`}).Socket, Says: "images/6                 sev-snp, the sixth\n"},
		"listed, JSON": {Run: runListValues, Broker: clitest.Serve(t, map[string]any{"GET /v1/reference-values": `[{"id":"images/6"}]`}).Socket, JSON: true, Says: `"images/6"`},
		"no broker":    {Run: runListValues, Broker: filepath.Join(t.TempDir(), "away"), Status: cli.StatusFailed, Reason: "broker-unreachable"},
	})
}

// TestSecretsArriveWithWhatTheyAreFor, and a wrong name, version, file or model does not leave here.
func TestSecretsArriveWithWhatTheyAreFor(t *testing.T) {
	dir := t.TempDir()
	key := clitest.Write(t, filepath.Join(dir, "key"), strings.Repeat("k", 32))
	empty := clitest.Write(t, filepath.Join(dir, "empty"), "")
	id := strings.Repeat("ab", 32)
	server := clitest.Serve(t, map[string]any{
		"POST /v1/secrets/models/demo":        operator.SecretVersion{Name: "models/demo", Version: 3},
		"POST /v1/secrets/secrets/web-tls":    operator.SecretVersion{Name: "secrets/web-tls", Version: 1},
		"POST /v1/secret-retire/models/demo":  operator.SecretVersion{},
		"POST /v1/secret-destroy/models/demo": operator.SecretVersion{},
		"GET /v1/secrets":                     `{"secrets":[{"Name":"models/demo","Version":2,"kind":"model-key"}],"more":true}`,
	})
	put := func(file, model, id, kind string) cli.Run {
		o := &secretPutOptions{file: file, model: model, id: id}
		o.meta.Kind, o.meta.Description = kind, "for tests"
		return o.run
	}
	clitest.Call{Run: put(key, "", id, keyfile.KindModelKey), Args: []string{"models/demo"}, Broker: server.Socket, Says: "models/demo version 3 is stored, for model " + id + "\n", Silent: "No receipt"}.Expect(t, "stored")
	if got := server.Last(); got.Body != strings.Repeat("k", 32) || got.Line != "POST /v1/secrets/models/demo?description=for+tests&kind=model-key&mode=put&subject="+id {
		t.Errorf("asked %+v", got)
	}
	pem := "-----BEGIN KEY-----\n\x00\x01\n"
	clitest.Call{Run: put(clitest.Write(t, filepath.Join(dir, "pem"), pem), "", "", ""), Args: []string{"secrets/web-tls"}, Broker: server.Socket, Says: "secrets/web-tls version 1 is stored\n", Silent: "receipt"}.Expect(t, "any bytes")
	if got := server.Last(); got.Body != pem || got.Line != "POST /v1/secrets/secrets/web-tls?description=for+tests&kind=service-secret&mode=put" {
		t.Errorf("asked %+v", got)
	}
	long, longest := clitest.Write(t, filepath.Join(dir, "long"), strings.Repeat("l", 16<<10+1)), clitest.Write(t, filepath.Join(dir, "longest"), strings.Repeat("l", 64<<10+1))
	before := len(server.Asked())
	clitest.Calls(t, map[string]clitest.Call{
		"a name":       {Run: put(key, "", "", keyfile.KindModelKey), Args: []string{"Models/Demo"}, Broker: server.Socket, Status: cli.StatusUsage, Says: "segments of a-z"},
		"no file":      {Run: put("", "", "", keyfile.KindModelKey), Args: []string{"models/demo"}, Broker: server.Socket, Status: cli.StatusUsage, Says: "--file is required: a secret is never given on the command line"},
		"empty":        {Run: put(empty, "", "", "dataset"), Args: []string{"datasets/demo"}, Broker: server.Socket, Status: cli.StatusFailed, Says: "is empty"},
		"too long":     {Run: put(long, "", "", ""), Args: []string{"secrets/web-tls"}, Broker: server.Socket, Status: cli.StatusFailed, Says: "holds 16385 bytes; what a guest is sent has at most 16384"},
		"cut short":    {Run: put(longest, "", "", ""), Args: []string{"secrets/web-tls"}, Broker: server.Socket, Status: cli.StatusFailed, Says: "is too long for a secret"},
		"for a model":  {Run: put(key, "", id, ""), Args: []string{"volumes/data"}, Broker: server.Socket, Status: cli.StatusUsage, Says: "volumes/data is for no model"},
		"a short key":  {Run: put(empty, "", "", ""), Args: []string{"models/demo"}, Broker: server.Socket, Status: cli.StatusFailed, Says: "is empty"},
		"two models":   {Run: put(key, "m.ahm", id, keyfile.KindModelKey), Args: []string{"models/demo"}, Broker: server.Socket, Status: cli.StatusUsage, Says: "--model and --model-id both name the model"},
		"half an id":   {Run: put(key, "", id[:10], keyfile.KindModelKey), Args: []string{"models/demo"}, Broker: server.Socket, Status: cli.StatusUsage, Says: "--model-id: "},
		"no model":     {Run: put(key, filepath.Join(dir, "none"), "", keyfile.KindModelKey), Args: []string{"models/demo"}, Broker: server.Socket, Status: cli.StatusFailed, Says: "no such file"},
		"not sealed":   {Run: put(key, key, "", keyfile.KindModelKey), Args: []string{"models/demo"}, Broker: server.Socket, Status: cli.StatusRefused, Says: key},
		"version zero": {Run: (&changeSecretOptions{retireResult, (*operator.Client).RetireSecret}).run, Args: []string{"models/demo", "0"}, Broker: server.Socket, Status: cli.StatusUsage, Says: `"0" is not a version: want a number from 1`},
		"version -1":   {Run: (&changeSecretOptions{retireResult, (*operator.Client).RetireSecret}).run, Args: []string{"models/demo", "-1"}, Broker: server.Socket, Status: cli.StatusUsage},
	})
	if asked := server.Asked(); len(asked) != before {
		t.Errorf("asked %+v", asked[before:])
	}
	clitest.Calls(t, map[string]clitest.Call{
		"unbound":   {Run: put(key, "", "", keyfile.KindModelKey), Args: []string{"models/demo"}, Broker: server.Socket, Says: "is stored, for no stated model\nNo receipt of this model's answers will verify"},
		"as JSON":   {Run: put(key, "", id, keyfile.KindModelKey), Args: []string{"models/demo"}, Broker: server.Socket, JSON: true, Says: `"version": 3`},
		"retired":   {Run: (&changeSecretOptions{retireResult, (*operator.Client).RetireSecret}).run, Args: []string{"models/demo", "2"}, Broker: server.Socket, Says: "models/demo version 2 is retired\n"},
		"destroyed": {Run: (&changeSecretOptions{destroyResult, (*operator.Client).DestroySecret}).run, Args: []string{"models/demo", "2"}, Broker: server.Socket, Says: "models/demo version 2 is destroyed\n"},
		"refused":   {Run: (&changeSecretOptions{destroyResult, (*operator.Client).DestroySecret}).run, Args: []string{"models/other", "2"}, Broker: server.Socket, Status: cli.StatusRefused, Reason: "not-now"},
		"listed":    {Run: runSecretList, Args: []string{"models/"}, Broker: server.Socket, Says: "model-key, for no stated model\n... and more: give a PREFIX\n"},
	})
}
