package layers

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/runtime/onnx"
)

// The versions of operator sets whose operators mean here what they mean there. Within
// them the operators below differ in where a parameter stands and in the types that they
// take, not in what they compute; before version 7, broadcasting differs.
const (
	minOpset, maxOpset = 7, 28
	maxMLOpset         = 5
)

// mlDomain is the domain of operators of classical machine learning.
const mlDomain = "ai.onnx.ml"

// signature is what a node of an operator may have.
type signature struct {
	least, most int // inputs
	attributes  map[string]onnx.AttributeType
}

type attributes = map[string]onnx.AttributeType

// reduction are the attributes of operators that reduce dimensions.
var reduction = attributes{"axes": onnx.AttributeInts, "keepdims": onnx.AttributeInt, "noop_with_empty_axes": onnx.AttributeInt}

// window adds the attributes of operators that move a window over images.
func window(others attributes) attributes {
	for _, name := range []string{"kernel_shape", "pads", "strides", "dilations"} {
		others[name] = onnx.AttributeInts
	}
	others["auto_pad"] = onnx.AttributeString
	return others
}

// signatures lists every operator that has a place somewhere, with the attributes that are
// honoured. Others are refused: what is not known may matter.
var signatures = map[string]signature{
	"ConstantOfShape": {1, 1, attributes{"value": onnx.AttributeTensor}},
	"Constant": {0, 0, attributes{"value": onnx.AttributeTensor, "value_float": onnx.AttributeFloat, "value_floats": onnx.AttributeFloats,
		"value_int": onnx.AttributeInt, "value_ints": onnx.AttributeInts}},
	"Identity": {1, 1, nil}, "Relu": {1, 1, nil}, "Sigmoid": {1, 1, nil}, "Exp": {1, 1, nil},
	"Cast": {1, 1, attributes{"to": onnx.AttributeInt, "saturate": onnx.AttributeInt}},
	"Add":  {2, 2, nil}, "Sub": {2, 2, nil}, "Mul": {2, 2, nil}, "Div": {2, 2, nil}, "MatMul": {2, 2, nil},
	"Gemm":              {2, 3, attributes{"alpha": onnx.AttributeFloat, "beta": onnx.AttributeFloat, "transA": onnx.AttributeInt, "transB": onnx.AttributeInt}},
	"Conv":              {2, 3, window(attributes{"group": onnx.AttributeInt})},
	"Pad":               {1, 4, attributes{"mode": onnx.AttributeString, "pads": onnx.AttributeInts, "value": onnx.AttributeFloat}},
	"MaxPool":           {1, 1, window(attributes{"ceil_mode": onnx.AttributeInt, "storage_order": onnx.AttributeInt})},
	"AveragePool":       {1, 1, window(attributes{"ceil_mode": onnx.AttributeInt, "count_include_pad": onnx.AttributeInt})},
	"GlobalMaxPool":     {1, 1, nil},
	"GlobalAveragePool": {1, 1, nil},
	"ReduceMean":        {1, 2, reduction},
	"ReduceMax":         {1, 2, reduction},
	"LeakyRelu":         {1, 1, attributes{"alpha": onnx.AttributeFloat}},
	"PRelu":             {2, 2, nil},
	"Clip":              {1, 3, attributes{"min": onnx.AttributeFloat, "max": onnx.AttributeFloat}},
	"Min":               {2, 2, nil}, "Max": {2, 2, nil},
	"BatchNormalization": {5, 5, attributes{"epsilon": onnx.AttributeFloat, "momentum": onnx.AttributeFloat, "training_mode": onnx.AttributeInt, "spatial": onnx.AttributeInt}},
	"Dropout":            {1, 3, attributes{"ratio": onnx.AttributeFloat, "seed": onnx.AttributeInt}},
	"Flatten":            {1, 1, attributes{"axis": onnx.AttributeInt}},
	"Reshape":            {2, 2, attributes{"allowzero": onnx.AttributeInt}},
	"Transpose":          {1, 1, attributes{"perm": onnx.AttributeInts}},
	"Shape":              {1, 1, nil},
	"Gather":             {2, 2, attributes{"axis": onnx.AttributeInt}},
	"Unsqueeze":          {1, 2, attributes{"axes": onnx.AttributeInts}},
	"Squeeze":            {1, 2, attributes{"axes": onnx.AttributeInts}},
	"Slice":              {4, 5, nil},
	"Softmax":            {1, 1, attributes{"axis": onnx.AttributeInt}},
	"LogSoftmax":         {1, 1, attributes{"axis": onnx.AttributeInt}},
	"Concat":             {1, onnx.MaxListed, attributes{"axis": onnx.AttributeInt}},
	"ArgMax":             {1, 1, attributes{"axis": onnx.AttributeInt, "keepdims": onnx.AttributeInt, "select_last_index": onnx.AttributeInt}},
	"ReduceLogSumExp":    {1, 2, reduction},

	"ai.onnx.ml.Scaler":                {1, 1, attributes{"offset": onnx.AttributeFloats, "scale": onnx.AttributeFloats}},
	"ai.onnx.ml.ArrayFeatureExtractor": {2, 2, nil},
	"ai.onnx.ml.ZipMap":                {1, 1, attributes{"classlabels_strings": onnx.AttributeStrings, "classlabels_int64s": onnx.AttributeInts}},
	"ai.onnx.ml.Normalizer":            {1, 1, attributes{"norm": onnx.AttributeString}},
	"ai.onnx.ml.LinearClassifier": {1, 1, attributes{"coefficients": onnx.AttributeFloats, "intercepts": onnx.AttributeFloats, "classlabels_ints": onnx.AttributeInts,
		"classlabels_strings": onnx.AttributeStrings, "multi_class": onnx.AttributeInt, "post_transform": onnx.AttributeString}},
}

// kind is what operators that have no place are, and what a publisher can do instead.
type kind struct {
	reason    refusal.Reason
	says      string
	operators string
}

// kinds are told apart by their operators' names, of the default domain unless they have one.
var kinds = []kind{
	{ReasonTrees, "is a model of decision trees, whose comparisons are not layers of weights; train LogisticRegression or MLPClassifier on the same data",
		"ai.onnx.ml.TreeEnsembleClassifier ai.onnx.ml.TreeEnsembleRegressor ai.onnx.ml.TreeEnsemble"},
	{ReasonKernels, "is a support vector machine that keeps training rows; for a linear kernel, LinearSVC is the same kind of model in one layer of weights",
		"ai.onnx.ml.SVMClassifier ai.onnx.ml.SVMRegressor"},
	{ReasonNeighbours, "belongs to a nearest-neighbour search, which has no layers of weights; train LogisticRegression or MLPClassifier on the same data",
		"TopK com.microsoft.CDist"},
	{ReasonRecurrent, "reads a sequence step by step; want a network that takes all features of a row at once", "LSTM GRU RNN"},
	{ReasonAttention, "is attention; want dense and convolutional layers with ReLU",
		"Attention MultiHeadAttention com.microsoft.Attention com.microsoft.MultiHeadAttention RotaryEmbedding com.microsoft.RotaryEmbedding"},
	{ReasonQuantized, "belongs to a model that is already quantized; pass the float32 model: it is quantized here, with --calibration",
		"QuantizeLinear DequantizeLinear DynamicQuantizeLinear QLinearConv QLinearMatMul MatMulInteger ConvInteger com.microsoft.QGemm com.microsoft.QLinearAdd com.microsoft.MatMulNBits"},
	{ReasonControl, "is a branch or a loop; export the model as a plain graph", "If Loop Scan SequenceMap"},
	{ReasonActivation, "is an activation, and only ReLU, ReLU6 and LeakyReLU are supported; train the model with one of them",
		"Gelu Erf Tanh Elu Selu Celu ThresholdedRelu HardSigmoid HardSwish Softplus Softsign Mish Swish com.microsoft.Gelu com.microsoft.FastGelu com.microsoft.QuickGelu com.microsoft.BiasGelu"},
	{ReasonActivation, "limits scores to a range; export the scores as they are (skl2onnx: the option raw_scores)", "Clip"},
	{ReasonOperator, "computes probabilities by means other than Softmax and Sigmoid; export the scores (skl2onnx: the option raw_scores)", "Reciprocal"},
	{ReasonPooling, "pools values in a way that is not supported; use MaxPool, AveragePool or a convolution with a stride of at least 2 instead",
		"LpPool GlobalLpPool MaxRoiPool"},
	{ReasonNormalization, "divides values by a value computed from the same row; BatchNormalization, which divides by constants, is supported",
		"LayerNormalization GroupNormalization InstanceNormalization RMSNormalization LpNormalization MeanVarianceNormalization LRN com.microsoft.SkipLayerNormalization"},
	{ReasonPreprocessing, "prepares inputs by something other than scaling; do that before passing rows to the model, and export the model without it",
		"ai.onnx.ml.Imputer ai.onnx.ml.Binarizer ai.onnx.ml.OneHotEncoder ai.onnx.ml.LabelEncoder ai.onnx.ml.CategoryMapper ai.onnx.ml.DictVectorizer ai.onnx.ml.FeatureVectorizer ai.onnx.ml.CastMap " +
			"TfIdfVectorizer StringNormalizer StringSplit RegexFullMatch OneHot ReduceProd IsNaN IsInf Greater Less"},
}

// kindOf finds what an operator is.
func kindOf(name string) kind {
	for _, k := range kinds {
		if slices.Contains(strings.Fields(k.operators), name) {
			return k
		}
	}
	return kind{ReasonOperator, "is not supported; want a classifier of dense and convolutional layers with ReLU", ""}
}

// survey names every operator that has no place in a network, before anything else is
// looked at: what a file is matters more than how its parts are joined.
func (b *builder) survey() error {
	var found []*refusal.Error
	note := func(reason refusal.Reason, format string, args ...any) {
		found = append(found, &refusal.Error{Reason: reason, Detail: fmt.Sprintf(format, args...)})
	}
	first, times := map[string]*onnx.Node{}, map[string]int{}
	var order []string
	for i := range b.g.Nodes {
		n := &b.g.Nodes[i]
		if times[key(n)]++; times[key(n)] == 1 {
			first[key(n)] = n
			order = append(order, key(n))
		}
	}
	for _, name := range order {
		n := first[name]
		if _, known := signatures[name]; known {
			continue
		}
		more := ""
		if times[name] > 1 {
			more = fmt.Sprintf(", the first of %d,", times[name])
		}
		k := kindOf(name)
		note(k.reason, "operator %s (node %q)%s %s", name, n.Name, more, k.says)
	}
	if n := b.attention(); n != nil {
		k := joins["MatMul"]
		note(k.reason, "operator %s (node %q) %s", key(n), n.Name, k.says)
	}
	if c := times["ai.onnx.ml.LinearClassifier"]; c > 1 {
		note(ReasonSeveral, "operator ai.onnx.ml.LinearClassifier appears %d times: several classifiers are combined; want one LogisticRegression or LinearSVC for all classes", c)
	}
	if found != nil {
		return refused(found)
	}
	return b.checkOpsets()
}

// attention is the first node that multiplies two matrices of which neither is constant.
func (b *builder) attention() *onnx.Node {
	computed := map[string]bool{}
	for _, in := range b.g.Inputs {
		computed[in.Name] = true
	}
	for i := range b.g.Nodes {
		n := &b.g.Nodes[i]
		from := 0
		for _, in := range n.Inputs {
			if computed[in] {
				from++
			}
		}
		if key(n) == "MatMul" && from > 1 {
			return n
		}
		for _, out := range n.Outputs {
			computed[out] = from > 0
		}
	}
	return nil
}

// checkOpsets refuses versions of operator sets that operators are used of and that are not known.
func (b *builder) checkOpsets() error {
	for i := range b.g.Nodes {
		n := &b.g.Nodes[i]
		version, imported := b.opsets[n.Domain]
		low, high, name := int64(minOpset), int64(maxOpset), "ai.onnx"
		if n.Domain == mlDomain {
			low, high, name = 1, maxMLOpset, mlDomain
		}
		if !imported {
			return refusal.New(ReasonOpset, "operator %s (node %q): the file does not import the operator set %s", key(n), n.Name, name)
		}
		if version < low || version > high {
			return refusal.New(ReasonOpset, "operator set %s has version %d; want %d to %d: export the model with one of those", name, version, low, high)
		}
	}
	return nil
}

// checkNode compares a node with its operator's signature.
func checkNode(n *onnx.Node) error {
	s := signatures[key(n)]
	for len(n.Inputs) > 0 && n.Inputs[len(n.Inputs)-1] == "" {
		n.Inputs = n.Inputs[:len(n.Inputs)-1] // optional ones that are left out
	}
	if len(n.Inputs) < s.least || len(n.Inputs) > s.most {
		return misarranged("got %d inputs; want %d to %d", len(n.Inputs), s.least, s.most)
	}
	for name, a := range n.Attributes {
		want, known := s.attributes[name]
		if !known {
			return badAttribute("attribute %q is not supported", name)
		}
		if a.Type != want {
			return badAttribute("attribute %q has the wrong type", name)
		}
	}
	return nil
}

// joins are what two computed values that meet in one node make.
var joins = map[string]kind{
	"Add":    {ReasonResidual, "adds two computed values: a residual connection; want a chain of layers, each fed by the one before it", ""},
	"Sub":    {ReasonResidual, "subtracts computed values from each other; want a chain of layers, each fed by the one before it", ""},
	"Mul":    {ReasonActivation, "multiplies two computed values, as gates and SiLU do, and only ReLU, ReLU6 and LeakyReLU are supported; train the model with one of them", ""},
	"Div":    {ReasonNormalization, "divides by a computed value; BatchNormalization, which divides by constants, is supported", ""},
	"MatMul": {ReasonAttention, "multiplies two computed matrices, as attention does; want dense and convolutional layers with ReLU", ""},
	"Concat": {ReasonSeveral, "joins computed values; want a chain of layers, each fed by the one before it", ""},
}

// explain looks for what says more about a file than why the walk ended: the first node
// that was not understood and in which computed values meet.
func (b *builder) explain(err error) error {
	if reason, _ := refusal.ReasonOf(err); reason != ReasonArrangement && reason != ReasonOutput {
		return err
	}
	for i := range b.g.Nodes {
		n := &b.g.Nodes[i]
		if b.done[i] {
			continue
		}
		computed := map[string]bool{}
		for _, in := range n.Inputs {
			if in != "" && b.constants[in] == nil {
				computed[in] = true
			}
		}
		if k, ok := joins[key(n)]; ok && len(computed) > 1 && b.explains(n) {
			return refuse(k.reason, n, k.says)
		}
		if key(n) == "Sigmoid" && b.feedsALayer(n) {
			return refuse(ReasonActivation, n, kindOf("Tanh").says)
		}
	}
	return err
}

// explains says whether what is joined is more than what files do behind the last layer: a
// pair of two classes' scores, and scores less the logarithm of their exponentials' sum.
func (b *builder) explains(n *onnx.Node) bool {
	switch key(n) {
	case "Concat":
		return len(n.Inputs) != 2 || !b.complement(n.Inputs[0], n.Inputs[1])
	case "Sub":
		return !slices.ContainsFunc(b.g.Nodes, func(n onnx.Node) bool { return n.Op == "ReduceLogSumExp" })
	}
	return true
}

// complement says whether a is made of b and a constant: one minus a probability, or minus a
// score.
func (b *builder) complement(a, of string) bool {
	return slices.ContainsFunc(b.g.Nodes, func(n onnx.Node) bool {
		return (key(&n) == "Sub" || key(&n) == "Mul") && slices.Contains(n.Outputs, a) && slices.Contains(n.Inputs, of)
	})
}

// feedsALayer says whether a layer, or a gate before one, takes what the node computes.
func (b *builder) feedsALayer(n *onnx.Node) bool {
	for _, out := range n.Outputs {
		for _, i := range b.consumers[out] {
			switch key(&b.g.Nodes[i]) {
			case "Gemm", "MatMul", "Conv", "Mul":
				return true
			}
		}
	}
	return false
}
