// Package layers makes plain layers of the graph of an ONNX file: a Network, which is a
// classifier in floating point.
//
// It guarantees that a Network computes what the graph computes, up to rounding, and that
// nothing of the graph was passed over: every node is an operator that was understood, on
// the way from the one input to the outputs, or the file is refused with a reason, the
// operator's and the node's name.
//
// It understands what scikit-learn's exporter (skl2onnx) writes for linear classifiers and
// multi-layer perceptrons, alone or behind scalers, PCA and a choice of features, and what
// PyTorch's two exporters write for dense layers and square convolutions with ReLU. The
// operators are listed in the tables of survey.go, body.go and tail.go. Linear steps become
// part of the layer beside them. What stands behind the last layer (softmax, argmax, class
// labels) is recognised and cut off; the labels are kept. docs/classifiers.md says it for
// publishers.
//
// Publishers import a model with it (runtime/quantize); the agent never links it.
package layers
