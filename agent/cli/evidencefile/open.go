package evidencefile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
)

// Limits of what is read.
const (
	MaxFileBytes = 1 << 20
	MaxFiles     = 64
	// maxPlainFiles bounds a directory of collateral that is not kept by `anchorhold collateral`.
	maxPlainFiles = 1024
)

// File says what a file was taken for.
type File struct {
	Path string `json:"path"`
	Form Form   `json:"form"`
}

// FormPassedOver is what a file of a collateral directory is that holds nothing of use.
const FormPassedOver Form = "passed-over"

// Contents are what the files hold together.
type Contents struct {
	Files    []File
	Evidence *Evidence
	Supplies Supplies

	loose []evidence.Part
}

// Open reads evidence, and what helps to verify it, from files and directories of configfs-tsm; and
// supplies alone from a directory of collateral, if it is not empty: one that `anchorhold
// collateral` keeps, or files of any name. Of kept certificates it takes those of the chip that the
// evidence names. Content that is refused is an *refusal.Error behind the path.
func Open(paths []string, collateralDir string) (*Contents, error) {
	if len(paths) > MaxFiles {
		return nil, refusal.New(ReasonSize, "%d files; at most %d are read", len(paths), MaxFiles)
	}
	c := &Contents{}
	for _, path := range paths {
		if err := c.open(path); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	if err := c.join(); err != nil {
		return nil, err
	}
	if collateralDir != "" {
		if err := c.openCollateral(collateralDir); err != nil {
			return nil, err
		}
	}
	c.addChains()
	return c, nil
}

func (c *Contents) open(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return bare(err)
	}
	if info.IsDir() {
		e, err := openTSM(path)
		if err != nil {
			return err
		}
		return c.take(path, found{form: e.Form, evidence: e})
	}
	raw, err := readFile(path)
	if err != nil {
		return bare(err)
	}
	f, err := recognise(raw)
	if err != nil {
		return err
	}
	return c.take(path, f)
}

// bare is an error without the path, which the caller adds.
func bare(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// readFile reads a file of at most MaxFileBytes.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	if err == nil && len(raw) > MaxFileBytes {
		return nil, refusal.New(ReasonSize, "it is larger than %d bytes", MaxFileBytes)
	}
	return raw, err
}

// take adds what a file holds. There may be one piece of evidence; a quote of TDX beside the
// report of Azure's paravisor is a part of the same.
func (c *Contents) take(path string, f found) error {
	c.Files = append(c.Files, File{path, f.form})
	if f.loose.Data != nil {
		c.loose = append(c.loose, f.loose)
	}
	if f.evidence != nil {
		switch {
		case c.Evidence == nil:
			c.Evidence = f.evidence
		case c.Evidence.Form == FormHCL && f.form == FormTDXQuote && c.Evidence.Kind == evidence.KindAzureTDX:
			c.Evidence.Parts = append(c.Evidence.Parts, f.evidence.Parts...)
		case c.Evidence.Form == FormTDXQuote && f.form == FormHCL && f.evidence.Kind == evidence.KindAzureTDX:
			f.evidence.Parts = append(f.evidence.Parts, c.Evidence.Parts...)
			c.Evidence = f.evidence
		default:
			return refusal.New(ReasonSeveral, "it is evidence (%s), and so was a file before it (%s)", f.form, c.Evidence.Form)
		}
	}
	return c.Supplies.add(f.supplies)
}

// join adds event logs and GPU reports, with their chains, to the evidence that they came with.
func (c *Contents) join() error {
	var logs, devices int
	for _, p := range c.loose {
		if p.Type == evidence.PartGPUReport {
			devices++
		} else {
			logs++
		}
	}
	switch {
	case c.Evidence == nil && len(c.loose) == 0:
		return refusal.New(ReasonNone, "the files hold no evidence; known forms are %s", formList())
	case c.Evidence == nil:
		c.Evidence = &Evidence{Form: FormEventLog}
		if devices > 0 {
			c.Evidence.Form = FormGPU
		}
		if logs > 1 || logs > 0 && devices > 0 {
			return refusal.New(ReasonSeveral, "an event log and a GPU's report need the evidence that they belong to")
		}
	case c.Evidence.Ours() && len(c.loose)+len(c.Supplies.GPUChains) > 0:
		return refusal.New(ReasonSeveral, "our envelopes hold their event logs and GPU reports; others cannot be added")
	}
	for _, p := range c.loose {
		c.Evidence.Parts = append(c.Evidence.Parts, c.placed(p))
	}
	return nil
}

// addChains adds chains of GPUs where there are reports that they may be of.
func (c *Contents) addChains() {
	if c.Evidence.Ours() || c.Evidence.Part(evidence.PartGPUReport) == nil {
		return
	}
	for _, chain := range c.Supplies.GPUChains {
		c.Evidence.Parts = append(c.Evidence.Parts, evidence.Part{Type: evidence.PartGPUChain, Data: chain})
	}
}

// placed gives an event log its type: that of the registers which the evidence has.
func (c *Contents) placed(p evidence.Part) evidence.Part {
	if p.Type == "" {
		p.Type = evidence.PartTCGLog
		if c.Evidence.Kind == evidence.KindTDX {
			p.Type = evidence.PartCCLog
		}
	}
	return p
}

// openTSM reads a directory of configfs-tsm: /sys/kernel/config/tsm/report/NAME, or a copy of it.
func openTSM(dir string) (*Evidence, error) {
	out, err := readFile(filepath.Join(dir, "outblob"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refusal.New(ReasonForm, "a directory without outblob is no report of configfs-tsm; --collateral names a directory of collateral")
	}
	if err != nil {
		return nil, err
	}
	var aux, provider []byte
	for name, into := range map[string]*[]byte{"auxblob": &aux, "provider": &provider} {
		if *into, err = readFile(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return tsm(out, aux, string(provider))
}

// openCollateral reads a directory: if any name in it is that of a kept item, the items, and
// else every file by its content.
func (c *Contents) openCollateral(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	kept := false
	for _, e := range entries {
		key, err := collateral.ParseFileName(e.Name())
		if err != nil {
			continue
		}
		kept = true
		if chip := key.Chip(); key.Kind() == collateral.KindVCEK && !bytes.HasPrefix(c.Evidence.Chip(), chip.HWID) {
			continue
		}
		if err := c.takeItem(filepath.Join(dir, e.Name()), key); err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(dir, e.Name()), err)
		}
	}
	if kept {
		return nil
	}
	if len(entries) > maxPlainFiles {
		return refusal.New(ReasonSize, "%s has %d files; at most %d are read", dir, len(entries), maxPlainFiles)
	}
	for _, e := range entries {
		if e.Type().IsRegular() {
			if err := c.takePlain(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("%s: %w", filepath.Join(dir, e.Name()), err)
			}
		}
	}
	return nil
}

// takePlain takes a file's supplies. A file that holds none is named, and otherwise passed over.
func (c *Contents) takePlain(path string) error {
	raw, err := readFile(path)
	if _, refused := refusal.ReasonOf(err); err != nil && !refused {
		return err
	}
	f := found{form: FormPassedOver}
	if err == nil {
		if known, err := recognise(raw); err == nil && known.form == formSupply {
			f = known
		}
	}
	return c.take(path, f)
}

// takeItem takes the documents of an item that `anchorhold collateral` keeps.
func (c *Contents) takeItem(path string, key collateral.Key) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, collateral.MaxItemBytes+1))
	if err != nil {
		return err
	}
	item, err := collateral.ParseItem(raw)
	if err != nil {
		return err
	}
	if item.Key != key {
		return refusal.New(ReasonMalformed, "it holds %s", item.Key)
	}
	var s Supplies
	switch key.Kind() {
	case collateral.KindTDX:
		s.Complete = []collateral.TDXDocuments{item.TDX()}
	default:
		for _, doc := range item.Documents {
			if err := s.addDER(doc); err != nil {
				return refusal.New(ReasonMalformed, "%w", err)
			}
		}
	}
	return c.take(path, found{form: formSupply, supplies: s})
}
