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

// The words of "update".
const (
	updateUse   = "update ROUND FILE --model NAME --inputs REQUEST"
	updateShort = "Have a classifier answer, and send the answers' proofs together with a vector"
	updateLong  = `One request makes a whole federated update: a session with the aggregators, the agent's
attested key, a classifier's answers with their receipts, their proofs, and the
encrypted vector. The proofs are made while the vector is encrypted; the contribution
leaves once they are made, and names the answers. Each step that fails has its own
reason: update-session-failed, update-attestation-failed, update-inference-failed,
update-proof-failed, update-gradient-failed, update-send-failed.

REQUEST is a file with a JSON request of the Open Inference Protocol; FILE holds
little-endian float32 values, as in fed submit, or is - for standard input.`
	updateExample    = "  anchorhold fed update 5f2c... update.f32 --model digits --inputs request.json --wait\n  anchorhold fed update 5f2c... update.f32 --model digits --inputs request.json --strict --json"
	updateNeeds      = "a round and a file"
	updateFlagModel  = "classifier that answers (fed submit sends a vector alone)"
	updateFlagInputs = "file with the request"
	updateFlagWeight = "weight, such as the number of examples"
	updateFlagF16    = "the values are float16"
	updateFlagStrict = "refuse a vector beyond the norm bound, instead of scaling it down"
	updateFlagWait   = "wait until proofs and vector are sent"
)

// The words of an update as it is shown.
const (
	updateStepTime = " %d ms"
	updateProof    = "receipt      %s, proven by job %s\n"
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

// updateOptions are the flags of "update".
type updateOptions struct {
	weight uint32 // --weight
	half   bool   // --f16
	strict bool   // --strict
	wait   bool   // --wait
	model  string // --model
	inputs string // --inputs
}

func newFedUpdate(inv *cli.Invocation) *cobra.Command {
	var o updateOptions
	c := &cobra.Command{
		Use: updateUse, Short: updateShort,
		Long:    updateLong,
		Example: updateExample,
		Args:    cli.Exactly(2, updateNeeds),
		RunE:    inv.RunE(o.run, "model", "inputs"),
	}
	f := c.Flags()
	f.StringVar(&o.model, "model", "", updateFlagModel)
	f.StringVar(&o.inputs, "inputs", "", updateFlagInputs)
	f.Uint32Var(&o.weight, "weight", 1, updateFlagWeight)
	f.BoolVar(&o.half, "f16", false, updateFlagF16)
	f.BoolVar(&o.strict, "strict", false, updateFlagStrict)
	f.BoolVar(&o.wait, "wait", false, updateFlagWait)
	dial.AgentFlag(inv, c)
	return c
}

func (o *updateOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	if _, err := dial.Round(args[0]); err != nil {
		return err
	}
	request, err := os.ReadFile(o.inputs)
	if err != nil {
		return err
	}
	in := inv.In
	if args[1] != "-" {
		f, err := os.Open(args[1])
		if err != nil {
			return err
		}
		defer f.Close() // read only
		in = f
	}
	media := "application/octet-stream"
	if o.half {
		media = "application/vnd.anchorhold.float16"
	}
	query := url.Values{"model": {o.model}, "weight": {strconv.FormatUint(uint64(o.weight), 10)}}
	if o.strict {
		query.Set("excess", "refuse")
	}
	agent := dial.Agent(inv.Agent)
	answer, err := postUpdate(ctx, agent, "/v1/fed/rounds/"+args[0]+"/updates?"+query.Encode(), request, media, in)
	if err != nil {
		return err
	}
	if o.wait {
		if answer.Job, err = dial.WaitJob(ctx, agent, answer.Job.ID.String(), inv.Err); err != nil {
			return err
		}
	}
	return inv.Print(answer, func(w io.Writer) { printUpdate(w, answer) })
}

func printUpdate(w io.Writer, a updateAnswer) {
	for _, s := range a.Steps {
		fmt.Fprintf(w, "%-12s %-7s", s.Step, s.State)
		if s.State == "done" {
			fmt.Fprintf(w, updateStepTime, s.Millis)
		}
		fmt.Fprintln(w)
	}
	for _, p := range a.Proofs {
		fmt.Fprintf(w, updateProof, p.Receipt, p.Job)
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
