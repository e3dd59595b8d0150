package dryrun

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/policy"
)

// realPolicy is the head of a policy; the rest is suggested for a guest.
const realPolicy = `format: 2
id: real
version: 1
not_before: "2020-01-01T00:00:00Z"
not_after: "2099-01-01T00:00:00Z"
attestation_ttl_seconds: 300
allow_milan: true
`

// TestATableOfRealEvidence: a real report is allowed by what was suggested for it, and refused with one thing
// changed, for that thing alone. It needs no emulator, and so holds in a release.
func TestATableOfRealEvidence(t *testing.T) {
	sample := filepath.Join(evidencetest.Dir(t), "snp", "06-milan-v2-virtee")
	dir := t.TempDir()
	at := time.Date(2024, 1, 1, 12, 0, 0, 0, time.UTC)
	files := []string{filepath.Join(sample, "report.bin"), filepath.Join(sample, "vcek.der"), filepath.Join(sample, "chain.pem")}
	_, verdict, err := subject{files: files, at: at, withoutRevocation: true, evaluation: 1}.input(t.Context())
	if err != nil || verdict.Claims == nil {
		t.Fatalf("%+v, %v", verdict.Error, err)
	}
	s := policy.Suggest(*verdict.Claims, at)
	clitest.Write(t, filepath.Join(dir, "values.yaml"), s.ReferenceValues)
	own := "  image_ids: [image-7]\n"
	text := realPolicy + strings.Replace(strings.Replace(s.Policy, "allow_milan: true\n", "", 1), "require:\n", "require:\n"+own, 1)
	text = regexp.MustCompile(`(?m)^  - \{check: image, .*\n`).ReplaceAllString(text, "") // replaced by a requirement
	clitest.Write(t, filepath.Join(dir, "policy.yaml"), text+"rules: [{resources: [models/*]}]\n")
	table := fmt.Sprintf(`format: 1
policy: policy.yaml
values: [values.yaml]
defaults: {at: "2024-01-01T12:00:00Z", guest: {image_id: image-7}}
cases:
  - {name: real, evidence: [%[1]s], without_revocation: true, resource: models/a, expect: allow}
  - {name: another image, evidence: [%[1]s], without_revocation: true, guest: {image_id: image-8}, resource: models/a, expect: refuse, reasons: [image-not-allowed]}
  - {name: another resource, evidence: [%[1]s], without_revocation: true, resource: data/a, expect: refuse, reasons: [resource-not-in-policy]}
  - {name: no list, evidence: [%[1]s], resource: models/a, expect: refuse, reasons: [revocation-unknown]}
  - {name: no certificate, evidence: [%[2]s], without_revocation: true, resource: models/a, expect: refuse, reasons: [certificate-missing]}
`, strings.Join(files, ", "), files[0])
	file := clitest.Write(t, filepath.Join(dir, "table.yaml"), table)
	clitest.Call{Run: (&testOptions{verbose: true}).run, Args: []string{file}, Says: "5 cases under real version 1"}.Expect(t, "table")
	explain := explainOptions{policy: filepath.Join(dir, "policy.yaml"), values: []string{filepath.Join(dir, "values.yaml")}, at: "2024-01-01T12:00:00Z"}
	explain.subject.withoutRevocation = true
	clitest.Call{Run: explain.run, Args: []string{files[0], "models/a"}, Status: cli.StatusRefused, Reason: "certificate-missing", Says: "the evidence itself"}.Expect(t, "explain")
}

// TestSignedValuesAreNotRead: the file that a publisher signed is at hand as easily as its values are.
func TestSignedValuesAreNotRead(t *testing.T) {
	dir := t.TempDir()
	file := clitest.Write(t, filepath.Join(dir, "policy.yaml"), realPolicy+"require: {kinds: [vtpm], reference_values: [a], tpm: {ak_trust: [enrolled], pcrs: [4]}}\nrules: [{resources: [models/*]}]\n"+
		"waive: [{check: event-log, reason: r}, {check: image, reason: r}, {check: memory-limit, reason: r}, {check: agent-build, reason: r}, {check: tenant, reason: r}]\n")
	signed := clitest.Write(t, filepath.Join(dir, "web-7.values"), "anchorhold/values/"+strings.Repeat("0", 64)+"\n{}\n")
	if _, err := ReadPolicy(io.Discard, file, nil); err != nil {
		t.Fatal(err)
	}
	_, err := ReadPolicy(io.Discard, file, []string{signed})
	if err == nil || !strings.Contains(err.Error(), string(ReasonPolicy)) || !strings.Contains(err.Error(), "policy values extract") {
		t.Error(err)
	}
}

// TestEveryReasonIsKnown: tables may expect every code of the packages that refuse evidence, and no other.
func TestEveryReasonIsKnown(t *testing.T) {
	code := regexp.MustCompile(`(?m)^\s*(?:const )?Reason[A-Z]\w*\s*(?:refusal\.)?Reason\s*=\s*"([a-z0-9-]+)"`)
	source, err := os.ReadFile("reasons.go")
	if err != nil {
		t.Fatal(err)
	}
	folders := regexp.MustCompile(`(?m)^\t\t\{ // (.+)$`).FindAllStringSubmatch(string(source), -1)
	if len(folders) != len(reasons()) {
		t.Fatalf("got %d folders for %d lists", len(folders), len(reasons()))
	}
	for i, folder := range folders {
		files, err := filepath.Glob(filepath.Join("..", "..", "..", folder[1], "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range code.FindAllStringSubmatch(string(source), -1) {
				if !strings.HasSuffix(file, "_test.go") {
					want = append(want, m[1])
				}
			}
		}
		if slices.Sort(want); len(want) == 0 || !slices.Equal(slices.Compact(want), reasons()[i]) {
			t.Errorf("reasons.go: %s: got %q, want %q", folder[1], reasons()[i], want)
		}
	}
}

// TestReportsAreReplaced, and nothing else is; a report that cannot be written has not the status of a case that differs.
func TestReportsAreReplaced(t *testing.T) {
	dir := t.TempDir()
	clitest.Write(t, filepath.Join(dir, "policy.yaml"), strings.NewReplacer("2030-", "2020-", "2031-", "2099-").Replace(pastPolicy))
	file := clitest.Write(t, filepath.Join(dir, "table.yaml"), "format: 1\npolicy: policy.yaml\ncases: [{name: none, evidence: [none], resource: models/a, expect: allow}]\n")
	run := func(o testOptions) cli.Run {
		return o.run
	}
	report := filepath.Join(dir, "report.xml")
	for _, name := range []string{"first", "second"} {
		clitest.Call{Run: run(testOptions{junit: report}), Args: []string{file}, Status: cli.StatusRefused, Reason: string(ReasonCases), Says: "1 of 1 cases are not as expected"}.Expect(t, name)
	}
	if text, err := os.ReadFile(report); err != nil || strings.Count(string(text), "<testsuite ") != 1 || !strings.Contains(string(text), `failures="1"`) {
		t.Errorf("%s, %v", text, err)
	}
	clitest.Call{Run: run(testOptions{junit: file}), Args: []string{file}, Status: cli.StatusFailed, Says: "is no report"}.Expect(t, "the table itself")
	clitest.Call{Run: run(testOptions{junit: filepath.Join(dir, "none", "report.xml")}), Args: []string{file}, Status: cli.StatusFailed, Says: "does not exist"}.Expect(t, "no directory")
	clitest.Call{Run: run(testOptions{}), Args: []string{filepath.Join(dir, "no.yaml")}, Status: cli.StatusFailed}.Expect(t, "no table")
	clitest.Call{Run: run(testOptions{}), Args: []string{filepath.Join(dir, "policy.yaml")}, Status: cli.StatusRefused, Reason: string(ReasonTable)}.Expect(t, "no table's form")
}

// pastLog is a log of n decisions on a TPM's guests, every third of which was refused.
func pastLog(tb testing.TB, n int, change func(i int, r *audit.Record, q *policy.Request)) (dir string) {
	tb.Helper()
	key, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		tb.Fatal(err)
	}
	defer key.Wipe()
	dir = filepath.Join(tb.TempDir(), "audit")
	log, err := audit.Open(dir, key, audit.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	begin := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for i := range n {
		claims := evidence.Claims{Format: evidence.ClaimsFormat, Kind: evidence.KindVTPM, Platform: "TPM", Challenge: fmt.Appendf(nil, "challenge %d", i),
			Registers: []evidence.Measured{{Register: evidence.Register{Name: "pcr4", Value: make([]byte, 32)}, Covers: evidence.CoversImage}},
			TPM:       &evidence.TPMClaims{AKTrust: evidence.AKEnrolled, Bank: "sha256", PCRs: map[int]evidence.Hex{4: make([]byte, 32)}}}
		claims.Registers[0].Value[0] = 4
		r := audit.Record{Kind: audit.KindGrant, Time: begin.Add(time.Duration(i) * time.Second), Grant: "lease", Decision: "allowed", PolicyID: "old", PolicyVersion: 1, ClaimsDigest: claims.Digest()}
		r.PolicyDigest[0] = 1
		q := policy.Request{Now: r.Time, Resources: []string{"models/a"}, Claims: claims, Guest: evidence.GuestClaims{ImageID: "image-7"}}
		if i%3 == 2 {
			r.Kind, r.Grant, r.Decision, r.Reasons = audit.KindRefusal, "", "refused", []audit.Reason{{Code: string(policy.ReasonImage)}}
			q.Guest.ImageID = "image-6"
		}
		if change != nil {
			change(i, &r, &q)
		}
		document, err := q.Document()
		if err != nil {
			tb.Fatal(err)
		}
		r.InputDigest = log.KeepInput(r.Time, document, false)
		if err := log.AppendLater(tb.Context(), r); err != nil {
			tb.Fatal(err)
		}
		if i%1000 == 999 {
			if err := log.Flush(tb.Context()); err != nil {
				tb.Fatal(err)
			}
		}
	}
	if err := log.Close(); err != nil {
		tb.Fatal(err)
	}
	return dir
}

const pastPolicy = `format: 2
id: tpm
version: 2
not_before: "2030-01-01T00:00:00Z"
not_after: "2031-01-01T00:00:00Z"
attestation_ttl_seconds: 300
require:
  kinds: [vtpm]
  reference_values: [images/*]
  image_ids: [image-7]
  tpm: {ak_trust: [enrolled], pcrs: [4]}
rules: [{resources: [models/*]}]
waive:
  - {check: agent-build, reason: a test}
  - {check: tenant, reason: a test}
  - {check: memory-limit, reason: a test}
  - {check: event-log, reason: a test}
`

func replayOf(tb testing.TB, dir string) (o *replayOptions, file string) {
	tb.Helper()
	at := tb.TempDir()
	values := filepath.Join(at, "values.yaml")
	file = filepath.Join(at, "policy.yaml")
	for name, text := range map[string]string{file: pastPolicy, values: "format: 2\nreference_values: [{id: images/1, kind: vtpm, registers: {pcr4: \"04" + strings.Repeat("00", 31) + "\"}}]\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return &replayOptions{values: []string{values}, log: dir}, file
}

// TestReplayAsksWhatTheRecordSays: a document of other claims than its record's is trouble, and so is one
// that is none; an exchange that was refused behind its grant is asked once.
func TestReplayAsksWhatTheRecordSays(t *testing.T) {
	o, file := replayOf(t, pastLog(t, 9, nil))
	clitest.Call{Run: o.run, Args: []string{file}, Says: "asked about 9 past decisions: 9 as before, 0 otherwise"}.Expect(t, "same")
	o, file = replayOf(t, pastLog(t, 9, func(i int, r *audit.Record, _ *policy.Request) {
		if i == 2 {
			r.Grant = "lease" // the gate refused it
		}
	}))
	clitest.Call{Run: o.run, Args: []string{file}, Says: "asked about 8 past decisions: 8 as before"}.Expect(t, "behind a grant")
	o, file = replayOf(t, pastLog(t, 3, func(i int, r *audit.Record, q *policy.Request) {
		if i == 1 {
			q.Claims.Debug = true // not what the record says
		}
	}))
	clitest.Call{Run: o.run, Args: []string{file}, Status: cli.StatusFailed, Says: "record 1: its input is of other claims than it says"}.Expect(t, "other claims")
	// The state directory around the log, or any other: "nothing changes" would be said of nothing.
	elsewhere := *o
	elsewhere.log = t.TempDir()
	clitest.Call{Run: elsewhere.run, Args: []string{file}, Status: cli.StatusFailed, Says: elsewhere.log + " holds no record"}.Expect(t, "no log")
	inputs, err := filepath.Glob(filepath.Join(o.log, "inputs-*"))
	if err != nil || len(inputs) != 1 {
		t.Fatal(inputs, err)
	}
	if err := os.Remove(inputs[0]); err != nil {
		t.Fatal(err)
	}
	clitest.Call{Run: o.run, Args: []string{file}, Status: cli.StatusFailed, Says: replayNoInputs}.Expect(t, "no inputs")
}

// TestReplayOfNothingIsNoAnswer: a flag that selects no decision is not the answer that nothing changes.
func TestReplayOfNothingIsNoAnswer(t *testing.T) {
	o, file := replayOf(t, pastLog(t, 3, nil))
	run := func(change func(*replayOptions)) cli.Run {
		other := *o
		change(&other)
		return other.run
	}
	for name, change := range map[string]func(*replayOptions){
		"resource": func(o *replayOptions) { o.resource = "models/b" },
		"since":    func(o *replayOptions) { o.since = "2027-01-01T00:00:00Z" },
		"until":    func(o *replayOptions) { o.until = "2025-01-01T00:00:00Z" },
	} {
		clitest.Call{Run: run(change), Args: []string{file}, Status: cli.StatusUsage, Says: "select none of the 3 decisions", Silent: "as before"}.Expect(t, name)
	}
	clitest.Call{Run: run(func(o *replayOptions) { o.resource = "models/" }), Args: []string{file}, Says: "3 as before"}.Expect(t, "a subtree")
	o, file = replayOf(t, pastLog(t, 0, nil))
	clitest.Call{Run: run(func(*replayOptions) {}), Args: []string{file}, Status: cli.StatusFailed, Says: "holds no record"}.Expect(t, "an empty log")
}

// TestWordsForEveryOutput: text and JSON fail on a full disk.
func TestWordsForEveryOutput(t *testing.T) {
	o, file := replayOf(t, pastLog(t, 3, nil))
	clitest.Call{Run: o.run, Args: []string{file}, Out: clitest.Full{}, Status: cli.StatusFailed, Says: io.ErrShortWrite.Error()}.Expect(t, "replay")
}

// BenchmarkReplay asks about 5000 past decisions.
func BenchmarkReplay(b *testing.B) {
	const n = 5000
	dir := pastLog(b, n, nil)
	var size int64
	names, err := filepath.Glob(filepath.Join(dir, "inputs-*"))
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			b.Fatal(err)
		}
		size += info.Size()
	}
	o, file := replayOf(b, dir)
	for b.Loop() {
		inv := &cli.Invocation{Out: io.Discard, Err: io.Discard}
		if err := o.run(b.Context(), inv, []string{file}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(size)/n, "bytes/decision")
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/n, "us/decision")
}

// TestTablesHaveLimits, and what is beyond them is refused by name.
func TestTablesHaveLimits(t *testing.T) {
	cases := func(n int) string {
		text := "format: 1\ncases:\n"
		for i := range n {
			text += fmt.Sprintf("  - {name: c%d, evidence: [x], resource: models/a, expect: allow}\n", i)
		}
		return text
	}
	if got, err := parseTable([]byte(cases(maxCases))); err != nil || len(got.Cases) != maxCases {
		t.Errorf("%d cases, %v", len(got.Cases), err)
	}
	for name, c := range map[string]struct{ text, says string }{
		"too many":    {cases(maxCases + 1), "want 1 to 4096"},
		"format":      {strings.Replace(cases(1), "format: 1", "format: 2", 1), "got 2, want 1"},
		"no evidence": {strings.Replace(cases(1), "evidence: [x], ", "", 1), "name at least one file"},
		"no resource": {strings.Replace(cases(1), "resource: models/a, ", "", 1), "resource: name one"},
		"no outcome":  {strings.Replace(cases(1), "expect: allow", "expect: perhaps", 1), `got "perhaps"`},
		"both":        {strings.Replace(cases(1), "expect: allow", "expect: allow, reasons: [a]", 1), "nothing else has any"},
		"misspelt":    {strings.Replace(cases(1), "expect: allow", "expect: refuse, reasons: [debug-enabled, debug-enable]", 1), `refuses for "debug-enable"`},
	} {
		if _, err := parseTable([]byte(c.text)); cli.FailureOf(err).Reason != string(ReasonTable) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (guest{MemoryLimitMiB: maxMiB + 1}).claims(); err == nil {
		t.Error("a memory limit beyond 64 bits")
	}
	if _, err := (guest{ImageID: "with a space"}).claims(); err == nil {
		t.Error("a guest could not state this")
	}
	r := replay{policy: nil, groups: map[string]*group{}}
	for i := range maxGroups {
		r.groups[fmt.Sprint(i)] = &group{}
	}
	var e audit.Entry
	if err := r.ask(e, true, policy.Request{Resources: []string{"models/a"}}); err == nil || !strings.Contains(err.Error(), "narrow them") {
		t.Errorf("%v", err)
	}
}
