package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/spf13/cobra"
)

// The words of "embed".
const (
	embedUse   = "embed [TEXT]"
	embedShort = "Ask the agent's embedding model for the vectors of texts"
	embedLong  = `Asks the agent's embedding model for the vector of TEXT, or without it for those of all lines
of standard input. The vectors go to standard output, one JSON array a line, in the order of
the texts. The number of tokens and the id of the receipt go to standard error. With --json the
whole result is one object.`
	embedExample = `  anchorhold embed "a text"
  anchorhold embed --receipt vectors.receipt.json < lines.txt > vectors.jsonl`
	embedTakes     = "one text: put it in quotes, or give several as lines on standard input"
	embedNoText    = "there is no text: give one as an argument, or lines on standard input"
	embedFlag      = "write the signed receipt of the vectors to this new file"
	embedDamaged   = "the agent's answer is damaged: %w"
	embedMissing   = "the agent answered %d texts with %d vectors"
	embedStatistic = "%d tokens; receipt %s\n"
)

// embedOptions are the flags of "embed".
type embedOptions struct {
	model       string // --model
	receiptFile string // --receipt
}

// NewEmbed is the command "embed".
func NewEmbed(inv *cli.Invocation) *cobra.Command {
	var o embedOptions
	c := &cobra.Command{Use: embedUse, Short: embedShort, Long: embedLong, Example: embedExample, Args: cli.AtMostOne(embedTakes), RunE: inv.RunE(o.run)}
	dial.AgentFlag(inv, c)
	c.Flags().StringVar(&o.model, "model", "", chatFlagModel)
	c.Flags().StringVar(&o.receiptFile, "receipt", "", embedFlag)
	return c
}

// embedResult is what `embed --json` prints.
type embedResult struct {
	Model   string            `json:"model"`
	Vectors []json.RawMessage `json:"vectors"`
	Tokens  int               `json:"tokens"`
	Receipt string            `json:"receipt"`
}

func (o *embedOptions) run(ctx context.Context, inv *cli.Invocation, texts []string) error {
	if len(texts) == 0 {
		data, err := io.ReadAll(io.LimitReader(inv.In, 1<<20))
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(data)) {
			if line = strings.TrimSpace(line); line != "" {
				texts = append(texts, line)
			}
		}
	}
	if len(texts) == 0 {
		return cli.Usage(errors.New(embedNoText))
	}
	if o.receiptFile != "" {
		if err := cli.CheckNew(o.receiptFile); err != nil {
			return err // before vectors are made for nothing
		}
	}
	agent := dial.Agent(inv.Agent)
	model, err := chosenModel(ctx, agent, o.model)
	if err != nil {
		return err
	}
	return o.embed(ctx, inv, agent, model, texts)
}

// embed asks, and prints the vectors.
func (o *embedOptions) embed(ctx context.Context, inv *cli.Invocation, agent *dial.AgentClient, model string, texts []string) error {
	resp, err := agent.DoWith(ctx, http.MethodPost, "/v1/embeddings", map[string]any{"model": model, "input": texts}, receiptHeader(o.receiptFile))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Data []struct {
			Embedding json.RawMessage `json:"embedding"`
		} `json:"data"`
		Usage struct {
			Tokens int `json:"prompt_tokens"`
		} `json:"usage"`
		Receipt string          `json:"receipt"`
		Issued  json.RawMessage `json:"issued_receipt"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf(embedDamaged, err)
	}
	if len(answer.Data) != len(texts) {
		return fmt.Errorf(embedMissing, len(texts), len(answer.Data))
	}
	if o.receiptFile != "" {
		if err := saveReceipt(answer.Issued, o.receiptFile); err != nil {
			return err
		}
	}
	result := embedResult{Model: model, Tokens: answer.Usage.Tokens, Receipt: answer.Receipt}
	for _, d := range answer.Data {
		result.Vectors = append(result.Vectors, d.Embedding)
	}
	if inv.AsJSON {
		return inv.Print(result, nil)
	}
	for _, v := range result.Vectors {
		if _, err := fmt.Fprintf(inv.Out, "%s\n", cli.Printable(string(v))); err != nil {
			return err
		}
	}
	fmt.Fprintf(inv.Err, embedStatistic, result.Tokens, result.Receipt)
	return nil
}
