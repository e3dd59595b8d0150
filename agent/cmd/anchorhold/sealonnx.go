package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/intnet"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/statement"
	"github.com/anchorhold/anchorhold/runtime/classifier"
	"github.com/anchorhold/anchorhold/runtime/layers"
	"github.com/anchorhold/anchorhold/runtime/onnx"
	"github.com/anchorhold/anchorhold/runtime/quantize"
	"github.com/anchorhold/anchorhold/runtime/sealer"
	"github.com/spf13/cobra"
)

// quantizing are the flags of a classifier.
type quantizing struct{ calibration, test, answers string }

func (q *quantizing) add(c *cobra.Command) {
	c.Flags().StringVar(&q.calibration, "calibration", "", "of an ONNX file: rows of inputs (.csv or .npy) that show the ranges of values")
	c.Flags().StringVar(&q.test, "test", "", "of an ONNX file: further rows, to say what quantization costs")
	c.Flags().StringVar(&q.answers, "answers", "", "the right classes of --test, one to a line")
}

func isONNX(path string) bool { return strings.HasSuffix(path, ".onnx") }

// quantize makes an INT8 classifier of an ONNX file, and the report if rows for it are
// given.
func (q *quantizing) quantize(path string) (*classifier.Description, intnet.Parameters, *quantize.Report, error) {
	var none intnet.Parameters
	if q.calibration == "" {
		return nil, none, nil, usageError{fmt.Errorf("--calibration is needed for an ONNX file: rows of inputs that show the ranges of values")}
	}
	m, err := onnx.ParseFile(path)
	if err != nil {
		return nil, none, nil, fmt.Errorf("%w: %w", errRefused, err)
	}
	network, err := layers.FromONNX(m)
	if err != nil {
		return nil, none, nil, fmt.Errorf("%w: %w", errRefused, err)
	}
	rows, err := quantize.ReadRows(q.calibration)
	if err != nil {
		return nil, none, nil, err
	}
	d, p, err := quantize.Convert(network, rows)
	if err != nil || q.test == "" {
		return d, p, nil, err
	}
	test, err := quantize.ReadRows(q.test)
	if err != nil {
		return nil, none, nil, err
	}
	var answers []int
	if q.answers != "" {
		if answers, err = quantize.ReadAnswers(q.answers, network); err != nil {
			return nil, none, nil, err
		}
	}
	report, err := quantize.Compare(network, d, p, test, answers)
	return d, p, report, err
}

// seal quantizes and seals, and returns the id that receipts will carry.
func (q *quantizing) seal(ctx context.Context, opt sealer.Options) (sealer.Summary, statement.Digest, *quantize.Report, error) {
	d, p, report, err := q.quantize(opt.In)
	if err != nil {
		return sealer.Summary{}, statement.Digest{}, nil, err
	}
	parts, err := classifier.Parts(d, p)
	if err != nil {
		return sealer.Summary{}, statement.Digest{}, nil, err
	}
	defer func() {
		for _, part := range parts {
			keybuf.Wipe(part.Data)
		}
	}()
	s, err := sealer.SealClassifier(ctx, opt, parts)
	if err != nil {
		return s, statement.Digest{}, nil, err
	}
	id, err := classifierID(d, p, s.Root)
	return s, id, report, err
}

func printQuantization(w io.Writer, r *quantize.Report) {
	if r == nil {
		return
	}
	fmt.Fprintf(w, "  INT8      %.2f %% of %d test rows have the same answer", 100*r.Agreed, r.Rows)
	if r.Float != nil && r.Integer != nil {
		fmt.Fprintf(w, "; right are %.2f %%, of the floating-point model %.2f %%", 100**r.Integer, 100**r.Float)
	}
	fmt.Fprintln(w)
}
