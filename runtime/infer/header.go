package infer

import (
	"errors"
	"fmt"

	"github.com/anchorhold/anchorhold/runtime/kernels"
	"github.com/anchorhold/anchorhold/runtime/model"
	"github.com/anchorhold/anchorhold/runtime/servable"
	"github.com/anchorhold/anchorhold/runtime/tokenize"
)

// checked is what serving takes from a model's header, before it takes memory.
type checked struct {
	params    model.Params
	kernels   *kernels.Set
	tokenizer *tokenize.Tokenizer
	template  *tokenize.Template
}

// readHeader refuses, as a *servable.Error, what cannot be served exactly.
func readHeader(cfg Config) (h checked, err error) {
	if err := servable.Refuse(servable.Header(cfg.File)); err != nil {
		return h, err
	}
	if h.params, err = model.ParseParams(cfg.File); err != nil {
		return h, err
	}
	if h.kernels, err = kernels.Select(cfg.Kernel); err != nil {
		return h, err
	}
	var findings []servable.Finding
	h.tokenizer, h.template, findings = servable.Text(cfg.File)
	return h, servable.Refuse(findings)
}

// tensorsRefused is the error of a model that could not be opened: a sealed file whose sections are
// not what its header says is refused as seal would.
func tensorsRefused(err error) error {
	if errors.Is(err, model.ErrTensors) {
		return servable.Refuse([]servable.Finding{{Code: servable.CodeTensorValue, Name: "tensors", Detail: err.Error()}})
	}
	return err
}

// sameVocabulary refuses a model that has not the tokens of its tokenizer.
func (h checked) sameVocabulary(p model.Params) error {
	if p.Vocabulary == h.tokenizer.Size() {
		return nil
	}
	return servable.Refuse([]servable.Finding{{Code: servable.CodeTensorShape, Name: "token_embd.weight",
		Detail: fmt.Sprintf("has %d rows, but the tokenizer has %d tokens", p.Vocabulary, h.tokenizer.Size())}})
}
