// Package score has the command "score": it puts every line of a file to the agent, and writes
// what came of each.
//
// The output is append-only, a JSON object a line. Its first line says of which input, model and
// options it is, and nothing else is ever appended to it. A run that was interrupted, killed or cut
// off from its agent is taken up by the same command: a torn last line is removed, and lines that
// have their record are not asked again. One process writes at a time.
//
// Nothing that the agent answers is trusted further than the mode of its socket: with --receipts
// each record has the signed receipt, and the request that it commits to.
package score

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/spf13/cobra"
)

// The words of "score".
const (
	scoreUse   = "score INPUT --out OUTPUT"
	scoreShort = "Put every line of a file to the agent's model: answers, or likelihoods of texts"
	scoreLong  = `Reads INPUT, a JSON object a line, and appends a JSON object for each to OUTPUT, in the order in
which they are done. A line has one of

  "messages"  a conversation, which is answered (/v1/chat/completions)
  "prompt"    a text, which is continued (/v1/completions)
  "text"      a text, of which the likelihood is told

and may have an "id", which its record repeats, and any parameter of the API, which goes before the
flags: "max_tokens", "temperature", "seed", "response_format", "stop", "n", "logprobs" and others.

A record has "line", the number of the line in INPUT from 1, and the agent's "choices" and "usage";
of a text "logprob", the natural logarithm of its probability, and "tokens", the number of tokens in
it. A line that is wrong, or that the agent refuses, has an "error" with a reason and a message
instead, and the exit status is 1. With --strict the first one ends the run, which goes on without
--strict; a corrected INPUT needs another OUTPUT.

As many requests are under way as the agent has places for. If it stops or is restarted, they are
asked again, and if nothing has come back for the time of --patience the run ends ("agent-silent"). So
it does if the agent has had no place for any line for the time of --busy-patience, status 429 again and
again ("agent-busy"). Such a line has no record. Whatever ended a run, the same command takes it up:
no line is lost, and none that has its record is asked again. An OUTPUT of another input, model or
set of flags is refused.

With --receipts each record has the whole signed receipt, and under "request" the bytes that it
commits to, of a text also those under "output": 'anchorhold receipt verify' checks them.

Progress goes to standard error, with --json as one object a line, and a summary with the digests of
INPUT, OUTPUT and model to standard output.`
	scoreExample = `  anchorhold score questions.jsonl --out answers.jsonl --max-tokens 64
  anchorhold score texts.jsonl --out likelihoods.jsonl --receipts
  anchorhold score questions.jsonl --out answers.jsonl --strict --json 2>progress.jsonl
  jq -s 'sort_by(.line)[1:]' answers.jsonl     # in the order of the input, without the first line
  # lines of questions.jsonl:
  #   {"id": 1, "messages": [{"role": "user", "content": "What is the capital of France?"}]}
  #   {"id": 2, "text": "Paris is the capital of France."}`
	scoreNeeds       = "the file whose lines are put to the agent"
	flagOut          = "file of the records: made, or taken up where it is of the same input and flags"
	flagModel        = "model name (default: the agent's first)"
	flagMaxTokens    = "longest answer, in tokens, of lines that do not say it"
	flagTemperature  = "temperature of lines that do not say it; 0 takes the most likely token"
	flagSeed         = "random seed of lines that do not say it"
	flagReceipts     = "write each answer's signed receipt into its record"
	flagStrict       = "end at the first line that is wrong or refused"
	flagParallel     = "most requests under way at a time"
	flagTimeout      = "how long one request may take"
	flagPatience     = "how long nothing may come back before the run ends"
	flagBusyPatience = "how long the agent may have no place for any line before the run ends"
	mistakeParallel  = "--parallel %d is outside 1 to %d"
	mistakePatience  = "--%s %s leaves no time"
	onlyEmbeds       = "the model %q makes embeddings: it answers nothing and finds no text likely; /v1/embeddings has its vectors"
	unknownModel     = "the agent has no model %q; it has %q"
	linesFailed      = "%d of %d lines have an error in place of an answer: %s has the reasons"
	interrupted      = "%w; %d of %d lines are done, and the same command goes on"
	strictEnded      = "%w; %d of %d lines are done: without --strict the same command goes on; a corrected input needs a new --out"
	otherModelServed = "the agent served another model at the end (%s) than at the beginning (%s): which lines are of which only receipts tell"
)

// Reasons of this command.
const (
	reasonLines  = "lines-failed"
	reasonModel  = "model-not-found"
	reasonSilent = "agent-silent"
	reasonEmbeds = "embeddings-only"
	reasonSwap   = "model-changed"

	reasonBusyAgent = "agent-busy"
)

// maxParallel is what an agent lets one user connect by default.
const maxParallel = 224

// options are the flags.
type options struct {
	out         string        // --out
	model       string        // --model
	maxTokens   int           // --max-tokens
	temperature float64       // --temperature
	seed        int64         // --seed
	receipts    bool          // --receipts
	strict      bool          // --strict
	parallel    int           // --parallel
	timeout     time.Duration // --timeout
	patience    time.Duration // --patience

	busyPatience time.Duration // --busy-patience
}

// New is the command "score".
func New(inv *cli.Invocation) *cobra.Command {
	var o options
	c := &cobra.Command{Use: scoreUse, Short: scoreShort, Long: scoreLong, Example: scoreExample, Args: cli.Exactly(1, scoreNeeds), RunE: inv.RunE(o.run, "out")}
	dial.AgentFlag(inv, c)
	f := c.Flags()
	f.StringVarP(&o.out, "out", "o", "", flagOut)
	f.StringVar(&o.model, "model", "", flagModel)
	f.IntVar(&o.maxTokens, "max-tokens", 256, flagMaxTokens)
	f.Float64Var(&o.temperature, "temperature", 0, flagTemperature)
	f.Int64Var(&o.seed, "seed", 0, flagSeed)
	f.BoolVar(&o.receipts, "receipts", false, flagReceipts)
	f.BoolVar(&o.strict, "strict", false, flagStrict)
	f.IntVar(&o.parallel, "parallel", 64, flagParallel)
	f.DurationVar(&o.timeout, "timeout", 10*time.Minute, flagTimeout)
	f.DurationVar(&o.patience, "patience", 10*time.Minute, flagPatience)
	f.DurationVar(&o.busyPatience, "busy-patience", 30*time.Minute, flagBusyPatience)
	return c
}

func (o *options) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	if o.parallel < 1 || o.parallel > maxParallel {
		return cli.Usage(fmt.Errorf(mistakeParallel, o.parallel, maxParallel))
	}
	if o.patience <= 0 {
		return cli.Usage(fmt.Errorf(mistakePatience, "patience", o.patience))
	}
	if o.busyPatience <= 0 {
		return cli.Usage(fmt.Errorf(mistakePatience, "busy-patience", o.busyPatience))
	}
	in, err := openInput(ctx, args[0])
	if err != nil {
		return err
	}
	defer in.close()
	agent := dial.Agent(inv.Agent)
	name, id, err := o.served(ctx, agent)
	if err != nil {
		return err
	}
	if err := o.generates(ctx, agent, name); err != nil {
		return err
	}
	out, err := openOutput(o.out, in.last, header{Format: format, Input: in.digest, Lines: in.lines, Model: name, ModelID: id, Options: o.stated()}, inv.Err)
	if err != nil {
		return err
	}
	r := &runner{options: o, agent: agent, model: name, in: in, out: out, progress: newProgress(inv, in.lines, out.done.count)}
	err = r.run(ctx)
	if err == nil && id != "" {
		if _, last, again := o.served(ctx, agent); again == nil && last != "" && last != id {
			err = cli.Named(reasonSwap, fmt.Errorf(otherModelServed, last, id))
		}
	}
	sum := r.summary(id)
	var sumErr error
	if sum.OutputDigest, sumErr = out.close(); err == nil {
		err = sumErr
	}
	if _, strict := errors.AsType[*stopped](err); strict {
		return fmt.Errorf(strictEnded, err, sum.Done, sum.Lines)
	}
	if err != nil {
		return fmt.Errorf(interrupted, err, sum.Done, sum.Lines)
	}
	if err := inv.Print(sum, sum.text); err != nil {
		return err
	}
	if sum.Failed > 0 {
		return cli.Named(reasonLines, fmt.Errorf(linesFailed, sum.Failed, sum.Lines, o.out))
	}
	return nil
}

// stated are the flags that change what is asked.
func (o *options) stated() flags {
	return flags{MaxTokens: o.maxTokens, Temperature: o.temperature, Seed: o.seed, Receipts: o.receipts}
}

// flags are the part of the options that the output's first line has.
type flags struct {
	MaxTokens   int     `json:"max_tokens"`
	Temperature float64 `json:"temperature"`
	Seed        int64   `json:"seed"`
	Receipts    bool    `json:"receipts"`
}

// served is the model that was named, or the agent's first, and its digest if the agent tells it.
func (o *options) served(ctx context.Context, agent *dial.AgentClient) (name, id string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, min(o.timeout, o.patience), errSilent)
	defer cancel()
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := silent(ctx, agent.GetJSON(ctx, "/v1/models", &list)); err != nil {
		return "", "", err
	}
	var names []string
	for _, m := range list.Data {
		if names = append(names, m.ID); name == "" && (o.model == "" || o.model == m.ID) {
			name = m.ID
		}
	}
	if name == "" {
		return "", "", cli.Named(reasonModel, fmt.Errorf(unknownModel, o.model, names))
	}
	type served struct{ Name, ID string }
	var status struct {
		Model  served
		Models map[string]served // where there are several
	}
	if err := silent(ctx, agent.GetJSON(ctx, "/v1/status", &status)); err != nil {
		return "", "", err
	}
	if status.Model.Name == name {
		return name, status.Model.ID, nil
	}
	return name, status.Models[name].ID, nil
}

// generates refuses an embedding model before any output is made. Whatever else is wrong, the lines'
// own requests tell, and wait for.
func (o *options) generates(ctx context.Context, agent *dial.AgentClient, name string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, min(o.timeout, o.patience), errSilent)
	defer cancel()
	body, err := json.Marshal(map[string]string{"model": name})
	if err != nil {
		return err
	}
	resp, err := agent.Send(ctx, http.MethodPost, "/api/show", body, nil)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	var shown struct{ Capabilities []string }
	if resp.StatusCode != http.StatusOK || json.NewDecoder(io.LimitReader(resp.Body, dial.MaxAnswer)).Decode(&shown) != nil {
		return nil
	}
	if slices.Contains(shown.Capabilities, "embedding") {
		return cli.Named(reasonEmbeds, fmt.Errorf(onlyEmbeds, name))
	}
	return nil
}

// errSilent is why a request was given up.
var errSilent = errors.New("the agent has not answered in time")

// silent says of an error that the agent did not answer, if that is what it is about.
func silent(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errSilent) {
		return cli.Named(reasonSilent, errSilent)
	}
	return err
}

// summary is what a run came to.
type summary struct {
	Model            string  `json:"model"`
	ModelID          string  `json:"model_id,omitempty"`
	InputDigest      string  `json:"input_sha256"`
	OutputDigest     string  `json:"output_sha256"`
	Output           string  `json:"output"`
	Lines            int     `json:"lines"`
	Done             int     `json:"done"`    // with a record, of this run or one before
	Before           int     `json:"before"`  // of runs before
	Failed           int     `json:"failed"`  // whose record is an error
	Retried          int     `json:"retried"` // requests that were asked again
	PromptTokens     int     `json:"prompt_tokens"`
	CompletionTokens int     `json:"completion_tokens"`
	Seconds          float64 `json:"seconds"`
	TokensPerSecond  float64 `json:"tokens_per_second"` // of prompts and answers, this run
}

func (s summary) text(w io.Writer) {
	fmt.Fprintf(w, "%d of %d lines done (%d before this run, %d with an error) in %.1f s\n", s.Done, s.Lines, s.Before, s.Failed, s.Seconds)
	fmt.Fprintf(w, "%d prompt and %d completion tokens, %.0f tokens/s\n", s.PromptTokens, s.CompletionTokens, s.TokensPerSecond)
	fmt.Fprintf(w, "input   sha256 %s\noutput  sha256 %s\nmodel   %s %s\n", s.InputDigest, s.OutputDigest, s.Model, s.ModelID)
}

// record is a line of the output beside the first.
type record struct {
	Line    int             `json:"line"`
	ID      json.RawMessage `json:"id,omitempty"`
	Choices json.RawMessage `json:"choices,omitempty"`
	Logprob *float64        `json:"logprob,omitempty"` // of a text
	Tokens  int             `json:"tokens,omitempty"`  // of a text
	Usage   *usage          `json:"usage,omitempty"`
	Receipt string          `json:"receipt,omitempty"`
	Request string          `json:"request,omitempty"`
	Output  string          `json:"output,omitempty"` // of a text: what the receipt commits to
	Issued  json.RawMessage `json:"issued_receipt,omitempty"`
	Error   *cli.Failure    `json:"error,omitempty"`
}

type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
}
