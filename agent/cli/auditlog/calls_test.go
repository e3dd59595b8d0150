package auditlog

import (
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/audit"
)

// TestRecordsAreShownWithAllThatTheyHave, by a filter that arrives at the broker.
func TestRecordsAreShownWithAllThatTheyHave(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	record := audit.Record{Kind: audit.KindRefusal, Time: at, Decision: "refused", Resource: "models/demo", ResourceVersion: 2, Peer: "192.0.2.1", RefusalID: "3f2a", Measurement: "sha384:ab",
		EvidenceDigest: digest.Digest{0xcd}, PolicyID: "clinic", PolicyVersion: 3, Waived: []string{"chip-ids", "id-key"}, Detail: "why",
		Reasons: []audit.Reason{{Code: "vmpl-not-allowed", Detail: "1"}, {Code: "bare"}}}
	entry := audit.Entry{Record: record}
	entry.Index = 7
	id := strings.Repeat("3f", 16)
	server := clitest.Serve(t, map[string]any{"GET /v1/audit/records": []audit.Entry{entry}, "GET /v1/audit/explain/" + id: []audit.Entry{entry}})
	out := clitest.Call{Run: (&showOptions{filter: audit.Filter{Last: 5, Resource: "models/", Reason: "vmpl-not-allowed"}, kind: "refusal"}).run, Broker: server.Socket, Says: "#7     2026-03-04T05:06:07Z  refusal  refused  models/demo\n"}.Expect(t, "show")
	for _, want := range []string{"peer         192.0.2.1", "version      2", "refusal      3f2a", "measurement  sha384:ab", "evidence     cd00", "policy       clinic version 3", "waived       chip-ids; id-key", "detail       why",
		"reason       vmpl-not-allowed: 1\n", "reason       bare\n"} {
		if !strings.Contains(out, "       "+want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	asked, err := url.Parse(strings.TrimPrefix(server.Last().Line, "GET "))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := asked.Query().Get("filter"), `{"kind":"refusal","resource":"models/","reason":"vmpl-not-allowed","last":5}`; got != want {
		t.Errorf("asked for %s, want %s", got, want)
	}
	clitest.Calls(t, map[string]clitest.Call{
		"as JSON":      {Run: (&showOptions{}).run, Broker: server.Socket, JSON: true, Says: `"resource_version": 2`},
		"a kind":       {Run: (&showOptions{kind: "bogus"}).run, Broker: server.Socket, Status: cli.StatusUsage, Says: `"bogus"`},
		"less than 0":  {Run: (&showOptions{filter: audit.Filter{Last: -1}}).run, Broker: server.Socket, Status: cli.StatusUsage, Says: "--last -1: want a number of records; 0 shows all"},
		"stopped":      {Run: (&showOptions{}).run, Broker: server.Socket, Cancelled: true, Status: cli.StatusFailed, Reason: "interrupted"},
		"full disk":    {Run: (&showOptions{}).run, Broker: server.Socket, Out: clitest.Full{}, Status: cli.StatusFailed, Says: io.ErrShortWrite.Error()},
		"explained":    {Run: runExplain, Args: []string{id}, Broker: server.Socket, Says: "reason       vmpl-not-allowed: 1\n"},
		"half an id":   {Run: runExplain, Args: []string{id[:31]}, Broker: server.Socket, Status: cli.StatusUsage, Says: "is not a refusal's id: want all 32 hexadecimal digits"},
		"unknown":      {Run: runExplain, Args: []string{strings.Repeat("0", 32)}, Broker: server.Socket, Status: cli.StatusRefused, Reason: "not-now"},
		"no broker":    {Run: (&showOptions{}).run, Broker: filepath.Join(t.TempDir(), "away"), Status: cli.StatusFailed, Reason: "broker-unreachable"},
		"not a vkey":   {Run: runVerifierKey, Args: []string{"none.pub"}, Status: cli.StatusFailed, Says: "none.pub"},
		"keep nothing": {Run: (&archiveOptions{}).run, Broker: server.Socket, Status: cli.StatusUsage, Says: "--keep must be at least 1"},
	})
}

// TestARecordOfASecretIsShownByItsName, not by the group under which the log finds it; in JSON it is as it was signed.
func TestARecordOfASecretIsShownByItsName(t *testing.T) {
	record := audit.Record{Kind: audit.KindService, Time: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), Action: "secret-changed", Resource: "secrets/3", ResourceVersion: 2, Detail: "retired secrets/web-tls"}
	other := record
	other.Action, other.Detail = "started", "retired secrets/web-tls"
	server := clitest.Serve(t, map[string]any{"GET /v1/audit/records": []audit.Entry{{Record: record}, {Record: other}}})
	out := clitest.Call{Run: (&showOptions{}).run, Broker: server.Socket, Says: "service  secret-changed  secrets/web-tls\n       version      2\n       detail       retired\n"}.Expect(t, "as text")
	if !strings.Contains(out, "service  started  secrets/3\n       version      2\n       detail       retired secrets/web-tls\n") {
		t.Errorf("a record of something else was read as a secret's:\n%s", out)
	}
	clitest.Call{Run: (&showOptions{}).run, Broker: server.Socket, JSON: true, Says: `"resource": "secrets/3"`, Silent: `"resource": "secrets/web-tls"`}.Expect(t, "as JSON")
}

// TestACheckpointIsKeptOrFails: printed as it is, or in a new file; what was not kept is no success.
func TestACheckpointIsKeptOrFails(t *testing.T) {
	dir := t.TempDir()
	kept := filepath.Join(dir, "kept")
	server := clitest.Serve(t, map[string]any{
		"POST /v1/audit/checkpoint": audit.Checkpoint{Note: "a note\n", Size: 12, Root: digest.Digest{0xab}},
		"POST /v1/audit/archive":    audit.Archived{Directory: "/archive", Segments: []string{"a", "b"}, Bytes: 2048, Records: 40},
	})
	clitest.Calls(t, map[string]clitest.Call{
		"printed":   {Run: (&checkpointOptions{}).run, Broker: server.Socket, Says: "a note\n", Silent: "records"},
		"as JSON":   {Run: (&checkpointOptions{}).run, Broker: server.Socket, JSON: true, Says: `"a note\n"`},
		"full disk": {Run: (&checkpointOptions{}).run, Broker: server.Socket, Out: clitest.Full{}, Status: cli.StatusFailed, Says: io.ErrShortWrite.Error()},
		"no place":  {Run: (&checkpointOptions{out: filepath.Join(dir, "none", "kept")}).run, Broker: server.Socket, Status: cli.StatusFailed, Says: "does not exist: create it first"},
		"no broker": {Run: (&checkpointOptions{out: kept + "2"}).run, Broker: kept + ".sock", Status: cli.StatusFailed, Reason: "broker-unreachable"},
		"archived":  {Run: (&archiveOptions{keep: 3}).run, Broker: server.Socket, Says: "2 segments, 2048 bytes, are in /archive; the log's first 40 records are archived\nThe broker needs none of them"},
	})
	clitest.Call{Run: (&checkpointOptions{out: kept}).run, Broker: server.Socket, Says: kept + ": 12 records, root ab00"}.Expect(t, "kept")
	clitest.Call{Run: (&checkpointOptions{out: kept}).run, Broker: server.Socket, Status: cli.StatusFailed, Says: "exists and is never replaced"}.Expect(t, "kept twice")
	if raw, err := os.ReadFile(kept); err != nil || string(raw) != "a note\n" {
		t.Errorf("kept %q, %v", raw, err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
}
