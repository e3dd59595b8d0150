package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// classifierSections is how many sections a sealed classifier has (runtime/classifier): its
// description and its parameters. A language model has a header and a section for each of
// its tensors, of which the smallest has a dozen.
const classifierSections = 2

// Sealed is a sealed file that the configuration names, and what it has to be.
type Sealed struct {
	// Field is its place in the configuration, such as "models[0]".
	Field string
	// Classifier says that it is to hold a classifier, and not a language model.
	Classifier bool
	// Model has the rest; of a classifier only what Classifier has.
	Model
}

// Sealed returns the sealed files that the configuration names: models, then classifiers.
func (c Config) Sealed() []Sealed {
	var all []Sealed
	for i, m := range c.Models {
		all = append(all, Sealed{Field: fmt.Sprintf("models[%d]", i), Model: m})
	}
	for i, m := range c.Classifiers {
		all = append(all, Sealed{Field: fmt.Sprintf("classifiers[%d]", i), Classifier: true, Model: Model{Name: m.Name, SealedName: m.SealedName, Path: m.Path,
			Resource: m.Resource, Publisher: m.Publisher, MinimumVersion: m.MinimumVersion}})
	}
	return all
}

// Inspect reads what is public of the file and refuses one that would not be opened whatever
// its key: damaged in its structure, of another publisher or name, older than the minimum, or
// of the other kind. It returns what it knows of the file also with an error. It reads
// no chunk: that needs the time of the whole file.
func (s Sealed) Inspect() (_ *chunkseal.Public, info fs.FileInfo, err error) {
	publisher, err := Identity(s.Publisher)
	if err != nil {
		return nil, nil, err
	}
	file, err := os.Open(s.Path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if info, err = file.Stat(); err != nil {
		return nil, nil, err
	}
	p, err := chunkseal.Inspect(file, info.Size())
	if err != nil {
		return nil, info, err
	}
	if err := p.Acceptable(chunkseal.OpenOptions{Publisher: publisher, Name: s.SealedName, MinVersion: s.MinimumVersion}); err != nil {
		return nil, info, err
	}
	switch is := p.Sections == classifierSections; {
	case is && !s.Classifier:
		return nil, info, chunkseal.Refuse(chunkseal.ReasonKind, "it holds a classifier, but models are language models: list it under classifiers")
	case !is && s.Classifier:
		return nil, info, chunkseal.Refuse(chunkseal.ReasonKind, "it holds a language model, not a classifier: list it under models")
	}
	return p, info, nil
}

// check adds what is wrong with the file, or what may be.
func (s Sealed) check(f *Findings) {
	p, _, err := s.Inspect()
	if failure, ok := errors.AsType[*chunkseal.Failure](err); ok {
		// What is to be changed depends on which of the two is right.
		field := map[refusal.Reason]string{chunkseal.ReasonPublisher: "publisher", chunkseal.ReasonSignature: "publisher", chunkseal.ReasonName: "sealed_name", chunkseal.ReasonRollback: "minimum_version"}[failure.Err.Reason]
		if field == "" {
			field = "path"
		}
		f.errorf("%s.%s: %s: %v", s.Field, field, s.Path, err)
	} else if err != nil {
		f.errorf("%s.path: %s: %v", s.Field, s.Path, err)
	} else if s.Resource != "" && path.Base(s.Resource) != p.Name {
		f.noticef("%s.resource: the file holds %q, but its key is requested as %q: only the broker knows whether that is the key it was sealed under (anchorhold secret list)", s.Field, p.Name, s.Resource)
	}
}
