// Package guest has the commands of a client of the local agent: chat, embed, evidence, receipts, jobs
// and status.
package guest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// The words of "chat".
const (
	chatUse   = "chat [QUESTION]"
	chatShort = "Ask the agent's model, and watch the answer stream"
	chatLong  = `Asks the agent's model. Without QUESTION the question is read from standard input. The
answer streams to standard output; written to a file or a pipe it is byte for byte what
'receipt verify --output' takes. Tokens per second and the id of the receipt go to
standard error. With --json the whole result is one object.`
	chatExample = `  anchorhold chat "What is the capital of France?"
  echo "Summarise: ..." | anchorhold chat --max-tokens 200
  anchorhold chat --receipt answer.receipt.json "Hello"`
	chatTakes           = "one question: put it in quotes"
	chatNoQuestion      = "there is no question: give it as an argument, or on standard input"
	chatFlagModel       = "model name (default: the agent's first)"
	chatFlagSystem      = "system message"
	chatFlagMaxTokens   = "longest answer, in tokens"
	chatFlagTemperature = "0 takes the most likely token; higher values vary more"
	chatFlagSeed        = "random seed for temperatures above 0"
	chatFlagReceipt     = "write the answer's signed receipt to this new file"
	chatStatistics      = "%d tokens, first after %.0f ms, then %.0f tokens/s; receipt %s\n"
	chatNoModel         = "the agent serves no model"
	chatStreamDamaged   = "the agent's stream is damaged: %w"
	chatStreamCut       = "the agent ended the stream before its end mark: the answer is incomplete"
	chatNoReceipt       = "the answer came without its receipt: the agent is older than this command"
)

// chatOptions are the flags of "chat".
type chatOptions struct {
	model       string  // --model
	system      string  // --system
	maxTokens   int     // --max-tokens
	temperature float64 // --temperature
	seed        int64   // --seed
	receiptFile string  // --receipt
}

// New are the commands of a client of the agent, beside those of secrets.
func New(inv *cli.Invocation) []*cobra.Command {
	return []*cobra.Command{NewEvidence(inv), NewReceipt(inv), NewStatus(inv), NewChat(inv), NewEmbed(inv), NewJobs(inv)}
}

// NewChat is the command "chat".
func NewChat(inv *cli.Invocation) *cobra.Command {
	var o chatOptions
	c := &cobra.Command{
		Use:     chatUse,
		Short:   chatShort,
		Long:    chatLong,
		Example: chatExample,
		Args:    cli.AtMostOne(chatTakes),
		RunE:    inv.RunE(o.run),
	}
	dial.AgentFlag(inv, c)
	c.Flags().StringVar(&o.model, "model", "", chatFlagModel)
	c.Flags().StringVar(&o.system, "system", "", chatFlagSystem)
	c.Flags().IntVar(&o.maxTokens, "max-tokens", 256, chatFlagMaxTokens)
	c.Flags().Float64Var(&o.temperature, "temperature", 0, chatFlagTemperature)
	c.Flags().Int64Var(&o.seed, "seed", 0, chatFlagSeed)
	c.Flags().StringVar(&o.receiptFile, "receipt", "", chatFlagReceipt)
	return c
}

func (o *chatOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	question := strings.Join(args, " ")
	if len(args) == 0 {
		data, err := io.ReadAll(io.LimitReader(inv.In, 1<<20))
		if err != nil {
			return err
		}
		question = strings.TrimSpace(string(data))
	}
	if question == "" {
		return cli.Usage(errors.New(chatNoQuestion))
	}
	return o.chat(ctx, inv, question)
}

// chatResult is what `chat --json` prints.
type chatResult struct {
	Model            string  `json:"model"`
	Answer           string  `json:"answer"`
	FinishReason     string  `json:"finish_reason"`
	PromptTokens     int     `json:"prompt_tokens"`
	CompletionTokens int     `json:"completion_tokens"`
	FirstTokenMS     float64 `json:"first_token_ms"`
	TokensPerSecond  float64 `json:"tokens_per_second"`
	Receipt          string  `json:"receipt"`
	issued           json.RawMessage
}

// chat asks, and shows the answer while it comes.
func (o *chatOptions) chat(ctx context.Context, inv *cli.Invocation, question string) error {
	if o.receiptFile != "" {
		if err := cli.CheckNew(o.receiptFile); err != nil {
			return err // before an answer is made for nothing
		}
	}
	agent := dial.Agent(inv.Agent)
	model, err := chosenModel(ctx, agent, o.model)
	if err != nil {
		return err
	}
	var messages []map[string]string
	if o.system != "" {
		messages = append(messages, map[string]string{"role": "system", "content": o.system})
	}
	messages = append(messages, map[string]string{"role": "user", "content": question})
	began := time.Now()
	resp, err := agent.DoWith(ctx, http.MethodPost, "/v1/chat/completions", map[string]any{
		"model": model, "messages": messages, "max_tokens": o.maxTokens, "temperature": o.temperature,
		"seed": o.seed, "stream": true, "stream_options": map[string]bool{"include_usage": true},
	}, receiptHeader(o.receiptFile))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	f, isFile := inv.Out.(*os.File)
	onTerminal := isFile && term.IsTerminal(int(f.Fd()))
	echo := inv.Out
	switch {
	case inv.AsJSON:
		echo = io.Discard
	case onTerminal:
		echo = &cli.PrintableWriter{To: inv.Out} // a model's answer moves no cursor
	}
	result, err := readStream(resp.Body, echo, began)
	if err != nil {
		return err
	}
	result.Model = model
	if result.Receipt == "" {
		result.Receipt = resp.Header.Get("X-Anchorhold-Receipt")
	}
	if o.receiptFile != "" {
		if err := saveReceipt(result.issued, o.receiptFile); err != nil {
			return err
		}
	}
	if inv.AsJSON {
		return inv.Print(result, nil)
	}
	if onTerminal {
		fmt.Fprintln(inv.Out) // elsewhere the bytes are the receipt's, no more
	}
	fmt.Fprintf(inv.Err, chatStatistics,
		result.CompletionTokens, result.FirstTokenMS, result.TokensPerSecond, result.Receipt)
	return nil
}

// receiptHeader asks for the whole receipt if there is a file for it.
func receiptHeader(file string) http.Header {
	header := http.Header{}
	if file != "" {
		header.Set("Anchorhold-Receipt", "full")
	}
	return header
}

// chosenModel is the model that was named, or the agent's first.
func chosenModel(ctx context.Context, agent *dial.AgentClient, name string) (string, error) {
	if name != "" {
		return name, nil
	}
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := agent.GetJSON(ctx, "/v1/models", &list); err != nil {
		return "", err
	}
	if len(list.Data) == 0 {
		return "", errors.New(chatNoModel)
	}
	return list.Data[0].ID, nil
}

// streamChunk is one server-sent event of a streamed chat.
type streamChunk struct {
	Choices []struct {
		Delta struct {
			Content string `json:"content"`
		} `json:"delta"`
		FinishReason string `json:"finish_reason"`
	} `json:"choices"`
	Usage *struct {
		PromptTokens     int `json:"prompt_tokens"`
		CompletionTokens int `json:"completion_tokens"`
	} `json:"usage"`
	Receipt string          `json:"receipt"`
	Issued  json.RawMessage `json:"issued_receipt"`
	Error   *struct {
		Message string `json:"message"`
		Code    string `json:"code"`
	} `json:"error"`
}

// readStream reads server-sent events to their end mark; a stream that ends
// without it is an error, not a short answer. Times count from began.
func readStream(body io.Reader, echo io.Writer, began time.Time) (chatResult, error) {
	var result chatResult
	var first, last time.Time
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 64<<10), 1<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if data == "[DONE]" {
			if n := result.CompletionTokens; n > 1 && last.After(first) {
				result.TokensPerSecond = float64(n-1) / last.Sub(first).Seconds()
			}
			result.FirstTokenMS = float64(first.Sub(began).Microseconds()) / 1000
			return result, nil
		}
		var chunk streamChunk
		if err := json.Unmarshal([]byte(data), &chunk); err != nil {
			return result, fmt.Errorf(chatStreamDamaged, err)
		}
		if chunk.Error != nil {
			return result, dial.Refused(chunk.Error.Message, chunk.Error.Code)
		}
		for _, choice := range chunk.Choices {
			if text := choice.Delta.Content; text != "" {
				last = time.Now()
				if first.IsZero() {
					first = last
				}
				result.Answer += text
				if _, err := io.WriteString(echo, text); err != nil {
					return result, err
				}
			}
			if choice.FinishReason != "" {
				result.FinishReason = choice.FinishReason
			}
		}
		if chunk.Usage != nil {
			result.PromptTokens, result.CompletionTokens = chunk.Usage.PromptTokens, chunk.Usage.CompletionTokens
		}
		if chunk.Receipt != "" {
			result.Receipt, result.issued = chunk.Receipt, chunk.Issued
		}
	}
	if err := lines.Err(); err != nil {
		return result, err
	}
	return result, errors.New(chatStreamCut)
}

// saveReceipt writes a receipt as it came with the answer: the agent may have forgotten it
// a moment later.
func saveReceipt(receipt json.RawMessage, path string) error {
	if len(receipt) == 0 {
		return errors.New(chatNoReceipt)
	}
	return cli.WriteNew(path, append(receipt, '\n'), 0o600)
}
