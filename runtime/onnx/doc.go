// Package onnx reads ONNX files into memory as they were written.
//
// A file is parsed within the named limits, whatever it contains, and a [Tensor] has exactly the
// values that its shape calls for. The package trusts nothing in a file; weights that PyTorch's
// exporter keeps in a second file are read only from the same directory. It refuses unknown
// fields, each with a reason. It does not read graphs within graphs, nor values of types other
// than 32 and 64 bits, bool and strings: the nodes and tensors that have them are kept without
// them, so that runtime/layers can refuse them by their operators' names. That package also knows
// what the operators mean.
package onnx
