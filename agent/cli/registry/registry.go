// Package registry has the operator's commands for the broker's registry of proofs: register the
// keys that it vouches for, challenge agents, and show everything about one answer.
package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/keybroker/registry"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
	"github.com/spf13/cobra"
)

// The words of "register".
const (
	registerUse            = "register DIR"
	registerShort          = "Have the broker vouch for the keys of a directory"
	registerExample        = "  anchorhold proof register keys/\n  anchorhold proof register digits-keys/ --model-id 62779de6..."
	registerNeeds          = "a directory made by proof setup or proof ceremony keys"
	registerNoKeys         = "%s holds no records of keys"
	registerModelIDInvalid = "--model-id: %w"
	registerModelIDAlone   = "--model-id needs a directory with the keys of exactly one classifier's architecture; %s holds %d sets"
	registerResult         = "registered %s\n"
	registerFlagModelID    = "id of a model whose answers the keys may prove (repeat for several; default every model of the architecture). More can be added later"
)

// The words of "challenge".
const (
	challengeUse          = "challenge"
	challengeShort        = "Have the broker draw answers that must be proven"
	challengeExample      = "  anchorhold proof challenge --all --count 10 --within 1h\n  anchorhold proof challenge --model-id e7c0bf8b... --rate 0.01"
	challengeNone         = "nothing to challenge: no announced answer is waiting"
	challengeResult       = "challenge %s\n  agent %s, %d answers, due %s\n"
	challengeFlagAll      = "draw among all announced answers"
	challengeFlagModelID  = "draw among the answers of one model"
	challengeFlagAgentKey = "draw among the answers of one agent (anchorhold status shows its key)"
	challengeFlagCount    = "number of answers to draw"
	challengeFlagRate     = "probability of drawing each answer, instead of --count"
	challengeFlagWithin   = "when the proofs are due"
)

// The words of "status".
const (
	statusUse     = "status"
	statusShort   = "Show the state of the broker's registry, and what is overdue"
	statusExample = "  anchorhold proof status"
	statusResult  = "keys        %d registered\nanswers     %d announced and unproven, %d gone unchallenged, %d displaced\nproofs      %d\nchallenges  %d unanswered, %d overdue\n"
)

// The words of "audit".
const (
	auditUse          = "audit RECEIPT"
	auditShort        = "Show everything about one answer: receipt, guest, model, challenge, proof"
	auditExample      = "  anchorhold proof audit 5f2c... --json\n  anchorhold proof audit 5f2c... --salts answer.receipt.json"
	auditNeeds        = "one receipt's id"
	auditOtherReceipt = "the broker answered about another receipt"
	auditSaltWrong    = "%w: the broker has a proof of %s, but the salt in %s does not open its output"
	auditSaltsUnread  = "--salts: %v"
	auditNoSalts      = "%s holds a receipt without its salts; the client that asked has them"
	auditSaltsOther   = "%s is of receipt %s, not %s"
	auditFlagSalts    = "file with the receipt and its salts, as the client has it (anchorhold receipt get); shows the outputs too"
)

// The words of an answer as it is shown.
const (
	answerHead         = "receipt    %s\ntime       %s, announced %s\nmodel      %s\nguest      %s evidence %s, image %s, measurement %s\nagent      %s\n"
	answerGuestWarning = "WARNING    the guest is a software TEE, which proves nothing about where it ran"
	answerChallenge    = "challenge  %s: %s, due %s, %d of %d missing\n"
	answerNoProof      = "proof      none yet"
	answerProof        = "proof      verified %s: %s\n           %s, key %s\n"
	answerKeysWarning  = "WARNING    the keys are from a development setup: their maker could forge proofs"
	answerHiddenOutput = "output shown only to those who have the receipt's salt (--salts)"
	answerOutput       = "output %v"
)

// registerOptions are the flags of "register".
type registerOptions struct {
	ids []string // --model-id
}

// NewRegister is the command "proof register".
func NewRegister(inv *cli.Invocation) *cobra.Command {
	var o registerOptions
	c := &cobra.Command{Use: registerUse, Short: registerShort, Example: registerExample, Args: cli.Exactly(1, registerNeeds), RunE: inv.RunE(o.run)}
	c.Flags().StringSliceVar(&o.ids, "model-id", nil, registerFlagModelID)
	dial.BrokerFlag(inv, c)
	return c
}

func (o *registerOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		sets, err := keyset.Load(args[0])
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", cli.ErrRefused, err)
		}
		if len(sets) == 0 {
			return nil, nil, fmt.Errorf(registerNoKeys, args[0])
		}
		var models, keys []digest.Digest
		for _, text := range o.ids {
			id, err := digest.Parse(text)
			if err != nil {
				return nil, nil, cli.Usage(fmt.Errorf(registerModelIDInvalid, err))
			}
			models = append(models, id)
		}
		if len(models) > 0 && (len(sets) != 1 || sets[0].Record.Inference == nil) {
			return nil, nil, cli.Usage(fmt.Errorf(registerModelIDAlone, args[0], len(sets)))
		}
		for _, s := range sets {
			raw, err := s.VerifyingKey()
			if err != nil {
				return nil, nil, err
			}
			var signed operator.Signed
			if err := b.Do(ctx, "/v1/proof-keys", wire.Registration{Record: s.Record, VerifyingKey: raw, Models: models}, &signed); err != nil {
				return nil, nil, err
			}
			keys = append(keys, s.Record.VerifyingKey)
		}
		return keys, func(w io.Writer) {
			for _, k := range keys {
				fmt.Fprintf(w, registerResult, k)
			}
		}, nil
	})
}

// challengeOptions are the flags of "challenge".
type challengeOptions struct {
	spec   registry.Spec
	model  string        // --model-id
	agent  string        // --agent-key
	within time.Duration // --within
}

// NewChallenge is the command "proof challenge".
func NewChallenge(inv *cli.Invocation) *cobra.Command {
	var o challengeOptions
	c := &cobra.Command{Use: challengeUse, Short: challengeShort, Example: challengeExample, Args: cobra.NoArgs, RunE: inv.RunE(o.run)}
	f := c.Flags()
	f.BoolVar(&o.spec.All, "all", false, challengeFlagAll)
	f.StringVar(&o.model, "model-id", "", challengeFlagModelID)
	f.StringVar(&o.agent, "agent-key", "", challengeFlagAgentKey)
	f.IntVar(&o.spec.Count, "count", 0, challengeFlagCount)
	f.Float64Var(&o.spec.Rate, "rate", 0, challengeFlagRate)
	f.DurationVar(&o.within, "within", time.Hour, challengeFlagWithin)
	dial.BrokerFlag(inv, c)
	return c
}

func (o *challengeOptions) run(ctx context.Context, inv *cli.Invocation, _ []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		for text, into := range map[string]**digest.Digest{o.model: &o.spec.Model, o.agent: &o.spec.Agent} {
			if text == "" {
				continue
			}
			d, err := digest.Parse(text)
			if err != nil {
				return nil, nil, cli.Usage(err)
			}
			*into = &d
		}
		o.spec.Before = time.Now().Add(o.within)
		var list []registry.Issued
		if err := b.Do(ctx, "/v1/challenges", o.spec, &list); err != nil {
			return nil, nil, err
		}
		return cli.List("challenges", list), func(w io.Writer) {
			if len(list) == 0 {
				fmt.Fprintln(w, challengeNone)
			}
			for _, i := range list {
				fmt.Fprintf(w, challengeResult, i.Digest, i.Challenge.Agent, len(i.Challenge.Receipts), i.Challenge.Deadline.Time().Format(time.RFC3339))
				for _, id := range i.Challenge.Receipts {
					fmt.Fprintf(w, "  %s\n", id)
				}
			}
		}, nil
	})
}

// NewStatus is the command "proof status".
func NewStatus(inv *cli.Invocation) *cobra.Command {
	c := &cobra.Command{Use: statusUse, Short: statusShort, Example: statusExample, Args: cobra.NoArgs, RunE: inv.RunE(runStatus)}
	dial.BrokerFlag(inv, c)
	return c
}

func runStatus(ctx context.Context, inv *cli.Invocation, _ []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		var st registry.Status
		err := b.Do(ctx, "/v1/proof-status", nil, &st)
		return st, func(w io.Writer) {
			fmt.Fprintf(w, statusResult, st.Records, st.Waiting, st.Dropped, st.Displaced, st.Proofs, st.Unanswered, st.Overdue)
		}, err
	})
}

// auditOptions are the flags of "audit".
type auditOptions struct {
	salts string // --salts
}

// NewAudit is the command "proof audit".
func NewAudit(inv *cli.Invocation) *cobra.Command {
	var o auditOptions
	c := &cobra.Command{Use: auditUse, Short: auditShort, Example: auditExample, Args: cli.Exactly(1, auditNeeds), RunE: inv.RunE(o.run)}
	c.Flags().StringVar(&o.salts, "salts", "", auditFlagSalts)
	dial.BrokerFlag(inv, c)
	return c
}

func (o *auditOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		header, err := saltHeader(o.salts, args[0])
		if err != nil {
			return nil, nil, err
		}
		var a wire.Answer
		if err := b.DoWith(ctx, "/v1/proof-audit/"+url.PathEscape(args[0]), header, &a); err != nil {
			return nil, nil, err
		}
		if a.Receipt.ID.String() != args[0] {
			return nil, nil, errors.New(auditOtherReceipt)
		}
		if o.salts != "" && a.Proof != nil && a.Proof.Outputs == nil {
			return nil, nil, fmt.Errorf(auditSaltWrong, cli.ErrRefused, args[0], o.salts)
		}
		return a, func(w io.Writer) { printAnswer(w, a) }, nil
	})
}

// saltHeader is the header that shows the outputs of an answer, with the salt from a
// client's file; without a file it is empty.
func saltHeader(path, id string) (http.Header, error) {
	header := http.Header{}
	if path == "" {
		return header, nil
	}
	data, err := cli.ReadFile(path)
	if err != nil {
		return nil, cli.Usage(fmt.Errorf(auditSaltsUnread, err)) // a missing file is no missing socket
	}
	r, salts, has, err := receipt.ParseFile(data)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %s: %w", cli.ErrRefused, path, err)
	case !has:
		return nil, cli.Usage(fmt.Errorf(auditNoSalts, path))
	case r.Body.ID.String() != id:
		return nil, cli.Usage(fmt.Errorf(auditSaltsOther, path, r.Body.ID, id))
	}
	text, err := wire.Salt(salts.Output).MarshalText()
	header.Set(wire.SaltHeader, string(text))
	return header, err
}

func printAnswer(w io.Writer, a wire.Answer) {
	r, g := a.Receipt, a.Guest
	fmt.Fprintf(w, answerHead,
		r.ID, r.Time.Format(time.RFC3339), r.Announced.Format(time.RFC3339), r.Model, g.Evidence, g.EvidenceDigest, g.Image, g.Measurement, r.Agent)
	if g.SoftwareTEE {
		fmt.Fprintln(w, answerGuestWarning)
	}
	if c := a.Challenge; c != nil {
		fmt.Fprintf(w, answerChallenge, c.Digest, c.State, c.Deadline.Format(time.RFC3339), c.Missing, c.Receipts)
	}
	p := a.Proof
	if p == nil {
		fmt.Fprintln(w, answerNoProof)
		return
	}
	output := answerHiddenOutput
	if p.Outputs != nil {
		output = fmt.Sprintf(answerOutput, p.Outputs)
	}
	fmt.Fprintf(w, answerProof, p.VerifiedAt.Format(time.RFC3339), output, p.System, p.Key)
	if p.Development {
		fmt.Fprintln(w, answerKeysWarning)
	}
}
