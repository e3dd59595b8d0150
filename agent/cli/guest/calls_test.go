package guest

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// stream is an answer of two pieces, with its usage and receipt.
const stream = `: a comment
data: {"choices":[{"delta":{"content":"Par"}}]}

data: {"choices":[{"delta":{"content":"is."},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":2}}

data: {"receipt":"r1","issued_receipt":{"receipt":1}}

data: [DONE]
`

// TestAChatIsAskedAsItsOptionsSay: model, messages and sampling arrive, and the receipt is asked
// for whole only where it is kept.
func TestAChatIsAskedAsItsOptionsSay(t *testing.T) {
	server := clitest.Serve(t, map[string]any{"GET /v1/models": `{"data":[{"id":"first"},{"id":"second"}]}`, "POST /v1/chat/completions": stream})
	kept := filepath.Join(t.TempDir(), "receipt.json")
	clitest.Calls(t, map[string]clitest.Call{
		"the first model": {Run: (&chatOptions{maxTokens: 7}).run, Args: []string{"where?"}, Agent: server.Socket, Says: "Paris."},
		"from a pipe":     {Run: (&chatOptions{}).run, In: strings.NewReader("  where?\n"), Agent: server.Socket, Says: "Paris."},
	})
	out := clitest.Call{Run: (&chatOptions{model: "second", system: "be brief", temperature: 0.5, seed: 9, maxTokens: 3, receiptFile: kept}).run, Args: []string{"where?"}, JSON: true,
		Agent: server.Socket, Says: `"finish_reason": "stop"`}.Expect(t, "as JSON")
	var said chatResult
	if err := json.Unmarshal([]byte(out), &said); err != nil || said.Model != "second" || said.Answer != "Paris." || said.PromptTokens != 5 || said.CompletionTokens != 2 || said.Receipt != "r1" {
		t.Errorf("%+v, %v", said, err)
	}
	if raw, err := os.ReadFile(kept); err != nil || string(raw) != `{"receipt":1}`+"\n" {
		t.Errorf("the receipt is %q, %v", raw, err)
	}
	var asked struct {
		Model       string
		Messages    []struct{ Role, Content string }
		MaxTokens   int `json:"max_tokens"`
		Temperature float64
		Seed        int64
		Stream      bool
	}
	if err := json.Unmarshal([]byte(server.Last().Body), &asked); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%+v", asked); got != "{Model:second Messages:[{Role:system Content:be brief} {Role:user Content:where?}] MaxTokens:3 Temperature:0.5 Seed:9 Stream:true}" {
		t.Errorf("asked %s", got)
	}
}

// TestAnAnswerThatIsNotWholeFails: it is an error and no short answer.
func TestAnAnswerThatIsNotWholeFails(t *testing.T) {
	const piece = `data: {"choices":[{"delta":{"content":"Par"}}]}` + "\n\n"
	answers := func(models, chat any) string {
		return clitest.Serve(t, map[string]any{"GET /v1/models": models, "POST /v1/chat/completions": chat}).Socket
	}
	const one = `{"data":[{"id":"m"}]}`
	run := (&chatOptions{}).run
	receipt := filepath.Join(t.TempDir(), "receipt.json")
	clitest.Calls(t, map[string]clitest.Call{
		"cut off":           {Run: run, Args: []string{"q"}, Agent: answers(one, piece), Status: cli.StatusFailed, Says: "before its end mark: the answer is incomplete"},
		"damaged":           {Run: run, Args: []string{"q"}, Agent: answers(one, piece+"data: {\n"), Status: cli.StatusFailed, Says: "the agent's stream is damaged"},
		"an error in it":    {Run: run, Args: []string{"q"}, Agent: answers(one, piece+`data: {"error":{"message":"no time","code":"timeout"}}`+"\n"), Status: cli.StatusRefused, Reason: "timeout", Says: "no time"},
		"refused":           {Run: run, Args: []string{"q"}, Agent: answers(one, clitest.Refusal{Status: http.StatusTooManyRequests, Code: "busy", Message: "later"}), Status: cli.StatusRefused, Reason: "busy"},
		"no model":          {Run: run, Args: []string{"q"}, Agent: answers(`{"data":[]}`, stream), Status: cli.StatusFailed, Says: "the agent serves no model"},
		"no question":       {Run: run, In: strings.NewReader(" \n"), Status: cli.StatusUsage, Says: "there is no question"},
		"no receipt":        {Run: (&chatOptions{receiptFile: receipt}).run, Args: []string{"q"}, Agent: answers(one, piece+"data: [DONE]\n"), Status: cli.StatusFailed, Says: "came without its receipt"},
		"a receipt's place": {Run: (&chatOptions{receiptFile: filepath.Join(receipt, "x")}).run, Args: []string{"q"}, Agent: "nobody is asked", Status: cli.StatusFailed, Says: "does not exist"},
		"a full disk":       {Run: run, Args: []string{"q"}, Agent: answers(one, stream), Out: clitest.Full{}, Status: cli.StatusFailed, Says: io.ErrShortWrite.Error()},
		"interrupted":       {Run: run, Args: []string{"q"}, Agent: answers(one, stream), Cancelled: true, Status: cli.StatusFailed, Reason: "interrupted"},
	})
}

// TestEvidenceIsReadAsItSays: over the nonce that was asked for, and of a kind that is known.
func TestEvidenceIsReadAsItSays(t *testing.T) {
	report := make([]byte, 0x4a0)
	copy(report[0x50:], strings.Repeat("d", 64))
	copy(report[0x90:], strings.Repeat("m", 48))
	answer := func(report []byte, data string) string {
		envelope, err := evidence.Envelope{Kind: evidence.KindSNP, Parts: []evidence.Part{{Type: evidence.PartSNPReport, Data: report}}}.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return clitest.Serve(t, map[string]any{"GET /v1/attestation": map[string]string{"nonce": "00", "agent_key_id": "3c9d", "report_data": data, "evidence": base64.StdEncoding.EncodeToString(envelope)}}).Socket
	}
	data := hex.EncodeToString([]byte(strings.Repeat("d", 64)))
	good := answer(report, data)
	kept := filepath.Join(t.TempDir(), "evidence.bin")
	clitest.Calls(t, map[string]clitest.Call{
		"as text":     {Run: (&evidenceOptions{nonce: "00"}).run, Agent: good, Says: "measurement_sha384   sha384:" + strings.Repeat("6d", 48)},
		"as JSON":     {Run: (&evidenceOptions{nonce: "00", out: kept}).run, Agent: good, JSON: true, Says: `"report_bytes": 1184`},
		"other data":  {Run: (&evidenceOptions{nonce: "00"}).run, Agent: answer(report, strings.Repeat("0", 128)), Status: cli.StatusRefused, Says: "the report covers other data than the agent says"},
		"short":       {Run: (&evidenceOptions{nonce: "00"}).run, Agent: answer(report[:64], data), Status: cli.StatusRefused, Says: "with a report of 64 bytes"},
		"no evidence": {Run: (&evidenceOptions{nonce: "00"}).run, Agent: clitest.Serve(t, map[string]any{"GET /v1/attestation": "{}"}).Socket, Status: cli.StatusRefused},
		"refused":     {Run: (&evidenceOptions{nonce: "00"}).run, Agent: clitest.Serve(t, nil).Socket, Status: cli.StatusRefused, Reason: "not-now"},
		"a file":      {Run: (&evidenceOptions{nonce: "00", out: filepath.Join(kept, "x")}).run, Agent: good, Status: cli.StatusFailed, Says: filepath.Dir(kept)},
	})
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
	// Without a nonce each question has one of its own.
	server := clitest.Serve(t, nil)
	for range 2 {
		clitest.Call{Run: (&evidenceOptions{}).run, Agent: server.Socket, Status: cli.StatusRefused}.Expect(t, "a random nonce")
	}
	asked := server.Asked()
	if first, _ := strings.CutPrefix(asked[0].Line, "GET /v1/attestation?nonce="); len(first) != 64 || asked[0] == asked[1] {
		t.Errorf("asked %q", asked)
	}
}

// TestJobsAreAskedForByVerb: the method and the path decide, and an answer that was refused is.
func TestJobsAreAskedForByVerb(t *testing.T) {
	id := strings.Repeat("5f", 32)
	job := `{"id":"` + id + `","class":"fed-submit","state":"dead","tries":3,"reason":"a-code","detail":"it broke"}`
	server := clitest.Serve(t, map[string]any{
		"GET /v1/jobs":                   `{"data":[` + job + `]}`,
		"GET /v1/jobs/" + id:             job,
		"POST /v1/jobs/" + id + "/retry": job,
	})
	show, cancel, retry := jobOptions{http.MethodGet, ""}, jobOptions{http.MethodDelete, ""}, jobOptions{http.MethodPost, "/retry"}
	clitest.Calls(t, map[string]clitest.Call{
		"list":        {Run: runJobsList, Agent: server.Socket, Says: id + "  fed-submit      dead      try 3"},
		"list JSON":   {Run: runJobsList, Agent: server.Socket, JSON: true, Says: `"state": "dead"`},
		"show":        {Run: show.run, Args: []string{id}, Agent: server.Socket, Says: "state    dead, try 3"},
		"show JSON":   {Run: show.run, Args: []string{id}, Agent: server.Socket, JSON: true, Says: `"reason": "a-code"`},
		"retry":       {Run: retry.run, Args: []string{id}, Agent: server.Socket, Says: "a-code: it broke"},
		"cancel":      {Run: cancel.run, Args: []string{id}, Agent: server.Socket, Status: cli.StatusRefused, Reason: "not-now", Says: "DELETE /v1/jobs/" + id},
		"interrupted": {Run: runJobsList, Agent: server.Socket, Cancelled: true, Status: cli.StatusFailed, Reason: "interrupted"},
		"full disk":   {Run: runJobsList, Agent: server.Socket, Out: clitest.Full{}, Status: cli.StatusFailed, Says: io.ErrShortWrite.Error()},
	})
}

// TestStatusShowsWhicheverDaemonIsHere: one of them is enough, and none is an error of both.
func TestStatusShowsWhicheverDaemonIsHere(t *testing.T) {
	both := clitest.Serve(t, map[string]any{"GET /v1/status": `{"lease":"0a58","nested":{"n":1},"list":[1,2]}`}).Socket
	refusing, none := clitest.Serve(t, nil).Socket, filepath.Join(t.TempDir(), "none.sock")
	clitest.Calls(t, map[string]clitest.Call{
		"both":             {Run: runStatus, Agent: both, Broker: both, Says: "broker:\n"},
		"a tree":           {Run: runStatus, Agent: both, Broker: none, Says: "agent:\n  lease              0a58\n  list               2\n  nested:\n    n                  1\n", Silent: "broker"},
		"the broker alone": {Run: runStatus, Agent: none, Broker: both, Says: "broker:\n  address "},
		"one refuses":      {Run: runStatus, Agent: both, Broker: refusing, Says: "broker: refused: not-now"},
		"as JSON":          {Run: runStatus, Agent: both, Broker: none, JSON: true, Says: `"lease": "0a58"`},
		"neither":          {Run: runStatus, Agent: none, Broker: none, Status: cli.StatusFailed, Reason: "agent-unreachable", Says: "no operator socket at " + none},
		"full disk":        {Run: runStatus, Agent: both, Broker: none, Out: clitest.Full{}, Status: cli.StatusFailed, Says: io.ErrShortWrite.Error()},
	})
}

// TestAReceiptIsFetchedAsItIs, and its file is judged before anything is verified.
func TestAReceiptIsFetchedAsItIs(t *testing.T) {
	id := strings.Repeat("5f", 16)
	server := clitest.Serve(t, map[string]any{"GET /v1/receipts/" + id: `{"receipt": {}}`})
	text := clitest.Write(t, filepath.Join(t.TempDir(), "text"), "no receipt")
	root := "ahpub1none"
	clitest.Calls(t, map[string]clitest.Call{
		"fetched":   {Run: runReceiptGet, Args: []string{id}, Agent: server.Socket, Says: `{"receipt": {}}`},
		"forgotten": {Run: runReceiptGet, Args: []string{strings.Repeat("00", 16)}, Agent: server.Socket, Status: cli.StatusRefused, Reason: "not-now"},
		"no id":     {Run: runReceiptGet, Args: []string{"../status"}, Agent: server.Socket, Status: cli.StatusUsage},
		"full disk": {Run: runReceiptGet, Args: []string{id}, Agent: server.Socket, Out: clitest.Full{}, Status: cli.StatusFailed},
		"no root":   {Run: (&receiptVerifyOptions{}).run, Args: []string{text}, Status: cli.StatusUsage, Says: "--root is required: the broker's root identity"},
		"bad root":  {Run: (&receiptVerifyOptions{roots: []string{root}}).run, Args: []string{text}, Status: cli.StatusFailed, Says: root},
	})
}
