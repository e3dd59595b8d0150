package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
	"github.com/spf13/cobra"
)

func newFed(inv *invocation, more ...*cobra.Command) *cobra.Command {
	return subcommands("fed", "Federated rounds: open, submit, aggregate, close, decrypt",
		`A round is one sum of encrypted vectors. Its life, with who runs each command:

  fed round open     broker operator   terms, key, privacy charge; handed to the aggregator
  fed submit         participant       clip, encrypt and upload a vector through the agent
  fed update         participant       the same, with answers of a classifier and their proofs
  fed round close    broker operator   add what is complete, fix cohort and sum for ever
  fed decrypt        decrypting guest  open the sum once, add noise, sign, publish
  fed round finish   broker operator   check the result, destroy the key
  fed result         anybody           the mean as float32 values

Participants without a common trusted guest set up a key together: see fed key.`,
		append(more, newFedKey(inv), newFedSubmit(inv), newFedUpdate(inv), newFedDecrypt(inv), newFedResult(inv), newFedDataset(inv))...)
}

func newRound(inv *invocation) *cobra.Command {
	c := subcommands("round", "Open, show, close, finish and abandon rounds", "Commands of the broker's operator.",
		newRoundOpen(inv), newRoundStatus(inv), newRoundClose(inv), newRoundFinish(inv), newRoundAbandon(inv))
	brokerFlag(inv, c)
	return c
}

func newRoundOpen(inv *invocation) *cobra.Command {
	var spec rounds.Spec
	var aggregators []string
	var rule, mechanism, key, normKeys string
	var roots []string
	var guests *roundGuests
	var sealed, dataset string
	var rotate bool
	c := &cobra.Command{
		Use: "open --model NAME --length N --clip-l2 X --contributor-tenant T --decryptor-image D", Short: "Open a round and hand it to the aggregators",
		Example: `  anchorhold fed round open --model digits --length 650 --clip-l2 1 --epsilon 1 --minimum 8 \
    --contributor-tenant acme --decryptor-tenant acme --decryptor-image sha256:5f2c... --aggregator /run/anchorhold-aggregator/admin.sock
  anchorhold fed round open --model m --length 1000000 --clip-l2 5 --clip-linf 0.1 --multiplier 4 --rate 0.01 --duration 2h \
    --contributors everyone --decryptor-policy 88ab... --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			err := need(c, "model", "length", "clip-l2")
			if err != nil {
				return err
			}
			if spec.Contributors, spec.Decryptors, err = guests.read(key != ""); err != nil {
				return err
			}
			if sealed != "" {
				if spec.Sealed, _, err = sealedPart(sealed); err != nil {
					return err
				}
			}
			if dataset != "" {
				if spec.Dataset, err = os.ReadFile(dataset); err != nil {
					return err
				}
			}
			if c.Flags().Changed("rotate") {
				spec.Rotate = &rotate
			}
			spec.Rule, spec.Mechanism = federation.Rule(rule), federation.Mechanism(mechanism)
			if key != "" {
				id, err := parseRound(key)
				if err != nil {
					return err
				}
				if len(roots) == 0 || len(aggregators) == 0 {
					return usageError{errors.New("--key needs --root, whom to believe, and --aggregator, where the agents' messages lie")}
				}
				publics, err := publicIdentities(roots)
				if err != nil {
					return err
				}
				if spec.Parties, err = partyKey(c.Context(), aggregators[0], publics, id); err != nil {
					return fmt.Errorf("%w: %w", errRefused, err)
				}
			}
			if normKeys != "" {
				if spec.NormCircuit, err = normCircuit(normKeys, spec.Length); err != nil {
					return err
				}
			}
			st, err := brokerClient(inv, c).OpenRound(c.Context(), spec)
			if err != nil {
				return explainBroker(err, inv.broker)
			}
			for _, socket := range aggregators {
				if err := localAggregator(socket).AddRound(c.Context(), st.Signed); err != nil {
					return fmt.Errorf("%w: round %s is open at the broker, but the aggregator at %s does not take it: %w", errRefused, st.Round.ID, socket, err)
				}
			}
			return inv.print(c.OutOrStdout(), roundView{st.Round, st.ExpectedError, st.Adjacency, st.Warning}, func(w io.Writer) { printRound(w, st) })
		},
	}
	guests = newRoundGuests(c)
	f := c.Flags()
	f.StringVar(&spec.Model, "model", "", "what is trained, for people")
	f.StringVar(&sealed, "sealed", "", "charge the privacy of this sealed model, all its versions (by default the broker's one account)")
	f.StringVar(&dataset, "dataset", "", "charge the privacy of this dataset: a file that anchorhold fed dataset made")
	f.Uint64Var(&spec.Length, "length", 0, "values in a vector")
	f.Float64Var(&spec.ClipL2, "clip-l2", 0, "bound of a vector's Euclidean norm")
	f.Float64Var(&spec.ClipLinf, "clip-linf", 0, "bound of each value, as rotated; by default 6 / sqrt(values in a block) of --clip-l2, which any vector keeps, and without rotation --clip-l2")
	f.BoolVar(&rotate, "rotate", true, "spread each block of values by a random rotation before they are bounded; by default wherever proofs, rule and noise allow it")
	f.Float64Var(&spec.MaxError, "max-error", 0, "expected error of the mean, as a part of --clip-l2, up to which a round without privacy is opened (0.1)")
	f.StringVar(&spec.Set, "set", "", "parameter set of anchorhold params list (by default "+params.Default+", with --key "+params.Threshold+")")
	f.Uint32Var(&spec.MaxWeight, "max-weight", 0, "largest weight of a contribution (1)")
	f.Uint32Var(&spec.Minimum, "minimum", 0, "smallest cohort that may close (the broker's policy)")
	f.Uint32Var(&spec.Maximum, "maximum", 0, "largest cohort (twice --minimum); fewer leave finer values")
	f.Uint32Var(&spec.PerGuest, "per-guest", 0, "contributions from one processor (1)")
	f.Float64Var(&spec.Epsilon, "epsilon", 0, "privacy of this round alone, to which the noise is calibrated, at the delta of the broker's configuration; between cohorts of which one has "+federation.AdjacencyText)
	f.Float64Var(&spec.Multiplier, "multiplier", 0, "noise in units of the sensitivity, instead of --epsilon")
	f.StringVar(&mechanism, "mechanism", "", "discrete-gaussian, discrete-laplace or none (discrete-gaussian with --epsilon or --multiplier, else none)")
	f.Float64Var(&spec.Share, "share", 0, "further noise that the participants add together, as --multiplier; the epsilon does not count on it")
	f.Float64Var(&spec.Rate, "rate", 0, "chance of a participant to be in a round, for the second epsilon that is reported (1)")
	f.StringVar(&rule, "rule", "", "weighted-mean, trimmed-mean or median (weighted-mean)")
	f.Uint32Var(&spec.Trim, "trim", 0, "values that a trimmed mean drops on each side")
	f.BoolVar(&spec.Recount, "recount", false, "the decrypting guest adds the contributions again, so that the aggregator need not be believed")
	f.StringVar(&key, "key", "", "round whose key agents set up together (fed key open)")
	f.StringSliceVar(&roots, "root", nil, "with --key: the broker's root identity (ahpub1... or a file)")
	f.StringVar(&normKeys, "norm-keys", "", "directory of keys for updates of this length: only updates proven to be inside the bounds are taken")
	f.DurationVar(&spec.Duration, "duration", 0, "how long contributions are taken (1h)")
	f.StringSliceVar(&aggregators, "aggregator", nil, "admin socket of an aggregator (repeat for shards, in their order)")
	return c
}

// normCircuit finds the keys of a directory that prove vectors of a length.
func normCircuit(dir string, length uint64) (*federation.NormCircuit, error) {
	sets, err := keyset.Load(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRefused, err)
	}
	var found []*federation.NormCircuit
	for _, s := range sets {
		if g := s.Record.Gradient; g != nil && uint64(g.Coordinates) == length && s.Record.System == statement.Groth16 {
			found = append(found, &federation.NormCircuit{Circuit: federation.Digest(s.Record.Circuit), VerifyingKey: federation.Digest(s.Record.VerifyingKey), Bits: g.Bits})
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	if len(found) > 1 {
		return nil, fmt.Errorf("%w: %s has keys of 8 and of 16 bits for updates of %d values: name a directory with those that the round is to use", errRefused, dir, length)
	}
	return nil, fmt.Errorf("%w: %s has no keys for updates of %d values: make them with anchorhold proof setup --gradient %d", errRefused, dir, length, length)
}

// roundView is an open round as scripts see it: what was signed, and what follows from it.
type roundView struct {
	federation.Round
	ExpectedError *federation.Accuracy `json:"expected_error,omitempty"`
	Adjacency     string               `json:"adjacency,omitempty"`
	Warning       string               `json:"warning,omitempty"`
}

func printRound(w io.Writer, st rounds.Status) {
	r := st.Round
	each := "each value"
	if r.Rotation != nil {
		each = "each rotated value"
	}
	fmt.Fprintf(w, "round    %s (%s)\nmodel    %s, %d values, set %s\ncohort   %d to %d, %d admitted\nbounds   L2 %g, %s %.4g\n", r.ID, st.State, r.Model, r.Length, r.Set,
		r.Minimum, r.Maximum, len(st.Members), r.ClipL2, each, r.ClipLinf)
	if e := st.ExpectedError; e != nil {
		fmt.Fprintf(w, "error    %.2g of the L2 bound expected in the mean of %d contributions", e.Relative, e.Cohort)
		if r.MaxWeight > 1 {
			fmt.Fprintf(w, " of weight %d; if lighter, %d / their mean weight times as much", r.MaxWeight, r.MaxWeight)
		}
		fmt.Fprintln(w)
	}
	if st.Warning != "" {
		fmt.Fprintf(w, "warning  %s\n", st.Warning)
	}
	if r.Noise.Mechanism == federation.NoNoise {
		fmt.Fprintln(w, "privacy  no noise")
	} else {
		fmt.Fprintf(w, "privacy  %s, multiplier %.4f: epsilon %.4f at delta %g\n         (%s)\n", r.Noise.Mechanism, r.Noise.Multiplier, r.Epsilon, r.Delta, federation.AdjacencyText)
	}
	if n := r.NormCircuit; n != nil {
		fmt.Fprintf(w, "proofs   of a norm up to %.4g, rounding in %d bits included, key %s\n", r.NormBound(), n.Bits, n.VerifyingKey)
	}
	fmt.Fprintf(w, "account  %s\nguests   %s contribute; %s\n", r.Account, audienceText(r.Contributors), decryptorsText(r))
	fmt.Fprintf(w, "closes   %s\n", r.Closes.Time().Format(time.RFC3339))
}

// audienceText is an audience for people.
func audienceText(a protocol.Audience) string {
	if a.Everyone {
		return "all guests with the role"
	}
	var parts []string
	if len(a.Tenants) > 0 {
		parts = append(parts, "of tenant "+strings.Join(a.Tenants, " or "))
	}
	for _, d := range a.Images {
		parts = append(parts, "image "+d.String())
	}
	for _, d := range a.Policies {
		parts = append(parts, "policy "+d.String())
	}
	return "guests " + strings.Join(parts, ", ")
}

func decryptorsText(r federation.Round) string {
	if r.Parties != nil {
		return fmt.Sprintf("%d of %d parties decrypt", r.Parties.Threshold, len(r.Parties.Agents))
	}
	return audienceText(r.Decryptors) + " decrypt"
}

func newRoundStatus(inv *invocation) *cobra.Command {
	return operate(inv, "status [ID]", "Show one round, or all", "  anchorhold fed round status", cobra.MaximumNArgs(1),
		func(ctx context.Context, b *operator.Client, args []string) (any, func(io.Writer), error) {
			if len(args) == 0 {
				list, err := b.Rounds(ctx)
				return list, func(w io.Writer) {
					for _, st := range list {
						fmt.Fprintf(w, "%s  %-10s %-16s %d of %d to %d\n", st.Round.ID, st.State, st.Round.Model, st.Contributors, st.Round.Minimum, st.Round.Maximum)
					}
				}, err
			}
			id, err := parseRound(args[0])
			if err != nil {
				return nil, nil, err
			}
			st, err := b.Round(ctx, id)
			return st, func(w io.Writer) { printRound(w, st) }, err
		})
}

func parseRound(s string) (federation.ID, error) {
	id, err := federation.ParseID(s)
	if err != nil {
		err = usageError{fmt.Errorf("%q is no round: a round's id has 32 hexadecimal digits", s)}
	}
	return id, err
}

func newRoundAbandon(inv *invocation) *cobra.Command {
	return operate(inv, "abandon ID", "End an open round: its key is destroyed, nothing is charged", "  anchorhold fed round abandon 5f2c...", exactly(1, "one round"),
		func(ctx context.Context, b *operator.Client, args []string) (any, func(io.Writer), error) {
			id, err := parseRound(args[0])
			if err != nil {
				return nil, nil, err
			}
			st, err := b.AbandonRound(ctx, id)
			return st, func(w io.Writer) { printRound(w, st) }, err
		})
}

func newFedLedger(inv *invocation) *cobra.Command {
	var sealed string
	c := operate(inv, "ledger [ACCOUNT | --sealed FILE]", "Show what an account's rounds spent of its privacy", "  anchorhold fed ledger\n  anchorhold fed ledger dataset:5f2c...\n  anchorhold fed ledger --sealed digits.ahm", cobra.MaximumNArgs(1),
		func(ctx context.Context, b *operator.Client, args []string) (any, func(io.Writer), error) {
			account := federation.BrokerAccount
			var err error
			switch {
			case len(args) == 1 && sealed != "":
				return nil, nil, usageError{errors.New("an account or --sealed, not both")}
			case sealed != "":
				if _, account, err = sealedPart(sealed); err != nil {
					return nil, nil, err
				}
			case len(args) == 1:
				if account, err = federation.ParseAccount(args[0]); err != nil {
					return nil, nil, usageError{err}
				}
			}
			l, err := b.Ledger(ctx, account)
			return l, func(w io.Writer) {
				fmt.Fprintf(w, "account %s: epsilon %.4f of %g at delta %g (%.4f against who does not see who takes part), %d rounds\n  (%s)\n",
					l.Account, l.Epsilon, l.MaxEpsilon, l.Delta, l.EpsilonWithSampling, len(l.Charges), federation.AdjacencyText)
				for _, ch := range l.Charges {
					fmt.Fprintf(w, "  %s  %s  multiplier %.4f  rate %g\n", ch.Round, ch.Mechanism, ch.Multiplier, ch.Rate)
				}
			}, err
		})
	c.Flags().StringVar(&sealed, "sealed", "", "the account of this sealed model")
	brokerFlag(inv, c)
	return c
}

func newFedSubmit(inv *invocation) *cobra.Command {
	var weight uint32
	var half, strict, wait bool
	c := &cobra.Command{
		Use: "submit ROUND FILE", Short: "Submit a vector of little-endian float32 values through the local agent",
		Long:    "The agent clips, rounds, encrypts and uploads it; only the ciphertext leaves the\nguest. FILE may be - for standard input.",
		Example: "  anchorhold fed submit 5f2c... update.f32 --weight 120 --wait\n  python3 train.py | anchorhold fed submit 5f2c... -",
		Args:    exactly(2, "a round and a file"),
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := parseRound(args[0]); err != nil {
				return err
			}
			in := c.InOrStdin()
			if args[1] != "-" {
				f, err := os.Open(args[1])
				if err != nil {
					return err
				}
				defer f.Close() // read only
				in = f
			}
			media := "application/octet-stream"
			if half {
				media = "application/vnd.anchorhold.float16"
			}
			query := url.Values{"weight": {strconv.FormatUint(uint64(weight), 10)}}
			if strict {
				query.Set("excess", "refuse")
			}
			agent := newAgentClient(inv.agent)
			var info jobs.Info
			if err := agent.post(c.Context(), "/v1/fed/rounds/"+args[0]+"/contributions?"+query.Encode(), media, in, &info); err != nil {
				return err
			}
			return finishJob(c, inv, agent, info, wait)
		},
	}
	c.Flags().Uint32Var(&weight, "weight", 1, "weight, such as the number of examples")
	c.Flags().BoolVar(&half, "f16", false, "the values are float16")
	c.Flags().BoolVar(&strict, "strict", false, "refuse a vector beyond the round's bounds instead of scaling it down and clamping its values")
	c.Flags().BoolVar(&wait, "wait", false, "wait until it is uploaded")
	agentFlag(inv, c)
	return c
}

// finishJob prints a job, after its end where that is wanted.
func finishJob(c *cobra.Command, inv *invocation, agent *agentClient, info jobs.Info, wait bool) (err error) {
	if wait {
		if info, err = waitJob(c.Context(), agent, info.ID.String(), c.ErrOrStderr()); err != nil {
			return err
		}
	}
	return inv.print(c.OutOrStdout(), info, func(w io.Writer) { printJob(w, info) })
}

func newFedDecrypt(inv *invocation) *cobra.Command {
	var wait bool
	c := &cobra.Command{
		Use: "decrypt ROUND", Short: "Have the local agent decrypt a closed round, add its noise and publish",
		Long: `Where parties hold the round's key, as many of their agents as the threshold
decrypt and sign; "awaits_parties" means that more have to, and the last one publishes.`,
		Example: "  anchorhold fed decrypt 5f2c... --wait", Args: exactly(1, "one round"),
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := parseRound(args[0]); err != nil {
				return err
			}
			agent := newAgentClient(inv.agent)
			var info jobs.Info
			if err := agent.post(c.Context(), "/v1/fed/rounds/"+args[0]+"/decrypt", "application/json", nil, &info); err != nil {
				return err
			}
			return finishJob(c, inv, agent, info, wait)
		},
	}
	c.Flags().BoolVar(&wait, "wait", false, "wait until it is published")
	agentFlag(inv, c)
	return c
}

func newFedResult(inv *invocation) *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "result ROUND", Short: "Show a published result, and write its mean as float32 values",
		Example: "  anchorhold fed result 5f2c... --out mean.f32", Args: exactly(1, "one round"),
		RunE: func(c *cobra.Command, args []string) (err error) {
			if _, err := parseRound(args[0]); err != nil {
				return err
			}
			agent := newAgentClient(inv.agent)
			var result map[string]any
			if err := agent.getJSON(c.Context(), "/v1/fed/rounds/"+args[0]+"/result", &result); err != nil {
				return err
			}
			if out != "" {
				resp, err := agent.do(c.Context(), http.MethodGet, "/v1/fed/rounds/"+args[0]+"/result/values", nil)
				if err != nil {
					return err
				}
				defer resp.Body.Close()
				length, ok := result["length"].(float64)
				if !ok {
					return errors.New("the agent's result does not say its length")
				}
				if err := writeStream(out, &exact{from: resp.Body, left: 4 * int64(length)}, 0o644); err != nil {
					return err
				}
			}
			return inv.print(c.OutOrStdout(), result, func(w io.Writer) {
				data, err := json.Marshal(result)
				if err == nil {
					printTree(w, data, "")
				}
			})
		},
	}
	c.Flags().StringVar(&out, "out", "", "new file for the mean, little-endian float32")
	agentFlag(inv, c)
	return c
}
