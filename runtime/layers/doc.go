// Package layers turns the graph of an ONNX file into plain layers: a [Network], which is a
// classifier in floating point.
//
// A Network computes what the graph computes, up to rounding, and nothing in the graph is ignored:
// every node is a known operator on the way from the one input to the outputs, or the file is
// refused with a reason and the names of operator and node.
//
// The package supports what scikit-learn's exporter (skl2onnx) writes for linear classifiers and
// multi-layer perceptrons, alone or after scalers, PCA and a selection of features, and what
// PyTorch's two exporters write for dense layers and square convolutions with ReLU. The operators
// are listed in the tables of survey.go, body.go and tail.go. Linear steps become part of the layer
// next to them. Anything after the last layer (softmax, argmax, class labels) is recognised and cut
// off; the labels are kept. docs/classifiers.md describes this for publishers.
//
// Publishers import a model with it (runtime/quantize); the agent never links it.
package layers
