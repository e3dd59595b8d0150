// Package registry is the operator's commands of the broker's registry of proofs: keys that it
// vouches for, challenges, and everything about one answer.
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
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/keybroker/registry"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
	"github.com/spf13/cobra"
)

// NewRegister is the command "proof register".
func NewRegister(inv *cli.Invocation) *cobra.Command {
	var ids []string
	c := dial.Operate(inv, "register DIR", "Have the broker vouch for the keys of a directory", "  anchorhold proof register keys/\n  anchorhold proof register digits-keys/ --model-id 62779de6...", cli.Exactly(1, "a directory that setup or ceremony keys made"),
		func(ctx context.Context, b *operator.Client, args []string) (any, func(io.Writer), error) {
			sets, err := keyset.Load(args[0])
			if err != nil {
				return nil, nil, fmt.Errorf("%w: %w", cli.ErrRefused, err)
			}
			if len(sets) == 0 {
				return nil, nil, fmt.Errorf("%s holds no records of keys", args[0])
			}
			var models, keys []statement.Digest
			for _, text := range ids {
				id, err := statement.ParseDigest(text)
				if err != nil {
					return nil, nil, cli.Usage(fmt.Errorf("--model-id: %w", err))
				}
				models = append(models, id)
			}
			if len(models) > 0 && (len(sets) != 1 || sets[0].Record.Inference == nil) {
				return nil, nil, cli.Usage(fmt.Errorf("--model-id goes with a directory that holds the keys of one classifier's architecture; %s holds %d sets", args[0], len(sets)))
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
					fmt.Fprintf(w, "registered %s\n", k)
				}
			}, nil
		})
	c.Flags().StringSliceVar(&ids, "model-id", nil, "id of a model whose answers the keys may prove, repeatable; without any, every model's of the architecture. Further ones can be added later")
	dial.BrokerFlag(inv, c)
	return c
}

// NewChallenge is the command "proof challenge".
func NewChallenge(inv *cli.Invocation) *cobra.Command {
	var spec registry.Spec
	var model, agent string
	var within time.Duration
	c := dial.Operate(inv, "challenge", "Have the broker draw answers that must be proven",
		"  anchorhold proof challenge --all --count 10 --within 1h\n  anchorhold proof challenge --model-id e7c0bf8b... --rate 0.01", cobra.NoArgs,
		func(ctx context.Context, b *operator.Client, _ []string) (any, func(io.Writer), error) {
			for text, into := range map[string]**statement.Digest{model: &spec.Model, agent: &spec.Agent} {
				if text == "" {
					continue
				}
				d, err := statement.ParseDigest(text)
				if err != nil {
					return nil, nil, cli.Usage(err)
				}
				*into = &d
			}
			spec.Before = time.Now().Add(within)
			var list []registry.Issued
			if err := b.Do(ctx, "/v1/challenges", spec, &list); err != nil {
				return nil, nil, err
			}
			return list, func(w io.Writer) {
				if len(list) == 0 {
					fmt.Fprintln(w, "nothing to challenge: no announced answer waits")
				}
				for _, i := range list {
					fmt.Fprintf(w, "challenge %s\n  agent %s, %d answers, due %s\n", i.Digest, i.Challenge.Agent, len(i.Challenge.Receipts), i.Challenge.Deadline.Time().Format(time.RFC3339))
					for _, id := range i.Challenge.Receipts {
						fmt.Fprintf(w, "  %s\n", id)
					}
				}
			}, nil
		})
	f := c.Flags()
	f.BoolVar(&spec.All, "all", false, "draw among all announced answers")
	f.StringVar(&model, "model-id", "", "draw among those of one model")
	f.StringVar(&agent, "agent-key", "", "draw among those of one agent (anchorhold status shows it)")
	f.IntVar(&spec.Count, "count", 0, "how many are drawn")
	f.Float64Var(&spec.Rate, "rate", 0, "chance of each to be drawn, instead of --count")
	f.DurationVar(&within, "within", time.Hour, "when the proofs are due")
	dial.BrokerFlag(inv, c)
	return c
}

// NewStatus is the command "proof status".
func NewStatus(inv *cli.Invocation) *cobra.Command {
	c := dial.Operate(inv, "status", "Show how the broker's registry stands, and what is overdue", "  anchorhold proof status", cobra.NoArgs,
		func(ctx context.Context, b *operator.Client, _ []string) (any, func(io.Writer), error) {
			var st registry.Status
			err := b.Do(ctx, "/v1/proof-status", nil, &st)
			return st, func(w io.Writer) {
				fmt.Fprintf(w, "keys        %d registered\nanswers     %d announced and unproven, %d gone unchallenged, %d displaced\nproofs      %d\nchallenges  %d unanswered, %d overdue\n", st.Records, st.Waiting, st.Dropped, st.Displaced, st.Proofs, st.Unanswered, st.Overdue)
			}, err
		})
	dial.BrokerFlag(inv, c)
	return c
}

// NewAudit is the command "proof audit".
func NewAudit(inv *cli.Invocation) *cobra.Command {
	var salts string
	c := dial.Operate(inv, "audit RECEIPT", "Show everything about one answer: receipt, guest, model, challenge, proof",
		"  anchorhold proof audit 5f2c... --json\n  anchorhold proof audit 5f2c... --salts answer.receipt.json", cli.Exactly(1, "one receipt's id"),
		func(ctx context.Context, b *operator.Client, args []string) (any, func(io.Writer), error) {
			header, err := saltHeader(salts, args[0])
			if err != nil {
				return nil, nil, err
			}
			var a wire.Answer
			if err := b.DoWith(ctx, "/v1/proof-audit/"+url.PathEscape(args[0]), header, &a); err != nil {
				return nil, nil, err
			}
			if a.Receipt.ID.String() != args[0] {
				return nil, nil, errors.New("the broker answered about another receipt")
			}
			if salts != "" && a.Proof != nil && a.Proof.Outputs == nil {
				return nil, nil, fmt.Errorf("%w: the broker has a proof of %s, and the salt in %s does not open its output", cli.ErrRefused, args[0], salts)
			}
			return a, func(w io.Writer) { printAnswer(w, a) }, nil
		})
	c.Flags().StringVar(&salts, "salts", "", "file with the receipt and its salts, as the client has it (anchorhold receipt get): shows the outputs, too")
	dial.BrokerFlag(inv, c)
	return c
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
		return nil, cli.Usage(fmt.Errorf("--salts: %v", err)) // a missing file is no missing socket
	}
	r, salts, has, err := receipt.ParseFile(data)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %s: %w", cli.ErrRefused, path, err)
	case !has:
		return nil, cli.Usage(fmt.Errorf("%s holds a receipt without its salts; the client that asked has them", path))
	case r.Body.ID.String() != id:
		return nil, cli.Usage(fmt.Errorf("%s is of receipt %s, not of %s", path, r.Body.ID, id))
	}
	text, err := wire.Salt(salts.Output).MarshalText()
	header.Set(wire.SaltHeader, string(text))
	return header, err
}

func printAnswer(w io.Writer, a wire.Answer) {
	r, g := a.Receipt, a.Guest
	fmt.Fprintf(w, "receipt    %s\ntime       %s, announced %s\nmodel      %s\nguest      %s evidence %s, image %s, measurement %s\nagent      %s\n",
		r.ID, r.Time.Format(time.RFC3339), r.Announced.Format(time.RFC3339), r.Model, g.Evidence, g.EvidenceDigest, g.Image, g.Measurement, r.Agent)
	if g.SoftwareTEE {
		fmt.Fprintln(w, "WARNING    the guest is a software TEE, which proves nothing about where it ran")
	}
	if c := a.Challenge; c != nil {
		fmt.Fprintf(w, "challenge  %s: %s, due %s, %d of %d missing\n", c.Digest, c.State, c.Deadline.Format(time.RFC3339), c.Missing, c.Receipts)
	}
	p := a.Proof
	if p == nil {
		fmt.Fprintln(w, "proof      none yet")
		return
	}
	output := "output for those who have the receipt's salt (--salts)"
	if p.Outputs != nil {
		output = fmt.Sprintf("output %v", p.Outputs)
	}
	fmt.Fprintf(w, "proof      verified %s: %s\n           %s, key %s\n", p.VerifiedAt.Format(time.RFC3339), output, p.System, p.Key)
	if p.Development {
		fmt.Fprintln(w, "WARNING    the keys were set up for development: their maker could forge proofs")
	}
}
