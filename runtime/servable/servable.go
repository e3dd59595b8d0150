// Package servable decides whether the engine can serve a GGUF model exactly as its file means,
// and names everything that speaks against it.
//
// In a file without findings, the engine ignores no tensor, no metadata key that changes the
// result, no tokenizer and no template: each is used, is known to change nothing, or is a
// [Finding]. Whatever the package does not know is a finding. It trusts nothing in the file beyond
// the checks of package gguf. docs/models.md lists how it treats every key.
//
// The sealer calls it before a model is sealed, and the inference engine calls it when one is
// opened, since an older sealer may have accepted more.
package servable

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/model"
	"github.com/anchorhold/anchorhold/runtime/tokenize"
)

// Reason is the reason code of a model that cannot be served.
const Reason = "model-unsupported"

// Code is the kind of a finding. Codes are stable.
type Code string

// The codes of findings.
const (
	CodeFormat       Code = "file-format"              // no GGUF file of a known version, or a damaged one
	CodeArchitecture Code = "architecture-unsupported" // the engine computes another one
	CodeKeyUnknown   Code = "key-unknown"              // a key that may change the result, and nobody here knows how
	CodeKeyValue     Code = "key-value"                // a key whose value the engine does not honour
	CodeKeyMissing   Code = "key-missing"              // the file does not say what the engine must know
	CodeTensor       Code = "tensor-unknown"           // a tensor that takes no part in the forward pass
	CodeTensorGone   Code = "tensor-missing"           // one that the forward pass needs
	CodeTensorShape  Code = "tensor-shape"             // one of another shape than the header says
	CodeTensorType   Code = "tensor-type"              // one in a type that the engine does not compute with
	CodeTensorValue  Code = "tensor-value"             // one that holds values that are no finite numbers
	CodeTokenizer    Code = "tokenizer-unsupported"    // text would become other tokens
	CodeTemplate     Code = "template-unsupported"     // conversations would become other prompts
	CodeClassifier   Code = "classifier-unsupported"   // an ONNX file that is no classifier of a known kind
)

// Finding is one reason against serving a model.
type Finding struct {
	Code Code `json:"code"`
	// Name is the key or tensor; for the same tensor in several blocks, with * in place of the
	// number.
	Name string `json:"name"`
	// Count is the number of tensors that the name stands for.
	Count int `json:"count,omitempty"`
	// Detail is a sentence for people: what was found, and what is possible.
	Detail string `json:"detail"`
}

// String is the finding in one line.
func (f Finding) String() string {
	if f.Count > 1 {
		return fmt.Sprintf("%s: %s (%d of them): %s", f.Code, f.Name, f.Count, f.Detail)
	}
	return fmt.Sprintf("%s: %s: %s", f.Code, f.Name, f.Detail)
}

// Note is a part of the file that is not used, and why that does not change the model.
type Note struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// Error refuses a model, with all findings.
type Error struct{ Findings []Finding }

// shown is how many findings an error's text spells out.
const shown = 8

// Error names the findings.
func (e *Error) Error() string {
	lines := make([]string, 0, shown+1)
	for i, f := range e.Findings {
		if i == shown {
			lines = append(lines, fmt.Sprintf("and %d more", len(e.Findings)-shown))
			break
		}
		lines = append(lines, f.String())
	}
	return Reason + ": this model cannot be served exactly as its file specifies: " + strings.Join(lines, "; ")
}

// Refuse returns an *Error with these findings, or nil if there are none.
func Refuse(findings []Finding) error {
	if len(findings) == 0 {
		return nil
	}
	return &Error{findings}
}

// Report is everything found in a file.
type Report struct {
	Findings []Finding
	Notes    []Note
}

// Check checks everything in a header.
func Check(f *gguf.File) Report {
	r := header(f)
	_, _, findings := Text(f)
	r.Findings = append(r.Findings, findings...)
	return r
}

// Header checks keys and tensors, and takes little memory. It leaves the tokenizer and the
// template themselves to Text.
func Header(f *gguf.File) []Finding { return header(f).Findings }

func header(f *gguf.File) Report {
	c := &checker{f: f}
	c.architecture()
	c.keys()
	c.tensors()
	return c.Report
}

// Text makes the tokenizer and the chat template, which is nil if the file has none, or reports
// why they cannot be made.
func Text(f *gguf.File) (*tokenize.Tokenizer, *tokenize.Template, []Finding) {
	var findings []Finding
	tokenizer, err := tokenize.New(f)
	if err != nil {
		name := "tokenizer.ggml"
		if kind, _ := f.String("tokenizer.ggml.model"); !slices.Contains([]string{"gpt2", "llama", "bert", "t5"}, kind) {
			name = "tokenizer.ggml.model"
		}
		findings = append(findings, Finding{Code: CodeTokenizer, Name: name, Detail: strings.TrimPrefix(err.Error(), "tokenizer: ")})
	} else if finding := mismatch(f, tokenizer); finding != nil {
		findings = append(findings, *finding)
	}
	if !f.Has(templateKey) {
		return tokenizer, nil, findings
	}
	template, err := tokenize.NewTemplate(f)
	if err == nil {
		err = probe(template, tokenizer)
	}
	if err != nil {
		findings = append(findings, Finding{Code: CodeTemplate, Name: templateKey, Detail: strings.TrimPrefix(err.Error(), "chat template: ") +
			"; a file without a template is served at /v1/completions only"})
		template = nil
	}
	return tokenizer, template, findings
}

// Embeds says whether an architecture is one of embedding models.
func Embeds(architecture string) bool { return model.IsEncoder(architecture) }

// mismatch refuses tokenizers of embedding models for models that write, and other tokenizers for those that
// do not.
func mismatch(f *gguf.File, t *tokenize.Tokenizer) *Finding {
	architecture, _ := f.String("general.architecture")
	_, _, pieces := t.Enclosed()
	if encoder := model.IsEncoder(architecture); slices.Contains(served, architecture) && pieces != encoder {
		kind, _ := f.String("tokenizer.ggml.model")
		need := "generative models need `gpt2` or `llama`, which turn tokens back into text"
		switch {
		case encoder:
			need = "embedding models are served with `bert` (WordPiece), `t5` (unigram) and `gpt2` with the pre-tokenizer `roberta-bpe`"
		case kind == "gpt2":
			need = "its pre-tokenizer `roberta-bpe` is for embedding models"
		}
		return &Finding{Code: CodeTokenizer, Name: "tokenizer.ggml.model", Detail: fmt.Sprintf("is %q in a %s model; %s", kind, architecture, need)}
	}
	return nil
}

const templateKey = "tokenizer.chat_template"

// probe renders the plainest conversations: a template that uses what is not supported in
// all of them would fail every request. Without a tokenizer, which is a finding of its own, it does not
// see what the tokens of the file's own stand against.
func probe(t *tokenize.Template, tokenizer *tokenize.Tokenizer) error {
	say := func(role string) tokenize.Message { return tokenize.Message{Role: role, Content: "text"} }
	for _, conversation := range [][]tokenize.Message{
		{say("user")},
		{say("user"), say("assistant"), say("user")},
		{say("system"), say("user")}, // some models have no system turns, and say so
	} {
		var err error
		if tokenizer != nil {
			_, err = t.Encode(tokenizer, conversation, true)
		} else {
			_, err = t.Render(context.Background(), conversation, true)
		}
		if raised, ok := errors.AsType[*tokenize.RaisedError](err); ok && conversation[0].Role != "system" {
			return fmt.Errorf("refuses a conversation of user, assistant and user (%d of them): %s", len(conversation), raised.Message)
		} else if err != nil && !ok {
			return err
		}
	}
	return nil
}

// checker collects findings.
type checker struct {
	f      *gguf.File
	name   string        // of the architecture, if it is served
	params *model.Params // nil where the architecture or its keys are not what the engine knows
	Report
}

func (c *checker) find(code Code, name, detail string, args ...any) {
	c.Findings = append(c.Findings, Finding{Code: code, Name: name, Detail: fmt.Sprintf(detail, args...)})
}

// architecture reads the shape of the model, if it is one that the engine knows.
func (c *checker) architecture() {
	const key = "general.architecture"
	name, ok := c.f.String(key)
	switch {
	case !ok:
		c.find(CodeKeyMissing, key, "the file does not name its architecture")
	case !slices.Contains(served, name):
		c.find(CodeArchitecture, key, "%q is not supported; this version serves %s. Its tensors and its %s keys were not checked further", name, strings.Join(served, ", "), name)
	default:
		c.name = name
		p, err := model.ParseParams(c.f)
		if err != nil {
			c.keyErrors(err)
			return
		}
		c.params = &p
	}
}

// keyErrors makes findings of what model.ParseParams says.
func (c *checker) keyErrors(err error) {
	list := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		list = joined.Unwrap()
	}
	for _, err := range list {
		k, ok := errors.AsType[*model.KeyError](err)
		switch {
		case !ok:
			c.find(CodeKeyValue, c.name, "%s", err)
		case c.f.Has(k.Key):
			c.find(CodeKeyValue, k.Key, "%s", k.Detail)
		default:
			c.find(CodeKeyMissing, k.Key, "%s", k.Detail)
		}
	}
}
