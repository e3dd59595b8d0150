package dryrun

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/audit/inputs"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/spf13/cobra"
)

// The words of "replay".
const (
	replayUse   = "replay NEW"
	replayShort = "Ask a policy about the past decisions of an audit log"
	replayLong  = `Reads an audit log's directory, or a copy of it, and asks the policy NEW about each past
decision again: the same claims, the same statements of the guest, the same resources, at the
time of the decision. Prints what would have been decided otherwise, in groups, with the numbers
of the records. The bounds of NEW's own life (not_before, not_after) are left aside: it is asked
as if it had been in force.

A decision is one exchange: a grant, or a refusal by the policy. What the broker keeps of it
lies beside the log (docs/audit-log.md, "Decision inputs") and is compared with the digest in its
record. Decisions whose input is not there are counted: those before the broker kept any, those
that are older than audit.inputs_days, and refusals for which no policy was asked, such as "busy".

It asks no broker and does not verify the log: 'anchorhold audit verify' does.

Exit status: 0 nothing changes, 1 failed, 2 wrong command line, also where --resource, --since and
--until select no decision, 3 a decision would change (policy-decisions-differ), or the policy
is malformed.`
	replayExample = `  anchorhold policy replay new.yaml --values values.yaml --log /var/lib/anchorhold/broker/audit
  anchorhold policy replay new.yaml --values values.yaml --log copy/audit --archive segments --since 2026-06-01T00:00:00Z --resource models/ --json`
	replayNeeds        = "one policy file"
	flagLog            = "directory of the audit log, or of a copy"
	flagArchive        = "directory with archived segments (repeatable)"
	flagSince          = "only decisions from this time on, RFC 3339"
	flagUntil          = "only decisions before this time, RFC 3339"
	flagResource       = "only decisions on this resource, or on a subtree that ends in /"
	replayReadLine     = "%d records read, %d decisions\n"
	replayNoRecords    = "%s holds no record: give the directory of an audit log (\"audit\" in the broker's state directory), or of a copy"
	replayNoneSelected = "nothing was asked: --resource, --since and --until select none of the %d decisions of the log"
	replayNoInputs     = "no decision has a kept input: nothing was asked"
	replayTitle        = "%s, asked about %d past decisions: %d as before, %d otherwise\n"
	replayGroupLine    = "\n%s  %d  %s\n"
	replayReasons      = "  now          %s\n"
	replayFormer       = "  before       %s\n"
	replayDetail       = "  for example  record %d: %s\n"
	replayRecords      = "  records      %s\n"
	replayMore         = ", and %d more"
	replayMissing      = "\n%d decisions were not asked: their input is not kept\n"
	replayChanged      = "%d of %d past decisions would change"
	replayOtherInput   = "record %d: its input is of other claims than it says"
	replayInputInvalid = "record %d: %w"
	maxShownRecords    = 12
	maxKeptRecords     = 10_000 // of one group, in JSON
	maxGroups          = 10_000
	replayTooMany      = "the decisions differ in more than %d ways: narrow them with --resource, --since and --until"
	replayProgress     = 1 << 16 // records
)

// Changes of a decision.
const (
	nowRefused   = "allowed -> refused"
	nowAllowed   = "refused -> allowed"
	otherReasons = "refused otherwise"
)

// replayOptions are the flags of "replay".
type replayOptions struct {
	values       []string // --values
	log          string   // --log
	archives     []string // --archive
	since, until string   // --since, --until
	resource     string   // --resource
}

// NewReplay is the command "policy replay".
func NewReplay(inv *cli.Invocation) *cobra.Command {
	var o replayOptions
	c := &cobra.Command{Use: replayUse, Short: replayShort, Long: replayLong, Example: replayExample, Args: cli.Exactly(1, replayNeeds), RunE: inv.RunE(o.run, "log")}
	c.Flags().StringSliceVar(&o.values, "values", nil, flagValues)
	c.Flags().StringVar(&o.log, "log", "", flagLog)
	c.Flags().StringArrayVar(&o.archives, "archive", nil, flagArchive)
	c.Flags().StringVar(&o.since, "since", "", flagSince)
	c.Flags().StringVar(&o.until, "until", "", flagUntil)
	c.Flags().StringVar(&o.resource, "resource", "", flagResource)
	return c
}

// ReasonDecisions is the answer that something changes.
const ReasonDecisions refusal.Reason = "policy-decisions-differ"

// replayed is what "replay --json" prints.
type replayed struct {
	Policy named `json:"policy"`
	// Decisions is how many were asked again, Same how many are as before, Changed how many not.
	Decisions uint64 `json:"decisions"`
	Same      uint64 `json:"same"`
	Changed   uint64 `json:"changed"`
	// NoInput is how many could not be asked.
	NoInput uint64 `json:"no_input"`
	// First and Last are the times of the first and the last decision that was asked.
	First  time.Time `json:"first,omitzero"`
	Last   time.Time `json:"last,omitzero"`
	Groups []*group  `json:"groups"`
}

// group are the decisions that change in one way.
type group struct {
	Change    string   `json:"change"`
	Resources []string `json:"resources"`
	// Reasons and Checks are why NEW refuses, Former the reason codes in the record.
	Reasons []string `json:"reasons,omitempty"`
	Checks  []string `json:"checks,omitempty"`
	Former  []string `json:"former_reasons,omitempty"`
	// Count is how many; Records are their numbers, the first ten thousand.
	Count   uint64   `json:"count"`
	Records []uint64 `json:"records"`
	// Detail is what the checks found in the first of them.
	Detail string `json:"detail,omitempty"`
}

// replay is one run.
type replay struct {
	policy   *policy.Policy
	inputs   *inputs.Reader
	since    time.Time
	until    time.Time
	resource string
	all      uint64 // decisions, whatever is asked for
	found    uint64 // those in the time asked for whose input is kept, of any resource
	out      replayed
	groups   map[string]*group
}

func (o *replayOptions) run(ctx context.Context, inv *cli.Invocation, args []string) (err error) {
	r := replay{resource: o.resource, groups: map[string]*group{}}
	if r.since, err = cli.ParseTime("--since", o.since, time.Time{}); err != nil {
		return err
	}
	if r.until, err = cli.ParseTime("--until", o.until, time.Time{}); err != nil {
		return err
	}
	p, err := ReadPolicy(inv.Err, args[0], o.values)
	if err != nil {
		return err
	}
	r.out.Policy, r.policy = nameOf(p), p.WithoutLife()
	if r.inputs, err = audit.OpenInputs(o.log, o.archives...); err != nil {
		return err
	}
	read, failed := uint64(0), error(nil)
	if err := audit.IterateArchived(o.log, o.archives, func(e audit.Entry) bool {
		if read++; read%replayProgress == 0 {
			fmt.Fprintf(inv.Err, replayReadLine, read, r.out.Decisions)
			failed = context.Cause(ctx)
		}
		if failed == nil {
			failed = r.visit(e)
		}
		return failed == nil
	}); err != nil || failed != nil {
		return errors.Join(err, failed)
	}
	if read == 0 { // the log of a broker that started once has one
		return fmt.Errorf(replayNoRecords, o.log)
	}
	if r.found == 0 && r.out.NoInput > 0 {
		return errors.New(replayNoInputs)
	}
	if r.out.Decisions == 0 && o.narrows() { // a slip of the pen would read as "nothing changes"
		return cli.Usage(fmt.Errorf(replayNoneSelected, r.all))
	}
	r.sort()
	if err := inv.Print(r.out, r.out.write); err != nil {
		return err
	}
	if r.out.Changed > 0 {
		return cli.RefusedFor(refusal.New(ReasonDecisions, replayChanged, r.out.Changed, r.out.Decisions))
	}
	return nil
}

// narrows reports whether the flags leave some decisions out.
func (o *replayOptions) narrows() bool { return o.resource != "" || o.since != "" || o.until != "" }

// decided says whether a record is of a decision of a policy, and what it was. The releases of a
// grant are its consequences, and so is a refusal behind it by another part of the broker.
func decided(rec audit.Record) (allowed, is bool) {
	switch {
	case rec.PolicyDigest.IsZero() || rec.ClaimsDigest.IsZero():
		return false, false
	case rec.Kind == audit.KindGrant:
		return true, true
	}
	return false, rec.Kind == audit.KindRefusal && rec.Grant == ""
}

// visit asks the policy again.
func (r *replay) visit(e audit.Entry) error {
	rec := e.Record
	allowed, is := decided(rec)
	if is {
		r.all++
	}
	if !is || !r.since.IsZero() && rec.Time.Before(r.since) || !r.until.IsZero() && !rec.Time.Before(r.until) {
		return nil
	}
	data, err := []byte(nil), inputs.ErrNotKept
	if !rec.InputDigest.IsZero() {
		data, err = r.inputs.Get(rec.InputDigest)
	}
	if errors.Is(err, inputs.ErrNotKept) {
		if r.resource == "" || rec.Resource == "" || r.selects(rec.Resource) {
			r.out.NoInput++
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf(replayInputInvalid, e.Index, err)
	}
	request, err := policy.ParseRequest(data)
	if err != nil {
		return fmt.Errorf(replayInputInvalid, e.Index, err)
	}
	if request.Claims.Digest() != rec.ClaimsDigest {
		return fmt.Errorf(replayOtherInput, e.Index)
	}
	r.found++
	if r.resource != "" && !slices.ContainsFunc(request.Resources, r.selects) {
		return nil
	}
	return r.ask(e, allowed, request)
}

func (r *replay) selects(resource string) bool {
	if prefix, subtree := strings.CutSuffix(r.resource, "/"); subtree {
		return strings.HasPrefix(resource, prefix+"/")
	}
	return resource == r.resource
}

func (r *replay) ask(e audit.Entry, was bool, request policy.Request) error {
	ruling := request.Decide(r.policy)
	if r.out.Decisions++; r.out.Decisions == 1 {
		r.out.First = e.Record.Time
	}
	r.out.Last = e.Record.Time
	g := group{Resources: request.Resources, Reasons: codes(ruling.Reasons), Former: former(e.Record)}
	switch {
	case was && !ruling.Allowed:
		g.Change = nowRefused
	case !was && ruling.Allowed:
		g.Change = nowAllowed
	case !was && !sameCodes(g.Reasons, g.Former):
		g.Change = otherReasons
	default:
		r.out.Same++
		return nil
	}
	r.out.Changed++
	key := strings.Join([]string{g.Change, strings.Join(g.Resources, " "), strings.Join(g.Reasons, " "), strings.Join(g.Former, " ")}, "\n")
	known := r.groups[key]
	if known == nil {
		if len(r.groups) >= maxGroups {
			return fmt.Errorf(replayTooMany, maxGroups)
		}
		known = &g
		r.groups[key] = known
		if !ruling.Allowed {
			g.Checks, g.Detail = failedChecks(r.policy, request, ruling), details(ruling.Reasons)
		}
	}
	if known.Count++; len(known.Records) < maxKeptRecords {
		known.Records = append(known.Records, e.Index)
	}
	return nil
}

// failedChecks names the checks that refuse.
func failedChecks(p *policy.Policy, request policy.Request, ruling policy.Ruling) (out []string) {
	e := policy.Examine(p, policy.Input{Claims: request.Claims, Guest: request.Guest, Resource: ruling.Refused, Now: request.Now})
	for _, s := range e.Steps {
		if s.Outcome == policy.Failed && !slices.Contains(out, s.Check) {
			out = append(out, s.Check)
		}
	}
	return out
}

// former are the reason codes of a record, each once.
func former(rec audit.Record) (out []string) {
	for _, reason := range rec.Reasons {
		if !slices.Contains(out, reason.Code) {
			out = append(out, reason.Code)
		}
	}
	return out
}

func sameCodes(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// sort puts what is lost first, and then what concerns most.
func (r *replay) sort() {
	order := []string{nowRefused, nowAllowed, otherReasons}
	r.out.Groups = []*group{}
	for _, g := range r.groups {
		r.out.Groups = append(r.out.Groups, g)
	}
	slices.SortFunc(r.out.Groups, func(a, b *group) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Change), slices.Index(order, b.Change)), cmp.Compare(b.Count, a.Count), cmp.Compare(a.Records[0], b.Records[0]))
	})
}

// write prints it for people.
func (r replayed) write(w io.Writer) {
	fmt.Fprintf(w, replayTitle, r.Policy, r.Decisions, r.Same, r.Changed)
	for _, g := range r.Groups {
		fmt.Fprintf(w, replayGroupLine, g.Change, g.Count, strings.Join(g.Resources, ", "))
		if len(g.Former) > 0 {
			fmt.Fprintf(w, replayFormer, strings.Join(g.Former, ", "))
		}
		if len(g.Reasons) > 0 {
			fmt.Fprintf(w, replayReasons, strings.Join(g.Reasons, ", "))
			fmt.Fprintf(w, replayDetail, g.Records[0], g.Detail)
		}
		var numbers []string
		for _, n := range g.Records[:min(len(g.Records), maxShownRecords)] {
			numbers = append(numbers, fmt.Sprint(n))
		}
		text := strings.Join(numbers, ", ")
		if more := g.Count - uint64(len(numbers)); more > 0 {
			text += fmt.Sprintf(replayMore, more)
		}
		fmt.Fprintf(w, replayRecords, text)
	}
	if r.NoInput > 0 {
		fmt.Fprintf(w, replayMissing, r.NoInput)
	}
}
