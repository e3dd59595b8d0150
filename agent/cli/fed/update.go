package fed

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/textproto"
	"net/url"
	"os"
	"strconv"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/spf13/cobra"
)

// updateAnswer is what the agent says of an update that it took.
type updateAnswer struct {
	Object string `json:"object"`
	Round  string `json:"round"`
	Steps  []struct {
		Step   string          `json:"step"`
		State  string          `json:"state"`
		Millis int64           `json:"ms"`
		Detail json.RawMessage `json:"detail,omitempty"`
	} `json:"steps"`
	Answer json.RawMessage `json:"answer"`
	Proofs []struct {
		Receipt string `json:"receipt"`
		Job     string `json:"job"`
	} `json:"proofs"`
	Job jobs.Info `json:"job"`
}

func newFedUpdate(inv *cli.Invocation) *cobra.Command {
	var weight uint32
	var half, strict, wait bool
	var model, inputs string
	c := &cobra.Command{
		Use: "update ROUND FILE --model NAME --inputs REQUEST", Short: "Have a classifier answer, and send the answers' proofs and a vector together",
		Long: `One request does all of a federated update: a session with the aggregators, the agent's
attested key, the answers of a classifier with their receipts, their proofs, and the
vector, encrypted. The proofs are made while the vector is encrypted; the contribution
leaves once they are made, and names the answers. Each step that fails has a reason of its
own: update-session-failed, update-attestation-failed, update-inference-failed,
update-proof-failed, update-gradient-failed, update-send-failed.

REQUEST is a file with a request of the Open Inference Protocol in JSON, FILE one of
little-endian float32 values, as in fed submit. FILE may be - for standard input.`,
		Example: "  anchorhold fed update 5f2c... update.f32 --model digits --inputs request.json --wait\n  anchorhold fed update 5f2c... update.f32 --model digits --inputs request.json --strict --json",
		Args:    cli.Exactly(2, "a round and a file"),
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := dial.Round(args[0]); err != nil {
				return err
			}
			if err := cli.Need(c, "model", "inputs"); err != nil {
				return err
			}
			request, err := os.ReadFile(inputs)
			if err != nil {
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
			query := url.Values{"model": {model}, "weight": {strconv.FormatUint(uint64(weight), 10)}}
			if strict {
				query.Set("excess", "refuse")
			}
			agent := dial.Agent(inv.Agent)
			answer, err := postUpdate(c.Context(), agent, "/v1/fed/rounds/"+args[0]+"/updates?"+query.Encode(), request, media, in)
			if err != nil {
				return err
			}
			if wait {
				if answer.Job, err = dial.WaitJob(c.Context(), agent, answer.Job.ID.String(), c.ErrOrStderr()); err != nil {
					return err
				}
			}
			return inv.Print(c.OutOrStdout(), answer, func(w io.Writer) { printUpdate(w, answer) })
		},
	}
	f := c.Flags()
	f.StringVar(&model, "model", "", "classifier that answers (fed submit sends a vector alone)")
	f.StringVar(&inputs, "inputs", "", "file with what it is asked")
	f.Uint32Var(&weight, "weight", 1, "weight, such as the number of examples")
	f.BoolVar(&half, "f16", false, "the values are float16")
	f.BoolVar(&strict, "strict", false, "refuse a vector beyond the norm bound instead of scaling it down")
	f.BoolVar(&wait, "wait", false, "wait until proofs and vector are sent")
	dial.AgentFlag(inv, c)
	return c
}

func printUpdate(w io.Writer, a updateAnswer) {
	for _, s := range a.Steps {
		fmt.Fprintf(w, "%-12s %-7s", s.Step, s.State)
		if s.State == "done" {
			fmt.Fprintf(w, " %d ms", s.Millis)
		}
		fmt.Fprintln(w)
	}
	for _, p := range a.Proofs {
		fmt.Fprintf(w, "receipt      %s, proven by job %s\n", p.Receipt, p.Job)
	}
	fmt.Fprintln(w)
	dial.PrintJob(w, a.Job)
}

// postUpdate sends both parts. The agent reads to the end of the body, or its own bound,
// before it refuses, so that the answer can be read.
func postUpdate(ctx context.Context, agent *dial.AgentClient, path string, request []byte, media string, vector io.Reader) (answer updateAnswer, err error) {
	r, w := io.Pipe()
	form := multipart.NewWriter(w)
	go func() {
		part := func(name, media string) (io.Writer, error) {
			return form.CreatePart(textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf("form-data; name=%q", name)}, "Content-Type": {media}})
		}
		p, err := part("inference", "application/json")
		if err == nil {
			_, err = p.Write(request)
		}
		if err == nil {
			p, err = part("vector", media)
		}
		if err == nil {
			_, err = io.Copy(p, vector)
		}
		if err == nil {
			err = form.Close()
		}
		w.CloseWithError(err)
	}()
	defer r.Close() // ends the goroutine if the body was not read
	return answer, agent.Post(ctx, path, form.FormDataContentType(), r, &answer)
}
