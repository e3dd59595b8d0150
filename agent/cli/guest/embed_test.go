package guest

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
)

// TestVectorsAreAskedForAndPrinted: of an argument or of lines, with the receipt where it is kept.
func TestVectorsAreAskedForAndPrinted(t *testing.T) {
	const answer = `{"data":[{"embedding":[0.6,-0.8]},{"embedding":[1,0]}],"usage":{"prompt_tokens":7},"receipt":"r1","issued_receipt":{"receipt":1}}`
	server := clitest.Serve(t, map[string]any{"GET /v1/models": `{"data":[{"id":"first"}]}`, "POST /v1/embeddings": answer})
	kept := filepath.Join(t.TempDir(), "receipt.json")
	const lines = "[0.6,-0.8]\n[1,0]\n"
	clitest.Calls(t, map[string]clitest.Call{
		"lines kept": {Run: (&embedOptions{receiptFile: kept}).run, In: strings.NewReader("a text\nanother\n"), Agent: server.Socket, Says: lines},
		"as JSON":    {Run: (&embedOptions{model: "m"}).run, In: strings.NewReader("a\nb"), JSON: true, Agent: server.Socket, Says: `"tokens": 7`},
	})
	clitest.Call{Run: (&embedOptions{}).run, In: strings.NewReader(" one \n\ntwo"), Agent: server.Socket, Says: lines}.Expect(t, "lines")
	var asked struct {
		Model string
		Input []string
	}
	if err := json.Unmarshal([]byte(server.Last().Body), &asked); err != nil || asked.Model != "first" || strings.Join(asked.Input, "|") != "one|two" {
		t.Errorf("asked %+v, %v", asked, err)
	}
	if raw, err := os.ReadFile(kept); err != nil || string(raw) != `{"receipt":1}`+"\n" {
		t.Errorf("the receipt is %q, %v", raw, err)
	}
}

func TestVectorsThatDoNotComeFail(t *testing.T) {
	answers := func(embeddings any) string {
		return clitest.Serve(t, map[string]any{"GET /v1/models": `{"data":[{"id":"m"}]}`, "POST /v1/embeddings": embeddings}).Socket
	}
	run := (&embedOptions{}).run
	one := []string{"a"}
	clitest.Calls(t, map[string]clitest.Call{
		"an argument": {Run: run, Args: one, Agent: answers(`{"data":[{"embedding":[1]}]}`), Says: "[1]\n"},
		"no text":     {Run: run, In: strings.NewReader(" \n"), Status: cli.StatusUsage, Says: "there is no text"},
		"damaged":     {Run: run, Args: one, Agent: answers("{"), Status: cli.StatusFailed, Says: "damaged"},
		"too few":     {Run: run, Args: one, Agent: answers(`{"data":[]}`), Status: cli.StatusFailed, Says: "1 texts with 0 vectors"},
		"refused":     {Run: run, Args: one, Agent: answers(clitest.Refusal{Status: http.StatusBadRequest, Code: "no-embeddings", Message: "words"}), Status: cli.StatusRefused, Reason: "no-embeddings"},
		"no receipt":  {Run: (&embedOptions{receiptFile: filepath.Join(t.TempDir(), "r")}).run, Args: one, Agent: answers(`{"data":[{"embedding":[1]}]}`), Status: cli.StatusFailed, Says: "without its receipt"},
	})
}
