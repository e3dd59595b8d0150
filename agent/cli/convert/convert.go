// Package convert makes an INT8 classifier from an ONNX file and rows of inputs, and says how
// far its answers agree with the file's.
package convert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/sealed"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/runtime/classifier"
	"github.com/anchorhold/anchorhold/runtime/layers"
	"github.com/anchorhold/anchorhold/runtime/quantize"
	"github.com/anchorhold/anchorhold/runtime/sealer"
	"github.com/spf13/cobra"
)

// The words of the flags of a classifier, and of what became of it.
const (
	flagCalibration    = "ONNX only: rows of inputs (.csv or .npy) that show the ranges of values"
	flagTest           = "ONNX only: further rows, to measure what quantization costs"
	flagAnswers        = "the correct classes of the --test rows, one per line"
	flagAllowClipping  = "seal even if more than %.0f %% of the values for --test lie outside the ranges of --calibration"
	onnxFlagsAlone     = "%s: for ONNX files only, and the name of %s does not end in .onnx\nSee '%s --help'"
	answersWithoutTest = "--answers needs --test, the rows whose classes it gives\nSee '%s --help'"
	calibrationMissing = "--calibration is required for an ONNX file: rows of inputs that show the ranges of values"
	clippingRefused    = "%w, or give --allow-clipping%s"
	resultClasses      = "  classes   %s\n"
	resultScores       = "  scores    %s\n"
	resultClipped      = "  clipped   calibration: %v\n"
	resultClippedTest  = "            test: %v\n"
	resultAgreement    = "  INT8      %.2f %% of %d test rows have the same answer"
	resultAccuracy     = "; %.2f %% are correct, %.2f %% with the floating-point model"
	scoresRank         = "rank the classes; the file computes no softmax probabilities"
	scoresSoftmax      = "their softmax is the file's probabilities"
	classesUnlabelled  = "%d, without labels: an answer is a number from 0 to %d"
	resultWarning      = "warning: %s\n"
)

// Options are the flags of a classifier.
type Options struct {
	calibration, test, answers string
	clipped                    bool
}

// Add adds the flags.
func (q *Options) Add(c *cobra.Command) {
	c.Flags().StringVar(&q.calibration, "calibration", "", flagCalibration)
	c.Flags().StringVar(&q.test, "test", "", flagTest)
	c.Flags().StringVar(&q.answers, "answers", "", flagAnswers)
	c.Flags().BoolVar(&q.clipped, "allow-clipping", false, fmt.Sprintf(flagAllowClipping, 100*quantize.RefuseClipped))
}

// Flags are the names of the flags that Add adds.
func (*Options) Flags() []string {
	return []string{"calibration", "test", "answers", "allow-clipping"}
}

// Check refuses flags that would be ignored.
func (q *Options) Check(c *cobra.Command, path string) error {
	if stray := cli.Given(c, q.Flags()...); stray != nil && !IsONNX(path) {
		return cli.Usage(fmt.Errorf(onnxFlagsAlone, strings.Join(stray, ", "), path, c.CommandPath()))
	}
	if q.answers != "" && q.test == "" {
		return cli.Usage(fmt.Errorf(answersWithoutTest, c.CommandPath()))
	}
	return nil
}

// Classifier is a classifier and what is known of it.
type Classifier struct {
	description *classifier.Description
	parameters  intnet.Parameters
	network     *layers.Network
	ranges      *quantize.Ranges
	report      *quantize.Report // nil without test rows
	own         *quantize.Report // on the calibration rows where there are no others
}

// warnings are all that the publisher is warned of.
func (z *Classifier) warnings() []string {
	list := z.ranges.Warnings()
	if z.own != nil {
		return append(list, z.own.Warnings("calibration")...)
	}
	return append(list, z.report.Warnings("test")...)
}

// IsONNX says whether a name is that of an ONNX file.
func IsONNX(path string) bool { return strings.HasSuffix(path, ".onnx") }

// quantize makes an INT8 classifier of an ONNX file, and the report if rows for it are
// given.
func (q *Options) quantize(path string) (*Classifier, error) {
	if q.calibration == "" {
		return nil, cli.Usage(errors.New(calibrationMissing))
	}
	m, err := parse(path)
	if err != nil {
		return nil, cli.RefusedFor(err)
	}
	out := &Classifier{}
	if out.network, err = layers.FromONNX(m); err != nil {
		return nil, cli.RefusedFor(err)
	}
	rows, err := quantize.ReadRows(q.calibration)
	if err != nil {
		return nil, err
	}
	if out.description, out.parameters, err = quantize.Convert(out.network, rows); err != nil {
		return nil, cli.RefusedFor(err)
	}
	return out, q.measure(out, rows)
}

// measure counts what is clipped, and compares answers on the test rows.
func (q *Options) measure(out *Classifier, calibration *quantize.Rows) (err error) {
	var test *quantize.Rows
	if q.test != "" {
		if test, err = quantize.ReadRows(q.test); err != nil {
			return err
		}
		var answers []int
		if q.answers != "" {
			if answers, err = quantize.ReadAnswers(q.answers, out.network); err != nil {
				return err
			}
		}
		if out.report, err = quantize.Compare(out.network, out.description, out.parameters, test, answers); err != nil {
			return err
		}
	} else if out.own, err = quantize.Compare(out.network, out.description, out.parameters, calibration, nil); err != nil {
		return err
	}
	if out.ranges, err = quantize.MeasureRanges(out.network, out.description, out.parameters, calibration, test); err != nil {
		return err
	}
	if err := out.ranges.Check(); err != nil && !q.clipped {
		return cli.RefusedFor(fmt.Errorf(clippingRefused, err, out.answersText()))
	}
	return nil
}

// answersText says what became of the answers, for a refusal.
func (z *Classifier) answersText() string {
	if z.report == nil {
		return ""
	}
	var b strings.Builder
	Print(&b, z)
	return "\n" + strings.TrimSuffix(b.String(), "\n")
}

// Seal quantizes and seals, and returns the id that receipts will carry.
func (q *Options) Seal(ctx context.Context, opt sealer.Options) (sealer.Summary, digest.Digest, *Classifier, error) {
	z, err := q.quantize(opt.In)
	if err != nil {
		return sealer.Summary{}, digest.Digest{}, nil, err
	}
	parts, err := classifier.Parts(z.description, z.parameters)
	if err != nil {
		return sealer.Summary{}, digest.Digest{}, nil, err
	}
	defer func() {
		for _, part := range parts {
			keybuf.Wipe(part.Data)
		}
	}()
	s, err := sealer.SealClassifier(ctx, opt, parts)
	if err != nil {
		return s, digest.Digest{}, nil, err
	}
	id, err := sealed.ClassifierID(z.description, z.parameters, s.Root)
	return s, id, z, err
}

// Json adds the fields of a classifier to the JSON result; z is nil for a language model.
func (z *Classifier) Json(into map[string]any) {
	if z == nil {
		into["quantization"] = nil
		return
	}
	labels := z.network.Labels
	if labels == nil {
		labels = []string{}
	}
	into["quantization"], into["clipping"], into["warnings"] = z.report, z.ranges, append([]string{}, z.warnings()...)
	into["classes"], into["labels"], into["softmax"] = z.description.Classes(), labels, z.network.Probabilities
}

// Print says what the classes are and what INT8 cost.
func Print(w io.Writer, z *Classifier) {
	if z == nil {
		return
	}
	fmt.Fprintf(w, resultClasses, classesText(z))
	scores := scoresRank
	if z.network.Probabilities {
		scores = scoresSoftmax
	}
	fmt.Fprintf(w, resultScores, scores)
	fmt.Fprintf(w, resultClipped, z.ranges.Calibration)
	if z.ranges.Test != nil {
		fmt.Fprintf(w, resultClippedTest, *z.ranges.Test)
	}
	r := z.report
	if r == nil {
		return
	}
	fmt.Fprintf(w, resultAgreement, 100*r.Agreed, r.Rows)
	if r.Float != nil && r.Integer != nil {
		fmt.Fprintf(w, resultAccuracy, 100**r.Integer, 100**r.Float)
	}
	fmt.Fprintln(w)
}

// classesText names the first classes by their labels.
func classesText(z *Classifier) string {
	const most = 8
	n, labels := z.description.Classes(), z.network.Labels
	if labels == nil {
		return fmt.Sprintf(classesUnlabelled, n, n-1)
	}
	shown := strings.Join(labels[:min(n, most)], ", ")
	if n > most {
		shown += ", ..."
	}
	return fmt.Sprintf("%d: %s", n, shown)
}

// Warn tells, besides the result, what the publisher should know.
func (z *Classifier) Warn(w io.Writer) {
	if z == nil {
		return
	}
	for _, text := range z.warnings() {
		fmt.Fprintf(w, resultWarning, text)
	}
}
