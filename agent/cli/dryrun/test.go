package dryrun

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/spf13/cobra"
)

// The words of "test".
const (
	testUse   = "test TABLE"
	testShort = "Hold a policy against a table of evidence and expected decisions"
	testLong  = `Reads a table of cases, each with evidence from files, what the guest asks for and states of
itself, and the decision that is expected: allow, or refuse with exactly these reason codes. It
verifies the evidence as 'evidence verify' does and asks the policy. Paths in the table are
relative to it. For the CI of whoever writes policies; it works without a broker and without a
network.

  format: 1
  policy: policy.yaml
  values: [values.yaml]
  defaults: {at: "2026-01-15T12:00:00Z", collateral: collateral}
  cases:
    - name: the image that is in use gets the model
      evidence: [image-7.bin]
      guest: {image_id: image-7, memory_limit_mib: 128}
      resource: models/demo
      expect: allow
    - name: a debug guest gets nothing
      evidence: [debug.bin]
      resource: models/demo
      expect: refuse
      reasons: [debug-enabled]

Exit status: 0 all cases are as expected, 1 failed, such as a file that is missing or a report that
cannot be written, 2 wrong command line, 3 a case is not as expected (policy-cases-differ), or the table
or the policy is malformed.`
	testExample = `  anchorhold policy test policies/table.yaml
  anchorhold policy test policies/table.yaml --policy new.yaml --verbose --junit report.xml`
	testNeeds        = "one table of cases"
	flagTestPolicy   = "ask this policy instead of the table's"
	flagVerbose      = "print every case, not only those that fail"
	flagJUnit        = "write a report for CI systems (JUnit XML) to this file; the report of an earlier run is replaced"
	testNoPolicy     = "the table names no policy, and --policy is not given"
	testFailedLine   = "--- FAIL: %s (%.2fs)\n    %s\n"
	testPassedLine   = "--- PASS: %s (%.2fs)\n    %s\n"
	testAllPassed    = "ok    %s  %d cases under %s\n"
	testSomeFailed   = "FAIL  %s  %d of %d cases under %s\n"
	testFailedError  = "%d of %d cases are not as expected"
	junitOther       = "--junit: %s is there and is no report: only reports are replaced"
	outcomeAllowed   = "allowed, for %s"
	outcomeRefused   = "refused: %s"
	caseNotDecided   = "it could not be decided: %s"
	caseEvidenceFail = "the evidence itself: %s"
)

// testOptions are the flags of "test".
type testOptions struct {
	policy  string   // --policy
	values  []string // --values
	verbose bool     // --verbose
	junit   string   // --junit
}

// NewTest is the command "policy test".
func NewTest(inv *cli.Invocation) *cobra.Command {
	var o testOptions
	c := &cobra.Command{Use: testUse, Short: testShort, Long: testLong, Example: testExample, Args: cli.Exactly(1, testNeeds), RunE: inv.RunE(o.run)}
	c.Flags().StringVar(&o.policy, "policy", "", flagTestPolicy)
	c.Flags().StringSliceVar(&o.values, "values", nil, flagValues)
	c.Flags().BoolVar(&o.verbose, "verbose", false, flagVerbose)
	c.Flags().StringVar(&o.junit, "junit", "", flagJUnit)
	return c
}

// ReasonCases is the answer that a case is not as expected.
const ReasonCases refusal.Reason = "policy-cases-differ"

// caseResult is one case's.
type caseResult struct {
	Name    string   `json:"name"`
	Passed  bool     `json:"passed"`
	Expect  string   `json:"expect"`
	Allowed bool     `json:"allowed"`
	Reasons []string `json:"reasons,omitempty"`
	// Message says what was decided, or how that is not what was expected.
	Message string        `json:"message"`
	Took    time.Duration `json:"took_ns"`
}

// tested is what "test --json" prints.
type tested struct {
	Policy named        `json:"policy"`
	Passed int          `json:"passed"`
	Failed int          `json:"failed"`
	Cases  []caseResult `json:"cases"`
	table  string
}

func (o *testOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	data, err := cli.ReadFile(args[0])
	if err != nil {
		return err
	}
	t, err := parseTable(data)
	if err != nil {
		return err
	}
	dir := filepath.Dir(args[0])
	file, values := o.policy, o.values
	if file == "" {
		file = path(dir, t.Policy)
	}
	if values == nil {
		values = paths(dir, t.Values)
	}
	if file == "" {
		return invalidTable(testNoPolicy)
	}
	p, err := ReadPolicy(inv.Err, file, values)
	if err != nil {
		return err
	}
	var roots []byte
	if t.Defaults.SoftwareTEERoot != "" {
		if roots, err = cli.ReadFile(path(dir, t.Defaults.SoftwareTEERoot)); err != nil {
			return err
		}
	}
	out := tested{Policy: nameOf(p), table: args[0], Cases: []caseResult{}}
	for _, c := range t.Cases {
		r := runCase(ctx, t, dir, c, p, roots)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if out.Cases = append(out.Cases, r); r.Passed {
			out.Passed++
		} else {
			out.Failed++
		}
	}
	if err := inv.Print(out, func(w io.Writer) { out.write(w, o.verbose) }); err != nil {
		return err
	}
	if o.junit != "" {
		if err := out.writeJUnit(o.junit); err != nil {
			return err
		}
	}
	if out.Failed > 0 {
		return cli.RefusedFor(refusal.New(ReasonCases, testFailedError, out.Failed, len(out.Cases)))
	}
	return nil
}

// runCase asks one case. A case that cannot be decided, as without its file, fails.
func runCase(ctx context.Context, t table, dir string, c tableCase, p *policy.Policy, roots []byte) (r caseResult) {
	begin := time.Now()
	r = caseResult{Name: c.Name, Expect: c.Expect}
	defer func() { r.Took = time.Since(begin) }()
	s, err := t.subject(dir, c, roots)
	if err != nil {
		r.Message = fmt.Sprintf(caseNotDecided, err)
		return r
	}
	detail := ""
	in, verdict, err := s.input(ctx)
	reason, refused := refusal.ReasonOf(err)
	switch {
	case refused:
		r.Reasons, detail = []string{string(reason)}, fmt.Sprintf(caseEvidenceFail, err)
	case err != nil:
		r.Message = fmt.Sprintf(caseNotDecided, err)
		return r
	case verdict.Error != nil:
		r.Reasons, detail = []string{string(verdict.Error.Reason)}, fmt.Sprintf(caseEvidenceFail, verdict.Error.Message)
	default:
		d := policy.Decide(p, in)
		r.Allowed, r.Reasons = d.Allowed, codes(d.Reasons)
		detail = fmt.Sprintf(outcomeAllowed, d.LeaseTTL)
		if !d.Allowed {
			detail = details(d.Reasons)
		}
	}
	if r.Message = c.differs(r.Allowed, r.Reasons, detail); r.Message != "" {
		return r
	}
	r.Passed, r.Message = true, detail
	if !r.Allowed {
		r.Message = fmt.Sprintf(outcomeRefused, strings.Join(r.Reasons, ", "))
	}
	return r
}

// details are what the failed checks found.
func details(list []policy.Failure) string {
	var out []string
	for _, f := range list {
		out = append(out, f.Error())
	}
	return strings.Join(out, "; ")
}

// write prints the results as go test does.
func (t tested) write(w io.Writer, verbose bool) {
	for _, c := range t.Cases {
		switch {
		case !c.Passed:
			fmt.Fprintf(w, testFailedLine, c.Name, c.Took.Seconds(), c.Message)
		case verbose:
			fmt.Fprintf(w, testPassedLine, c.Name, c.Took.Seconds(), c.Message)
		}
	}
	if t.Failed > 0 {
		fmt.Fprintf(w, testSomeFailed, t.table, t.Failed, len(t.Cases), t.Policy)
		return
	}
	fmt.Fprintf(w, testAllPassed, t.table, len(t.Cases), t.Policy)
}

// junitSuite is the report that CI systems read.
type junitSuite struct {
	XMLName  xml.Name    `xml:"testsuite"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string        `xml:"name,attr"`
	Class   string        `xml:"classname,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitFailure `xml:"failure,omitempty"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
}

func (t tested) writeJUnit(file string) error {
	s := junitSuite{Name: t.table, Tests: len(t.Cases), Failures: t.Failed}
	for _, c := range t.Cases {
		j := junitCase{Name: c.Name, Class: t.Policy.ID, Time: fmt.Sprintf("%.3f", c.Took.Seconds())}
		if !c.Passed {
			j.Failure = &junitFailure{c.Message}
		}
		s.Cases = append(s.Cases, j)
	}
	raw, err := xml.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := checkReport(file); err != nil {
		return err
	}
	return cli.ExplainNew(file, os.WriteFile(file, append([]byte(xml.Header), append(raw, '\n')...), 0o644))
}

// reportHead is how every report begins.
const reportHead = xml.Header + "<testsuite"

// checkReport keeps a slip of the fingers, such as the name of the policy, from destroying a file.
func checkReport(file string) error {
	info, err := os.Stat(file)
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return nil // writing it says what is wrong
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	old, err := io.ReadAll(io.LimitReader(f, int64(len(reportHead))))
	if err == nil && string(old) != reportHead {
		return fmt.Errorf(junitOther, file)
	}
	return err
}
