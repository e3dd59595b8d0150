package dryrun

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/evidencejudge"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/spf13/cobra"
)

// The words of "explain".
const (
	explainUse   = "explain EVIDENCE... RESOURCE"
	explainShort = "Say how a policy decides on evidence from a file, check by check"
	explainLong  = `Verifies the evidence as 'evidence verify' does, asks the policy about one resource, and
prints which rules were considered, each check with what the evidence has and what the policy
wants, and, if the policy refuses, the smallest change of it or of the reference values that
would allow it. The changed policy is asked before it is shown. It is not advice: the refusal
may be what the policy is for.

Several files are one guest's evidence, as for 'evidence verify': a quote and its event log, a
report and its certificates. What a guest states of itself is no part of a file of evidence:
say it with --image-id, --agent-build, --tenant, --memory-limit-mib and --clock-source. It
works without a broker and without a network.

Exit status: 0 allowed, 1 failed, 2 wrong command line, 3 refused, with the first reason.`
	explainExample = `  anchorhold policy explain evidence.bin models/demo --policy policy.yaml --values values.yaml --collateral collateral
  anchorhold policy explain quote.bin ccel.bin models/demo --policy policy.yaml --values values.yaml --collateral collateral
  anchorhold policy explain report.bin models/demo --policy policy.yaml --values values.yaml --image-id image-7 --at 2026-01-15T12:00:00Z --json`
	explainNeeds          = "at least one file with evidence, and the name of a resource"
	flagPolicy            = "the policy to ask"
	flagAt                = "decide as of this time, RFC 3339 (default now)"
	flagCollateral        = "directory of certificates, revocation lists and Intel's documents"
	flagWithoutRevocation = "accept an AMD chain although its revocation list is not at hand, and certificates of TPM keys, which have none"
	flagEvaluation        = "lowest number of Intel's TCB recoveries that its documents may be of"
	flagEnrolled          = "name of a TPM's attestation key that is believed, in hexadecimal (repeatable)"
	flagImageID           = "image that the guest states"
	flagAgentBuild        = "build of the agent that the guest states"
	flagTenant            = "tenant that the guest states"
	flagMemory            = "memory limit that the guest states, in MiB"
	flagClock             = "clock that the guest states: secure-tsc, tdx-tsc, tsc, paravirtual, timer"
	allowedTitle          = "ALLOWED  %s under %s at %s, for %s\n"
	refusedTitle          = "REFUSED  %s under %s at %s: %s\n"
	notVerifiedTitle      = "REFUSED  the evidence itself, whatever the policy says: %s\n"
	noRule                = "  none names it\n"
	ruleDecides           = "  %-24s decides\n"
	ruleOther             = "  %-24s is less specific\n"
	stepLine              = "  %-8s %-22s has %s; wants %s\n"
	waivedLine            = "  %-8s %-22s has %s; %s\n"
	failedLine            = "  %-8s %-22s %s: %s\n           has %s; wants %s\n"
	ruleMark              = "%s (%s)"
	remedyTitle           = "the smallest change that would allow it:\n"
	remedyHolds           = "the policy, changed so, allows it\n"
	remedyFails           = "the policy, changed so, does not load or still refuses: it lacks what this kind of evidence needs ('anchorhold evidence verify' prints a start)\n"
	unsaidGuest           = "NOTE: the guest's own statements are taken as empty: say them with --image-id, --agent-build, --tenant, --memory-limit-mib, --clock-source\n"
	remedyBeyond          = "no change of the policy allows it:\n"
	unsaidValue           = "nothing"
)

// explainOptions are the flags of "explain".
type explainOptions struct {
	policy   string   // --policy
	values   []string // --values
	at       string   // --at
	subject  subject
	software cli.SoftwareRoot
}

// NewExplain is the command "policy explain".
func NewExplain(inv *cli.Invocation) *cobra.Command {
	var o explainOptions
	c := &cobra.Command{Use: explainUse, Short: explainShort, Long: explainLong, Example: explainExample, Args: cli.AtLeast(2, explainNeeds), RunE: inv.RunE(o.run, "policy")}
	f, s := c.Flags(), &o.subject
	f.StringVar(&o.policy, "policy", "", flagPolicy)
	f.StringSliceVar(&o.values, "values", nil, flagValues)
	f.StringVar(&o.at, "at", "", flagAt)
	f.StringVar(&s.collateral, "collateral", "", flagCollateral)
	f.BoolVar(&s.withoutRevocation, "without-revocation", false, flagWithoutRevocation)
	f.Uint32Var(&s.evaluation, "minimum-evaluation-number", 1, flagEvaluation)
	f.StringSliceVar(&s.enrolled, "enrolled-ak", nil, flagEnrolled)
	f.StringVar(&s.guest.ImageID, "image-id", "", flagImageID)
	f.StringVar(&s.guest.AgentBuild, "agent-build", "", flagAgentBuild)
	f.StringVar(&s.guest.Tenant, "tenant", "", flagTenant)
	f.Uint64Var(&s.guest.MemoryLimitMiB, "memory-limit-mib", 0, flagMemory)
	f.StringVar(&s.guest.ClockSource, "clock-source", "", flagClock)
	o.software.Add(c)
	return c
}

// explained is what "explain --json" prints.
type explained struct {
	Policy   named                 `json:"policy"`
	Resource string                `json:"resource"`
	At       time.Time             `json:"at"`
	Evidence evidencejudge.Verdict `json:"evidence"`
	// Examination is missing where the evidence itself was refused.
	*policy.Examination
	// LeaseTTL and Roles stand in the place of the decision's, which are nanoseconds and bits.
	LeaseTTL float64  `json:"lease_ttl_seconds,omitempty"`
	Roles    []string `json:"roles,omitempty"`
}

// set takes over what the policy said.
func (e *explained) set(x policy.Examination) {
	e.Examination, e.LeaseTTL = &x, x.LeaseTTL.Seconds()
	if x.Roles != 0 {
		e.Roles = strings.Split(x.Roles.String(), ",")
	}
}

// refused is the error with the first reason, or nil.
func (e explained) refused() error {
	if e.Examination == nil {
		return e.Evidence.Refusal()
	}
	if e.Allowed {
		return nil
	}
	if len(e.Reasons) == 0 {
		return refusal.New(policy.ReasonNoPolicy, "refused without a reason")
	}
	return refusal.New(e.Reasons[0].Reason, "%s", e.Reasons[0].Detail)
}

func (o *explainOptions) run(ctx context.Context, inv *cli.Invocation, args []string) (err error) {
	s := o.subject
	s.files, s.resource = args[:len(args)-1], args[len(args)-1]
	if s.at, err = cli.ParseTime("--at", o.at, time.Time{}); err != nil {
		return err
	}
	if s.at.IsZero() {
		s.at = time.Now()
	}
	if _, err := s.guest.claims(); err != nil {
		return cli.Usage(err)
	}
	if s.softwareRoots, err = o.software.Read(); err != nil {
		return err
	}
	p, err := ReadPolicy(inv.Err, o.policy, o.values)
	if err != nil {
		return err
	}
	in, verdict, err := s.input(ctx)
	if err != nil {
		return cli.RefusedFor(err)
	}
	out := explained{Policy: nameOf(p), Resource: s.resource, At: s.at.UTC(), Evidence: verdict}
	if verdict.Claims != nil {
		out.set(policy.Examine(p, in))
	}
	if s.guest == (guest{}) && out.Examination != nil && !out.Allowed {
		io.WriteString(inv.Err, unsaidGuest)
	}
	if err := inv.Print(out, out.write); err != nil {
		return err
	}
	return cli.RefusedFor(out.refused())
}

// write prints it for people.
func (e explained) write(w io.Writer) {
	at := e.At.Format(time.RFC3339)
	switch {
	case e.Examination == nil:
		fmt.Fprintf(w, notVerifiedTitle, e.Evidence.Refusal())
		return
	case e.Allowed:
		fmt.Fprintf(w, allowedTitle, e.Resource, e.Policy, at, e.Examination.LeaseTTL)
	default:
		fmt.Fprintf(w, refusedTitle, e.Resource, e.Policy, at, strings.Join(codes(e.Reasons), ", "))
	}
	fmt.Fprintln(w, "\nrules:")
	if len(e.Rules) == 0 {
		fmt.Fprint(w, noRule)
	}
	for _, r := range e.Rules {
		fmt.Fprintf(w, map[bool]string{true: ruleDecides, false: ruleOther}[r.Decides], r.Pattern)
	}
	fmt.Fprintln(w, "\nchecks:")
	for _, s := range e.Steps {
		writeStep(w, s)
	}
	if e.Remedy != nil {
		fmt.Fprintln(w)
		writeRemedy(w, e.Remedy)
	}
}

func writeStep(w io.Writer, s policy.Step) {
	name, has, wants := s.Check, s.Has, s.Wants
	if s.Rule != "" {
		name = fmt.Sprintf(ruleMark, s.Check, s.Rule)
	}
	if has == "" {
		has = unsaidValue
	}
	if wants == "" {
		wants = unsaidValue
	}
	switch s.Outcome {
	case policy.OtherKind:
	case policy.Waived:
		fmt.Fprintf(w, waivedLine, s.Outcome, name, has, s.Detail)
	case policy.Failed:
		fmt.Fprintf(w, failedLine, strings.ToUpper(string(s.Outcome)), name, s.Reason, s.Detail, has, wants)
	default:
		fmt.Fprintf(w, stepLine, s.Outcome, name, has, wants)
	}
}

func writeRemedy(w io.Writer, r *policy.Remedy) {
	if len(r.Beyond) > 0 {
		fmt.Fprint(w, remedyBeyond)
		for _, b := range r.Beyond {
			fmt.Fprintf(w, "  %s\n", b)
		}
		return
	}
	fmt.Fprint(w, remedyTitle)
	for _, c := range r.Changes {
		fmt.Fprintf(w, "  %s\n", c.Text)
	}
	fmt.Fprint(w, map[bool]string{true: remedyHolds, false: remedyFails}[r.Allows])
}

// codes are the reason codes, each once.
func codes(list []policy.Failure) (out []string) {
	seen := map[string]bool{}
	for _, f := range list {
		if code := string(f.Reason); !seen[code] {
			seen[code] = true
			out = append(out, code)
		}
	}
	return out
}
