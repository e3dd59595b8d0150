package quantize

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/classifier"
	"github.com/anchorhold/anchorhold/runtime/layers"
)

// Report is the cost of quantization, measured on rows that were not used for calibration.
type Report struct {
	Rows int `json:"rows"`
	// Agreed is the part of the rows with the same answer from both models.
	Agreed float64 `json:"agreed"`
	// Float and Integer are the parts of the rows that each model answers correctly, if the
	// correct answers are known.
	Float   *float64 `json:"float_accuracy,omitempty"`
	Integer *float64 `json:"integer_accuracy,omitempty"`
	// ScoreError is the root of the mean squared difference of scores, in units of the
	// scores' own deviation.
	ScoreError float64 `json:"score_error"`
}

// WarnDiffers is the part of the rows with different answers from which on a classifier gets a
// warning.
const WarnDiffers = 0.05

// Warnings are messages about the comparison that a publisher should read. rows says which rows
// were compared.
func (r *Report) Warnings(rows string) []string {
	if 1-r.Agreed < WarnDiffers {
		return nil
	}
	return []string{fmt.Sprintf("the INT8 classifier answers differently from the file for %.1f %% of the %s rows: their scores are too close for 256 steps to tell apart, or the calibration rows are unlike them", 100*(1-r.Agreed), rows)}
}

// memory of the model that is compared: what the largest network needs, and some.
const memory = 256 << 20

// Compare runs test rows through the network and through the classifier as it is served. answers
// are the correct classes (ReadAnswers), or nil.
func Compare(n *layers.Network, d *classifier.Description, p intnet.Parameters, test *Rows, answers []int) (*Report, error) {
	if test.Width != n.Input.Len() {
		return nil, fmt.Errorf("quantize: test rows have %d values, the model takes %d", test.Width, n.Input.Len())
	}
	if answers != nil && len(answers) != test.Len() {
		return nil, fmt.Errorf("quantize: got %d answers for %d test rows; want one for each", len(answers), test.Len())
	}
	budget := arena.NewBudget(memory)
	m, err := classifier.New(d, p, budget)
	if err != nil {
		return nil, err
	}
	r, err := m.NewRunner()
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	report, err := compare(n, d, r, test, answers)
	return report, errors.Join(err, r.Close(), m.Close())
}

func compare(n *layers.Network, d *classifier.Description, r *classifier.Runner, test *Rows, answers []int) (*Report, error) {
	in, out := make([]int8, test.Width), make([]int32, d.Classes())
	same, float, integer := 0, 0, 0
	var sum, squares, errs float64
	for i := range test.Len() {
		want, err := n.Forward(test.Row(i), nil)
		if err == nil {
			_, err = classifier.Quantize(&d.Quantizer, test.Row(i), in)
		}
		if err == nil {
			err = r.Infer(in, out)
		}
		if err != nil {
			return nil, fmt.Errorf("quantize: row %d: %w", i, err)
		}
		for k, v := range want {
			sum, squares = sum+v, squares+v*v
			e := v - float64(out[k])*d.Scale.Float()
			errs += e * e
		}
		theirs, ours := slices.Index(want, slices.Max(want)), classifier.Answer(out)
		same += one(theirs == ours)
		if answers != nil {
			float, integer = float+one(theirs == answers[i]), integer+one(ours == answers[i])
		}
	}
	rows := float64(test.Len())
	report := &Report{Rows: test.Len(), Agreed: float64(same) / rows}
	count := rows * float64(len(out))
	if variance := squares/count - (sum/count)*(sum/count); variance > 0 {
		report.ScoreError = math.Sqrt(errs / count / variance)
	}
	if answers != nil {
		f, q := float64(float)/rows, float64(integer)/rows
		report.Float, report.Integer = &f, &q
	}
	return report, nil
}

func one(claim bool) int {
	if claim {
		return 1
	}
	return 0
}
