package seal

import (
	"encoding/hex"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/runtime/sealer"
	"github.com/anchorhold/anchorhold/runtime/servable"
)

// TestASealedFileIsInspectedAsFarAsItIsAsked: without a publisher nothing is verified, which is
// said; and a file that is none, or is damaged, or another's, is refused.
func TestASealedFileIsInspectedAsFarAsItIsAsked(t *testing.T) {
	path, root := clitest.SealedModel(t, make([]byte, chunkseal.KeySize))
	dir := t.TempDir()
	text := clitest.Write(t, filepath.Join(dir, "text"), "not sealed")
	wrong := clitest.Write(t, filepath.Join(dir, "wrong.key"), strings.Repeat("x", chunkseal.KeySize))
	right := clitest.Write(t, filepath.Join(dir, "right.key"), string(make([]byte, chunkseal.KeySize)))
	clitest.Calls(t, map[string]clitest.Call{
		"public parts":   {Run: (&inspectOptions{}).run, Args: []string{path}, Says: "name            lm\nversion         1\n"},
		"unverified":     {Run: (&inspectOptions{}).run, Args: []string{path}, Says: "verified        nothing: give --publisher\n"},
		"its id":         {Run: (&inspectOptions{keyFile: right}).run, Args: []string{path}, JSON: true, Says: `"model_id": "` + hex.EncodeToString(root[:])},
		"another key":    {Run: (&inspectOptions{keyFile: wrong}).run, Args: []string{path}, Status: cli.StatusRefused},
		"no key":         {Run: (&inspectOptions{keyFile: text}).run, Args: []string{path}, Status: cli.StatusFailed, Says: "holds 10 bytes and is not a model key"},
		"chunks alone":   {Run: (&inspectOptions{chunks: true}).run, Args: []string{path}, Status: cli.StatusUsage, Says: "--chunks needs --publisher: an unsigned index proves nothing"},
		"a publisher":    {Run: (&inspectOptions{publisher: "none.pub"}).run, Args: []string{path}, Status: cli.StatusFailed, Says: "none.pub"},
		"not sealed":     {Run: (&inspectOptions{}).run, Args: []string{text}, Status: cli.StatusRefused, Reason: "not-a-sealed-file"},
		"not there":      {Run: (&inspectOptions{}).run, Args: []string{text + "x"}, Status: cli.StatusFailed, Says: "no such file"},
		"on a full disk": {Run: (&inspectOptions{}).run, Args: []string{path}, Out: clitest.Full{}, Status: cli.StatusFailed},
	})
}

// TestSealingIsRefusedBeforeAnythingIsWritten: by what is wrong first.
func TestSealingIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	dir := t.TempDir()
	key := clitest.Write(t, filepath.Join(dir, "key"), strings.Repeat("k", chunkseal.KeySize))
	seal := func(change func(*sealOptions)) cli.Run {
		o := &sealOptions{keyFile: key, publisher: filepath.Join(dir, "none.publisher"), opt: sealer.Options{Out: filepath.Join(dir, "out"), Name: "m", Version: 1}}
		change(o)
		return o.run
	}
	clitest.Calls(t, map[string]clitest.Call{
		"a parameter set": {Run: seal(func(o *sealOptions) { o.opt.ParameterSets = []string{"nosuch"} }), Args: []string{"m.gguf"}, Status: cli.StatusUsage, Says: `--parameter-set: "nosuch": unknown parameter set`},
		"no key":          {Run: seal(func(o *sealOptions) { o.keyFile = key + "x" }), Args: []string{"m.gguf"}, Status: cli.StatusFailed, Says: "no such file"},
		"no terminal":     {Run: seal(func(*sealOptions) {}), Args: []string{"m.gguf"}, Status: cli.StatusUsage, Says: "there is no terminal"},
		"check nothing":   {Run: checkFile, Args: []string{filepath.Join(dir, "none.gguf")}, Status: cli.StatusFailed, Says: "no such file"},
		"check no ONNX":   {Run: checkFile, Args: []string{filepath.Join(dir, "none.onnx")}, Status: cli.StatusFailed, Says: "no such file"},
		"check a key":     {Run: checkFile, Args: []string{key}, JSON: true, Status: cli.StatusRefused, Says: `"reason": "model-unsupported"`},
	})
}

// TestAVerdictNamesEachReason, how often it was met, and what of the file is not used.
func TestAVerdictNamesEachReason(t *testing.T) {
	var out strings.Builder
	Verdict{File: "m.gguf", Reason: servable.Reason, Findings: []servable.Finding{{Code: "tensor-type", Name: "blk.0", Detail: "is IQ4", Count: 3}, {Code: "key-value", Name: "scale", Detail: "is 2"}},
		Notes: []servable.Note{{Name: "general.author", Why: "of no effect"}}}.write(&out)
	want := "m.gguf cannot be served (model-unsupported):\n  tensor-type               blk.0 (3 of them): is IQ4\n  key-value                 scale: is 2\n  not used                  general.author: of no effect\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	out.Reset()
	Verdict{File: "m.gguf", Servable: true, Kind: checkKindLanguage, Architecture: "llama", Tensors: 3, Bytes: 2_500_000}.write(&out)
	if want := "m.gguf can be served: language model of the architecture llama, 3 tensors, 2.5 MB\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestSizesOfSmallFilesAreNotZero(t *testing.T) {
	for bytes, want := range map[int64]string{9886: "9.9 kB", 999_999: "1000.0 kB", 100_100_000: "100.1 MB"} {
		if got := size(bytes); got != want {
			t.Errorf("%d bytes are shown as %s, want %s", bytes, got, want)
		}
	}
}
